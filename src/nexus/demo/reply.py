"""Answers before they are bytes, and how they become HTTP/1.1 (RFC 9112)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus

import msgspec

__all__ = ["EVENT", "HeadStyle", "Plain", "Reply", "Step", "Stop", "Stream", "Wire"]

EVENT = b"data: %b\n\n"
"""One server-sent event."""


class Plain(msgspec.Struct, kw_only=True):
    """An answer of one piece. ``tokens`` says how long it takes to make; ``close`` ends the
    connection after it."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    tokens: int = 0
    close: bool = False
    bodiless: bool = False


class Stream(msgspec.Struct, kw_only=True):
    """An answer of events, each with its own blank line or newline at the end.

    ``events`` are paced by the engine's speed; ``tail`` (finish, usage) and ``done`` (``[DONE]``)
    follow at once. ``head_first`` sends the response head before the first token is there, and so
    does ``opening``, a comment that goes with it.
    """

    events: Iterable[bytes]
    tail: tuple[bytes, ...] = ()
    done: bytes = b""
    content_type: str = "text/event-stream"
    headers: tuple[tuple[str, str], ...] = ()
    head_first: bool = False
    opening: bytes = b""


Reply = Plain | Stream


class Stop(Enum):
    """How the playing of an answer ends."""

    DONE = "done"
    """The answer is whole; the connection stays if the client wants it."""
    DONE_CLOSE = "done_close"
    CLOSE = "close"
    RESET = "reset"
    STALL = "stall"


Step = bytes | float | Stop
"""To write, to wait (seconds; 0.0: for the next turn of the loop), or to end."""


class HeadStyle(msgspec.Struct, frozen=True):
    """How an engine writes its response head: lines of its own, the case of names."""

    own: str = ""
    kept: str = ""
    """Lines only of answers that keep the connection."""
    lower: bool = False
    dated: bool = True


_reasons = {status.value: status.phrase for status in HTTPStatus}
_date_line: tuple[int, str] = (0, "")


def _date() -> str:
    global _date_line
    second = int(time.time())
    if second != _date_line[0]:
        _date_line = (second, formatdate(second, usegmt=True))
    return _date_line[1]


class Wire(msgspec.Struct):
    """One exchange's framing. ``framed`` False: bodies end with the connection (HTTP/1.0)."""

    style: HeadStyle
    keep: bool = True
    framed: bool = True
    version: str = "HTTP/1.1"

    def head(
        self,
        status: int,
        content_type: str,
        length: int | None,
        headers: Iterable[tuple[str, str]] = (),
        *,
        close: bool = False,
    ) -> bytes:
        """The response head; ``length`` ``None`` means chunked where the framing allows it."""
        style = self.style
        lines = f"{self.version} {status} {_reasons.get(status, 'Unknown')}\r\n{style.own}"
        fields = f"Content-Type: {content_type}\r\n" if content_type else ""
        if style.dated:
            fields += f"Date: {_date()}\r\n"
        if length is not None:
            fields += f"Content-Length: {length}\r\n"
        elif self.framed:
            fields += "Transfer-Encoding: chunked\r\n"
        if close or not self.keep:
            fields += "Connection: close\r\n"
        elif style.kept:
            fields += style.kept
        if style.lower:
            names = (line.partition(":") for line in fields.splitlines())
            fields = "".join(f"{name.lower()}:{value}\r\n" for name, _, value in names)
        for name, value in headers:
            fields += f"{name}: {value}\r\n"
        return f"{lines}{fields}\r\n".encode("latin-1")

    def plain(self, reply: Plain) -> bytes:
        """The whole of a plain answer, with its length."""
        close = reply.close or not self.framed
        head = self.head(
            reply.status, reply.content_type, len(reply.body), reply.headers, close=close
        )
        return head if reply.bodiless else head + reply.body

    def frame(self, data: bytes) -> bytes:
        """``data`` as one chunk."""
        return b"%x\r\n%b\r\n" % (len(data), data) if self.framed else data

    @property
    def end(self) -> bytes:
        """The terminal chunk."""
        return b"0\r\n\r\n" if self.framed else b""

    @property
    def stop(self) -> Stop:
        """The end of a whole stream."""
        return Stop.DONE if self.framed and self.keep else Stop.DONE_CLOSE
