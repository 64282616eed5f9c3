"""Answers of the admin API: JSON, and errors in OpenAI's shape."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from nexus.admin.control import FieldProblemsError
from nexus.config.problem import ConfigError, Problem
from nexus.core.errors import ApiError
from nexus.dialects.errors import error_body

__all__ = ["EXCEPTION_HANDLERS", "error_answer", "json_answer"]

_FIELDS = {"Cache-Control": "no-store"}
"""The server adds ``X-Content-Type-Options`` to every answer of ours."""


def json_answer(value: object, status: int = 200) -> Response:
    """``value`` as JSON."""
    try:
        body = msgspec.json.encode(value)
    except UnicodeEncodeError:  # a lone surrogate in a name that some engine made up
        body = json.dumps(value).encode()
    return Response(body, status_code=status, headers=_FIELDS, media_type="application/json")


def error_answer(error: ApiError) -> Response:
    """An error of ours."""
    headers = {**_FIELDS, **dict(error.headers)}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    return Response(
        error_body(error),
        status_code=error.status,
        headers=headers,
        media_type="application/json",
    )


async def _on_api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_answer(error)


async def _on_config_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ConfigError)
    return _problems(422, "invalid_config", str(error), None, error.problems)


async def _on_field_problems(_request: Request, error: Exception) -> Response:
    assert isinstance(error, FieldProblemsError)
    shown = [
        one.message if not one.key else f"{one.key}: {one.message}" + _hint(one)
        for one in error.problems
    ]
    param = error.problems[0].key or None
    return _problems(400, "invalid_request_error", "; ".join(shown) + ".", param, error.problems)


def _hint(problem: Problem) -> str:
    return "" if problem.nearest is None else f' (did you mean "{problem.nearest}"?)'


def _problems(
    status: int, code: str, message: str, param: str | None, problems: tuple[Problem, ...]
) -> Response:
    """An error with each problem by itself beside it, for programs."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    rows: list[dict[str, Any]] = [msgspec.to_builtins(problem) for problem in problems]
    return json_answer({"error": error, "problems": rows}, status)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own refusals, 404 and 405, in our shape."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404:
        return error_answer(ApiError.not_found(path))
    if error.status_code == 405:
        allowed = sorted((error.headers or {}).get("Allow", "").split(", "))
        return error_answer(ApiError.method_not_allowed(request.method, path, allowed))
    return error_answer(
        ApiError(error.status_code, "invalid_request_error", "invalid_request_error", error.detail)
    )


async def _on_fault(request: Request, _error: Exception) -> Response:
    """A fault of our own. Starlette raises it on after this answer, so that it is logged."""
    return error_answer(ApiError.internal(request.headers.get("x-request-id", "unknown")))


EXCEPTION_HANDLERS: dict[Any, Any] = {
    ApiError: _on_api_error,
    ConfigError: _on_config_error,
    FieldProblemsError: _on_field_problems,
    HTTPException: _on_http_exception,
    Exception: _on_fault,
}
"""For Starlette."""
