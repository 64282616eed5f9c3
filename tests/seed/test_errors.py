"""Seed T04: errors, and the HTTP responses they become."""

from __future__ import annotations

from typing import Any

import msgspec

from nexus.core.errors import ApiError
from nexus.dialects.errors import error_body
from tests.harness import running


def written(error: ApiError) -> dict[str, Any]:
    """The error object on the wire."""
    document: dict[str, dict[str, Any]] = msgspec.json.decode(error_body(error))
    return document["error"]


def test_api_error_serialize_400() -> None:
    """``bad_request`` is 400 ``invalid_request_error``."""
    error = ApiError.bad_request("Invalid JSON")
    assert written(error)["code"] == "invalid_request_error"
    assert written(error)["message"] == "Invalid JSON"
    assert error.status == 400


def test_api_error_serialize_404() -> None:
    """``model_not_found`` is 404, names the model and what there is instead."""
    error = ApiError.model_not_found("gpt-4", ["llama3:70b", "mistral:7b"])
    assert written(error)["code"] == "model_not_found"
    assert "gpt-4" in written(error)["message"]
    assert "Available: llama3:70b, mistral:7b" in written(error)["message"]
    assert error.status == 404
    assert "No models available" in written(ApiError.model_not_found("gpt-4", []))["message"]


def test_api_error_serialize_502() -> None:
    """``bad_gateway`` is 502; its sibling ``gateway_timeout`` is 504 with a fixed message."""
    error = ApiError.bad_gateway("Connection refused")
    assert written(error)["code"] == "bad_gateway"
    assert written(error)["message"] == "Connection refused"
    assert error.status == 502
    late = ApiError.gateway_timeout()
    assert (late.status, written(late)["code"]) == (504, "gateway_timeout")
    assert written(late)["message"] == "Backend request timed out"


async def test_api_error_into_response() -> None:
    """``service_unavailable`` becomes a whole HTTP response of status 503 with that body."""
    error = ApiError.service_unavailable("No backends", retry_after_s=3)
    async with running() as run:
        response = run.gateway.plane.render_error(error, close=False)
    head, _, body = response.partition(b"\r\n\r\n")
    status, *fields = head.split(b"\r\n")
    assert status.startswith(b"HTTP/1.1 503 ")
    names = [field.partition(b":")[0].lower() for field in fields]
    values = [field.partition(b":")[2].strip() for field in fields]
    headers = dict(zip(names, values, strict=True))
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"content-length"] == b"%d" % len(body)
    assert headers[b"retry-after"] == b"3"
    assert body == error_body(error)
