"""What an asker is told of an answer, read by read."""

from __future__ import annotations

from nexus.http1.upstream import UpstreamConnection
from tests.unit.http1.asked import Call, Owner, Wire

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"5\r\nhello\r\n"


def asked(*reads: bytes) -> tuple[list[object], Owner]:
    """What is told of an answer that comes in these reads, the connection open."""
    owner = Owner()
    connection = UpstreamConnection(owner)
    connection.connection_made(Wire())  # type: ignore[arg-type]
    call = Call()
    call.connection = connection
    connection.start(call, b"", b"")
    for read in reads:
        connection.data_received(read)
    return call.told, owner


def test_what_came_whole_before_a_fault_is_told() -> None:
    """A fault in a later read does not take with it the body that stood before it."""
    told, owner = asked(HEAD + CHUNK, CHUNK + b"zz\r\n")
    assert told[:3] == [(200, [(b"transfer-encoding", b"chunked")], None), b"hello", b"hello"]
    assert "Invalid backend response" in str(told[3])
    assert (len(told), owner.free, owner.gone) == (4, 0, 1)


def test_a_fault_in_the_read_of_the_head_takes_all_of_it() -> None:
    """Nothing of it was sent on yet: the attempt failed, another backend may answer."""
    told, _ = asked(HEAD + CHUNK + b"zz\r\n")
    assert [type(one) for one in told] == [tuple, tuple]
    assert "Invalid backend response" in str(told[1])


def test_framing_without_a_body_is_bounded() -> None:
    """A trailer, an extension or a size without end is refused after 128 KiB; the same amount
    between bytes of a body is none of it."""
    for start, filler in ((b"0\r\nx: ", b"a"), (b"5;", b"a"), (b"", b"0")):
        told, owner = asked(HEAD + CHUNK + start, *[filler * 32 * 1024] * 5)
        assert "framing without a body" in str(told[-1])
        assert owner.gone == 1
    told, owner = asked(HEAD, *[CHUNK + b"0" * 30_000, b"1\r\na\r\n"] * 20, b"0\r\n\r\n")
    assert (told[-1], owner.free) == ("end", 1)


def test_a_fault_at_the_end_of_an_answer_is_not_the_next_calls() -> None:
    """Whoever took the connection meanwhile keeps it, and gets its answer."""
    connection = UpstreamConnection(Owner())
    connection.connection_made(Wire())  # type: ignore[arg-type]
    later = Call()
    later.connection = connection
    faults: list[BaseException] = []

    class Clumsy(Call):
        def on_end(self) -> None:
            connection.start(later, b"", b"")
            raise ValueError("a fault")

        def on_crash(self, error: BaseException) -> None:
            faults.append(error)

    first = Clumsy()
    first.connection = connection
    connection.start(first, b"", b"")
    connection.data_received(HEAD + CHUNK + b"0\r\n\r\n")
    assert [str(one) for one in faults] == ["a fault"]
    connection.data_received(HEAD + CHUNK + b"0\r\n\r\n")
    assert later.told[1:] == [b"hello", "end"]


def test_how_long_it_may_idle_is_told_by_the_last_answer() -> None:
    """A Keep-Alive of an earlier answer is true of neither this connection's next one nor, by way
    of a head that is known, of another connection's."""
    owner = Owner()
    answer = b"HTTP/1.1 200 OK\r\n%bcontent-length: 2\r\n\r\n{}"
    plain, limited = answer % b"", answer % b"keep-alive: timeout=9\r\n"
    limits = []
    for answers in ((limited, plain), (plain,), (limited, limited), (limited, plain, plain)):
        connection = UpstreamConnection(owner)
        connection.connection_made(Wire())  # type: ignore[arg-type]
        for one in answers:
            call = Call()
            call.connection = connection
            connection.start(call, b"", b"")
            connection.data_received(one)
            limits.append(connection.idle_limit_s)
    assert limits == [9.0, None, None, 9.0, 9.0, 9.0, None, None]
