"""A connection to a backend without a socket: bytes in, what the asker was told out."""

from __future__ import annotations

from typing import Any

from nexus.core.errors import AttemptFailure
from nexus.http1.chunk import size_line
from nexus.http1.headers import Headers
from nexus.http1.upstream import AnswerMemo, UpstreamConnection

__all__ = ["Call", "Owner", "Taker", "Wire", "one_chunk", "told_of"]


class Wire:
    """As much of a transport as an upstream connection uses; ``closing`` once it was ended."""

    def __init__(self) -> None:
        self.closing = False

    def write(self, data: bytes) -> None: ...
    def set_write_buffer_limits(self, **_: int) -> None: ...
    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True

    def close(self) -> None:
        self.closing = True


class Owner:
    """The pool, counting what is given back and what is lost."""

    def __init__(self) -> None:
        self.answers = AnswerMemo()
        self.free = 0
        self.gone = 0

    def released(self, connection: UpstreamConnection) -> None:
        self.free += 1

    def lost(self, connection: UpstreamConnection) -> None:
        self.gone += 1


class Call:
    """Who asked, and what it was told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.connection: UpstreamConnection | None = None

    def on_head(self, status: int, headers: Headers) -> None:
        assert self.connection is not None
        self.told.append((status, list(headers), self.connection.length))

    def on_body(self, data: bytes) -> None:
        self.told.append(data)

    def on_end(self) -> None:
        self.told.append("end")

    def on_failure(self, failure: AttemptFailure, *, stale: bool) -> None:
        self.told.append((failure.kind, failure.message, stale))

    def on_crash(self, error: BaseException) -> None:
        raise error


def one_chunk(read: bytes) -> bytes | None:
    """The body of a read that is exactly one chunk."""
    start, size = size_line(len(read))
    if size and read.startswith(start) and read.endswith(b"\r\n"):
        return read[len(start) : -2]
    return None


class Taker(Call):
    """One who takes chunks before the parser, every one of ``every``; none if that is 0."""

    def __init__(self, every: int = 1) -> None:
        super().__init__()
        self._every = every
        self._chunks = 0

    def on_head(self, status: int, headers: Headers) -> None:
        super().on_head(status, headers)
        assert self.connection is not None
        self.connection.chunk_taker = self.take if self._every else None

    def take(self, read: bytes) -> bool:
        body = one_chunk(read)
        if body is None:
            return False
        self._chunks += 1
        if self._chunks % self._every:
            return False
        self.on_body(body)
        return True


def told_of(answers: list[bytes]) -> tuple[Any, ...]:
    """What calls one after the other on one connection are told, while it can serve."""
    owner = Owner()
    connection = UpstreamConnection(owner)
    connection.connection_made(Wire())  # type: ignore[arg-type]
    told = []
    for answer in answers:
        if not connection.usable:
            break
        call = Call()
        call.connection = connection
        connection.start(call, b"", b"")
        if answer:
            connection.data_received(answer)
        told.append(call.told)
    connection.connection_lost(None)
    return told, owner.free, owner.gone > 0
