"""One connection of a fake engine: requests in, scripts played out.

A request is parsed, handed to the owner, and answered by a script (``reply.Step``) that this class
plays: writing, pausing while the client does not read, waiting, ending. Pipelined requests are
answered in order. A client that leaves while its answer is being made is told to the owner.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import httptools

from nexus.demo.profile import SeenRequest
from nexus.demo.reply import Step, Stop, Wire

__all__ = ["Connection", "Ending", "Owner"]

_BODY_BYTES_MAX = 256 * 1024 * 1024
_PIPELINED_MAX = 64
_LINGER = struct.pack("ii", 1, 0)

Ending = Stop | None
"""How an exchange ended; ``None``: the client left first."""


class Owner(Protocol):
    """What a connection needs of its engine."""

    def opened(self, connection: Connection) -> None:
        """A connection came."""

    def closed(self, connection: Connection) -> None:
        """It is gone."""

    def early(self, request: SeenRequest, wire: Wire) -> Iterator[Step] | None:
        """A script to play before the body is read, ``None`` usually."""

    def arrived(
        self, request: SeenRequest, wire: Wire, start: Callable[[Iterator[Step]], None]
    ) -> None:
        """A request is whole; ``start`` is to be called with its script, now or later."""

    def ended(self, request: SeenRequest, ending: Ending) -> None:
        """Its exchange is over."""

    def new_wire(self) -> Wire:
        """Framing for an exchange."""


class Connection(asyncio.Protocol):
    """The server's side of one connection."""

    __slots__ = (
        "_answered_early",
        "_body",
        "_body_bytes",
        "_due_s",
        "_early",
        "_handle",
        "_headers",
        "_loop",
        "_owner",
        "_parser",
        "_paused",
        "_pending",
        "_script",
        "_url",
        "current",
        "id",
        "transport",
    )

    def __init__(self, owner: Owner, connection_id: int) -> None:
        self.id = connection_id
        self.transport: asyncio.Transport | None = None
        self.current: SeenRequest | None = None
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._parser: Any = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._early = False
        self._answered_early = False
        self._pending: deque[tuple[SeenRequest, bool]] = deque()
        self._script: Iterator[Step] | None = None
        self._handle: asyncio.Handle | None = None
        self._paused = False
        self._due_s = 0.0

    # -- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is up."""
        self.transport = cast("asyncio.Transport", transport)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; an unfinished exchange was cancelled by the client."""
        self._pending.clear()
        self._parser = None
        self._end(None)
        self.transport = None
        self._owner.closed(self)

    def pause_writing(self) -> None:
        """The client reads slower than we speak."""
        self._paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._paused = False
        if self._script is not None and self._handle is None:
            self._due_s = time.perf_counter()
            self._play()

    # -- httptools -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._headers = []
        self._body = []
        self._body_bytes = 0
        self._early = False

    def on_url(self, part: bytes) -> None:
        """A piece of the target."""
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers come this way too."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self.current is not None or self._pending:
            return
        request = self._request()
        if (request.header(b"expect") or b"").lower() == b"100-continue" and self.transport:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        wire = self._owner.new_wire()
        script = self._owner.early(request, wire)
        if script is not None:
            self._early = True
            self.current = request
            self._start(script)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(data)
        if self._body_bytes > _BODY_BYTES_MAX:
            self.abort()
        elif not self._early:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._early:
            if self.current is None and self.transport is not None:
                self.transport.close()
            self._early = False
            self._answered_early = True
            return
        keep = self._parser.should_keep_alive()
        self._pending.append((self._request(), keep))
        if len(self._pending) > _PIPELINED_MAX:
            self.abort()
        elif self.current is None:
            self._next()

    # -- exchanges -----------------------------------------------------------------------------

    def _request(self) -> SeenRequest:
        path, _, query = self._url.decode("latin-1").partition("?")
        return SeenRequest(
            self._parser.get_method().decode("latin-1"),
            path,
            query,
            self._headers,
            self._body[0] if len(self._body) == 1 else b"".join(self._body),
            self.id,
        )

    def _next(self) -> None:
        if not self._pending or self.transport is None:
            return
        request, keep = self._pending.popleft()
        self.current = request
        wire = self._owner.new_wire()
        wire.keep = wire.keep and keep

        def start(script: Iterator[Step]) -> None:
            if self.current is request:
                self._start(script)

        self._owner.arrived(request, wire, start)

    def _start(self, script: Iterator[Step]) -> None:
        self._script = script
        self._due_s = time.perf_counter()
        self._play()

    def _play(self) -> None:
        self._handle = None
        transport, script = self.transport, self._script
        if transport is None or script is None:
            return
        for step in script:
            if isinstance(step, bytes):
                if step:
                    transport.write(step)
                if self._paused:
                    return
            elif isinstance(step, Stop):
                self._stop(step)
                return
            elif step <= 0.0:
                self._handle = self._loop.call_soon(self._play)
                return
            else:
                # Against the script's own clock: late timers must not add up.
                self._due_s += step
                delay_s = self._due_s - time.perf_counter()
                if delay_s > 0.0:
                    self._handle = self._loop.call_later(delay_s, self._play)
                else:
                    self._handle = self._loop.call_soon(self._play)
                return

    def _stop(self, stop: Stop) -> None:
        transport = self.transport
        if stop is Stop.STALL or transport is None:
            return
        self._end(stop)
        if stop is Stop.RESET:
            self.reset()
        elif self._early:
            # The body is still on its way: closing over unread bytes would reset the answer away.
            return
        elif stop is not Stop.DONE or self._answered_early:
            transport.close()
        else:
            self._next()

    def _end(self, ending: Ending) -> None:
        request, self.current = self.current, None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._script = None
        if request is not None:
            self._owner.ended(request, ending)

    def reset(self) -> None:
        """Ends the connection with a TCP reset."""
        transport = self.transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        transport.abort()

    def abort(self) -> None:
        """Ends the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    @property
    def peer_is_local(self) -> bool:
        """Whether the client is on this machine."""
        peer = self.transport.get_extra_info("peername") if self.transport else None
        host = peer[0] if peer else ""
        return host.startswith("127.") or host in ("::1", "::ffff:127.0.0.1")

    def _refuse(self) -> None:
        self._parser = None
        transport = self.transport
        if transport is None:
            return
        if self.current is None:
            transport.write(
                b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        transport.close()
