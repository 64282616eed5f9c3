"""A server that answers each path with bytes of the test's own, on a real socket: whatever a health
check or a probe may meet."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

from tests.captures import captured
from tests.integration.scripted import plain

__all__ = ["Reply", "Replying", "capture", "endless", "hanging"]

Reply = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]
"""The raw bytes of an answer, after which the connection ends, or what writes them."""


def capture(name: str) -> bytes:
    """The bytes of a captured answer, with a length of its own."""
    found = captured(name)
    fields = [
        f"{key}: {value}"
        for key, value in found.headers.items()
        if key not in ("content-length", "transfer-encoding", "connection", "keep-alive")
    ]
    head = [f"HTTP/1.1 {found.status} X", *fields, f"content-length: {len(found.body)}", "", ""]
    return "\r\n".join(head).encode("latin-1") + found.body


async def hanging(writer: asyncio.StreamWriter) -> None:
    """A head, half a body, then silence."""
    writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{"object": "list", "da')
    await asyncio.get_running_loop().create_future()


async def endless(writer: asyncio.StreamWriter) -> None:
    """A body without end, as fast as it is read."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n[")
    while not writer.is_closing():
        writer.write(b'{"id": "x"},' * 5000)
        await writer.drain()


class Replying:
    """``replies`` by path (the query counts); anything else is answered with ``default``."""

    def __init__(
        self,
        replies: Mapping[str, Reply],
        *,
        default: Reply | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.replies = dict(replies)
        self.default: Reply = plain({}, status="404 X") if default is None else default
        self.asked: list[str] = []
        self.heads: list[bytes] = []
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Where it listens."""
        port = self._server.sockets[0].getsockname()[1]
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                first = await reader.readexactly(1)
                if not first.isalpha():
                    writer.write(plain({}, status="400 X"))  # as servers answer a TLS hello
                    return
                head = first + await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode("latin-1")
                self.heads.append(head)
                self.asked.append(path)
                reply = self.replies.get(path, self.default)
                if isinstance(reply, bytes):
                    writer.write(reply)
                    await writer.drain()
                else:
                    await reply(writer)
        finally:
            self._writers.discard(writer)
            writer.close()
