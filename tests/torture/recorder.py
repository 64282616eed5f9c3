"""A backend that keeps every byte it gets, believes none, and answers as it is told.

Each request carries a nonce of fixed width in its body; each answer has the nonce of whoever asked.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from types import TracebackType
from typing import Literal, Self, cast

import msgspec

from nexus.core.backend import BackendSpec, EngineKind
from tests.harness import eventually
from tests.integration.scripted import plain

__all__ = ["NONCE", "Heard", "Play", "Recorder", "answer"]

NONCE = b"n@@@@@@@@@"
"""Stands for a nonce in the tables; it is as long as one, so that lengths stay true."""
_NONCE = re.compile(rb"n[0-9]{9}")
_REQUEST_LINE = re.compile(rb"(?:GET|POST) /[\x21-\x7e]* HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9a-z-]+): ([\t\x20-\x7e\x80-\xff]*)")


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
        self.asked = False
        """Whether a call came on it (a health check has a connection of its own)."""

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
            self.write(plain({"object": "list", "data": [{"id": "torture"}]}))
            return
        match = _NONCE.search(body)
        if match is None:
            recorder.wrong.append(f"a call without a nonce: {body[:200]!r}")
            return
        self.asked = True
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
            self.write(piece.replace(NONCE, nonce))
            await asyncio.sleep(0)
        transport = self._transport
        if transport is None:
            return
        if play.ends == "closed":
            transport.close()
        elif play.ends == "reset":
            await asyncio.sleep(0.005)  # a reset throws away what the peer has not been sent yet
            sock = transport.get_extra_info("socket")
            if sock is not None:  # the gateway was quicker
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()

    def write(self, data: bytes) -> None:
        """Sends bytes."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(data)


def answer(nonce: bytes) -> bytes:
    """The body of a good answer to whoever asked with ``nonce``."""
    return b'{"id":"' + nonce + b'","object":"chat.completion","choices":[]}'
