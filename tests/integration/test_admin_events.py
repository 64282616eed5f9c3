"""GET /events on a running gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import httpx

from nexus.demo.engine import FakeEngine
from nexus.demo.profile import Speed
from tests.harness import Running, chat, eventually, raw, running

EVENTS = "/admin/v1/events"


class Events:
    """An open event stream."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()
        self.answer = answer

    async def next(self, kind: str) -> Any:
        """The data of the next event of a kind."""
        found = ""
        async with asyncio.timeout(10):
            async for line in self._lines:
                if line.startswith("event: "):
                    found = line[7:]
                elif line.startswith("data: ") and found == kind:
                    return json.loads(line[6:])
        raise AssertionError(f"the stream ended without {kind}")


@asynccontextmanager
async def listening(run: Running, query: str = "") -> AsyncIterator[Events]:
    before = run.gateway.events.listeners
    async with run.client.stream("GET", EVENTS + query) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        await eventually(lambda: run.gateway.events.listeners > before, "a listener")
        yield Events(answer)


async def test_calls_and_backends_are_told() -> None:
    """A finished call and a drained backend, as they happen."""
    async with FakeEngine(name="a") as engine, running(engine) as run, listening(run) as events:
        answer = await run.client.post("/v1/chat/completions", json=chat())
        call = await events.next("request")
        assert call["request_id"] == answer.headers["x-request-id"]
        await run.client.post("/admin/v1/backends/a/drain")
        assert (await events.next("backend"))["status"] == "draining"


async def test_a_listener_that_leaves_is_forgotten() -> None:
    """Its subscription ends with its connection, though nothing happens."""
    async with running() as run:
        async with listening(run):
            pass
        await eventually(lambda: run.gateway.events.listeners == 0, "nobody listens")


async def test_a_listener_that_is_gone_before_its_turn_holds_no_place() -> None:
    """Asked for behind another request, by a client that hung up meanwhile."""
    async with running() as run:
        for _ in range(3):
            async with raw(run.port) as client:
                for path in ("/admin/v1/stats", EVENTS):
                    client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await eventually(lambda: len(run.gateway.server.connections) == 0, "it is gone")
        answer = await run.client.get("/admin/v1/stats")
        assert answer.is_success
        assert run.gateway.events.listeners == 0


async def test_listeners_are_bounded() -> None:
    """The 65th is told 503; once one has left, the next may come."""
    async with running() as run, AsyncExitStack() as stack:
        last = None
        for _ in range(64):
            last = AsyncExitStack()
            await last.enter_async_context(listening(run))
            stack.push_async_exit(last)
        refused = await run.client.get(EVENTS)
        assert refused.status_code == 503
        assert "listen to events already" in refused.json()["error"]["message"]
        assert last is not None
        await last.aclose()
        await eventually(lambda: run.gateway.events.listeners == 63, "one has left")
        async with listening(run):
            pass


async def test_a_stalled_listener_costs_little() -> None:
    """Who does not read holds a bounded queue; calls go on, and it is told what it lost."""
    async with FakeEngine(name="a") as engine, running(engine) as run, raw(run.port) as client:
        client.send(b"GET /admin/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await eventually(lambda: run.gateway.events.listeners == 1, "a listener")
        transport = cast(asyncio.Transport, client.writer.transport)
        transport.pause_reading()
        text = "x" * 100_000
        for _ in range(2000):
            run.gateway.events.publish("backend", {"text": text})
            if run.gateway.events._subscriptions[0].lost:
                break
            await asyncio.sleep(0)
        assert run.gateway.events._subscriptions[0].lost > 0
        assert (await run.client.post("/v1/chat/completions", json=chat())).status_code == 200
        transport.resume_reading()
        await client.until(b"event: lost\n")


async def test_a_drain_ends_the_stream() -> None:
    """At the beginning of a drain, though calls are still running; new listeners are refused."""
    pace = Speed(tokens=40, tokens_per_s=40.0)
    async with (
        FakeEngine(name="a", settings=pace) as engine,
        running(engine) as run,
        listening(run) as events,
        run.client.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as call,
    ):
        drain = asyncio.ensure_future(run.gateway.drain(asyncio.Event()))
        async with asyncio.timeout(5):
            await events.answer.aread()
        assert not drain.done()
        assert (await run.client.get(EVENTS)).status_code == 503
        await call.aread()
        await drain


async def test_kinds_that_are_none() -> None:
    """400 with the kinds that there are."""
    async with running() as run:
        answer = await run.client.get(f"{EVENTS}?kinds=backend,requests")
        assert answer.status_code == 400
        assert "backend, request, config" in answer.json()["error"]["message"]
