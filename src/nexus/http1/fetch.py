"""One whole request as a coroutine, for the control plane: bounded in bytes and time."""

from __future__ import annotations

import asyncio

import msgspec

from nexus.core.errors import AttemptFailure, FailureKind
from nexus.http1.headers import Headers
from nexus.http1.pool import Pool
from nexus.http1.upstream import UpstreamConnection

__all__ = ["Fetched", "fetch"]


class Fetched(msgspec.Struct, frozen=True):
    """A whole answer; header names are lower case."""

    status: int
    headers: Headers
    body: bytes


async def fetch(
    pool: Pool, head: bytes, body: bytes, *, timeout_s: float, body_bytes_max: int
) -> Fetched:
    """Sends ``head`` + ``body`` on a fresh connection of the pool and returns the answer.

    Raises :class:`~nexus.core.errors.AttemptFailure`: no connection, no whole answer within
    ``timeout_s``, or a body over ``body_bytes_max``. A fresh connection, since a probe is to tell
    whether the backend takes connections.
    """
    call = _Fetch(head, body, body_bytes_max)
    dial = pool.dial(call)
    try:
        async with asyncio.timeout(timeout_s):
            return await call.done
    except TimeoutError:
        raise AttemptFailure(FailureKind.TIMEOUT, f"no answer within {timeout_s:.3g} s") from None
    finally:
        dial.cancel()
        call.abandon()


class _Fetch:
    __slots__ = (
        "_body",
        "_connection",
        "_head",
        "_headers",
        "_max",
        "_parts",
        "_size",
        "_status",
        "done",
    )

    def __init__(self, head: bytes, body: bytes, body_bytes_max: int) -> None:
        self.done: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()
        self._head = head
        self._body = body
        self._max = body_bytes_max
        self._connection: UpstreamConnection | None = None
        self._status = 0
        self._headers: Headers = []
        self._parts: list[bytes] = []
        self._size = 0

    def abandon(self) -> None:
        connection = self._connection
        self._connection = None
        if connection is not None:
            connection.discard()

    def on_connected(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        connection.start(self, self._head, self._body)

    def on_connect_failed(self, failure: AttemptFailure) -> None:
        self._fail(failure)

    def on_head(self, status: int, headers: Headers) -> None:
        self._status = status
        self._headers = headers

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._max:
            self.abandon()
            self._fail(
                AttemptFailure(FailureKind.INVALID, f"answer is larger than {self._max} bytes")
            )
        else:
            self._parts.append(data)

    def on_end(self) -> None:
        self._connection = None
        if not self.done.done():
            self.done.set_result(Fetched(self._status, self._headers, b"".join(self._parts)))

    def on_failure(self, failure: AttemptFailure, *, stale: bool) -> None:
        self._connection = None
        self._fail(failure)

    def on_crash(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def _fail(self, failure: AttemptFailure) -> None:
        if not self.done.done():
            self.done.set_exception(failure)
