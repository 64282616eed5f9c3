"""The admin API: what it answers, and errors in OpenAI's shape."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from starlette.applications import Starlette

from nexus.admin.app import create_admin_app
from nexus.core.errors import ApiError

if TYPE_CHECKING:
    from nexus.admin.control import AdminControl

BACKENDS = [{"name": "gpu", "engine": "vllm"}, {"name": "my box", "engine": "ollama"}]
STATS = {"uptime_seconds": 1.5, "requests": {"total": 3}}


class View:
    """As much of ``AdminControl`` as these tests ask."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: {}

    def backends(self) -> list[dict[str, Any]]:
        return BACKENDS

    def backend(self, name: str) -> dict[str, Any]:
        if name == "broken":
            raise ValueError("broken")
        if name == "odd":
            return {"name": "odd", "reason": "a\ud800b"}
        for backend in BACKENDS:
            if backend["name"] == name:
                return backend
        raise ApiError(404, "invalid_request_error", "backend_not_found", f"No '{name}'.")

    def stats(self, window: str | None) -> dict[str, Any]:
        assert window is None
        return STATS


def app() -> Starlette:
    return create_admin_app(cast("AdminControl", View()))


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/admin/v1/backends", {"data": BACKENDS}),
        ("/admin/v1/backends/", {"data": BACKENDS}),
        ("/admin/v1/backends/gpu", BACKENDS[0]),
        ("/admin/v1/backends/my%20box", BACKENDS[1]),
        ("/admin/v1/stats", STATS),
        ("/v1/stats", STATS),
        ("/v1/stats/", STATS),
    ],
)
async def test_reads(client: httpx.AsyncClient, path: str, expected: Any) -> None:
    """Each route answers what the view holds, slash or not; HEAD wherever GET."""
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.json() == expected
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert (await client.head(path)).status_code == 200


async def test_an_unknown_backend(client: httpx.AsyncClient) -> None:
    """404 that names the backend."""
    answer = await client.get("/admin/v1/backends/nobody")
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": "No 'nobody'.",
        "type": "invalid_request_error",
        "param": None,
        "code": "backend_not_found",
    }


async def test_an_unknown_path(client: httpx.AsyncClient) -> None:
    """404 ``not_found`` in our shape."""
    answer = await client.get("/admin/v1/nothing")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert "/admin/v1/nothing" in answer.json()["error"]["message"]


async def test_a_wrong_method(client: httpx.AsyncClient) -> None:
    """405 with ``Allow``."""
    answer = await client.delete("/admin/v1/stats")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.json()["error"]["code"] == "method_not_allowed"


async def test_a_fault_of_ours(client: httpx.AsyncClient) -> None:
    """500 with the request id, nothing of the exception, and the exception goes on to be logged."""
    answer = await client.get("/admin/v1/backends/broken", headers={"x-request-id": "req-7"})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "req-7" in answer.json()["error"]["message"]

    strict = httpx.ASGITransport(app())
    async with httpx.AsyncClient(transport=strict, base_url="http://localhost") as raising:
        with pytest.raises(ValueError, match="broken"):
            await raising.get("/admin/v1/backends/broken")


async def test_text_that_is_not_unicode(client: httpx.AsyncClient) -> None:
    """A lone surrogate in what an engine said is escaped, not a fault."""
    answer = await client.get("/admin/v1/backends/odd")
    assert answer.status_code == 200
    assert b"a\\ud800b" in answer.content
