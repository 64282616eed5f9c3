"""The admin API as a Starlette application (behaviour § 13).

Imported when the first admin request comes: Starlette and what it brings stay out of a gateway
that is never asked. Who may ask is decided before, by ``admin/access.py``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nexus.core.errors import ApiError
from nexus.dialects.errors import error_body

__all__ = ["AdminView", "create_admin_app"]

Handler = Callable[[Request], Awaitable[Response]]


class AdminView(Protocol):
    """What the admin API shows, as values that JSON knows; secrets are masked already."""

    def backends(self) -> list[dict[str, Any]]:
        """Every Backend of behaviour § 13, in stable order."""
        ...

    def backend(self, name: str) -> dict[str, Any] | None:
        """One of them, ``None`` when there is none of that name."""
        ...

    def stats(self) -> dict[str, Any]:
        """The statistics of behaviour § 13."""
        ...


def create_admin_app(view: AdminView) -> Starlette:
    """The application that answers ``/admin/v1/...`` and ``/v1/stats`` out of ``view``."""

    async def list_backends(_request: Request) -> Response:
        return _json({"data": view.backends()})

    async def get_backend(request: Request) -> Response:
        name = request.path_params["name"]
        backend = view.backend(name)
        if backend is None:
            raise ApiError(
                404,
                "invalid_request_error",
                "backend_not_found",
                f"Backend '{name}' does not exist.",
            )
        return _json(backend)

    async def get_stats(_request: Request) -> Response:
        return _json(view.stats())

    table: list[tuple[str, Handler, list[str]]] = [
        ("/admin/v1/backends", list_backends, ["GET"]),
        ("/admin/v1/backends/{name}", get_backend, ["GET"]),
        ("/admin/v1/stats", get_stats, ["GET"]),
        ("/v1/stats", get_stats, ["GET"]),
    ]
    return Starlette(
        # A trailing slash is forgiven without the detour of a redirect.
        routes=[
            Route(path + slash, handler, methods=methods)
            for path, handler, methods in table
            for slash in ("", "/")
        ],
        exception_handlers={
            ApiError: _on_api_error,
            HTTPException: _on_http_exception,
            Exception: _on_fault,
        },
    )


def _json(value: object) -> Response:
    try:
        body = msgspec.json.encode(value)
    except UnicodeEncodeError:  # a lone surrogate in a name that some engine made up
        body = json.dumps(value).encode()
    return Response(
        body,
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
        media_type="application/json",
    )


def _error(error: ApiError) -> Response:
    headers = {"X-Content-Type-Options": "nosniff", **dict(error.headers)}
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
    return _error(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own refusals, 404 and 405, in our shape."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404:
        return _error(ApiError.not_found(path))
    if error.status_code == 405:
        allowed = sorted((error.headers or {}).get("Allow", "").split(", "))
        return _error(ApiError.method_not_allowed(request.method, path, allowed))
    return _error(
        ApiError(error.status_code, "invalid_request_error", "invalid_request_error", error.detail)
    )


async def _on_fault(request: Request, _error_seen: Exception) -> Response:
    """A fault of our own. Starlette raises it on after this answer, so that it is logged."""
    return _error(ApiError.internal(request.headers.get("x-request-id", "unknown")))
