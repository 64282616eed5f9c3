"""Server-sent events as bytes (WHATWG HTML § 9.2.6, "Interpreting an event stream").

An event ends at a blank line; a line ends with LF, CR or CRLF. A relay needs no more than that: it
passes whole events on exactly as they came and keeps a half one back until its rest arrives.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["EventBuffer", "Payload", "payloads"]

_LINE_END = re.compile(rb"\r\n|\r|\n")


def _boundary(data: bytes) -> int:
    """Where the last whole event in ``data`` ends, or 0.

    Any two line ends in a row contain LF LF, LF CR or CR CR; CR LF alone is one line end.
    """
    cut = data.rfind(b"\n\n") + 2
    if b"\r" in data:
        for pair in (b"\n\r", b"\r\r"):
            at = data.rfind(pair) + 2
            if at > 1:
                if data[at : at + 1] == b"\n":
                    at += 1
                cut = max(cut, at)
    return cut if cut > 1 else 0


class EventBuffer:
    """Cuts a byte stream after whole events, whatever the split of reads.

    An event longer than ``event_bytes_max`` is passed on as it comes (``overflowed`` is set): half
    an event is never sent except then.
    """

    __slots__ = ("_max", "_size", "_tail", "held", "overflowed")

    def __init__(self, event_bytes_max: int = 1024 * 1024) -> None:
        self._max = event_bytes_max
        self.held: list[bytes] = []
        """What is kept back, the beginning of an event, in the parts it came in."""
        self._size = 0
        self._tail = b""
        self.overflowed = False

    def feed(self, data: bytes) -> bytes:
        """Takes a read; returns every byte up to the end of the last whole event."""
        if not self.held:
            if data.endswith(b"\n\n"):
                return data  # whole events, as nearly every read of a stream
            cut = _boundary(data)
            if cut == len(data):
                return data
            if cut:
                self._keep(data[cut:])
                return data[:cut]
        else:
            # A boundary may begin in what is kept: two bytes of it are enough to see that.
            tail = self._tail
            cut = _boundary(tail + data) - len(tail)
            if cut > 0:
                self.held.append(data[:cut])
                whole = b"".join(self.held)
                self._drop()
                if cut < len(data):
                    self._keep(data[cut:])
                return whole
        self._keep(data)
        if self._size > self._max:
            self.overflowed = True
            return self.take_rest()
        return b""

    @property
    def rest(self) -> bytes:
        """What is kept back: the beginning of an event."""
        return b"".join(self.held)

    def take_rest(self) -> bytes:
        """Returns what is kept back and keeps it no longer."""
        rest = self.rest
        self._drop()
        return rest

    def _keep(self, data: bytes) -> None:
        self.held.append(data)
        self._size += len(data)
        self._tail = data[-2:] if len(data) > 1 else (self._tail + data)[-2:]

    def _drop(self) -> None:
        self.held = []
        self._size = 0
        self._tail = b""


class Payload(NamedTuple):
    """One event that carries data: its ``event`` name and its ``data``, lines joined with LF."""

    event: bytes
    data: bytes


def payloads(block: bytes) -> list[Payload]:
    """The events of a block of whole events that carry data; comments carry none."""
    found: list[Payload] = []
    event = b""
    lines: list[bytes] = []
    for line in _LINE_END.split(block):
        if not line:
            if lines:
                found.append(Payload(event, b"\n".join(lines)))
                lines = []
            event = b""
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            lines.append(value)
        elif field == b"event":
            event = value
    if lines:
        found.append(Payload(event, b"\n".join(lines)))
    return found
