"""Signals in every phase of a call (behaviour § 10): exit code, how soon, what clients see."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest

from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.demo.profile import Speed
from tests.chaos.load import request_bytes
from tests.chaos.stage import Gateway, gateway_toml
from tests.harness import Raw, eventually, raw
from tests.integration.scripted import Scripted, Talk, chunked, head

AT_ONCE_S = 5.0
"""On a busy machine; far from the drain timeout of those who must not wait for it."""
SHORT_S, LONG_S = 0.5, 60.0
"""Drain timeouts: one to see it pass, one that nobody may wait for."""


class Scene:
    """What a case stands on: an engine, a gateway in front of it, one client's connection."""

    def __init__(self, stack: AsyncExitStack, engine: FakeEngine) -> None:
        self._stack = stack
        self.engine = engine
        self.url = engine.url
        self.discovery = "enabled = false"
        self.gateway: Gateway
        self.client: Raw
        self.reluctant: socket.socket | None = None
        """A client that does not read by itself, in place of the other one."""
        self.read = b""
        """What the client has read before the signal."""

    async def start(self, home: Path, drain_s: float) -> None:
        """Starts the gateway and connects the client."""
        config = gateway_toml(
            {"one": self.url},
            server=f"port = 0\ndrain_timeout_seconds = {drain_s}",
            health="enabled = false\ntimeout_seconds = 0.3",
            backend='type = "openai"\nmodels = ["demo-model"]',
            discovery=self.discovery,
        )
        self.gateway = await asyncio.to_thread(Gateway, home, config)
        self._stack.enter_context(self.gateway)
        await self.gateway.healthy(1)
        self.client = await self._stack.enter_async_context(raw(self.gateway.port))

    def own(self, sock: socket.socket) -> None:
        """Closes it with the scene."""
        self._stack.callback(sock.close)

    async def scripted(self, script: Callable[[Talk], Awaitable[None]]) -> None:
        """A scripted backend in place of the engine."""
        self.url = (
            f"http://127.0.0.1:{(await self._stack.enter_async_context(Scripted(script))).port}"
        )

    async def ask(self, *, stream: bool = False) -> None:
        """Sends a request; returns when it is at the backend, as the gateway sees it."""
        self.client.send(request_bytes(stream=stream))
        end_s = monotonic() + 10.0
        while (await self.gateway.get("/admin/v1/backends"))["data"][0]["in_flight"] != 1:
            assert monotonic() < end_s, "the call is not at its backend"
            await asyncio.sleep(0.01)

    async def seen(self) -> str:
        """What the client sees until its connection ends, in a word or two."""
        if self.reluctant is None:
            data = self.read + await self.client.rest(LONG_S / 2)
        else:
            data = await asyncio.to_thread(_rest_of, self.reluctant)
        first, _, body = data.partition(b"\r\n\r\n")
        if not data:
            return "closed"
        status = int(first.split(b" ", 2)[1])
        if status != 200:
            assert b"connection: close" in first
            return f"{status} {json.loads(body)['error']['code']}"
        if b"text/event-stream" not in first:
            return "whole" if b'"choices"' in body else "cut"
        if not body.endswith(b"0\r\n\r\n"):
            return "cut"
        return "told" if b'data: {"error"' in body and b"data: [DONE]\n\n" in body else "whole"


def _rest_of(sock: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionError):
        while part := sock.recv(65536):
            data += part
    return data


# --- phases: `prepare` before the gateway starts, `enter` brings the client into the phase --------


async def nothing(scene: Scene) -> None:
    """Nothing to prepare."""


async def idle(scene: Scene) -> None:
    """A kept-alive connection between two requests."""
    scene.client.send(request_bytes(stream=False))
    assert (await scene.client.response())[0] == 200


async def silent(scene: Scene) -> None:
    """A connection that has said nothing yet."""
    await scene.gateway.get("/health")  # answered after that one was taken


async def reading_head(scene: Scene) -> None:
    """Half a request head."""
    scene.client.send(request_bytes(stream=False)[:40])
    await scene.gateway.get("/health")


async def reading_body(scene: Scene) -> None:
    """Half a request body."""
    scene.client.send(request_bytes(stream=False)[:-10])
    await scene.gateway.get("/health")


async def no_room(scene: Scene) -> None:
    """A backend whose backlog is full: a dial neither succeeds nor fails."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    scene.own(listener)
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        scene.own(filler)
    scene.url = f"http://127.0.0.1:{listener.getsockname()[1]}"


async def dialing(scene: Scene) -> None:
    """The backend is being dialled."""
    await scene.ask()


async def waiting(scene: Scene) -> None:
    """The backend has the request and says nothing."""
    scene.engine.faults.set(Fault.STALL)
    await scene.ask()


async def held(scene: Scene) -> None:
    """Half of a plain answer has come and is held."""
    scene.engine.faults.set(Fault.STALL_AFTER_EVENTS)
    await scene.ask()


async def streaming(scene: Scene) -> None:
    """A stream's first events have gone to the client."""
    scene.engine.faults.set(Fault.STALL_AFTER_EVENTS)
    await scene.ask(stream=True)
    scene.read = await scene.client.until(b"data: ")


async def finishing(scene: Scene) -> None:
    """A stream that will be whole in a second."""
    scene.engine.settings = Speed(tokens=5, tokens_per_s=5.0)
    await scene.ask(stream=True)
    scene.read = await scene.client.until(b"data: ")


async def torrent(scene: Scene) -> None:
    """A backend whose stream never ends."""
    event = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 9000)
    written = 0

    async def script(talk: Talk) -> None:
        nonlocal written
        await talk.write(head("content-type: text/event-stream", "transfer-encoding: chunked"))
        while True:
            await talk.write(chunked(event).removesuffix(b"0\r\n\r\n"))
            written += 1
            scene.engine.profile.context_length = written  # told to `paused`

    await scene.scripted(script)


async def paused(scene: Scene) -> None:
    """The client does not read any more, and the backend's stream has been paused for it."""
    scene.reluctant = socket.create_connection(("127.0.0.1", scene.gateway.port), LONG_S / 2)
    scene.own(scene.reluctant)
    scene.reluctant.sendall(request_bytes(stream=True))
    before = -1
    while before != scene.engine.profile.context_length or before < 10:
        before = scene.engine.profile.context_length
        await asyncio.sleep(0.3)


async def events(scene: Scene) -> None:
    """A listener to the admin events."""
    scene.client.send(b"GET /admin/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
    scene.read = await scene.client.until(b": nexus")


async def reloading(scene: Scene) -> None:
    """The configuration is being read again."""
    text = scene.gateway.config.read_text()
    scene.gateway.config.write_text(f"{text}[routing]\nmax_retries = 3\n")
    os.kill(scene.gateway.process.pid, signal.SIGHUP)


async def looking(scene: Scene) -> None:
    """Discovery has begun and waits for an answer."""


async def something_mute(scene: Scene) -> None:
    """Discovery finds a port where somebody listens who never says a word."""
    mute = socket.create_server(("127.0.0.1", 0))
    scene.own(mute)
    port = mute.getsockname()[1]
    scene.discovery = f"enabled = true\nmdns = false\nannounce = false\nscan_ports = [{port}]"


@dataclass(frozen=True)
class Phase:
    """A row: how it is entered; what the client sees after one signal, at the drain's end or at
    once, and after a second signal."""

    enter: Callable[[Scene], Awaitable[None]]
    sees: str
    prepare: Callable[[Scene], Awaitable[None]] = nothing
    waits: bool = True
    """Whether one signal lets it go on until the drain's end."""
    sees_cut: str = ""
    """After a second signal, where that differs."""


PHASES = [
    Phase(idle, "closed", waits=False),
    Phase(silent, "closed", waits=False),
    Phase(reading_head, "503 service_unavailable", waits=False),
    Phase(reading_body, "503 service_unavailable", waits=False),
    Phase(dialing, "503 service_unavailable", prepare=no_room),
    Phase(waiting, "503 service_unavailable"),
    Phase(held, "503 service_unavailable"),
    Phase(streaming, "told"),
    Phase(finishing, "whole", waits=False, sees_cut="told"),
    Phase(paused, "cut", prepare=torrent),
    Phase(events, "whole", waits=False),
    Phase(reloading, "closed", waits=False),
    Phase(looking, "closed", prepare=something_mute, waits=False),
]
BUSY = [phase for phase in PHASES if phase.waits or phase.sees_cut]
"""Those that one signal does not end at once."""


def _name(phase: Phase) -> str:
    return phase.enter.__name__


async def ended(phase: Phase, home: Path, *numbers: signal.Signals) -> None:
    """Brings a gateway into the phase, sends the signals, and looks at both ends."""
    once = len(numbers) == 1
    async with AsyncExitStack() as stack:
        scene = Scene(stack, await stack.enter_async_context(FakeEngine()))
        await phase.prepare(scene)
        await scene.start(home, SHORT_S if phase.waits and once else LONG_S)
        await phase.enter(scene)
        process = scene.gateway.process
        begin_s = monotonic()
        for number in numbers:
            os.kill(process.pid, number)
            if number is not numbers[-1]:  # two that come together may be one
                await asyncio.to_thread(process.says, "(draining)")
        seen = None if scene.reluctant else asyncio.create_task(scene.seen())
        await eventually(lambda: process.ended, "the gateway has ended", LONG_S / 2)
        took_s = monotonic() - begin_s
        assert process.end() == 0, process.output[-3000:]
        assert await (seen or scene.seen()) == (
            phase.sees if once else phase.sees_cut or phase.sees
        )
        assert took_s < AT_ONCE_S + (SHORT_S if phase.waits and once else 0.0)
        if phase.waits and once:
            assert took_s > SHORT_S
        for line in ("internal_error", "loop_error", "Traceback", "never retrieved"):
            assert line not in process.output


@pytest.mark.parametrize("phase", PHASES, ids=_name)
async def test_a_signal_ends_the_gateway_in_order(phase: Phase, tmp_path: Path) -> None:
    """SIGTERM: whoever has nothing in flight is closed at once; calls go on until they end or the
    drain does, and are then told."""
    await ended(phase, tmp_path, signal.SIGTERM)


@pytest.mark.parametrize("phase", BUSY, ids=_name)
async def test_a_second_signal_cuts_at_once(phase: Phase, tmp_path: Path) -> None:
    """The drain's timeout is a minute, but nobody waits for it; clients are told all the same."""
    await ended(phase, tmp_path, signal.SIGTERM, signal.SIGINT)


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES, ids=_name)
async def test_an_interrupt_is_like_a_termination(phase: Phase, tmp_path: Path) -> None:
    """Ctrl-C does what SIGTERM does."""
    await ended(phase, tmp_path, signal.SIGINT)
