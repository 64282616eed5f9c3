"""The OpenAPI document is true: every route is in it, and every real answer has its shape."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec

from nexus.admin.app import admin_routes
from nexus.admin.control import AdminControl
from nexus.admin.route import AdminRoute
from nexus.admin.schemas import SHAPES
from nexus.core.backend import BackendStatus, Source
from nexus.demo.engine import FakeEngine
from tests.harness import Running, chat, spec_of
from tests.integration.reloading import reloading, table, write


class NoControl:
    """Stands in where routes are only looked at."""

    def __getattr__(self, name: str) -> Any:
        return None


ROWS = admin_routes(cast("AdminControl", NoControl()))


def row_of(method: str, path: str) -> AdminRoute:
    for row in ROWS:
        parts = re.split(r"\{\w+\}", row.full_path)
        if row.method == method and re.fullmatch("[^/]+".join(map(re.escape, parts)), path):
            return row
    raise AssertionError(f"no route for {method} {path}")


class Checker:
    """Asks, and holds each answer against the shape that its route names."""

    def __init__(self, run: Running) -> None:
        self._client = run.client
        self.asked: set[tuple[str, str]] = set()

    async def __call__(self, method: str, path: str, **given: Any) -> httpx.Response:
        row = row_of(method, path.partition("?")[0])
        answer = await self._client.request(method, path, **given)
        assert answer.status_code == row.status, answer.text
        if "/" not in row.answer:
            msgspec.convert(answer.json(), SHAPES[row.answer])
        self.asked.add((row.method, row.full_path))
        return answer


async def test_every_answer_has_its_shape(tmp_path: Path) -> None:
    """Each route of the API, asked with backends, calls, failures and pending ones around."""
    file = tmp_path / "nexus.toml"
    engines = [
        FakeEngine(name=name, dialect="ollama" if name == "b" else "vllm") for name in "abcd"
    ]
    async with engines[0] as a, engines[1] as b, engines[2] as c, engines[3] as d:
        write(file, table(a), table(b))
        async with reloading(file) as run:
            check = Checker(run)
            run.gateway.store.add(spec_of(d, source=Source.SCAN), status=BackendStatus.PENDING)
            await run.client.post("/v1/chat/completions", json=chat())
            await run.client.post("/v1/chat/completions", json=chat(stream=True))
            await run.client.post("/v1/chat/completions", content=b"no")
            backends = "/admin/v1/backends"
            await check("GET", backends)
            await check("POST", backends, json={"url": c.url, "name": "c", "headers": {"X": "y"}})
            await check("GET", f"{backends}/a")
            await check("PATCH", f"{backends}/c", json={"priority": 2, "zone": None})
            await check("POST", f"{backends}/a/drain")
            await check("POST", f"{backends}/a/resume")
            await check("POST", f"{backends}/d/approve")
            await check("POST", "/admin/v1/probe", json={"url": b.url})
            await check("POST", "/admin/v1/probe", json={"url": "http://127.0.0.1:1"})
            await check("GET", "/admin/v1/models")
            await check(
                "POST", "/admin/v1/routes/explain", json=chat(), headers={"x-nexus-pin": "a"}
            )
            await check("POST", "/admin/v1/routes/explain", json=chat("nobody-has-it"))
            await check("GET", "/admin/v1/config")
            write(
                file,
                table(a, zone="x"),
                "[routing]\nmax_retries = 1\n",
                base="[server]\nport = 1\n",
            )
            await check("POST", "/admin/v1/config/reload")
            await check("GET", "/admin/v1/config")
            await check("DELETE", f"{backends}/c")
            for prefix in ("/admin/v1", "/v1"):
                await check("GET", f"{prefix}/stats?window=5m")
                await check("GET", f"{prefix}/stats")
                history = await check("GET", f"{prefix}/history?limit=10&model=demo-model")
            for call in history.json()["data"]:
                await check("GET", f"/admin/v1/history/{call['request_id']}")
            await check("GET", "/admin/v1/session")
            await check("POST", "/admin/v1/session", json={"key": "x"})
            await check("DELETE", "/admin/v1/session")
            await check("GET", "/admin/v1/openapi.json")
            events = {("GET", "/admin/v1/events")}  # has tests of its own
            assert check.asked | events == {(row.method, row.full_path) for row in ROWS}


async def test_the_document(tmp_path: Path) -> None:
    """Every route and what it may answer; every reference leads somewhere; bodies are described."""
    file = tmp_path / "nexus.toml"
    write(file)
    async with reloading(file) as run:
        document = (await run.client.get("/admin/v1/openapi.json")).json()
    for row in ROWS:
        operation = document["paths"][row.full_path][row.method.lower()]
        assert operation["summary"]
        assert {str(row.status), "403", *map(str, row.errors)} <= operation["responses"].keys()
        assert ("requestBody" in operation) == bool(row.body)
    text = json.dumps(document)
    schemas = document["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/(\w+)"', text)) <= schemas.keys()
    assert schemas["NewBackend"]["required"] == ["url"]
    assert not schemas["BackendChange"].get("required")
    assert {"type": "null"} in schemas["BackendChange"]["properties"]["zone"]["anyOf"]
    assert "``" not in text


def test_every_body_and_answer_is_described() -> None:
    """What routes name is there, and nothing is described that no route names."""
    named = {row.answer for row in ROWS if "/" not in row.answer} | {row.body for row in ROWS}
    assert named - {""} == SHAPES.keys() - {"Error"}
