"""Bad input, for every route of the admin API: an error in OpenAI's shape that says what to do."""

from __future__ import annotations

from typing import Any, cast

import httpx
import msgspec
import pytest

from nexus.admin.app import admin_routes
from nexus.admin.control import AdminControl
from nexus.admin.route import AdminRoute
from nexus.admin.schemas import SHAPES
from nexus.demo.engine import FakeEngine
from tests.harness import running


class NoControl:
    """Stands in where routes are only looked at."""

    def __getattr__(self, name: str) -> Any:
        return None


ROWS = admin_routes(cast("AdminControl", NoControl()))
IDS = [f"{row.method} {row.full_path}" for row in ROWS]
WRITES = [row for row in ROWS if row.method in ("POST", "PATCH", "DELETE")]
WRITES = [row for row in WRITES if (row.method, row.path) != ("DELETE", "/session")]
JSON = {"content-type": "application/json"}


def path_of(row: AdminRoute, name: str = "a") -> str:
    return row.full_path.replace("{name}", name).replace("{request_id}", "no-such-call")


def check(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()
    msgspec.convert(error, SHAPES["Error"])
    message = error["error"]["message"]
    assert message.endswith((".", "?"))
    assert len(message) < 1500
    for word in words:
        assert word in message


@pytest.mark.parametrize("row", ROWS, ids=IDS)
async def test_a_query_that_is_unknown(row: AdminRoute) -> None:
    """A parameter that a route does not know is an error, not ignored; its own nearest is named."""
    async with FakeEngine(name="a") as a, running(a) as run:
        answer = await run.client.request(row.method, f"{path_of(row)}?nonsense=1")
        check(answer, 400, "Unknown query parameter 'nonsense'")
        for name in row.query:
            answer = await run.client.request(row.method, f"{path_of(row)}?{name}x=1")
            check(answer, 400, f"did you mean '{name}'")


@pytest.mark.parametrize("row", WRITES, ids=[f"{row.method} {row.path}" for row in WRITES])
async def test_bodies_that_are_none(row: AdminRoute) -> None:
    """Broken JSON, JSON that is no object, what is no JSON, an unknown encoding, too much of it."""
    async with FakeEngine(name="a") as a, running(a) as run:

        async def send(body: bytes, **headers: str) -> httpx.Response:
            fields = {**JSON, **{key.replace("_", "-"): value for key, value in headers.items()}}
            return await run.client.request(row.method, path_of(row), content=body, headers=fields)

        for body in (b"{", b'{"a": NaN}', b"\xff\xfe", b"[" * 100_000, b'{"\\ud800": 1'):
            check(await send(body), 400)
        for body in (b"[]", b"7", b'"x"', b"null"):
            check(await send(body), 400, "JSON object")
        check(await send(b"url=http", content_type="text/plain"), 415, "application/json")
        check(await send(b"{}", content_encoding="br"), 415, "gzip")
        check(await send(b"{}", content_encoding="gzip"), 400, "gzip")
        if row.path != "/routes/explain":
            check(await send(b" " * 1_048_577), 413, "1048576")
        check(await send(b" " * 11_000_000), 413, "max_body_bytes")
        unknown = b'{"nonsense": 1}' if row.path != "/routes/explain" else b'{"model": 1}'
        check(await send(unknown), 400)
        assert list(run.gateway.store.snapshot.backends) == ["a"]


@pytest.mark.parametrize("row", ROWS, ids=IDS)
async def test_methods_that_are_none(row: AdminRoute) -> None:
    """405 that names the methods there are."""
    async with running() as run:
        answer = await run.client.request("PUT", path_of(row))
        check(answer, 405, row.method)
        assert row.method in answer.headers["allow"]


@pytest.mark.parametrize(
    "row", [row for row in ROWS if "{" in row.path], ids=[i for i in IDS if "{" in i]
)
async def test_names_that_are_none(row: AdminRoute) -> None:
    """404; for backends with the nearest name."""
    async with FakeEngine(name="gpu-box") as a, running(a) as run:
        answer = await run.client.request(row.method, path_of(row, "gpu-bux"))
        words = ("Did you mean 'gpu-box'?",) if "{name}" in row.path else ("history_size",)
        check(answer, 404, *words)
        odd = path_of(row, "%00%0a%ff%e2%80%ae" + "x" * 3000)
        check(await run.client.request(row.method, odd), 404)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/admin/v1/history?limit=0", "from 1 to 1000"),
        ("/admin/v1/history?limit=x", "from 1 to 1000"),
        ("/admin/v1/history?limit=" + "9" * 5000, "from 1 to 1000"),
        ("/admin/v1/history?outcome=okay", "did you mean ok?"),
        ("/admin/v1/stats?window=1d", "1m, 5m, 1h"),
        ("/admin/v1/events?kinds=", "backend, request, config"),
        ("/v1/stats?window=x", "1m, 5m, 1h"),
    ],
)
async def test_values_that_make_no_sense(path: str, words: str) -> None:
    """400 that says what would."""
    async with running() as run:
        check(await run.client.get(path), 400, words)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1", "refused"),
        ("http://no-such-host.invalid", "resolved"),
        ("https://127.0.0.1:{port}", "try http://"),
        ("http://127.0.0.1:{port}/nothing/here", "404"),
    ],
)
async def test_servers_that_are_none(url: str, words: str) -> None:
    """422 that says what was tried and what came of it; nothing is taken in."""
    async with FakeEngine(name="a") as a, running(health={"timeout_seconds": 2}) as run:
        asked = {"url": url.replace("{port}", str(a.port))}
        answer = await run.client.post("/admin/v1/backends", json=asked)
        check(answer, 422, words, "Tried GET /v1/models", "force: true")
        assert run.gateway.store.snapshot.backends == {}
