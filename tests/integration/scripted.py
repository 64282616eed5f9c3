"""A backend that is well whenever it is asked, and whose answers are bytes of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from nexus.core.backend import BackendSpec, EngineKind

__all__ = ["Script", "Scripted", "Talk", "chunked", "head", "plain", "playing"]


def head(*fields: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    """A response head."""
    return "\r\n".join((f"HTTP/{version} {status}", *fields, "", "")).encode("latin-1")


def plain(body: bytes | dict[str, Any], *fields: str, status: str = "200 OK") -> bytes:
    """A whole answer with its length."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "content-type: application/json"
    return head(kind, f"content-length: {len(raw)}", *fields, status=status) + raw


def chunked(*parts: bytes) -> bytes:
    """A chunked body, whole."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"


class Talk:
    """One request and the connection it came on."""

    def __init__(
        self, request_head: bytes, body: bytes, writer: asyncio.StreamWriter, number: int
    ) -> None:
        self.head = request_head
        self.body = body
        self.connection = number
        self.writer = writer
        self.gone = asyncio.Event()

    @property
    def target(self) -> str:
        """The request target."""
        return self.head.split(b" ", 2)[1].decode("latin-1")

    def field(self, name: str) -> list[str]:
        """The values of a header."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines if line)
        return [value.strip() for key, _, value in pairs if key.lower() == name]

    async def write(self, *pieces: bytes) -> None:
        """Writes each piece in a turn of the loop of its own, so that it is read apart."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    def close(self) -> None:
        """Ends the connection with a FIN."""
        self.writer.close()

    def reset(self) -> None:
        """Ends the connection with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Talk], Awaitable[None]]


class Scripted:
    """The backend: ``script`` answers each inference request. ``early`` has it called as soon as
    the head is there, the body left unread."""

    def __init__(
        self,
        script: Script,
        *,
        models: Sequence[str] = ("demo-model",),
        name: str = "scripted",
        early: bool = False,
    ) -> None:
        self.script = script
        self.name = name
        self.early = early
        self.talks: list[Talk] = []
        self.connections = 0
        self._listing = plain({"object": "list", "data": [{"id": model} for model in models]})
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**25)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def spec(self, **changes: Any) -> BackendSpec:
        """The backend as configured."""
        url = f"http://127.0.0.1:{self.port}"
        return BackendSpec(
            **{"name": self.name, "url": url, "engine": EngineKind.OPENAI, **changes}
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self._writers.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer, number):
                    pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> bool:
        request_head = await reader.readuntil(b"\r\n\r\n")
        talk = Talk(request_head, b"", writer, number)
        length = int((talk.field("content-length") or ["0"])[0])
        if not request_head.startswith(b"POST "):
            await talk.write(self._listing)
            return True
        if not self.early:
            talk.body = await reader.readexactly(length)
        self.talks.append(talk)
        watcher = asyncio.ensure_future(self._watch(reader, talk)) if self.early else None
        try:
            await self.script(talk)
        finally:
            if watcher is not None:
                watcher.cancel()
        return not writer.is_closing() and not self.early

    async def _watch(self, reader: asyncio.StreamReader, talk: Talk) -> None:
        """Reads the body slowly on, without telling anyone."""
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                await asyncio.sleep(0)
        talk.gone.set()


def playing(*pieces: bytes, close: bool = False, reset: bool = False) -> Script:
    """A script that writes ``pieces``, each in a turn of its own, then ends as told."""

    async def play(talk: Talk) -> None:
        await talk.write(*pieces)
        if reset:
            await asyncio.sleep(0.005)  # a reset throws away what the peer has not been sent yet
            talk.reset()
        elif close:
            talk.close()

    return play
