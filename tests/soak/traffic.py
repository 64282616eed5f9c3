"""What happens to a gateway in a soak: odd clients, faults, reloads, in turn and again."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle
from typing import Any

from nexus.demo.faults import Fault
from tests.chaos.load import request_bytes
from tests.chaos.stage import Engine, Gateway
from tests.harness import raw

__all__ = ["Disturbances", "OddClients"]

FAULTS: list[tuple[Fault, dict[str, Any]]] = [
    (Fault.STATUS, {"status": 500}),
    (Fault.RESET_AFTER_EVENTS, {}),
    (Fault.STATUS, {"status": 503, "retry_after_s": 1}),
    (Fault.GARBAGE, {}),
    (Fault.ERROR_EVENT_FIRST, {}),
    (Fault.CLOSE_BEFORE_HEAD, {}),
    (Fault.ERROR_EVENT_AFTER, {}),
    (Fault.STALL_AFTER_EVENTS, {"delay_s": 0.5}),
    (Fault.TRUNCATED_CHUNK, {}),
    (Fault.HUGE_HEAD, {}),
    (Fault.VANISH_AFTER_EVENTS, {}),
    (Fault.SURPLUS_BYTES, {}),
    (Fault.NOT_HTTP, {}),
    (Fault.LOADING, {}),
]
_GET = b"GET %b HTTP/1.1\r\nhost: localhost\r\n\r\n"


class OddClients:
    """Clients that ask for what is not there, send what is no request, look at pages, listen to
    events, upload much, or leave in the middle of it: one after the other on new connections.
    ``wrong`` has what was not answered as it must be."""

    def __init__(self, gateway: Gateway, every_s: float = 0.1) -> None:
        self._gateway = gateway
        self._every_s = every_s
        self.asked: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def run(self) -> None:
        """Until cancelled."""
        big = request_bytes(stream=False, user="x" * 300_000)
        listed: list[tuple[str, bytes, int]] = [
            ("models", _GET % b"/v1/models", 200),
            ("metrics", _GET % b"/metrics", 200),
            ("unknown model", request_bytes(stream=True, model="nobody-s"), 404),
            ("no JSON", request_bytes(stream=False).replace(b"{", b"(", 1), 400),
            ("backends", _GET % b"/admin/v1/backends", 200),
            ("big body", big, 200),
            ("unknown path", _GET % b"/nowhere", 404),
            ("malformed", b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
            ("statistics", _GET % b"/admin/v1/stats", 200),
            ("history", _GET % b"/admin/v1/history?limit=50", 200),
        ]
        for name, request, status in cycle(listed):
            await asyncio.sleep(self._every_s)
            self.asked[name] += 1
            with self._noting(name):
                async with raw(self._gateway.port) as client:
                    client.send(request)
                    seen, _, body = await client.response(30.0)
                    if seen != status:
                        self.wrong.append(f"{name}: {seen} {body[:200]!r}")
            if name == "big body":
                await self._leave(request[:150_000])
            if name == "metrics":
                await self._listen()

    async def _leave(self, request: bytes) -> None:
        self.asked["half a body"] += 1
        async with raw(self._gateway.port) as client:
            client.send(request)

    async def _listen(self) -> None:
        self.asked["events"] += 1
        with self._noting("events"):
            async with raw(self._gateway.port) as client:
                client.send(_GET % b"/admin/v1/events")
                await client.until(b"event: request", 30.0)

    @contextlib.contextmanager
    def _noting(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, TimeoutError) as error:
            self.wrong.append(f"{name}: {error!r}")


class Disturbances:
    """What goes wrong with three engines, one thing at a time: kills, stops, faults of all kinds,
    crawling, reloads good and bad. ``done`` counts them."""

    def __init__(self, gateway: Gateway, engines: list[Engine], pause_s: float = 3.0) -> None:
        self._gateway = gateway
        self._engines = engines
        self._pause_s = pause_s
        self._text = gateway.config.read_text()
        self._faults = cycle(FAULTS)
        self.done: Counter[str] = Counter()

    async def run(self) -> None:
        """Until cancelled, then everything is well again."""
        kinds: list[Callable[[Engine], Awaitable[None]]] = [
            self._kill,
            self._misbehave,
            self._reload,
            self._stop,
            self._misbehave,
            self._break_file,
            self._crawl,
            self._misbehave,
        ]
        engines = cycle(self._engines)
        for disturb in cycle(kinds):
            await asyncio.sleep(self._pause_s)
            self.done[disturb.__name__.strip("_")] += 1
            await disturb(next(engines))

    async def _kill(self, engine: Engine) -> None:
        engine.kill()
        try:
            await asyncio.sleep(1.0)
        finally:
            await asyncio.shield(asyncio.to_thread(engine.start))

    async def _stop(self, engine: Engine) -> None:
        engine.stop()
        try:
            await asyncio.sleep(2.0)
        finally:
            engine.go_on()

    async def _misbehave(self, engine: Engine) -> None:
        fault, order = next(self._faults)
        await engine.fault(fault.value, **order)
        try:
            await asyncio.sleep(2.0)
        finally:
            await engine.fault("none")

    async def _crawl(self, engine: Engine) -> None:
        await engine.speed(ttft_s=1.0, tokens=12, tokens_per_s=20)
        try:
            await asyncio.sleep(2.0)
        finally:
            await engine.speed(ttft_s=0.02, tokens=12, tokens_per_s=200)

    async def _reload(self, engine: Engine) -> None:
        """One more backend (an engine by another address), other priorities, and back."""
        more = (
            f'[[backends]]\nname = "further"\nurl = "http://localhost:{engine.port}"\n'
            f'type = "vllm"\n[models.{json.dumps("demo-model")}]\ntools = true\n'
        )
        for text in (self._text.replace("\nurl", "\npriority = 40\nurl", 1), self._text + more):
            self._gateway.config.write_text(text)
            await asyncio.sleep(2.0)
        self._gateway.config.write_text(self._text)

    async def _break_file(self, engine: Engine) -> None:
        self._gateway.config.write_text(self._text + "\n[nonsense")
        await asyncio.sleep(2.0)
        self._gateway.config.write_text(self._text)
