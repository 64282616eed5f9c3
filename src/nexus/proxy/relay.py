"""What becomes of an answer's bytes: held until it is known to be good, or relayed as it comes.

Each way of relaying is one small class with the same four methods. They decide **the commit**
(behaviour § 5.2): until a relay calls ``exchange.commit`` the client has seen nothing, and
``exchange.fail`` goes to the next backend unseen.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from nexus.core.errors import AttemptFailure, FailureKind
from nexus.dialects.table import StreamTranslator, recognise
from nexus.dialects.views import read_answer, read_chunk
from nexus.http1.chunk import size_line
from nexus.proxy.retry import failure_of_status
from nexus.streams.ndjson import LineTooLong, NdjsonSplitter
from nexus.streams.sse import EventBuffer, payloads
from nexus.streams.tap import Tap
from nexus.telemetry.record import CallRecord

if TYPE_CHECKING:
    from nexus.proxy.exchange import Exchange

__all__ = ["ErrorAnswer", "HeldAnswer", "PassThrough", "Relay", "StreamAnswer"]

_ERROR_BYTES_MAX = 1024 * 1024
_COMMENT_BYTES_MAX = 64 * 1024
_EVENT_AND_CHUNK_ENDS = (b"\n\n\r\n", b"\r\n\r\n\r\n")
_SSE_STARTS = (b"data", b"event", b"id", b"retry", b":")


class Relay(Protocol):
    """The fate of one answer."""

    def take(self, data: bytes) -> None:
        """The body bytes of one read."""

    def end(self) -> None:
        """The answer ended as its framing says."""

    def broken(self, failure: AttemptFailure) -> None:
        """The answer broke off."""

    def note(self, record: CallRecord) -> None:
        """Writes down what it saw; asked once, when the answer is over."""


class ErrorAnswer:
    """An answer that is no 2xx: read whole, understood, then relayed or failed over."""

    __slots__ = ("_exchange", "_parts", "_size")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._parts: list[bytes] = []
        self._size = 0

    def take(self, data: bytes) -> None:
        """Keeps it, up to a bound: what is longer says no more, and may never end."""
        self._parts.append(data[: _ERROR_BYTES_MAX - self._size])
        self._size += len(data)
        if self._size > _ERROR_BYTES_MAX:
            self.end()

    def end(self) -> None:
        """The error is whole: relayed, or a failed attempt."""
        exchange = self._exchange
        status = exchange.upstream_status
        body = b"".join(self._parts)
        failure = failure_of_status(
            status,
            exchange.adapter.read_error(status, body),
            body,
            exchange.retry_after_s(),
            client_credential=exchange.client_credential,
        )
        if failure is not None:
            exchange.fail(failure)
        else:
            exchange.relay_error(status, body)

    def broken(self, failure: AttemptFailure) -> None:
        """Half an error is as good as a whole one."""
        # The status is already known; half its body is as good as none.
        self.end()

    def note(self, record: CallRecord) -> None:
        """Has nothing to add."""


class HeldAnswer:
    """A plain JSON answer: held until it is whole and known to be JSON, since half a JSON helps no
    client. One that outgrows ``max_held_response_bytes`` or the budget commits and streams on."""

    __slots__ = ("_exchange", "_parts", "_passing", "_size")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._parts: list[bytes] = []
        self._size = 0
        self._passing: PassThrough | None = None

    def take(self, data: bytes) -> None:
        """Holds it, or passes it on once it outgrew the bound."""
        if self._passing is not None:
            self._passing.take(data)
            return
        self._parts.append(data)
        self._size += len(data)
        if not self._exchange.hold(self._size):
            self._passing = PassThrough(self._exchange)
            self._passing.take(b"".join(self._parts))
            self._parts = []

    def end(self) -> None:
        """The answer is whole: delivered if it is JSON, else a failed attempt."""
        if self._passing is not None:
            self._passing.end()
            return
        exchange = self._exchange
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        answer = read_answer(body)
        if answer is None:
            exchange.fail(AttemptFailure(FailureKind.INVALID, "Invalid backend response: not JSON"))
            return
        if answer.is_error:
            exchange.fail_error_object(body)
            return
        if answer.choices is None and exchange.endpoint.has_done:
            dialect = recognise(body)
            translated = None if dialect is None else exchange.translate(dialect, body)
            if translated is not None:
                body = translated
                answer = read_answer(body) or answer
        exchange.learn_usage(answer.prompt_tokens, answer.completion_tokens)
        exchange.deliver_json(body)

    def broken(self, failure: AttemptFailure) -> None:
        """It broke off: a failed attempt, or a cut connection once some of it went out."""
        if self._passing is not None:
            self._passing.broken(failure)
        else:
            self._exchange.fail(failure)

    def note(self, record: CallRecord) -> None:
        """Has nothing to add."""


class PassThrough:
    """Bytes as they come (audio, images, answers too big to hold): committed at the first one."""

    __slots__ = ("_exchange", "_started")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._started = False

    def take(self, data: bytes) -> None:
        """Passes it on."""
        if not self._started:
            self._started = True
            self._exchange.commit_bytes()
        self._exchange.send(data)

    def end(self) -> None:
        """The body is whole."""
        if not self._started:
            if self._exchange.upstream_status == 204:
                failure = AttemptFailure(
                    FailureKind.INVALID, "Invalid backend response: no content (204)"
                )
                self._exchange.fail(failure)
                return
            self._started = True
            self._exchange.commit_bytes()
        self._exchange.complete(b"")

    def broken(self, failure: AttemptFailure) -> None:
        """It broke off."""
        if self._started:
            # No JSON error fits into half a picture: the client must see that it is not whole.
            self._exchange.break_off(failure)
        else:
            self._exchange.fail(failure)

    def note(self, record: CallRecord) -> None:
        """Has nothing to add."""


class StreamAnswer:
    """An answer to ``"stream": true``: server-sent events, or another dialect's lines.

    Which one is told by the first byte, not by Content-Type, which engines get wrong. Commits at
    the first data event that is no error (behaviour § 5.2).
    """

    __slots__ = (
        "_buffer",
        "_chunk_bytes",
        "_exchange",
        "_flowing",
        "_held",
        "_lines",
        "_sniffed",
        "_tap",
        "_translator",
        "_transport",
    )

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._flowing = False
        self._held = b""
        self._sniffed = False
        self._buffer = EventBuffer()
        self._lines: NdjsonSplitter | None = None
        self._translator: StreamTranslator | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._chunk_bytes = 0
        self._tap = Tap(
            exchange.endpoint.terminal,
            read_chunk,
            repairs_tool_finish=exchange.traits.stop_for_tool_calls,
        )

    # --- Relay ------------------------------------------------------------------------------

    def take(self, data: bytes) -> None:
        """Passes on every whole event in it."""
        if not self._flowing:
            self._take_carefully(data)
            return
        block = self._buffer.feed(data)
        if block:
            self._pass_on(block)

    def take_chunk(self, read: bytes) -> bool:
        """Passes on a read of a committed stream as it came, in one step: one chunk of whole events
        that tell nothing, as nearly every read is. ``False``, with nothing done, if it is not."""
        start, size = size_line(len(read))
        tap = self._tap
        transport = self._transport
        if (
            size < 3
            or not read.startswith(start)
            or not read.endswith(_EVENT_AND_CHUNK_ENDS)
            or self._buffer.held
            or transport is None
            or transport.is_closing()
            or not tap.may_pass(read)
        ):
            return False
        tap.events += read.count(b"\ndata:")  # the first one, too, stands behind a line end
        self._chunk_bytes += size
        self._exchange.last_read_s = monotonic()
        transport.write(read)
        return True

    def end(self) -> None:
        """The stream ended as its framing says: whole, broken, or empty."""
        exchange = self._exchange
        self._take_rest()
        if exchange.relay is not self:
            return
        if not exchange.committed:
            exchange.fail(
                AttemptFailure(
                    FailureKind.INVALID,
                    "Invalid backend response: the stream ended without an event",
                )
            )
        else:
            self._close(
                AttemptFailure(FailureKind.BROKEN_STREAM, "the stream ended before it was complete")
            )

    def broken(self, failure: AttemptFailure) -> None:
        """The stream broke off."""
        if not self._exchange.committed:
            self._exchange.fail(failure)
        else:
            self._close(failure)

    def note(self, record: CallRecord) -> None:
        """Events and tokens, as the tap or the translator saw them."""
        tap = self._tap
        translator = self._translator
        record.bytes_out += self._chunk_bytes
        record.events = tap.events
        record.prompt_tokens = tap.prompt_tokens
        record.completion_tokens = tap.completion_tokens
        if translator is not None:
            record.prompt_tokens = translator.prompt_tokens
            record.completion_tokens = translator.completion_tokens
        if record.completion_tokens is None:
            record.estimated_tokens = tap.content_events

    @property
    def told(self) -> bool:
        """Whether the client has everything of this stream, the framing's end apart."""
        tap = self._tap
        if tap.error_seen or not tap.finish_seen:
            return False
        return tap.done_seen or not self._exchange.endpoint.has_done

    # --- events -----------------------------------------------------------------------------

    def _take_carefully(self, data: bytes) -> None:
        if not self._sniffed:
            data = self._held + data
            self._held = b""
            if not self._sniff(data):
                return
        if self._lines is not None:
            try:
                lines = self._lines.feed(data)
            except LineTooLong as error:
                self.broken(
                    AttemptFailure(FailureKind.INVALID, f"Invalid backend response: {error}")
                )
                return
            for line in lines:
                self._line(line)
                if self._exchange.relay is not self:
                    return
            return
        block = self._buffer.feed(data)
        if block:
            self._block(block)

    def _sniff(self, data: bytes) -> bool:
        """Finds out what the answer is; ``False`` while it cannot be told or was refused."""
        start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:8]
        if not start:
            self._held = data[:_COMMENT_BYTES_MAX]
            return False
        if start.startswith(_SSE_STARTS) or any(name.startswith(start) for name in _SSE_STARTS):
            self._sniffed = True
            return True
        if start.startswith(b"{"):
            self._sniffed = True
            self._lines = NdjsonSplitter(1024 * 1024)
            return True
        self._exchange.fail(
            AttemptFailure(FailureKind.INVALID, "Invalid backend response: not an event stream")
        )
        return False

    def _block(self, block: bytes) -> None:
        exchange = self._exchange
        if self._translator is not None:
            for payload in payloads(block):
                self._line(payload.data)
                if exchange.relay is not self:
                    return
            return
        block = self._held + block
        self._held = b""
        if not exchange.committed and not self._first(block):
            return
        self._flowing = True
        self._pass_on(block)
        self._transport = exchange.pass_chunks(self.take_chunk)

    def _pass_on(self, block: bytes) -> None:
        """Whole events of a committed stream go by."""
        tap = self._tap
        tap.watch(block)
        if tap.tool_calls_seen:
            block = tap.repair(block)
        if tap.done_seen and (at := tap.premature_done(block)) is not None:
            failure = AttemptFailure(
                FailureKind.BROKEN_STREAM, "the stream ended without a finish reason"
            )
            self._exchange.end_broken(failure, block[:at], with_done=True)
            return
        self._exchange.send(block)

    def _first(self, block: bytes) -> bool:
        """Looks at the first data event; ``True`` when the stream is committed with it."""
        exchange = self._exchange
        events = payloads(block)
        if not events:
            # Only comments so far: they are passed on with the first event.
            # Too many are dropped whole: a cut one would be a field.
            self._held = block if len(block) <= _COMMENT_BYTES_MAX else b""
            return False
        first = events[0]
        if first.data.startswith(b"[DONE]"):
            exchange.fail(
                AttemptFailure(
                    FailureKind.ERROR_EVENT, "Invalid backend response: [DONE] before any event"
                )
            )
            return False
        facts = read_chunk(first.data)
        if facts is not None and facts.choices is None:
            dialect = recognise(first.data)
            if dialect is not None:
                self._translator = exchange.translator(dialect)
                self._block(block)
                return False
        if facts is None:
            exchange.fail(
                AttemptFailure(FailureKind.INVALID, "Invalid backend response: event is not JSON")
            )
            return False
        if facts.is_error or first.event == b"error":
            exchange.fail_error_object(first.data)
            return False
        exchange.commit_stream()
        self._tap.began_silent = not (facts.has_content or facts.has_tool_calls)
        return True

    def _line(self, line: bytes) -> None:
        """One object of another dialect."""
        exchange = self._exchange
        translator = self._translator
        if not line.strip() or line.startswith(b"[DONE]"):
            return
        if translator is None:
            dialect = recognise(line)
            if dialect is None:
                answer = read_answer(line)
                if answer is not None and answer.is_error:
                    exchange.fail_error_object(line)
                else:
                    exchange.fail(
                        AttemptFailure(
                            FailureKind.INVALID, "Invalid backend response: not an event stream"
                        )
                    )
                return
            translator = self._translator = exchange.translator(dialect)
        events = translator.feed(line)
        if translator.error is not None:
            failure = AttemptFailure(FailureKind.ERROR_EVENT, translator.error)
            if exchange.committed:
                exchange.end_broken(failure, events, with_done=True)
            else:
                exchange.fail_error_object(line)
            return
        if events:
            if not exchange.committed:
                exchange.commit_stream()
            self._tap.watch(events)
            exchange.send(events)

    def _take_rest(self) -> None:
        """What has no blank line after it: an event all the same if its data is whole."""
        if self._lines is not None:
            self._line(self._lines.end())
            return
        rest = self._buffer.take_rest()
        if not rest.strip(b"\r\n"):
            # Line ends alone: of a CRLF that was cut in two, or blank.
            if self._exchange.committed and self._translator is None:
                self._exchange.send(rest)
            return
        whole = payloads(rest)
        if whole and all(p.data.startswith(b"[DONE]") or read_chunk(p.data) for p in whole):
            self._block(rest + (b"\n" if rest.endswith(b"\n") else b"\n\n"))

    def _close(self, failure: AttemptFailure) -> None:
        """After the commit the upstream is over: whole, or broken (behaviour § 6)."""
        exchange = self._exchange
        tap = self._tap
        done = exchange.endpoint.has_done and not tap.done_seen
        if tap.error_seen:
            # The engine has said it itself: nothing is said twice.
            exchange.end_broken(failure, b"", with_done=done, said=True)
        elif tap.whole and (self._translator is None or self._translator.finished):
            if failure.kind in (
                FailureKind.RESET,
                FailureKind.TIMEOUT,
            ) and not exchange.whole_if_cut(tap):
                exchange.end_broken(failure, b"", with_done=done)
            else:
                exchange.complete(b"data: [DONE]\n\n" if done else b"")
        else:
            exchange.end_broken(failure, b"", with_done=done)
