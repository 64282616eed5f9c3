"""A real gateway between a client of bytes and two backends that record every byte they get.

Each request carries a nonce of fixed width in its body, each answer the nonce of whoever asked: an
answer with another's nonce is a leak, and so are bytes at a backend that are no request of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Literal, Self, cast

import msgspec

from nexus.core.backend import BackendSpec, EngineKind
from nexus.core.live import BreakerState
from nexus.health import breaker
from tests.harness import Raw, Running, eventually, running
from tests.integration.scripted import plain

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

NONCE = b"n@@@@@@@@@"
"""Stands for a nonce in the tables; it is as long as one, so that lengths stay true."""
_NONCE = re.compile(rb"n[0-9]{9}")
PATH = b"/v1/chat/completions"
POST = b"POST " + PATH + b" HTTP/1.1"
BODY = b'{"model":"torture","user":"' + NONCE + b'","messages":[{"role":"user","content":"Hi"}]}'
SMUGGLED = b"smuggled"
"""In whatever must reach nobody."""

_REQUEST_LINE = re.compile(rb"(?:GET|POST) /[\x21-\x7e]* HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9a-z-]+): ([\t\x20-\x7e\x80-\xff]*)")


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


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """How a backend answers one request: ``pieces``, each in a turn of the loop of its own, then
    the connection ``ends``. ``early``: as soon as the nonce was read, the body unfinished.
    ``waits_for``: not before."""

    pieces: tuple[bytes, ...]
    ends: Literal["kept", "closed", "reset"] = "kept"
    early: bool = False
    waits_for: asyncio.Event | None = None


class Heard(msgspec.Struct, frozen=True):
    """One request at a backend."""

    nonce: bytes
    head: bytes
    body: bytes
    connection: int


class Recorder:
    """A backend: answers with the nonce it was asked with, or plays what was set for that nonce."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.plays: dict[bytes, list[Play]] = {}
        self.heard: list[Heard] = []
        self.wrong: list[str] = []
        self.connections = 0
        self.live: set[_Connection] = set()
        self._server: asyncio.AbstractServer | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self.live):
            connection.abort()
        await eventually(lambda: not self.live, "the backend's connections are over")

    def spec(self) -> BackendSpec:
        """The backend as configured."""
        server = cast(asyncio.Server, self._server)
        port = server.sockets[0].getsockname()[1]
        return BackendSpec(name=self.name, url=f"http://127.0.0.1:{port}", engine=EngineKind.OPENAI)

    def heard_of(self, nonce: bytes) -> list[Heard]:
        """The requests that carried this nonce."""
        return [one for one in self.heard if one.nonce == nonce]


class _Connection(asyncio.Protocol):
    """Reads only what the gateway may send: anything else is noted as wrong."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._playing: asyncio.Task[None] | None = None
        self._played_early = False
        recorder.connections += 1
        self._number = recorder.connections

    def abort(self) -> None:
        """Ends it."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._recorder.live.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._recorder.live.discard(self)
        if self._playing is not None:
            self._playing.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            request_head, _, rest = self._buffer.partition(b"\r\n\r\n")
            length = self._length(request_head)
            nonce = _NONCE.search(rest)
            if nonce is not None and not self._played_early:
                plays = self._recorder.plays.get(nonce[0])
                if plays and plays[0].early:
                    self._played_early = True
                    self._play(plays.pop(0), nonce[0])
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            self._whole(request_head, rest[:length])

    def _length(self, request_head: bytes) -> int:
        line, *fields = request_head.split(b"\r\n")
        wrong = self._recorder.wrong
        if _REQUEST_LINE.fullmatch(line) is None:
            wrong.append(f"request line {line!r}")
        seen: dict[bytes, bytes] = {}
        for field in fields:
            match = _FIELD.fullmatch(field)
            if match is None:
                wrong.append(f"field {field!r}")
                continue
            if match[1] in seen and match[1] in (b"host", b"content-length"):
                wrong.append(f"field twice {field!r}")
            seen[match[1]] = match[2]
        for name in (b"transfer-encoding", b"upgrade", b"expect", b"te", b"trailer"):
            if name in seen:
                wrong.append(f"hop-by-hop field {name!r}")
        if b"host" not in seen:
            wrong.append("no host")
        length = seen.get(b"content-length", b"" if line.startswith(b"POST ") else b"0")
        if not length.isdigit():
            wrong.append(f"length {length!r}")
            return 0
        return int(length)

    def _whole(self, request_head: bytes, body: bytes) -> None:
        recorder = self._recorder
        early, self._played_early = self._played_early, False
        if request_head.startswith(b"GET "):
            self._write(plain({"object": "list", "data": [{"id": "torture"}]}))
            return
        match = _NONCE.search(body)
        if match is None:
            recorder.wrong.append(f"a call without a nonce: {body[:200]!r}")
            return
        nonce = match[0]
        recorder.heard.append(Heard(nonce, request_head, body, self._number))
        if not early:
            plays = recorder.plays.get(nonce)
            self._play(plays.pop(0) if plays else Play(pieces=(plain(answer(nonce)),)), nonce)

    def _play(self, play: Play, nonce: bytes) -> None:
        self._playing = asyncio.ensure_future(self._perform(play, nonce))

    async def _perform(self, play: Play, nonce: bytes) -> None:
        if play.waits_for is not None:
            await play.waits_for.wait()
        for piece in play.pieces:
            self._write(piece.replace(NONCE, nonce))
            await asyncio.sleep(0)
        transport = self._transport
        if transport is None:
            return
        if play.ends == "closed":
            transport.close()
        elif play.ends == "reset":
            await asyncio.sleep(0.005)  # a reset throws away what the peer has not been sent yet
            sock = transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(data)


def answer(nonce: bytes) -> bytes:
    """The body of a good answer to whoever asked with ``nonce``."""
    return b'{"id":"' + nonce + b'","object":"chat.completion","choices":[]}'


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

    async def expect_answer(self, client: Raw, nonce: bytes) -> dict[str, str]:
        """The answer to ``nonce`` is next, whole; returns its header fields."""
        status, headers, body = await client.response()
        assert (status, body) == (200, answer(nonce)), (status, headers, body)
        assert [one.body.count(nonce) for one in self.heard_of(nonce)] == [1]
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
