"""The bridge by which an ASGI application answers behind our own HTTP server.

The control plane (admin API, dashboard, metrics) is an ordinary Starlette application; one task
per request carries it (ASGI 3.0, HTTP connection scope, asgi.readthedocs.io). The server has read
the whole body before and frames the answer itself; neither lifespan nor websockets exist here.

``spec_version`` 2.3 is on purpose: from 2.4 on Starlette notices a client that has left only when
it next writes, so an event stream with nothing to say would be held for ever.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from enum import Enum
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

import msgspec

__all__ = ["AnswerState", "AsgiApp", "AsgiRequest", "AsgiResponder", "OnError", "run_asgi"]

Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[Message]],
        Callable[[Message], Awaitable[None]],
    ],
    Awaitable[None],
]

_NO_ASCII = re.compile(rb"[\x80-\xff]")
_NO_HEADER = re.compile(rb"[\x00\r\n]")


class AsgiRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A whole request. ``target`` is the origin form as received (raw path, ``?``, query); header
    names are lower case; ``client`` is ``None`` on a Unix socket."""

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    client: tuple[str, int] | None = None
    server: tuple[str, int] | None = None
    scheme: str = "http"


class AsgiResponder(Protocol):
    """The server's side of one answer. Nothing raises when the client is gone."""

    def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Sends the head. Without a ``content-length`` the body is to be framed as chunked, except
        where there is none (HEAD, 204, 304): then ``write`` is never called."""
        ...

    def write(self, data: bytes) -> None:
        """Sends body bytes."""
        ...

    def end(self) -> None:
        """The answer is whole."""
        ...

    def gone(self) -> bool:
        """Whether the client has left."""
        ...

    async def drained(self) -> None:
        """Returns when the client takes more, at once when it is gone."""
        ...


class AnswerState(Enum):
    """How far an answer had come when the application failed."""

    NONE = "none"
    """Nothing was sent: a 500 can be."""
    PARTIAL = "partial"
    """Head and perhaps body were sent: only closing the connection tells the client."""
    WHOLE = "whole"
    """The client has its answer; the failure is for the log."""


OnError = Callable[[Exception, AnswerState], None]
"""What the server does about a failed application: log it and finish the answer as it stands."""


async def run_asgi(
    app: AsgiApp,
    request: AsgiRequest,
    responder: AsgiResponder,
    *,
    disconnected: asyncio.Event,
    on_error: OnError,
) -> None:
    """Has ``app`` answer ``request`` through ``responder``; to be run as one task.

    ``disconnected`` is set by the server when the client leaves: the application is told so by
    ``http.disconnect``, and what it still sends goes nowhere. Every exception of the application,
    and an answer that it leaves unfinished with the client still there, ends in ``on_error``; only
    cancellation passes through.
    """
    answer = _Answer(request, responder, disconnected)
    try:
        await app(_scope(request), answer.receive, answer.send)
        if answer.state is not AnswerState.WHOLE and not responder.gone():
            raise RuntimeError("the application returned without finishing its answer")
    except Exception as error:
        on_error(error, answer.state)


class _Answer:
    """The two callables that an ASGI application is given, and how far it has come."""

    __slots__ = ("_bodiless", "_body", "_disconnected", "_responder", "state")

    def __init__(
        self, request: AsgiRequest, responder: AsgiResponder, disconnected: asyncio.Event
    ) -> None:
        self._body: bytes | None = request.body
        self._responder = responder
        self._disconnected = disconnected
        self._bodiless = request.method == "HEAD"
        self.state = AnswerState.NONE

    async def receive(self) -> Message:
        body = self._body
        if body is not None:
            self._body = None
            return {"type": "http.request", "body": body, "more_body": False}
        if self.state is not AnswerState.WHOLE:
            await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self._responder.gone():
            # Whoever streams without end must still be cancellable: give the loop its turn.
            await asyncio.sleep(0)
            return
        kind = message["type"]
        if kind == "http.response.start":
            self._start(message)
        elif kind == "http.response.body":
            await self._write(message)
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r}")

    def _start(self, message: Message) -> None:
        if self.state is not AnswerState.NONE:
            raise RuntimeError("the application began its answer twice")
        status = int(message["status"])
        headers = [(bytes(name).lower(), bytes(value)) for name, value in message["headers"]]
        if any(_NO_HEADER.search(name) or _NO_HEADER.search(value) for name, value in headers):
            raise RuntimeError("the application put a line break into a header")
        self._bodiless = self._bodiless or status in (204, 304)
        self._responder.start(status, headers)
        self.state = AnswerState.PARTIAL

    async def _write(self, message: Message) -> None:
        if self.state is not AnswerState.PARTIAL:
            raise RuntimeError("the application sent a body outside of an answer")
        data = message.get("body", b"")
        if data and not self._bodiless:
            self._responder.write(bytes(data))
        if message.get("more_body", False):
            await self._responder.drained()
        else:
            self.state = AnswerState.WHOLE
            self._responder.end()


def _scope(request: AsgiRequest) -> MutableMapping[str, Any]:
    raw_path, _, query = request.target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.scheme,
        "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
        "raw_path": raw_path,
        # Bytes that belong into no target (RFC 3986 § 2) would be read as UTF-8, or not at all.
        "query_string": _NO_ASCII.sub(lambda found: b"%%%02X" % found[0][0], query),
        "root_path": "",
        "headers": list(request.headers),
        "client": request.client,
        "server": request.server,
    }
