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
    again, their Content-Length apart. ``raw`` are its bytes, once they are known; ``reading`` is
    what the service made of its fields."""

    __slots__ = (
        "after",
        "before",
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
        self.before = headers if length_at is None else headers[:length_at]
        self.after: Headers = [] if length_at is None else headers[length_at + 1 :]
        self.reading: object = None
        self.raw: KnownHead | None = None

    def repeated(self, data: bytes) -> tuple[Headers, bytes] | None:
        """Fields and body of ``data`` when it is this head again with its body and nothing else;
        ``None`` when the parser must look."""
        found = None if self.raw is None else self.raw.body_of(data)
        if found is None:
            return None
        digits, body = found
        if self.length_at is None:
            return self.before, body
        return [*self.before, (b"content-length", digits), *self.after], body

    def matches(self, headers: Headers) -> bool:
        """Whether ``headers`` are the same fields but for the value of Content-Length."""
        at = self.length_at
        if at is None:
            return headers == self.before
        return (
            len(headers) == at + 1 + len(self.after)
            and headers[at][0] == b"content-length"
            and headers[:at] == self.before
            and headers[at + 1 :] == self.after
        )


class Request:
    """A request, whole: head and body.

    ``path`` and ``query`` are the origin-form target, split at the first ``?``. ``headers`` have
    lower-case names. ``held_bytes`` is what its body takes of the body budget; who takes the
    request over gives it back. ``peer`` is the client's address, ``None`` on a Unix socket.
    """

    __slots__ = (
        "body",
        "headers",
        "held_bytes",
        "http10",
        "keep_alive",
        "memo",
        "method",
        "path",
        "peer",
        "query",
    )

    def __init__(self, method: bytes, path: bytes, query: bytes, headers: Headers) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = b""
        self.held_bytes = 0
        self.http10 = False
        self.keep_alive = True
        self.peer: str | None = None
        self.memo: HeadMemo | None = None

    def header(self, name: bytes) -> bytes | None:
        """The value of the first field of this (lower-case) name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def kept_id(self) -> str | None:
        """The client's ``X-Request-Id``, if it may be kept."""
        return kept_id(self.header(b"x-request-id"))
