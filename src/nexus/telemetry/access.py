"""The access log: one line per finished call, written by a thread of its own.

The loop's thread appends the record to a queue, and encodes 64 of them at a time, which takes a
tenth of a millisecond while they are in the CPU's caches. Writing happens elsewhere, so that a
stalled standard output never stops a stream, and so does the encoding of what is left when no more
calls come: a thread that encoded all of it held the interpreter for milliseconds while calls
waited. The queue is bounded: when the reader of our output stalls, the oldest lines are dropped,
counted, and the next line that gets through says how many.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from functools import lru_cache
from typing import BinaryIO, TextIO

import msgspec

from nexus.telemetry.logs import LogFormat, is_pretty
from nexus.telemetry.record import CallRecord
from nexus.telemetry.sending import sender
from nexus.telemetry.text import printable

__all__ = ["AccessLog", "json_line", "pretty_line"]

_QUEUE_LINES_MAX = 10_000
_BATCH_LINES_MAX = 64
_BATCHES_MAX = 64
"""More than so many encoded batches do not wait to be written; what follows waits as records."""


class AccessLog:
    """Writes call records to a stream without ever making the loop wait.

    ``stream`` is standard output or a binary stream; one with a file descriptor is written to
    through that (a stuck buffered stream could not be left behind at exit). ``write`` is called on
    one thread only, and the record must not change afterwards. ``dropped`` counts lines that were
    lost to a full queue or a failing stream.
    """

    __slots__ = (
        "_asleep",
        "_batches",
        "_closing",
        "_encode",
        "_flush_interval_s",
        "_lost",
        "_odd",
        "_overrun",
        "_queue",
        "_queue_max",
        "_release",
        "_send",
        "_taking",
        "_thread",
        "_told",
        "_wake",
        "muted",
    )

    def __init__(
        self,
        stream: TextIO | BinaryIO,
        format: LogFormat = "auto",  # noqa: A002 - the setting's own name
        *,
        flush_interval_s: float = 0.1,
        queue_lines_max: int = _QUEUE_LINES_MAX,
    ) -> None:
        self._queue: deque[CallRecord] = deque(maxlen=queue_lines_max)
        self._queue_max = queue_lines_max
        # Encoded lines and how many they are, oldest first. Who empties the queue holds the lock
        # until it has put a batch here, so that lines stay in their order.
        self._batches: deque[tuple[bytearray, int]] = deque()
        self._taking = threading.Lock()
        self._flush_interval_s = flush_interval_s
        self._encode = pretty_line if is_pretty(format, stream) else json_line
        self._send, self._release = sender(stream)
        self.muted = False
        self._overrun = 0  # written by the loop's thread only
        self._lost = 0  # written by the writer's thread only
        self._odd = 0  # written by who holds the lock
        self._told = 0
        self._asleep = False
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nexus-access-log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines lost so far."""
        return self._overrun + self._lost + self._odd

    @property
    def pending(self) -> int:
        """Lines that are not written yet; those being written at this moment are not among them."""
        return len(self._queue) + sum([count for _, count in list(self._batches)])

    def write(self, record: CallRecord) -> None:
        """Queues one line, unless ``muted``. Never blocks, never raises."""
        if self.muted:
            return
        queue = self._queue
        if len(queue) == self._queue_max:
            self._overrun += 1
        queue.append(record)
        if len(queue) >= _BATCH_LINES_MAX and len(self._batches) < _BATCHES_MAX:
            self._encode_batch(wait=False)
        # The writer says that it sleeps before it looks at the queue for the last time, and we
        # look after appending: one of the two sees the other.
        if self._asleep:
            self._asleep = False
            self._wake.set()

    def close(self, timeout_s: float = 2.0) -> None:
        """Writes out what is queued, for at most ``timeout_s`` seconds, then gives up."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            self._wake.clear()
            self._asleep = True
            if not self._queue and not self._closing.is_set():
                self._wake.wait()
            self._asleep = False
            self._closing.wait(self._flush_interval_s)
            # Taken before the queue is emptied: what was queued before the closing is written.
            closing = self._closing.is_set()
            self._flush()
            if closing:
                self._release()
                return

    def _flush(self) -> None:
        batches = self._batches
        while batches or self._queue:
            if not batches:
                self._encode_batch(wait=True)
                continue
            lines, taken = bytearray(), 0
            dropped = self.dropped
            if dropped != self._told:
                lines += _dropped_line(dropped - self._told)
            while batches:
                batch, count = batches.popleft()
                lines += batch
                taken += count
            try:
                self._send(lines)
                self._told = dropped
            except (OSError, ValueError):  # ValueError: the stream was closed under us
                self._lost += taken

    def _encode_batch(self, *, wait: bool) -> None:
        """Encodes the oldest records of the queue, unless another thread is at it; one that may
        ``wait`` does so."""
        if not self._taking.acquire(blocking=wait):
            return
        try:
            queue = self._queue
            lines, taken = bytearray(), 0
            while queue and taken < _BATCH_LINES_MAX:
                taken += 1
                self._encode_safely(queue.popleft(), lines)
            self._batches.append((lines, taken))
        finally:
            self._taking.release()

    def _encode_safely(self, record: CallRecord, lines: bytearray) -> None:
        try:
            self._encode(record, lines)
        except Exception:  # an odd record costs its own line, never the thread
            self._odd += 1


@lru_cache(maxsize=2)
def _second(whole: int) -> bytes:
    """A second of Unix time in UTC. Lines come in bursts of the same one."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)).encode()


def _timestamp(at_s: float) -> str:
    whole = int(at_s)
    return (b"%b.%03dZ" % (_second(whole), (at_s - whole) * 1000)).decode()


_ENCODER = msgspec.json.Encoder()
_encode = _ENCODER.encode
_encode_into = _ENCODER.encode_into
_COMMA = ord(",")
_HEAD = b'{"timestamp":"%b.%03dZ","level":"info","component":"access","event":"request"'


def json_line(record: CallRecord, lines: bytearray) -> None:
    """Appends one JSON object and a line feed: the record's own fields, after those that every log
    line begins with. JSON's escapes keep it on one line."""
    begun = len(lines)
    at_s = record.at_s
    whole = int(at_s)
    lines += _HEAD % (_second(whole), (at_s - whole) * 1000)
    at = len(lines)
    try:
        _encode_into(record, lines, at)
    except UnicodeEncodeError:  # a lone surrogate, which JSON from clients may carry
        del lines[at:]
        lines += _encode(_without_surrogates(msgspec.to_builtins(record)))
    except BaseException:
        del lines[begun:]
        raise
    lines[at] = _COMMA  # the record's opening brace
    lines += b"\n"


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _without_surrogates(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(inner) for inner in value]
    return value


def pretty_line(record: CallRecord, lines: bytearray) -> None:
    """Appends one line for a person: when, what came of it, which model where, how long."""
    model = record.served_model or record.model
    if record.model and record.model != model:
        model = f"{record.model} → {model}"
    parts = [
        _timestamp(record.at_s)[11:23],
        f"{record.status or '---'}",
        f"{record.outcome.value:<14}",
        record.endpoint,
        model or "-",
        f"@ {record.backend}" if record.backend else "@ -",
        f"{record.duration_ms:.0f} ms",
    ]
    if record.ttft_ms is not None:
        parts.append(f"ttft {record.ttft_ms:.0f} ms")
    if record.prompt_tokens is not None or record.completion_tokens is not None:
        parts.append(f"tokens {_count(record.prompt_tokens)}/{_count(record.completion_tokens)}")
    parts.append(f"bytes {record.bytes_in}/{record.bytes_out}")
    if len(record.attempts) > 1:
        parts.append(f"attempts {len(record.attempts)}")
    if record.reason:
        parts.append(record.reason)
    parts.append(f"id {record.request_id}")
    if record.error:
        parts.append(f"error {record.error}")
    lines += printable("  ".join(parts)).encode("utf-8", "backslashreplace") + b"\n"


def _count(tokens: int | None) -> str:
    return "?" if tokens is None else str(tokens)


def _dropped_line(count: int) -> bytes:
    line = {
        "timestamp": _timestamp(time.time()),
        "level": "warning",
        "component": "access",
        "event": "lines_dropped",
        "dropped": count,
    }
    return _encode(line) + b"\n"
