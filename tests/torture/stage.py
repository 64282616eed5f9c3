"""A real gateway between a client of bytes and two backends that record every byte they get.

Each request carries a nonce of fixed width in its body, each answer the nonce of whoever asked: an
answer with another's nonce is a leak, and so are bytes at a backend that are no request of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import AsyncIterator, Sequence
from time import monotonic
from typing import Any

from nexus.core.live import BreakerState
from nexus.health import breaker
from tests.harness import Raw, Running, running
from tests.torture.recorder import NONCE, Heard, Play, Recorder, answer

__all__ = [
    "BODY",
    "NONCE",
    "PATH",
    "POST",
    "Heard",
    "Play",
    "Recorder",
    "Stage",
    "answer",
    "chunked",
    "get",
    "head",
    "post",
    "slowly",
    "staged",
]

PATH = b"/v1/chat/completions"
POST = b"POST " + PATH + b" HTTP/1.1"
BODY = b'{"model":"torture","user":"' + NONCE + b'","messages":[{"role":"user","content":"Hi"}]}'
SMUGGLED = b"smuggled"
"""In whatever must reach nobody."""


def head(line: bytes, *fields: bytes, host: bool = True) -> bytes:
    """A request head of this request line and these header lines."""
    own = (b"Host: gateway.test",) if host else ()
    return b"\r\n".join((line, *own, *fields, b"", b""))


def post(body: bytes = BODY, *fields: bytes) -> bytes:
    """A well-formed call."""
    return head(POST, b"Content-Length: %d" % len(body), *fields) + body


def get(path: bytes = b"/livez", *fields: bytes) -> bytes:
    """A well-formed GET."""
    return head(b"GET " + path + b" HTTP/1.1", *fields)


def chunked(
    body: bytes, size: int = 20, extension: bytes = b"", trailers: bytes = b"", end: bytes = b"0"
) -> bytes:
    """A chunked body in chunks of ``size`` bytes; a nonce stays in one."""
    before, nonce, after = body.partition(NONCE)
    parts = [before[at : at + size] for at in range(0, len(before), size)]
    parts += [nonce] if nonce else []
    parts += [after[at : at + size] for at in range(0, len(after), size)]
    coded = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)
    return coded + end + b"\r\n" + trailers + b"\r\n"


class Stage:
    """The gateway, its backends, and what every case is held against."""

    def __init__(self, run: Running, backends: tuple[Recorder, Recorder]) -> None:
        self.run = run
        self.first, self.second = self.backends = backends
        self._numbers = itertools.count(1)
        self._neighbour: Raw | None = None

    @property
    def port(self) -> int:
        """The gateway's."""
        return self.run.port

    def nonce(self) -> bytes:
        """One that nobody had."""
        return b"n%09d" % next(self._numbers)

    def heard_of(self, nonce: bytes) -> list[Heard]:
        """The requests that reached a backend with it."""
        return [one for backend in self.backends for one in backend.heard_of(nonce)]

    def play(self, nonce: bytes, *plays: Play) -> None:
        """What the backends do with the first, second, ... request of this nonce."""
        shared = list(plays)
        for backend in self.backends:
            backend.plays[nonce] = shared

    def forget_failures(self) -> None:
        """No breaker remembers the case before."""
        for backend in self.backends:
            live = self.run.gateway.store.live(backend.name)
            live.breaker = BreakerState.OPEN
            live.parked_until_s = 0.0
            breaker.record_success(live, monotonic())

    async def ask(self, client: Raw, *fields: bytes) -> None:
        """One good call: its answer has its nonce and nobody else's, and reached one backend."""
        nonce = self.nonce()
        client.send(post(BODY.replace(NONCE, nonce), *fields))
        await self.expect_answer(client, nonce)

    async def expect_answer(self, client: Raw, nonce: bytes, asked: bytes = BODY) -> dict[str, str]:
        """The answer to ``nonce`` is next, whole; returns its header fields."""
        status, headers, body = await client.response()
        assert (status, body) == (200, answer(nonce)), (status, headers, body)
        assert [one.body for one in self.heard_of(nonce)] == [asked.replace(NONCE, nonce)]
        return headers

    async def expect_refusal(self, client: Raw, status: int) -> None:
        """An error of ours is next, then the end of the connection."""
        seen, headers, body = await client.response()
        assert seen == status, (seen, body)
        assert headers["connection"] == "close"
        assert headers["content-type"] == "application/json"
        error = json.loads(body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert SMUGGLED not in body
        rest = await client.rest()
        assert rest == b"", rest

    async def in_order(self) -> None:
        """After a case: a client of long standing is served, nothing strange reached a backend,
        every counter, timer and budget is back at zero."""
        self.forget_failures()
        if self._neighbour is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            self._neighbour = Raw(reader, writer)
        await self.ask(self._neighbour)
        await self.run.settled()
        wrong = [line for backend in self.backends for line in backend.wrong]
        wrong += [
            f"smuggled: {one!r}"
            for backend in self.backends
            for one in backend.heard
            if SMUGGLED in one.head
        ]
        for backend in self.backends:
            backend.wrong.clear()
            backend.heard.clear()
            backend.plays.clear()
        assert wrong == []

    async def close(self) -> None:
        """The neighbour leaves."""
        if self._neighbour is not None:
            self._neighbour.writer.close()
            with contextlib.suppress(ConnectionError):
                await self._neighbour.writer.wait_closed()


@contextlib.asynccontextmanager
async def staged(**settings: Any) -> AsyncIterator[Stage]:
    """A running one; settings are those of ``tests.harness.loaded``."""
    async with (
        Recorder("first") as first,
        Recorder("second") as second,
        running(first.spec(), second.spec(), **settings) as run,
    ):
        stage = Stage(run, (first, second))
        try:
            yield stage
        finally:
            await stage.close()


async def slowly(client: Raw, pieces: Sequence[bytes]) -> None:
    """Sends each piece in a turn of its own."""
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in pieces:
        if client.writer.is_closing():
            return
        client.send(piece)
        await asyncio.sleep(0)
