"""One request as the server read it."""

from __future__ import annotations

import re

from nexus.http1.headers import Headers
from nexus.http1.known_head import KnownHead

__all__ = ["HeadMemo", "Request", "kept_id"]

_ID = re.compile(rb"[\x21-\x7e]{1,200}")


def kept_id(value: bytes | None) -> str | None:
    """A client's request id, if it may stand in a header and in a log line: up to 200 characters
    of visible ASCII."""
    return value.decode() if value is not None and _ID.fullmatch(value) else None


class HeadMemo:
    """A head that was checked before, kept by its connection: clients send the same one again and
    again, their Content-Length apart. ``headers`` are its fields without that one; ``raw`` are its
    bytes, once they are known; ``reading`` is what the service made of its fields."""

    __slots__ = (
        "_after",
        "_before",
        "headers",
        "http10",
        "keep_alive",
        "length_at",
        "method",
        "path",
        "query",
        "raw",
        "reading",
        "target",
        "version",
    )

    def __init__(
        self, request: Request, target: bytes, version: str, length_at: int | None
    ) -> None:
        headers = request.headers
        self.method = request.method
        self.target = target
        self.version = version
        self.path = request.path
        self.query = request.query
        self.http10 = request.http10
        self.keep_alive = request.keep_alive
        self.length_at = length_at
        self._before = headers if length_at is None else headers[:length_at]
        self._after: Headers = [] if length_at is None else headers[length_at + 1 :]
        self.headers = self._before + self._after
        self.reading: object = None
        self.raw: KnownHead | None = None

    def matches(self, headers: Headers) -> bool:
        """Whether ``headers`` are the same fields but for the value of Content-Length."""
        at = self.length_at
        if at is None:
            return headers == self._before
        return (
            len(headers) == at + 1 + len(self._after)
            and headers[at][0] == b"content-length"
            and headers[:at] == self._before
            and headers[at + 1 :] == self._after
        )


class Request:
    """A request, whole: head and body.

    ``path`` and ``query`` are the origin-form target, split at the first ``?``. ``headers`` have
    lower-case names; Content-Length is not among them once the body is there, and the same list may
    come again with the next request: it is never to be changed. ``held_bytes`` is what its body
    takes of the body budget; who takes the request over gives it back. ``peer`` is the client's
    address, ``None`` on a Unix socket.
    """

    # No __slots__: what most requests do not say stands here once (docs/decisions/0008).
    body = b""
    held_bytes = 0
    http10 = False
    keep_alive = True
    peer: str | None = None
    memo: HeadMemo | None = None

    def __init__(self, method: bytes, path: bytes, query: bytes, headers: Headers) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers

    def header(self, name: bytes) -> bytes | None:
        """The value of the first field of this (lower-case) name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def kept_id(self) -> str | None:
        """The client's ``X-Request-Id``, if it may be kept."""
        return kept_id(self.header(b"x-request-id"))
