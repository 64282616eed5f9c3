"""A read that is one chunk is known by its length, and is what a parser would say it is."""

from __future__ import annotations

import httptools
from hypothesis import example, given
from hypothesis import strategies as st

from nexus.http1.chunk import size_line
from nexus.http1.headers import Headers
from nexus.http1.upstream import UpstreamConnection
from tests.unit.http1.asked import Call, Owner, Taker, Wire, one_chunk

_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class _Told:
    def __init__(self) -> None:
        self.events: list[object] = []

    def on_chunk_header(self) -> None:
        self.events.append("begins")

    def on_body(self, body: bytes) -> None:
        self.events.append(body)

    def on_chunk_complete(self) -> None:
        self.events.append("complete")

    def on_message_complete(self) -> None:
        self.events.append("end")


def _parsed(data: bytes) -> list[object]:
    told = _Told()
    parser = httptools.HttpResponseParser(told)
    parser.feed_data(_HEAD)
    try:
        parser.feed_data(data)
    except httptools.HttpParserError:
        told.events.append("fault")
    return told.events


def test_every_length_has_its_size_line() -> None:
    """The lengths that chunks of 1 to 70,000 bytes take have theirs; others have none."""
    lines = {len(b"%x" % size) + size + 4: (b"%x\r\n" % size, size) for size in range(1, 70_000)}
    for length in range(max(lines) + 1):
        assert size_line(length) == lines.get(length, (b"", 0)), length


_SIZES = [b"%x", b"%X", b"%04x", b"0x%x", b"%x;a=b"]
_ENDS = [b"", b"\r", b"\r\n", b"0\r\n\r\n", b"\r\n0\r\n\r\n", b"\r\n1\r\nx\r\n"]


@given(
    data=st.binary(max_size=40)
    | st.builds(
        lambda body, size, off, end: size % max(0, len(body) + off) + b"\r\n" + body + end,
        st.binary(max_size=20),
        st.sampled_from(_SIZES),
        st.integers(-2, 2),
        st.sampled_from(_ENDS),
    )
)
@example(data=b"0\r\n\r\n")
@example(data=b"-1\r\n\r\n")
@example(data=b"A\r\n0123456789\r\n")
@example(data=b"\r\n\r\n\r\n")
def test_what_is_taken_for_one_chunk_is_one(data: bytes) -> None:
    """A parser finds the same body, one chunk that is over, and nothing else."""
    body = one_chunk(data)
    if body is not None:
        assert _parsed(data) == ["begins", body, "complete"]


_BODIES = st.binary(min_size=1, max_size=20) | st.sampled_from([b"\r\n", b"2\r\nab\r\n", b"x" * 17])
_READS = st.one_of(
    _BODIES.map(lambda body: b"%x\r\n%b\r\n" % (len(body), body)),
    _BODIES.map(lambda body: b"%X;a=b\r\n%b\r\n" % (len(body), body)),
    st.sampled_from([b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"0\r\nx: y\r\n", b"\r\n", b"zz", b"5"]),
)


@st.composite
def _answers(draw: st.DrawFn) -> list[list[bytes]]:
    """Answers on one connection: chunks that come a read each, or cut, or several in one."""
    answers = []
    for reads in draw(st.lists(st.lists(_READS, max_size=6), min_size=1, max_size=3)):
        pieces = [_HEAD]
        for read in [*reads, b"0\r\n\r\n"]:
            how = draw(st.sampled_from(["whole", "whole", "after its size", "anywhere", "joined"]))
            if how == "joined":
                pieces[-1] += read
            else:
                size_line = read.find(b"\r\n") + 2
                cut = size_line if how == "after its size" else draw(st.integers(0, len(read)))
                pieces += [read] if how == "whole" else [read[:cut], read[cut:]]
        answers.append([piece for piece in pieces if piece])
    return answers


def _asked(answers: list[list[bytes]], *, discards_at: int, takes: int) -> object:
    """What is told of them, read by read, up to where the asker has enough. It takes every chunk
    before the parser, of every ``takes`` that there are."""

    class Asking(Taker):
        def on_body(self, data: bytes) -> None:
            super().on_body(data)
            if len(self.told) == discards_at:
                connection.discard()

    owner = Owner()
    connection = UpstreamConnection(owner)
    wire = Wire()
    connection.connection_made(wire)  # type: ignore[arg-type]
    told = []
    for answer in answers:
        if not connection.usable:
            break
        call = Asking(takes)
        call.connection = connection
        connection.start(call, b"", b"")
        for read in answer:
            if not wire.closing:
                connection.data_received(read)
                told.append(list(call.told))
    connection.connection_lost(None)
    return told, call.told, wire.closing, owner.free, owner.gone


@given(answers=_answers(), discards_at=st.integers(0, 12), takes=st.integers(1, 3))
def test_who_takes_chunks_is_told_the_same(
    answers: list[list[bytes]], discards_at: int, takes: int
) -> None:
    """However a stream is cut, the asker is told the same, read by read, as by the parser alone."""
    assert _asked(answers, discards_at=discards_at, takes=takes) == _asked(
        answers, discards_at=discards_at, takes=0
    )


def test_a_taker_is_of_one_answer_only() -> None:
    """The next answer on the connection is not asked of who took the last one's chunks."""
    connection = UpstreamConnection(Owner())
    connection.connection_made(Wire())  # type: ignore[arg-type]
    reads = [_HEAD + b"1\r\na\r\n", b"1\r\nb\r\n", b"0\r\n\r\n"]
    taken: list[bytes] = []

    class First(Call):
        def on_head(self, status: int, headers: Headers) -> None:
            connection.chunk_taker = self.take

        def take(self, read: bytes) -> bool:
            taken.append(read)
            return read == reads[1]

    for call, told in ((First(), [b"a", "end"]), (Call(), [b"a", b"b", "end"])):
        call.connection = connection
        connection.start(call, b"", b"")
        for read in reads:
            connection.data_received(read)
        assert call.told[-len(told) :] == told
    assert taken == reads[1:]


def test_a_taker_that_raises_is_told_of_it() -> None:
    """As for every method of who asked: the connection is discarded, the fault is its own."""
    connection = UpstreamConnection(owner := Owner())
    connection.connection_made(Wire())  # type: ignore[arg-type]
    crashes: list[BaseException] = []

    class Clumsy(Call):
        def take(self, read: bytes) -> bool:
            raise ValueError(read)

        def on_crash(self, error: BaseException) -> None:
            crashes.append(error)

    call = Clumsy()
    call.connection = connection
    connection.start(call, b"", b"")
    connection.data_received(_HEAD + b"1\r\na\r\n")
    connection.chunk_taker = call.take
    connection.data_received(b"1\r\nb\r\n")
    assert [str(error) for error in crashes] == [str(ValueError(b"1\r\nb\r\n"))]
    assert owner.gone
    assert not connection.usable
