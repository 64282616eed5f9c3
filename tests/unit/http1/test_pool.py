"""The connections to one backend: reuse, limits, failures, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from nexus.core.backend import parse_backend_url
from nexus.core.errors import AttemptFailure, FailureKind
from nexus.http1.fetch import Fetched, fetch
from nexus.http1.headers import Headers
from nexus.http1.pool import Pool, connect_failure
from nexus.http1.upstream import UpstreamConnection
from tests.harness import eventually

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HEAD = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


class Backend:
    """A server that answers every request with ``answer``."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.port = 0
        self.open: set[asyncio.StreamWriter] = set()
        self.accepted = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.accepted += 1
        self.open.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self.answer)
        self.open.discard(writer)
        writer.close()


@contextlib.asynccontextmanager
async def backend(answer: bytes = OK) -> AsyncIterator[Backend]:
    """A running one."""
    one = Backend(answer)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        for writer in list(one.open):
            writer.close()
        await eventually(lambda: not one.open, "the backend's connections ended")


def pool_of(port: int, *, idle_max: int = 64, idle_s: float = 4.0) -> Pool:
    """A pool to this port."""
    address = parse_backend_url(f"http://127.0.0.1:{port}")
    return Pool(asyncio.get_running_loop(), address, idle_max=idle_max, idle_s=idle_s)


class Call:
    """Whoever asks: keeps what it is told."""

    def __init__(self) -> None:
        self.connection: UpstreamConnection | None = None
        self.failure: AttemptFailure | None = None
        self.stale = False
        self.body = b""
        self.ended = False
        self.crash: BaseException | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.ended or self.failure is not None or self.crash is not None

    def on_connected(self, connection: UpstreamConnection) -> None:
        """Asks."""
        self.connection = connection
        connection.start(self, HEAD, b"")

    def on_connect_failed(self, failure: AttemptFailure) -> None:
        """No connection."""
        self.failure = failure

    def on_head(self, status: int, headers: Headers) -> None:
        """A head."""

    def on_body(self, data: bytes) -> None:
        """A part."""
        self.body += data

    def on_end(self) -> None:
        """Whole."""
        self.ended = True

    def on_failure(self, failure: AttemptFailure, *, stale: bool) -> None:
        """Broken."""
        self.failure, self.stale = failure, stale

    def on_crash(self, error: BaseException) -> None:
        """A fault."""
        self.crash = error


async def ask(pool: Pool) -> Call:
    """One call on a pooled connection, or a new one; until it is over."""
    call = Call()
    connection = pool.take()
    if connection is None:
        pool.dial(call)
    else:
        call.on_connected(connection)
    await eventually(lambda: call.over, "the call is over")
    return call


async def test_a_connection_is_used_again() -> None:
    """Calls one after the other share one connection."""
    async with backend() as one:
        pool = pool_of(one.port)
        for _ in range(5):
            assert (await ask(pool)).body == b"ok"
        assert (pool.opened_total, pool.open, pool.idle) == (1, 1, 1)
        pool.close()
        await eventually(lambda: pool.open == 0, "closed")


async def test_the_last_used_is_taken_first() -> None:
    """Last in, first out: the others may grow old and close."""
    async with backend() as one:
        pool = pool_of(one.port)
        calls = [Call() for _ in range(3)]
        for call in calls:
            pool.dial(call)
        await eventually(lambda: all(call.over for call in calls) and pool.idle == 3, "all idle")
        last = list(pool._idle)[-1]
        assert pool.take() is last
        last.close()
        pool.close()


async def test_idle_connections_are_bounded() -> None:
    """No more than ``idle_max`` stay."""
    async with backend() as one:
        pool = pool_of(one.port, idle_max=2)
        calls = [Call() for _ in range(5)]
        for call in calls:
            pool.dial(call)
        await eventually(lambda: all(call.over for call in calls), "all answered")
        await eventually(lambda: pool.open == 2, "three were closed")
        assert pool.idle == 2
        pool.close()


async def test_idle_connections_grow_old() -> None:
    """A connection that nobody uses closes after ``idle_s``."""
    async with backend() as one:
        pool = pool_of(one.port, idle_s=0.05)
        await ask(pool)
        assert pool.idle == 1
        await eventually(lambda: pool.idle == 0 and pool.open == 0, "it closed")
        pool.close()


async def test_the_backend_may_ask_for_less() -> None:
    """``Keep-Alive: timeout`` shortens the idle time to a second less, half a second at least."""
    answer = OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=3, max=9\r\n\r\n")
    async with backend(answer) as one:
        pool = pool_of(one.port, idle_s=60.0)
        await ask(pool)
        [until_s] = pool._idle.values()
        assert 1.0 < until_s - monotonic() <= 2.0
        pool.close()


async def test_a_connection_the_backend_closed_is_not_taken() -> None:
    """A FIN on an idle connection removes it."""
    async with backend() as one:
        pool = pool_of(one.port)
        await ask(pool)
        for writer in list(one.open):
            writer.close()
        await eventually(lambda: pool.idle == 0, "it was removed")
        assert pool.take() is None
        assert (await ask(pool)).body == b"ok"
        assert pool.opened_total == 2
        pool.close()


async def test_unasked_bytes_end_an_idle_connection() -> None:
    """Bytes that nobody asked for never become the next call's answer."""
    async with backend() as one:
        pool = pool_of(one.port)
        await ask(pool)
        for writer in one.open:
            writer.write(OK)
        await eventually(lambda: pool.idle == 0, "it was removed")
        assert (await ask(pool)).body == b"ok"
        assert pool.opened_total == 2
        pool.close()


NOT_KEPT = {
    "close": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    "http-1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "surplus": OK + b"HTTP/1.1 200 OK\r\n",
    "second-answer": OK + OK,
    "204-with-length": b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("answer", NOT_KEPT.values(), ids=NOT_KEPT)
async def test_connections_that_are_not_kept(answer: bytes) -> None:
    """Where the framing leaves a doubt, the connection does not serve again."""
    async with backend(answer) as one:
        pool = pool_of(one.port)
        call = await ask(pool)
        assert call.ended
        assert pool.idle == 0
        await eventually(lambda: pool.open == 0, "closed")
        pool.close()


async def test_a_refused_connection() -> None:
    """It fails at once, and says so."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        pool = pool_of(unused.getsockname()[1])
        call = await ask(pool)
    assert call.failure is not None
    assert call.failure.kind is FailureKind.CONNECT
    assert call.failure.message == "connection refused"
    pool.close()


async def test_a_connection_closed_at_once() -> None:
    """A backend that accepts and closes is a failure of the call, not an answer."""

    async def slam(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(slam, "127.0.0.1", 0) as server:
        pool = pool_of(server.sockets[0].getsockname()[1])
        call = await ask(pool)
        assert call.failure is not None
        assert not call.stale
        pool.close()


async def test_a_cancelled_dial_joins_the_idle() -> None:
    """Nobody waits any more: the connection that is made then serves the next."""
    async with backend() as one:
        pool = pool_of(one.port)
        call = Call()
        pool.dial(call).cancel()
        await eventually(lambda: pool.idle == 1, "it is idle")
        assert call.connection is None
        assert (await ask(pool)).body == b"ok"
        assert pool.opened_total == 1
        pool.close()


async def test_close_ends_calls_and_dials() -> None:
    """After ``close`` nothing is open and nobody is told any more."""
    async with backend(b"") as one:
        pool = pool_of(one.port)
        waiting, dialling = Call(), Call()
        pool.dial(waiting)
        await eventually(lambda: waiting.connection, "asked")
        pool.dial(dialling)
        pool.close()
        await eventually(lambda: pool.open == 0, "closed")
        assert not waiting.over
        assert not dialling.over


async def test_a_fault_in_the_caller_is_its_own() -> None:
    """A callback that raises is told of its own fault, and its connection is discarded."""

    class Clumsy(Call):
        def on_body(self, data: bytes) -> None:
            raise ValueError("a fault")

    async with backend() as one:
        pool = pool_of(one.port)
        call = Clumsy()
        pool.dial(call)
        await eventually(lambda: call.crash, "told")
        assert str(call.crash) == "a fault"
        await eventually(lambda: pool.open == 0, "discarded")
        pool.close()


async def test_an_address_is_dialled_within_its_time() -> None:
    """A backend whose queue is full is given up after ``connect_timeout_s``."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        blockers = [socket.socket() for _ in range(8)]
        for blocker in blockers:
            blocker.setblocking(False)
            blocker.connect_ex(address)
        pool = pool_of(address[1])
        pool.connect_timeout_s = 0.1
        call = await ask(pool)
        for blocker in blockers:
            blocker.close()
    assert call.failure is not None
    assert call.failure.message == "no connection within 0.1 s"
    pool.close()


def wrong_version() -> ssl.SSLError:
    """What a TLS client says to a server that speaks plain HTTP."""
    error = ssl.SSLError(1, "wrong version number")
    error.reason = "WRONG_VERSION_NUMBER"
    return error


FAILURES: list[tuple[BaseException, FailureKind, str]] = [
    (TimeoutError(), FailureKind.CONNECT, "no connection within 5 s"),
    (ConnectionRefusedError(), FailureKind.CONNECT, "connection refused"),
    (socket.gaierror(-2, "?"), FailureKind.CONNECT, "host name cannot be resolved"),
    (UnicodeError("label too long"), FailureKind.CONNECT, "host name cannot be resolved"),
    (OSError(errno.EMFILE, "?"), FailureKind.OURS, "the gateway ran out of a resource (EMFILE)"),
    (OSError(errno.EADDRNOTAVAIL, "?"), FailureKind.OURS, "(EADDRNOTAVAIL)"),
    (OSError(errno.EHOSTUNREACH, "No route"), FailureKind.CONNECT, "cannot connect (No route)"),
    (ssl.SSLError(1, "tls_ca x cannot be used"), FailureKind.CONNECT, "TLS failed: tls_ca x"),
    (wrong_version(), FailureKind.CONNECT, "TLS failed: WRONG_VERSION_NUMBER"),
    (TimeoutError(errno.ETIMEDOUT, "timed out"), FailureKind.CONNECT, "cannot connect (timed out)"),
    (ValueError("x"), FailureKind.CONNECT, "cannot connect (ValueError)"),
]


@pytest.mark.parametrize(("error", "kind", "words"), FAILURES, ids=lambda value: str(value)[:30])
def test_connect_failures(error: BaseException, kind: FailureKind, words: str) -> None:
    """Each says in words what happened, and our own shortages are never the backend's fault."""
    failure = connect_failure(error, 5.0)
    assert failure.kind is kind
    assert words in failure.message
    assert failure.against_backend is (kind is not FailureKind.OURS)


# --- fetch --------------------------------------------------------------------------------------


async def fetched(pool: Pool, **limits: float) -> Fetched:
    """A whole answer."""
    timeout_s = limits.get("timeout_s", 5.0)
    size = int(limits.get("body_bytes_max", 1000))
    return await fetch(pool, HEAD, b"", timeout_s=timeout_s, body_bytes_max=size)


async def test_fetch() -> None:
    """A whole answer as a value, on a fresh connection each time."""
    async with backend() as one:
        pool = pool_of(one.port)
        for turn in (1, 2):
            answer = await fetched(pool)
            assert (answer.status, answer.body) == (200, b"ok")
            assert pool.opened_total == turn
        pool.close()


async def test_fetch_is_bounded_in_time() -> None:
    """No answer in time is a failure, and the connection goes."""
    async with backend(b"") as one:
        pool = pool_of(one.port)
        with pytest.raises(AttemptFailure, match=r"no answer within 0\.05 s"):
            await fetched(pool, timeout_s=0.05)
        await eventually(lambda: pool.open == 0, "closed")
        pool.close()


async def test_fetch_is_bounded_in_bytes() -> None:
    """An answer that is too large is a failure, and the connection goes."""
    async with backend() as one:
        pool = pool_of(one.port)
        with pytest.raises(AttemptFailure, match="larger than 1 bytes"):
            await fetched(pool, body_bytes_max=1)
        await eventually(lambda: pool.open == 0, "closed")
        pool.close()


@pytest.mark.parametrize("field", [b"Proxy-Connection: close", b"Connection: close"])
async def test_a_connection_said_to_close_is_not_used_again(field: bytes) -> None:
    """However a backend spells it: its parser would take the next answer for stray bytes."""
    async with backend(OK.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n\r\n")) as one:
        pool = pool_of(one.port)
        for _ in range(2):
            assert (await ask(pool)).body == b"ok"
        assert one.accepted == 2
        pool.close()
