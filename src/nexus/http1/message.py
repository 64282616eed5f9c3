"""One request as the server read it."""

from __future__ import annotations

from nexus.http1.headers import Headers

__all__ = ["Request"]


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

    def header(self, name: bytes) -> bytes | None:
        """The value of the first field of this (lower-case) name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None
