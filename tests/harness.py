"""What integration tests stand on: a real gateway and real (fake) engines in one event loop, real
sockets on loopback, and conditions instead of sleeps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from time import monotonic
from typing import Any

import httpx

from nexus.config.loader import Loaded
from nexus.config.schema import (
    Config,
    DiscoveryConfig,
    HealthCheckConfig,
    RoutingConfig,
    ServerConfig,
)
from nexus.core.backend import BackendSpec, EngineKind
from nexus.demo.engine import FakeEngine
from nexus.runtime.gateway import Gateway
from nexus.telemetry.record import CallRecord

__all__ = ["Raw", "Running", "chat", "eventually", "loaded", "raw", "running", "spec_of"]

DEADLINE_S = 10.0
"""How long a condition may take on a loaded machine before the test fails."""


async def eventually(
    condition: Callable[[], object], what: str, timeout_s: float = DEADLINE_S
) -> None:
    """Waits until ``condition()`` is true; fails saying ``what`` was awaited."""
    end_s = monotonic() + timeout_s
    while not condition():
        if monotonic() > end_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(0.005)


def spec_of(engine: FakeEngine, **changes: Any) -> BackendSpec:
    """The backend of an engine, its kind told (tests of fingerprints leave it out)."""
    kind = EngineKind(engine.dialect)
    return BackendSpec(**{"name": engine.name, "url": engine.url, "engine": kind, **changes})


def loaded(
    backends: Sequence[BackendSpec] = (),
    *,
    server: dict[str, Any] | None = None,
    routing: dict[str, Any] | None = None,
    health: dict[str, Any] | None = None,
    admin_key: str = "",
    **sections: Any,
) -> Loaded:
    """A configuration for tests: a port from the kernel, no discovery (it would find what runs on
    the developer's machine), everything else as given or default."""
    sections.setdefault("discovery", DiscoveryConfig(enabled=False))
    config = Config(
        server=ServerConfig(**{"port": 0, **(server or {})}),
        routing=RoutingConfig(**(routing or {})),
        health_check=HealthCheckConfig(**(health or {})),
        **sections,
    )
    return Loaded(
        config=config, path=None, origins={}, backends=tuple(backends), admin_key=admin_key
    )


class Running:
    """A running gateway with what tests look at: ``records`` has every finished call."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.records: list[CallRecord] = []
        gateway._recorder.add(self.records.append)
        self.client = httpx.AsyncClient(
            base_url=gateway.url, timeout=30.0, limits=httpx.Limits(max_connections=None)
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.gateway.url

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.gateway.port

    def at_rest(self) -> bool:
        """Whether every counter, timer and budget is back at zero."""
        plane = self.gateway.plane
        lives = self.gateway.store.snapshot.live.values()
        return (
            plane.in_flight == 0
            and not plane.active
            and plane.timers_waiting == 0
            and plane.budget.used_bytes == 0
            and all(live.in_flight == 0 and not live.trial_in_flight for live in lives)
        )

    async def settled(self) -> None:
        """Waits until the gateway is at rest."""
        await eventually(self.at_rest, "every counter, timer and budget back at zero")

    async def healthy(self, *names: str) -> None:
        """Waits until the named backends (all, when none is named) are routable."""
        store = self.gateway.store

        def ready() -> bool:
            backends = store.snapshot.backends
            return all(backends[name].routable for name in names or backends)

        await eventually(ready, f"backends routable: {names or 'all'}")


@contextlib.asynccontextmanager
async def running(
    *engines: FakeEngine | BackendSpec, wait: bool = True, **settings: Any
) -> AsyncIterator[Running]:
    """A gateway in front of ``engines`` (started ones, or specs), ready to be asked.

    ``settings`` are those of :func:`loaded`. ``wait=False`` does not wait for healthy backends.
    At the end the gateway must be at rest: nothing leaked.
    """
    specs = [one if isinstance(one, BackendSpec) else spec_of(one) for one in engines]
    gateway = Gateway(loaded(specs, **settings))
    async with gateway:
        run = Running(gateway)
        try:
            if wait:
                await run.healthy()
            yield run
        finally:
            await run.client.aclose()
        await run.settled()


def chat(model: str = "demo-model", text: str = "Hi", **fields: Any) -> dict[str, Any]:
    """A chat completion's request body."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


class Raw:
    """A raw TCP client: bytes as written, bytes as they come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Writes bytes."""
        self.writer.write(data)

    async def until(self, mark: bytes, timeout_s: float = DEADLINE_S) -> bytes:
        """Everything up to and with ``mark``."""
        async with asyncio.timeout(timeout_s):
            return await self.reader.readuntil(mark)

    async def response(self, timeout_s: float = DEADLINE_S) -> tuple[int, dict[str, str], bytes]:
        """One whole response: status, headers (lower case), body (de-chunked)."""
        head = await self.until(b"\r\n\r\n", timeout_s)
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            if name:
                headers[name.lower()] = value.strip()
        async with asyncio.timeout(timeout_s):
            if headers.get("transfer-encoding") == "chunked":
                body = b""
                while True:
                    size = int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16)
                    body += (await self.reader.readexactly(size + 2))[:-2]
                    if size == 0:
                        return status, headers, body
            if "content-length" in headers:
                return (
                    status,
                    headers,
                    await self.reader.readexactly(int(headers["content-length"])),
                )
            if status in (204, 304) or 100 <= status < 200:
                return status, headers, b""
            return status, headers, await self.reader.read()

    async def rest(self, timeout_s: float = DEADLINE_S) -> bytes:
        """Everything until the connection ends (a reset ends it too)."""
        data = b""
        async with asyncio.timeout(timeout_s):
            with contextlib.suppress(ConnectionError):
                while part := await self.reader.read(65536):
                    data += part
        return data


@contextlib.asynccontextmanager
async def raw(port: int, host: str = "127.0.0.1") -> AsyncIterator[Raw]:
    """A raw TCP connection."""
    reader, writer = await asyncio.open_connection(host, port, limit=64 * 1024 * 1024)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
