"""The fleets that the seed's tests stand on: fake engines behind a gateway, some of them down."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

from nexus.core.backend import BackendSpec, BackendStatus, EngineKind
from nexus.demo.engine import FakeEngine
from tests.harness import Running, eventually, running

__all__ = [
    "COMPLETIONS",
    "data_lines",
    "down",
    "events_of",
    "fleet",
    "request",
    "reserved_port",
    "text_of",
]

COMPLETIONS = "/v1/chat/completions"


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A port that is ours and refuses connections: bound, never listening."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


def down(port: int, name: str, models: tuple[str, ...]) -> BackendSpec:
    """A configured backend that is down; the configuration names its models."""
    return BackendSpec(
        name=name, url=f"http://127.0.0.1:{port}", engine=EngineKind.OPENAI, models=models
    )


@contextlib.asynccontextmanager
async def fleet(
    healthy: int = 0, unhealthy: int = 0, *, models: tuple[str, ...] = ("test",), **settings: Any
) -> AsyncIterator[Running]:
    """A gateway in front of so many engines that serve ``models``, and so many that are down and
    would serve ``unhealthy-model`` too."""
    async with contextlib.AsyncExitStack() as stack:
        backends: list[FakeEngine | BackendSpec] = []
        for number in range(healthy):
            engine = FakeEngine(name=f"up-{number}", models=models)
            backends.append(await stack.enter_async_context(engine))
        for number in range(unhealthy):
            port = stack.enter_context(reserved_port())
            backends.append(down(port, f"down-{number}", ("unhealthy-model", *models)))
        run = await stack.enter_async_context(running(*backends, wait=False, **settings))
        await eventually(
            lambda: _decided(run) == (healthy, unhealthy),
            f"{healthy} healthy and {unhealthy} unhealthy backends",
        )
        yield run


def _decided(run: Running) -> tuple[int, int]:
    statuses = [backend.status for backend in run.gateway.store.snapshot.backends.values()]
    return statuses.count(BackendStatus.HEALTHY), statuses.count(BackendStatus.UNHEALTHY)


def request(model: str = "test", **fields: Any) -> dict[str, Any]:
    """The seed's request body: no messages at all."""
    return {"model": model, "messages": [], **fields}


def data_lines(body: str) -> list[str]:
    """What follows ``data: `` on each such line of an event stream."""
    return [line[6:] for line in body.splitlines() if line.startswith("data: ")]


def events_of(body: str) -> list[dict[str, Any]]:
    """The JSON of every event but ``[DONE]``; fails where one is not JSON."""
    return [json.loads(data) for data in data_lines(body) if data != "[DONE]"]


def text_of(events: list[dict[str, Any]]) -> str:
    """The content of all chunks together."""
    return "".join(
        choice["delta"].get("content") or "" for event in events for choice in event["choices"]
    )
