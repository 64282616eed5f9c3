"""The bytes of a head that was parsed before: peers send the same one again and again, the digits
of its Content-Length apart. What begins with them needs no parser to be read the same way."""

from __future__ import annotations

import re

__all__ = ["KnownHead"]

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})\r\n", re.IGNORECASE)


class KnownHead:
    """``before`` and ``after`` the digits of Content-Length, the empty line included; without that
    field ``after`` is empty, and so is the body."""

    __slots__ = ("_digits", "_fixed", "after", "before")

    def __init__(self, before: bytes, after: bytes) -> None:
        self.before = before
        self.after = after
        self._fixed = len(before) + len(after)
        self._digits = 1
        """How many digits the length had last."""

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
        """Length (its digits, no zeros before them) and body of ``data`` when it is this head again
        with its whole body and nothing else; ``None`` when the parser must look."""
        if not self.after:
            return (b"", b"") if data == self.before else None
        # What the length must be if all else is as it was: then the bytes have to say so.
        rest = len(data) - self._fixed
        digits = b"%d" % (rest - self._digits)
        if len(digits) != self._digits:
            digits = self._digits_in(rest)
        if not digits.isdigit():  # there is no such length, or it would be less than 0
            return None
        head = self.before + digits + self.after
        return (digits, data[len(head) :]) if data.startswith(head) else None

    def _digits_in(self, rest: int) -> bytes:
        """The length that takes ``rest`` bytes together with its own digits; empty if none does."""
        count = len(b"%d" % rest)
        if len(b"%d" % (rest - count)) < count:
            count -= 1
        digits = b"%d" % (rest - count)
        if count < 1 or len(digits) != count:
            return b""
        self._digits = count
        return digits
