"""A connection to a backend: one request at a time, its answer's parts told as they come.

llhttp parses, this file decides (RFC 9112 §§ 6.3, 9.6; traps: HTTP parsing): where a body ends,
whether the connection may serve again, and that no byte of one answer reaches another call. A
connection goes back to the pool only after ``feed_data`` returned with nothing left over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from nexus.core.errors import AttemptFailure, FailureKind
from nexus.http1.headers import Headers
from nexus.http1.known_head import KnownHead

__all__ = ["AnswerMemo", "UpstreamConnection", "UpstreamHandler", "UpstreamOwner"]

_HEAD_BYTES_MAX = 64 * 1024
_FRAMING_BYTES_MAX = 128 * 1024
"""Chunk sizes, extensions and trailers in a row: the parser keeps a trailer's value whole."""
_HEADERS_MAX = 512
_INFORMATIONAL_MAX = 32
_JOIN_BYTES_MAX = 64 * 1024
_PARSER_TRAILERS = frozenset({b"connection", b"proxy-connection", b"transfer-encoding"})
"""The parser heeds these as trailers, too: it may read no further answer behind them."""
_MISSES_MAX = 8
_RELEARN_EVERY = 64


class UpstreamHandler(Protocol):
    """Who asked, as the connection sees it. After ``on_end`` or ``on_failure`` nothing follows."""

    def on_head(self, status: int, headers: Headers) -> None:
        """The final head (never a 1xx); names are lower case. The same list comes again with the
        next answer that has the same fields: it is never to be changed. Content-Length is not
        among them, see ``UpstreamConnection.length``."""

    def on_body(self, data: bytes) -> None:
        """The body bytes of one read, in one piece and without framing."""

    def on_end(self) -> None:
        """The answer is whole."""

    def on_failure(self, failure: AttemptFailure, *, stale: bool) -> None:
        """The answer will not come. ``stale``: the connection had served before and was closed
        before a single byte of this answer."""

    def on_crash(self, error: BaseException) -> None:
        """A method above raised: a fault of our own. The connection is already discarded."""


class AnswerMemo:
    """The head of a backend's last plain answer, shared by its connections: until the second of
    its Date is over, the next one is most often the same but for its length."""

    __slots__ = ("_misses", "headers", "idle_limit_s", "raw")

    def __init__(self) -> None:
        self.raw: KnownHead | None = None
        self.headers: Headers = []
        self.idle_limit_s: float | None = None
        self._misses = 0

    def body_of(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Length and body of ``data``, when it is the known head again with its whole body."""
        raw = self.raw
        found = None if raw is None else raw.body_of(data)
        if found is not None:
            self._misses = 0
        return found

    def learn(
        self, data: bytes, body_bytes: int, headers: Headers, idle_limit_s: float | None
    ) -> None:
        """Takes in an answer that a parser read: 200, kept alive, whole in one read. A backend
        whose heads are never the same (a request id of its own) is soon asked only rarely."""
        self._misses += 1
        if self._misses > _MISSES_MAX and self._misses % _RELEARN_EVERY:
            return
        self.raw = KnownHead.of(data, body_bytes, b"HTTP/1.1 200 ")
        self.headers = headers
        self.idle_limit_s = idle_limit_s


class UpstreamOwner(Protocol):
    """The pool a connection belongs to."""

    answers: AnswerMemo

    def released(self, connection: UpstreamConnection) -> None:
        """The connection is free to serve again."""

    def lost(self, connection: UpstreamConnection) -> None:
        """The connection is gone or of no more use."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to one backend."""

    __slots__ = (
        "_between_chunks",
        "_complete",
        "_expects_eof",
        "_fault",
        "_got_bytes",
        "_head_bytes",
        "_head_done",
        "_headers",
        "_informational",
        "_keep",
        "_owner",
        "_parser",
        "_parts",
        "_paused",
        "_served",
        "_skipping",
        "_surplus",
        "_transport",
        "chunk_taker",
        "handler",
        "idle_limit_s",
        "length",
    )

    def __init__(self, owner: UpstreamOwner) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.handler: UpstreamHandler | None = None
        self.chunk_taker: Callable[[bytes], bool] | None = None
        """Asked first, while the parser stands between two chunks, to take a read as it came: if
        that is exactly one chunk, and nothing else is to be done with it. Of one answer only."""
        self.idle_limit_s: float | None = None
        """How long it may idle, as the last answer's Keep-Alive says, if it does."""
        self.length: bytes | None = None
        """What the answer's Content-Length says, if it has one."""
        self._served = 0
        self._paused = False
        self._got_bytes = False
        # What the parser told of the last answer that it read.
        self._headers: Headers = []
        self._parts: list[bytes] = []
        self._head_done = False
        self._head_bytes = 0
        self._informational = 0
        self._skipping = False
        self._expects_eof = False
        self._keep = False
        self._complete = False
        self._between_chunks = False
        """Whether the parser has read whole chunks and nothing of the next one."""
        self._surplus = False
        self._fault: str | None = None

    # --- what the pool and the caller use -------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether it is open and free."""
        transport = self._transport
        return transport is not None and self.handler is None and not transport.is_closing()

    def start(self, handler: UpstreamHandler, head: bytes, body: bytes) -> None:
        """Sends a request; its answer is told to ``handler``."""
        transport = self._transport
        assert transport is not None
        assert self.handler is None
        self.handler = handler
        self.chunk_taker = None
        self._got_bytes = False
        # One write: an upstream that answers early must find the whole body on its way (traps).
        if len(body) <= _JOIN_BYTES_MAX:
            transport.write(head + body)
        else:
            transport.writelines((head, body))

    def _forget(self) -> None:
        """An answer comes for the parser: nothing that it told of the last one is true of it."""
        self._headers = []
        self._parts = []
        self._head_done = self._skipping = self._expects_eof = False
        self._complete = self._surplus = self._keep = self._between_chunks = False
        self._head_bytes = self._informational = 0
        self._fault = None
        self.length = self.idle_limit_s = None

    def discard(self) -> None:
        """Ends it now: the call is over, or the answer is not wanted any more."""
        self.handler = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Closes an idle connection."""
        self.handler = None
        if self._transport is not None:
            self._transport.close()

    def pause(self) -> None:
        """Reads no more for now: the client is slow."""
        transport = self._transport
        if transport is not None and not self._paused and not transport.is_closing():
            self._paused = True
            transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        transport = self._transport
        if transport is not None and self._paused and not transport.is_closing():
            self._paused = False
            transport.resume_reading()

    # --- asyncio.Protocol -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=256 * 1024, low=64 * 1024)

    def data_received(self, data: bytes) -> None:
        """Bytes from the backend."""
        handler = self.handler
        if handler is None:
            # Nobody asked: an unsolicited answer must never become the next call's.
            self._retire()
            return
        try:
            if self._between_chunks:
                # Nearly every event of a stream is taken so: the parser stays where it is.
                taker = self.chunk_taker
                if taker is not None and taker(data):
                    return
            elif not self._got_bytes:
                self._got_bytes = True
                if self._take_repeated(handler, data):
                    return
                self._forget()
            fresh = not self._head_done
            if fresh:
                self._head_bytes += len(data)
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                self._fault = "switched protocols unasked"
            except httptools.HttpParserCallbackError as error:
                raise (error.__context__ or error) from None
            except httptools.HttpParserError as error:
                if self._complete:
                    self._surplus = True
                else:
                    self._fault = f"not HTTP: {error}"
            if self.handler is not handler:
                self._parts = []
                return  # discarded from within
            if self._between_chunks and not data.endswith(b"\r\n"):
                self._between_chunks = False  # a size line that is not whole yet
            if self._fault is not None and not self._complete:
                if self._parts and not fresh:
                    # Some of it went out before: what came whole goes, too (behaviour § 6).
                    handler.on_body(b"".join(self._parts))
                    if self.handler is not handler:
                        return
                self._fail(FailureKind.INVALID, f"Invalid backend response ({self._fault})")
                return
            parts = self._parts
            if parts:
                self._parts = []
                self._head_bytes = 0
                joined = parts[0] if len(parts) == 1 else b"".join(parts)
                handler.on_body(joined)
                if self._complete and self._keep and self.length is not None and not self._surplus:
                    self._owner.answers.learn(data, len(joined), self._headers, self.idle_limit_s)
            if self._complete:
                if self.handler is handler:
                    self._finish(keep=self._keep and not self._surplus)
            elif not self._head_done:
                if self._head_bytes > _HEAD_BYTES_MAX:
                    self._fail(FailureKind.INVALID, "Invalid backend response (head too large)")
            elif not parts:
                self._head_bytes += len(data)
                if self._head_bytes > _FRAMING_BYTES_MAX:
                    self._fail(
                        FailureKind.INVALID, "Invalid backend response (framing without a body)"
                    )
        except Exception as error:
            # Once its answer was whole the connection may be another call's already.
            if self.handler is handler:
                self.handler = None
                self._retire()
            handler.on_crash(error)

    def _take_repeated(self, handler: UpstreamHandler, data: bytes) -> bool:
        """Takes a read that is one whole answer with the head of the last one, past the parser: it
        would tell the same, and costs a callback per field. Whether it was one."""
        memo = self._owner.answers
        found = memo.body_of(data)
        if found is None or not found[1]:
            return False
        self.length, body = found
        self.idle_limit_s = memo.idle_limit_s
        handler.on_head(200, memo.headers)
        if self.handler is handler:
            handler.on_body(body)
            if self.handler is handler:
                self._finish(keep=True)
        return True

    def eof_received(self) -> bool:
        """The backend sent FIN."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._transport = None
        del self._parser  # it holds our methods: without us the two would wait for the collector
        self._owner.lost(self)
        self.chunk_taker = None
        handler = self.handler
        if handler is None:
            return
        self.handler = None
        try:
            if not self._got_bytes:
                handler.on_failure(
                    AttemptFailure(FailureKind.RESET, "connection closed without an answer"),
                    stale=self._served > 0,
                )
            elif self._head_done and self._expects_eof and exc is None:
                handler.on_end()
            else:
                handler.on_failure(
                    AttemptFailure(
                        FailureKind.RESET, "connection lost before the answer was whole"
                    ),
                    stale=False,
                )
        except Exception as error:
            handler.on_crash(error)

    # --- httptools callbacks --------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A status line begins."""
        if self._complete:
            self._surplus = True
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or a trailer: those are left out."""
        if self._surplus:
            return
        if self._head_done:
            if name.lower() in _PARSER_TRAILERS:
                self._keep = False
            return
        if len(self._headers) >= _HEADERS_MAX:
            self._fault = "too many header fields"
            return
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """A head is whole: interim, or the answer's."""
        if self._surplus or self._fault is not None:
            return
        # Raw bytes count whole reads, body and all: too many of them are reason to look closer.
        if self._head_bytes > _HEAD_BYTES_MAX and _size(self._headers) > _HEAD_BYTES_MAX:
            self._fault = "head too large"
            return
        self._head_bytes = 0
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._informational += 1
            self._skipping = True
            if status == 101 or self._informational > _INFORMATIONAL_MAX:
                self._fault = f"status {status} unasked"
            elif _claims_body(self._headers):
                # It has none (RFC 9112 § 6.3), but whoever believes it reads another answer.
                self._fault = f"status {status} with a body"
            return
        self._head_done = True
        if not 200 <= status <= 599:
            self._fault = f"status {status}"
            return
        self._frame(status)
        if self._fault is None and self.handler is not None:
            self.handler.on_head(status, self._headers)

    def on_body(self, body: bytes) -> None:
        """Body bytes: gathered until the read is parsed, since one read may hold many chunks."""
        if not (self._surplus or self._complete or self._fault is not None):
            self._parts.append(body)

    def on_chunk_header(self) -> None:
        """A chunk begins."""
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        """A chunk is over, its last line end read."""
        self._between_chunks = True
        self._head_bytes = 0

    def on_message_complete(self) -> None:
        """An answer is whole, or an interim one."""
        self._between_chunks = False
        if self._surplus:
            return
        if self._skipping:
            self._skipping = False
        elif self._fault is None:
            self._complete = True

    # --- decisions ------------------------------------------------------------------------

    def _frame(self, status: int) -> None:
        """Where the body ends and whether the connection may be kept (RFC 9112 § 6.3)."""
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._fault = f"HTTP version {version}"
            return
        # The parser reads no further answer on a connection that it takes for closing (it heeds
        # Proxy-Connection too).
        keep = version == "1.1" and self._parser.should_keep_alive()
        length: bytes | None = None
        coding: bytes | None = None
        for name, value in self._headers:
            if name == b"content-length":
                length = value
            elif name == b"transfer-encoding":
                coding = value.strip().lower() if coding is None else b"twice"
            elif name == b"connection":
                options = value.lower()
                if b"close" in options:
                    keep = False
                elif version == "1.0" and b"keep-alive" in options:
                    keep = self._parser.should_keep_alive()
            elif name == b"keep-alive":
                self.idle_limit_s = _keep_alive_timeout(value)
        if coding is not None:
            if coding != b"chunked":
                self._fault = "unknown transfer coding"
                return
            # HTTP/1.0 knows no chunked coding: read it, then never trust the framing again.
            keep = keep and version == "1.1"
        if status in (204, 304):
            if length not in (None, b"0") or coding is not None:
                keep = False
        elif coding is None and length is None:
            self._expects_eof = True
            keep = False
        self._keep = keep
        if length is not None:
            self.length = length
            self._headers = [field for field in self._headers if field[0] != b"content-length"]

    def _finish(self, *, keep: bool) -> None:
        handler = self.handler
        transport = self._transport
        self.handler = self.chunk_taker = None
        self._served += 1
        if (
            keep
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
        ):
            if self._paused:
                self.resume()
            self._owner.released(self)
        else:
            self._retire()
        if handler is not None:
            handler.on_end()

    def _fail(self, kind: FailureKind, message: str) -> None:
        handler = self.handler
        self.handler = None
        self._retire()
        if handler is not None:
            handler.on_failure(AttemptFailure(kind, message), stale=False)

    def _retire(self) -> None:
        self._owner.lost(self)
        if self._transport is not None:
            self._transport.abort()


def _claims_body(headers: Headers) -> bool:
    """Whether an interim answer is framed as if a body followed (RFC 9110 § 8.6 forbids it)."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b" \t0"))
        for name, value in headers
    )


def _size(headers: Headers) -> int:
    """Bytes that header fields take on the wire."""
    return sum(len(name) + len(value) + 4 for name, value in headers)


def _keep_alive_timeout(value: bytes) -> float | None:
    """Seconds of ``Keep-Alive: timeout=5, max=100``, if it says so."""
    for item in value.split(b","):
        name, _, number = item.strip().partition(b"=")
        if name.strip().lower() == b"timeout" and number.strip().isdigit():
            return float(number.strip()[:9])
    return None
