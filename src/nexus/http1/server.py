"""A client's connection: bytes → requests, one after the other; answers in the same order.

llhttp parses but bounds nothing and believes much (traps: HTTP parsing), so this file counts raw
bytes, checks what decides framing (RFC 9112 §§ 3.2, 6.1, 6.3) and refuses what two parsers could
read differently. While a request is being answered, later bytes wait in a capped backlog: reading
is never paused to serialise pipelining, since a paused transport sees neither FIN nor RST.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from enum import Enum
from math import inf
from time import monotonic
from typing import Protocol, cast

import httptools
import msgspec

from nexus.core.errors import ApiError
from nexus.core.limits import Budget
from nexus.http1.headers import Headers
from nexus.http1.known_head import KnownHead
from nexus.http1.message import HeadMemo, Request
from nexus.http1.timers import DeadlineQueue, Sweep

__all__ = ["ClientHandler", "HttpServer", "ServerConnection", "ServerLimits", "Service"]

_HOST = re.compile(rb"(?:\[[0-9A-Za-z:.%_~-]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]{0,5})?")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BACKLOG_BYTES = 256 * 1024
_READY_MAX = 64
_HEADERS_MAX = 200
_SPARED_S = 0.5
"""Who was active within this time is not closed to make room."""
_LINGER_S = 5.0
_LINGER_BYTES = 64 * 1024 * 1024
_LINGER_STEP_BYTES = 64 * 1024
"""Who still sends at least this much in a linger period is uploading, and may yet read."""
_PIECES_MAX = 512
_FRAMING_BYTES_MAX = 64 * 1024
"""Chunk extensions and trailers, beyond what small chunks need."""
_WRITE_HIGH, _WRITE_LOW = 256 * 1024, 64 * 1024
_BODY_BYTES_PER_S = 256
"""A client slower than this over a whole body timeout is taken for a stalled one."""


class ClientHandler(Protocol):
    """Who answers a request, as its connection sees it."""

    def on_client_gone(self) -> None:
        """The client left; nothing can be written any more."""

    def on_client_paused(self) -> None:
        """The client reads too slowly: its write buffer is full."""

    def on_client_resumed(self) -> None:
        """There is room again."""


class Service(Protocol):
    """What the server is for."""

    def handle(self, request: Request, connection: ServerConnection) -> ClientHandler | None:
        """Answers ``request`` through ``connection``, now or later. Must not raise. Whoever
        answers later is returned, to be told of the client; every answer ends with
        ``connection.finish``."""

    def refuse(self, error: ApiError, target: bytes) -> bytes:
        """The whole response for an error of the HTTP layer, after which the connection closes.
        ``target`` is as much of the request target as was read."""

    def unexpected(self, error: BaseException) -> None:
        """A fault of our own, caught: log it."""


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of reading a request, in bytes and seconds. ``connections``: how many clients may be
    connected (0: any number)."""

    head_bytes: int = 64 * 1024
    target_bytes: int = 16 * 1024
    body_bytes: int = 10 * 1024 * 1024
    head_s: float = 10.0
    body_s: float = 60.0
    idle_s: float = 75.0
    connections: int = 0


class HttpServer:
    """What all client connections share: limits, timers, the body budget, the set of them."""

    __slots__ = (
        "_idle_sweep",
        "_look_again_s",
        "body_timer",
        "budget",
        "connections",
        "draining",
        "head_timer",
        "limits",
        "linger_timer",
        "loop",
        "on_crowded",
        "service",
        "stall_timer",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        service: Service,
        limits: ServerLimits,
        budget: Budget,
    ) -> None:
        self.loop = loop
        self.service = service
        self.limits = limits
        self.budget = budget
        self.draining = False
        self.connections: set[ServerConnection] = set()
        self._look_again_s = 0.0
        self.on_crowded: Callable[[int], None] | None = None
        """Told how many clients there are when there is no room for a further one."""

        def timer(
            length_s: float, expire: Callable[[ServerConnection], None]
        ) -> DeadlineQueue[ServerConnection]:
            return DeadlineQueue(loop, length_s, expire)

        self.head_timer = timer(limits.head_s, ServerConnection.on_head_timeout)
        self.body_timer = timer(limits.body_s, ServerConnection.on_body_timeout)
        # A few seconds late is early enough for a connection that nobody uses.
        self._idle_sweep = self._new_idle_sweep()
        self.linger_timer = timer(_LINGER_S, ServerConnection.on_linger_timeout)
        self.stall_timer = timer(limits.body_s, ServerConnection.on_stall_timeout)

    def protocol(self) -> ServerConnection:
        """A protocol for a new connection: the factory for ``loop.create_server``."""
        return ServerConnection(self)

    def drain(self) -> None:
        """From now on no connection outlives its answer; idle ones close at once."""
        self.draining = True
        for connection in list(self.connections):
            connection.close_if_idle()

    def change_limits(self, limits: ServerLimits) -> None:
        """Other limits from now on; who waits already waits as long as they say."""
        self.limits = limits
        self.head_timer.change_length(limits.head_s)
        self.body_timer.change_length(limits.body_s)
        self.stall_timer.change_length(limits.body_s)
        self._idle_sweep.stop()
        self._idle_sweep = self._new_idle_sweep()
        self._idle_sweep.wake()

    def _new_idle_sweep(self) -> Sweep:
        every_s = min(5.0, max(0.01, self.limits.idle_s / 20))
        return Sweep(self.loop, every_s, self._close_idle)

    def refuse_unfinished(self, error: ApiError) -> None:
        """Answers ``error`` to who is still sending a request."""
        for connection in list(self.connections):
            connection.refuse_unfinished(error)

    @property
    def unwritten_bytes(self) -> int:
        """Bytes of answers that clients have not taken yet."""
        return sum(connection.unwritten_bytes for connection in self.connections)

    def abort(self) -> None:
        """Cuts every connection."""
        for connection in list(self.connections):
            connection.abort()

    def close(self) -> None:
        """Forgets every timer; connections must be gone or aborted before."""
        for timer in (
            self.head_timer,
            self.body_timer,
            self.linger_timer,
            self.stall_timer,
        ):
            timer.clear()
        self._idle_sweep.stop()

    def joined(self, connection: ServerConnection) -> None:
        """A connection came."""
        self.connections.add(connection)
        self._idle_sweep.wake()
        limit = self.limits.connections
        if limit and len(self.connections) > limit:
            self._make_room(connection, limit)

    def _make_room(self, newcomer: ServerConnection, limit: int) -> None:
        """There are as many clients as there may be: those go who have not said anything yet for a
        while, then those that are idle, longest first; where there are none the newcomer is turned
        away. Without that the system's limit would be met, where nothing is accepted, dialled or
        probed any more (traps: uvloop)."""
        count = len(self.connections)
        if self.on_crowded is not None:
            self.on_crowded(count)
        now_s = monotonic()
        idle: list[ServerConnection] = []
        if now_s >= self._look_again_s:
            before_s = now_s - _SPARED_S
            idle = [one for one in self.connections if one.idle and one.rests_since_s < before_s]
            idle.sort(key=_use)
            if not idle:
                self._look_again_s = now_s + _SPARED_S / 10
        for connection in idle[: 1 + limit // 16]:  # some at once: to look for them takes a while
            connection.close_if_idle()
        if idle:
            return
        if count > limit + 1 + limit // 8:
            newcomer.abort()  # even those who are told so are too many
        else:
            newcomer.turn_away(
                ApiError.service_unavailable(f"Too many connections ({limit} at most).", 1)
            )

    def _close_idle(self) -> bool:
        """Closes who was kept alive and not used for long; whether anybody is left to watch."""
        since_s = monotonic() - self.limits.idle_s
        for connection in [one for one in self.connections if one.idle_since_s <= since_s]:
            connection.close_if_idle()
        return bool(self.connections)


def _use(connection: ServerConnection) -> tuple[bool, float]:
    """How much it has been of use, for the order in which connections must go."""
    return connection.idle_since_s < inf, connection.rests_since_s


class _Phase(Enum):
    IDLE = "between requests"
    HEAD = "reading a head"
    BODY = "reading a body"


class ServerConnection(asyncio.Protocol):
    """One client connection (RFC 9112 § 9). Answers are written with :meth:`write` and ended with
    :meth:`finish`; both do nothing once the client has gone."""

    __slots__ = (
        "_active",
        "_backlog",
        "_backlog_bytes",
        "_body",
        "_body_bytes",
        "_body_joined",
        "_busy",
        "_current",
        "_early_end",
        "_head_bytes",
        "_headers",
        "_held_bytes",
        "_incoming",
        "_joined_s",
        "_lingered_before",
        "_lingered_bytes",
        "_lingering",
        "_memo",
        "_no_more",
        "_parser",
        "_phase",
        "_pumping",
        "_raw_body_bytes",
        "_ready",
        "_refusal",
        "_serial",
        "_server",
        "_stalled_bytes",
        "_timer",
        "_tls",
        "_transport",
        "_url",
        "_want_continue",
        "_window_bytes",
        "idle_since_s",
        "peer",
        "write_paused",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._phase = _Phase.IDLE
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._memo: HeadMemo | None = None
        self._incoming: Request | None = None
        self._body: list[bytes] = []
        self._body_joined = bytearray()
        self._body_bytes = 0
        self._raw_body_bytes = 0
        self._window_bytes = 0
        self._held_bytes = 0
        self._head_bytes = 0
        self._serial = 0
        self._early_end = False
        self._want_continue = False
        self._refusal: ApiError | None = None
        self._no_more = False
        self._ready: list[Request] = []  # 64 at most; a deque takes 700 bytes a connection more
        self._backlog: list[bytes] = []
        self._backlog_bytes = 0
        self._busy = False
        self._current: Request | None = None
        self._active: ClientHandler | None = None
        self._pumping = False
        self._lingering = False
        self._lingered_bytes = 0
        self._lingered_before = 0
        self._stalled_bytes = 0
        self._timer: DeadlineQueue[ServerConnection] | None = None
        self._tls = False
        self._joined_s = monotonic()
        self.idle_since_s = inf
        """When it last had nothing to do, monotonic seconds; before its first request never."""
        self.peer: str | None = None
        self.write_paused = False

    # --- what answers use -----------------------------------------------------------------

    @property
    def transport(self) -> asyncio.WriteTransport | None:
        """Where bytes of the current answer may be written to as well, until it is finished; it is
        ``None`` or closing once the client is gone."""
        return self._transport

    def write(self, data: bytes) -> None:
        """Queues bytes of the current answer."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def finish(self, *, close: bool = False) -> None:
        """The current answer is whole. The connection goes on to the next request, or closes when
        either side wants it so."""
        current = self._current
        self._current = None
        self._active = None
        self._busy = False
        if self._transport is None:
            return
        if close or current is None or not current.keep_alive or self._server.draining:
            self._drop_waiting()
            self._half_close()
        elif self._ready or self._backlog or self._pumping:
            self._pump()
        else:
            self._settle()

    def cut(self) -> None:
        """Ends the connection in the middle of an answer, so that the client notices."""
        self._current = None
        self._active = None
        self._busy = False
        self.abort()

    @property
    def unwritten_bytes(self) -> int:
        """Bytes that the client has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def must_close(self) -> bool:
        """Whether the current answer should announce ``Connection: close``."""
        current = self._current
        return current is None or not current.keep_alive or self._server.draining

    @property
    def http10(self) -> bool:
        """Whether the current request came as HTTP/1.0: no chunked coding then."""
        return self._current is not None and self._current.http10

    # --- the server's own doings ----------------------------------------------------------

    def close_if_idle(self) -> None:
        """Closes the connection if it answers nothing and reads nothing."""
        transport = self._transport
        if transport is None or self._busy or self._ready or self._lingering:
            return
        if self._phase is _Phase.IDLE:
            self._no_more = True
            self._stalled_bytes = transport.get_write_buffer_size() + 1
            transport.close()
            self._wait(self._server.linger_timer)

    @property
    def idle(self) -> bool:
        """Whether nothing has come since it was opened, or since its last answer."""
        return self._phase is _Phase.IDLE and not (self._busy or self._ready or self._no_more)

    @property
    def rests_since_s(self) -> float:
        """Since when, if it is idle; monotonic seconds."""
        return self.idle_since_s if self.idle_since_s < inf else self._joined_s

    def turn_away(self, error: ApiError) -> None:
        """Tells who has just come, and said nothing yet, that it cannot be served."""
        self._refuse(error)
        self._settle()

    def refuse_unfinished(self, error: ApiError) -> None:
        """Answers ``error`` in place of what would answer the request that is coming in."""
        if self._phase is not _Phase.IDLE and not (self._busy or self._ready):
            self._refuse(error)
            self._settle()

    def abort(self) -> None:
        """Cuts the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def on_head_timeout(self) -> None:
        """The head did not come in time: 408, or silence to who never said a byte."""
        self._timer = None
        if self._phase is _Phase.IDLE:
            self.abort()
            return
        self._refuse(ApiError.malformed_http("Request head not received in time.", status=408))
        self._settle()

    def on_body_timeout(self) -> None:
        """The body stalls or drips: 408."""
        self._timer = None
        server = self._server
        if self._window_bytes >= server.limits.body_s * _BODY_BYTES_PER_S:
            self._window_bytes = 0
            self._wait(server.body_timer)
            return
        self._refuse(ApiError.malformed_http("Request body not received in time.", status=408))
        self._settle()

    def on_linger_timeout(self) -> None:
        """We closed; the client is still there. Cut it unless it reads on or uploads on."""
        self._timer = None
        transport = self._transport
        if transport is None:
            return
        left = transport.get_write_buffer_size()
        uploaded = self._lingered_bytes - self._lingered_before
        if 0 < left < self._stalled_bytes or uploaded >= _LINGER_STEP_BYTES:
            self._stalled_bytes = left
            self._lingered_before = self._lingered_bytes
            self._wait(self._server.linger_timer)
        else:
            transport.abort()

    def on_stall_timeout(self) -> None:
        """The client has not read for long. Cut it unless it makes progress."""
        transport = self._transport
        if transport is None or not self.write_paused:
            return
        left = transport.get_write_buffer_size()
        if left < self._stalled_bytes:
            self._stalled_bytes = left
            self._server.stall_timer.add(self)
        else:
            transport.abort()

    # --- asyncio.Protocol -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=_WRITE_HIGH, low=_WRITE_LOW)
        self._tls = transport.get_extra_info("sslcontext") is not None
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else None
        self._wait(self._server.head_timer)
        self._server.joined(self)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._lingering:
            self._lingered_bytes += len(data)
            if self._lingered_bytes > _LINGER_BYTES:
                self.abort()
        elif self._no_more:
            pass  # after a request that closes, or past a refusal
        elif self._busy or self._ready:
            self._backlog_bytes += len(data)
            if self._backlog_bytes > _BACKLOG_BYTES:
                # Whoever pipelines this much is answered up to here, then closed upon.
                self._no_more = True
                self._drop_waiting()
                if self._current is not None:
                    self._current.keep_alive = False
            else:
                self._backlog.append(data)
        else:
            memo = self._memo
            if memo is not None and self._phase is _Phase.IDLE and not self.write_paused:
                request = self._repeated(memo, data)
                if request is not None:
                    self._hand_over(request)
                    return
            self._feed(data)
            self._pump()

    def eof_received(self) -> bool:
        """The client sent FIN: it is gone (a client that wants an answer stays)."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, whoever ended it."""
        self._transport = None
        # The parser holds our methods, and we hold it: only the collector would find out that both
        # are of no more use, long after.
        del self._parser
        self._wait(None)
        server = self._server
        server.stall_timer.discard(self)
        server.connections.discard(self)
        active = self._active
        self._active = None
        self._current = None
        self._busy = False
        self._drop_waiting()
        self._drop_incoming()
        if active is not None:
            active.on_client_gone()

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self.write_paused = True
        transport = self._transport
        if transport is not None:
            self._stalled_bytes = transport.get_write_buffer_size()
            self._server.stall_timer.add(self)
        if self._active is not None:
            self._active.on_client_paused()

    def resume_writing(self) -> None:
        """The client caught up."""
        self.write_paused = False
        self._server.stall_timer.discard(self)
        if self._active is not None:
            self._active.on_client_resumed()
        elif not self._busy:
            self._pump()

    # --- feeding the parser ---------------------------------------------------------------

    def _repeated(self, memo: HeadMemo, data: bytes) -> Request | None:
        """The request of a read that is one more with the head of the last one, past the parser: it
        would tell the same, and costs a callback per field. ``None`` if it must look."""
        raw = memo.raw
        found = None if raw is None else raw.body_of(data)
        if found is None:
            return None
        body = found[1]
        size = len(body)
        server = self._server
        limits = server.limits
        if (
            size > limits.body_bytes
            or len(data) - size > limits.head_bytes
            or not server.budget.take(size)
        ):
            return None
        request = self._request_like(memo, memo.headers)
        request.body = body
        request.held_bytes = size
        return request

    def _feed(self, data: bytes) -> None:
        """Feeds the parser, never more at once than a head may be long."""
        step = self._server.limits.head_bytes
        while len(data) > step:
            self._feed_piece(data[:step])
            if self._no_more or self._refusal is not None:
                return
            data = data[step:]
        fresh = self._phase is _Phase.IDLE and not self._ready
        self._feed_piece(data)
        if fresh and len(self._ready) == 1 and self._phase is _Phase.IDLE:
            request = self._ready[0]
            memo = request.memo
            if memo is not None and memo is self._memo and memo.raw is None:
                memo.raw = KnownHead.of(data, len(request.body), request.method + b" ")

    def _feed_piece(self, data: bytes) -> None:
        serial, phase = self._serial, self._phase
        if phase is _Phase.BODY:
            self._raw_body_bytes += len(data)
            self._window_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgraded(data, upgrade.args[0])
        except httptools.HttpParserCallbackError as error:
            self._server.service.unexpected(error.__context__ or error)
            self._refuse(
                ApiError(
                    500, "server_error", "internal_error", "Internal error (reading the request)."
                )
            )
        except httptools.HttpParserError as error:
            # Bytes after a request that said `Connection: close` are nobody's: its end was already
            # reported and its answer must not be spoilt.
            if not self._no_more:
                self._refuse(ApiError.malformed_http(f"Malformed HTTP request: {error}."))
        if self._no_more or self._refusal is not None:
            return
        if self._phase is _Phase.HEAD:
            if self._serial == serial:
                self._head_bytes += len(data)
            else:
                # Where in this piece the head began is known only if nothing else was in it.
                alone = phase is _Phase.IDLE and self._serial == serial + 1
                self._head_bytes = len(data) if alone else 1
            if self._head_bytes > self._server.limits.head_bytes:
                self._refuse(self._head_too_large())
        elif (
            self._phase is _Phase.BODY
            and self._raw_body_bytes > 8 * self._body_bytes + _FRAMING_BYTES_MAX
        ):
            self._refuse(ApiError.malformed_http("Chunk framing outweighs the body."))

    def _upgraded(self, data: bytes, offset: int) -> None:
        """A request with ``Upgrade`` (or CONNECT): llhttp ends it without its body. Upgrades are
        not offered, so a fresh parser reads the same head without it, then the rest (RFC 9110
        § 7.8: a server may ignore Upgrade)."""
        if self._refusal is not None:
            return
        request = self._incoming
        self._incoming = None
        self._early_end = False
        if request is None or request.method == b"CONNECT":
            offered = ("GET", "HEAD", "OPTIONS", "POST")
            self._refuse(ApiError.method_not_allowed("CONNECT", "any target", offered))
            return
        target = request.path + (b"?" + request.query if request.query else b"")
        version = b"1.0" if request.http10 else b"1.1"
        head = [request.method, b" ", target, b" HTTP/", version, b"\r\n"]
        for name, value in request.headers:
            if name == b"connection":
                value = b", ".join(
                    item for item in value.split(b",") if item.strip().lower() != b"upgrade"
                )
            if name != b"upgrade" and value.strip():
                head += (name, b": ", value, b"\r\n")
        head.append(b"\r\n")
        self._phase = _Phase.IDLE
        self._parser = httptools.HttpRequestParser(self)
        self._feed_piece(b"".join(head))
        rest = data[offset:]
        if rest and not self._no_more and self._refusal is None:
            self._feed_piece(rest)

    # --- httptools callbacks --------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request line begins."""
        self._serial += 1
        self._phase = _Phase.HEAD
        self._url = b""
        self._headers = []
        self._head_bytes = 0
        self._incoming = None
        self._early_end = False

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self._url += url
        if len(self._url) > self._server.limits.target_bytes:
            self._refuse(
                ApiError.malformed_http(
                    "Request target is longer than "
                    f"{self._server.limits.target_bytes} bytes (server.max_target_bytes).",
                    status=414,
                )
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or a trailer: those are read and left out (RFC 9110 § 6.5.1)."""
        if self._phase is _Phase.HEAD:
            self._headers.append((name.lower(), value))
        elif self._incoming is not None and name.lower() in (b"connection", b"proxy-connection"):
            self._incoming.keep_alive = False  # the parser heeds it here, too

    def on_headers_complete(self) -> None:
        """The head is whole: check what decides where the body ends."""
        if self._refusal is not None or self._no_more:
            return
        if self._head_bytes:
            # It came in pieces, each of them short enough: is the whole?
            fields = sum(len(name) + len(value) + 4 for name, value in self._headers)
            if fields + len(self._url) > self._server.limits.head_bytes:
                self._refuse(self._head_too_large())
                return
        request = self._checked_request()
        self._phase = _Phase.BODY
        self._incoming = request
        self._body = []
        self._body_bytes = self._raw_body_bytes = self._window_bytes = 0
        if request is not None and self._parser.should_upgrade():
            self._early_end = True

    def on_body(self, body: bytes) -> None:
        """Body bytes."""
        if self._refusal is not None or self._incoming is None:
            return
        self._body_bytes += len(body)
        server = self._server
        if self._body_bytes > server.limits.body_bytes:
            self._refuse(ApiError.payload_too_large(server.limits.body_bytes))
        elif not server.budget.take(len(body)):
            self._refuse(
                ApiError.service_unavailable(
                    "Too many request bodies are held right now (server.max_buffered_bytes).", 1
                )
            )
        else:
            self._held_bytes += len(body)
            self._body.append(body)
            if len(self._body) >= _PIECES_MAX:
                # Tiny chunks: an object for each would take many times what the budget counts.
                self._body_joined += b"".join(self._body)
                self._body.clear()

    def on_message_complete(self) -> None:
        """A request is whole."""
        if self._refusal is not None or self._early_end or self._no_more:
            return
        request = self._incoming
        self._incoming = None
        self._phase = _Phase.IDLE
        if request is None:
            return
        body = self._body
        if self._body_joined:
            request.body = b"".join((self._body_joined, *body))
            self._body_joined = bytearray()
        else:
            request.body = body[0] if len(body) == 1 else b"".join(body)
        memo = request.memo
        request.headers = (
            [field for field in request.headers if field[0] != b"content-length"]
            if memo is None
            else memo.headers
        )
        request.held_bytes = self._held_bytes
        self._held_bytes = 0
        self._body = []
        self._want_continue = False
        self._ready.append(request)
        if not request.keep_alive:
            self._no_more = True
        elif len(self._ready) >= _READY_MAX:
            # Answered up to here, then closed: the client may send the rest anew.
            request.keep_alive = False
            self._no_more = True

    # --- checks ---------------------------------------------------------------------------

    def _checked_request(self) -> Request | None:
        """The request of the head just read, or ``None`` after a refusal."""
        headers = self._headers
        version = self._parser.get_http_version()
        method = self._parser.get_method()
        memo = self._memo
        if (
            memo is not None
            and memo.target == self._url
            and memo.method == method
            and memo.version == version
            and memo.matches(headers)
        ):
            return self._repeated_request(memo)
        if version not in ("1.1", "1.0"):
            return self._malformed(f"HTTP version {version} is not supported.")
        if len(headers) > _HEADERS_MAX:
            return self._malformed(f"More than {_HEADERS_MAX} header fields.", status=431)
        http10 = version == "1.0"
        # An HTTP/1.0 connection never outlives its answer: it could only where each answer said so.
        # The parser reads nothing behind a request that it takes for the last (it heeds
        # Proxy-Connection).
        keep_alive = not http10 and self._parser.should_keep_alive()
        hosts = 0
        length: bytes | None = None
        length_at: int | None = None
        coding: bytes | None = None
        expect = b""
        host_at = -1
        for index, (name, value) in enumerate(headers):
            if name == b"host":
                hosts += 1
                host_at = index
                if _HOST.fullmatch(value.strip()) is None:
                    return self._malformed("Host is not a host name.")
            elif name == b"content-length":
                length = value.strip()
                length_at = index
            elif name == b"transfer-encoding":
                if coding is not None:
                    return self._malformed("More than one Transfer-Encoding.")
                coding = value.strip().lower()
            elif name == b"connection":
                if b"close" in value.lower():
                    keep_alive = False
            elif name == b"expect":
                expect = value.strip().lower()
            elif name in (b"transfer_encoding", b"content_length"):
                return self._malformed("A framing header is spelled with an underscore.")
        if hosts > 1 or (hosts == 0 and not http10):
            return self._malformed("Exactly one Host header is required.")
        if coding is not None and (http10 or coding != b"chunked" or length is not None):
            return self._malformed("Transfer-Encoding is not plain chunked.")
        if length is not None and not self._length_fits(length):
            return None
        path, query = self._split_target(method, host_at)
        if path is None:
            return None
        request = Request(method, path, query, headers)
        request.http10 = http10
        request.keep_alive = keep_alive
        request.peer = self.peer
        if expect and not http10:
            if expect != b"100-continue":
                return self._malformed("Only 100-continue can be expected.", status=417)
            has_body = coding is not None or (length is not None and int(length) > 0)
            if has_body and not self._parser.should_upgrade():
                if self._busy or self._ready:
                    self._want_continue = True
                else:
                    self.write(_CONTINUE)
        elif coding is None and self._url.startswith(b"/"):
            self._memo = request.memo = HeadMemo(request, self._url, version, length_at)
        return request

    def _repeated_request(self, memo: HeadMemo) -> Request | None:
        """The request of a head that was checked before."""
        headers = self._headers
        at = memo.length_at
        if at is not None and not self._length_fits(headers[at][1].strip()):
            return None
        return self._request_like(memo, headers)

    def _request_like(self, memo: HeadMemo, headers: Headers) -> Request:
        request = Request(memo.method, memo.path, memo.query, headers)
        if memo.http10:
            request.http10 = True
        if not memo.keep_alive:
            request.keep_alive = False
        request.peer = self.peer
        request.memo = memo
        return request

    def _length_fits(self, length: bytes) -> bool:
        """Whether a Content-Length is one and within the limit; refuses the request if not."""
        if not length.isdigit():
            self._malformed("Content-Length is not a number.")
            return False
        limit = self._server.limits.body_bytes
        if len(length) > 18 or int(length) > limit:
            self._refuse(ApiError.payload_too_large(limit))
            return False
        return True

    def _split_target(self, method: bytes, host_at: int) -> tuple[bytes | None, bytes]:
        """Path and query of the target; absolute-form's authority stands above Host (RFC 9112
        § 3.2.2)."""
        target = self._url
        if not target.startswith(b"/"):
            lowered = target[:8].lower()
            if lowered.startswith((b"http://", b"https://")):
                authority, slash, rest = target.partition(b"://")[2].partition(b"/")
                if not slash and b"?" in authority:
                    authority, _, rest = authority.partition(b"?")
                    rest = b"?" + rest
                if _HOST.fullmatch(authority) is None:
                    self._malformed("Request target has no valid host.")
                    return None, b""
                target = b"/" + rest
                if host_at >= 0:
                    self._headers[host_at] = (b"host", authority)
            elif not (target == b"*" and method == b"OPTIONS") and method != b"CONNECT":
                self._malformed("Request target must be a path.")
                return None, b""
        if b"#" in target or not target.isascii():
            self._malformed("Request target holds a fragment or a byte that must be encoded.")
            return None, b""
        path, _, query = target.partition(b"?")
        return path, query

    def _head_too_large(self) -> ApiError:
        limit = self._server.limits.head_bytes
        return ApiError.malformed_http(
            f"Request head is larger than {limit} bytes (server.max_header_bytes).", status=431
        )

    def _malformed(self, message: str, *, status: int = 400) -> Request | None:
        self._refuse(ApiError.malformed_http(message, status=status))
        return None

    def _refuse(self, error: ApiError) -> None:
        """Stops reading requests: ``error`` is answered once all before it are, then closed."""
        if self._refusal is None and not self._no_more:
            self._refusal = error
            self._drop_incoming()

    # --- order ----------------------------------------------------------------------------

    def _pump(self) -> None:
        """Hands over requests one at a time, in order, until one is being answered."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while not self._busy and self._transport is not None and not self._lingering:
                if self._ready:
                    if self.write_paused:
                        break  # who does not read its answers gets no further ones
                    self._hand_over(self._ready.pop(0))
                elif self._backlog:
                    data = b"".join(self._backlog)
                    self._backlog.clear()
                    self._backlog_bytes = 0
                    if self._no_more or self._refusal is not None:
                        continue
                    self._feed(data)
                else:
                    break
        finally:
            self._pumping = False
        self._settle()

    def _hand_over(self, request: Request) -> None:
        if self._timer is not None:
            self._timer.discard(self)
            self._timer = None
        self._busy = True
        self._current = request
        if self._no_more and not self._ready:
            request.keep_alive = False
        service = self._server.service
        try:
            handler = service.handle(request, self)
        except Exception as error:  # the handler's promise is broken: nothing may pass here
            service.unexpected(error)
            self.cut()
            return
        if self._busy and self._current is request:
            self._active = handler
            if self.write_paused and handler is not None:
                handler.on_client_paused()

    def _settle(self) -> None:
        """Nothing is being answered: refuse, or wait for what comes next."""
        transport = self._transport
        if self._busy or self._ready or self._lingering or transport is None:
            return
        if self._refusal is not None:
            self.write(self._server.service.refuse(self._refusal, self._url))
            self._half_close()
            return
        server = self._server
        if self._no_more:
            self._half_close()
        elif self._phase is _Phase.IDLE:
            if server.draining:
                self.close_if_idle()
            else:
                self.idle_since_s = monotonic()
                if self._timer is not None:
                    self._wait(None)
        elif self._phase is _Phase.BODY:
            if self._want_continue:
                self._want_continue = False
                self.write(_CONTINUE)
            if self._timer is not server.body_timer:
                self._wait(server.body_timer)
        elif self._timer is not server.head_timer:
            self._wait(server.head_timer)

    def _wait(self, timer: DeadlineQueue[ServerConnection] | None) -> None:
        if self._timer is not None and self._timer is not timer:
            self._timer.discard(self)
        self._timer = timer
        if timer is not None:
            timer.add(self)

    def _half_close(self) -> None:
        """Ends our side, then reads and throws away a bounded amount, so that the client gets to
        read the answer instead of a reset; aborts after a while (traps: an early 413)."""
        transport = self._transport
        if transport is None or self._lingering or transport.is_closing():
            return
        self._lingering = True
        self._no_more = True
        self._drop_incoming()
        self._stalled_bytes = transport.get_write_buffer_size() + 1
        self._wait(self._server.linger_timer)
        if self._tls:
            if self._refusal is None:
                transport.close()  # TLS cannot half-close; unread input is lost either way
        elif transport.can_write_eof():
            transport.write_eof()

    def _drop_waiting(self) -> None:
        for request in self._ready:
            self._server.budget.give(request.held_bytes)
        self._ready.clear()
        self._backlog.clear()
        self._backlog_bytes = 0

    def _drop_incoming(self) -> None:
        self._incoming = None
        self._body = []
        self._body_joined = bytearray()
        self._server.budget.give(self._held_bytes)
        self._held_bytes = 0
