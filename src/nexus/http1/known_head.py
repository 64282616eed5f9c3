"""The bytes of a head that was parsed before: peers send the same one again and again, the digits
of its Content-Length apart. What begins with them needs no parser to be read the same way."""

from __future__ import annotations

import re

__all__ = ["KnownHead"]

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})\r\n", re.IGNORECASE)
_DIGITS_MAX = 18


class KnownHead:
    """``before`` and ``after`` the digits of Content-Length, the empty line included; without that
    field ``after`` is empty, and so is the body."""

    __slots__ = ("after", "before")

    def __init__(self, before: bytes, after: bytes) -> None:
        self.before = before
        self.after = after

    @classmethod
    def of(cls, data: bytes, body_bytes: int, begins: bytes) -> KnownHead | None:
        """The head of ``data``: a read that a parser found to be one message whose body has
        ``body_bytes``, and nothing else. Its first line begins with ``begins``. ``None`` when its
        bytes are not that plain (an empty line before it, bare line feeds, no Content-Length)."""
        end = data.find(b"\r\n\r\n") + 4
        if len(data) != end + body_bytes or not data.startswith(begins):
            return None
        spans = [match.span(1) for match in _LENGTH.finditer(data, 0, end)]
        if len(spans) == 1:
            start, stop = spans[0]
            return cls(data[:start], data[stop:end])
        return cls(data[:end], b"") if not spans and not body_bytes else None

    def body_of(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Length (its digits) and body of ``data`` when it is this head again with its whole body
        and nothing else; ``None`` when the parser must look."""
        before, after = self.before, self.after
        if not data.startswith(before):
            return None
        at = len(before)
        if not after:
            return (b"", b"") if len(data) == at else None
        stop = data.find(b"\r", at, at + _DIGITS_MAX + 1)
        digits = data[at:stop]
        if stop < 0 or not digits.isdigit() or not data.startswith(after, stop):
            return None
        body = data[stop + len(after) :]
        return (digits, body) if len(body) == int(digits) else None
