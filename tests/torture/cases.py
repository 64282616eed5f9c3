"""What a case is: hostile or odd bytes of a client, and what becomes of them.

``Refused``: an error of ours with this status, then the connection is closed, and no backend hears
of it. ``Answered``: read in one way only; the next request on the connection begins where this one
ends, or the connection is closed and says so.
"""

from __future__ import annotations

import msgspec

from tests.torture.stage import BODY, POST, chunked, get, head, post

__all__ = [
    "CHUNKED",
    "GET_TWIN",
    "LENGTH",
    "LONG",
    "NUMBER",
    "PAGE",
    "SECRET",
    "Answered",
    "Case",
    "Refused",
    "coded",
    "fields",
    "lengthy",
    "line",
]


class Refused(msgspec.Struct, frozen=True):
    """An error of ours, then the end."""

    status: int = 400


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """An answer; ``body`` is what a backend was asked with, ``None`` for a page of ours."""

    status: int = 200
    body: bytes | None = BODY
    closes: bool = False
    continues: int = 0
    """How many 100 come before it."""
    headless: bool = False
    """The answer to a HEAD: without its body."""


class Case(msgspec.Struct, frozen=True):
    """``data`` on the wire; ``rule`` is where it is said; ``twin`` the well-formed request whose
    head is the most like it."""

    data: bytes
    outcome: Refused | Answered
    rule: str
    twin: bytes = post()


NUMBER = b"%d" % len(BODY)
LENGTH = b"Content-Length: " + NUMBER
CHUNKED = b"Transfer-Encoding: chunked"
CODED = chunked(BODY)
LONG = BODY + b" " * (0xFC - len(BODY))
"""Its size has letters in it."""
SECRET = b"GET /smuggled HTTP/1.1\r\nHost: gateway.test\r\n\r\n"
"""What an attacker hopes that somebody takes for a request of its own."""
PAGE = Answered(body=None)
GET_TWIN = get()


def coded(*fields: bytes, body: bytes = CODED) -> bytes:
    """A call in chunks with these header lines."""
    return head(POST, *fields) + body


def lengthy(value: bytes, body: bytes = BODY) -> bytes:
    """A call whose Content-Length field has these bytes behind its colon."""
    return head(POST, b"Content-Length:" + value) + body


def line(start: bytes, *, host: bool = True) -> bytes:
    """A bodiless request with this request line."""
    return head(start, host=host)


def fields(*lines: bytes) -> bytes:
    """A call with further header lines behind its length."""
    return head(POST, LENGTH, *lines) + BODY
