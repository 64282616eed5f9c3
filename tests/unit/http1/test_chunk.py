"""A read that is one chunk is told by its length, and is what a parser would say it is."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexus.http1.chunk import whole_chunk
from nexus.http1.upstream import UpstreamConnection
from tests.unit.http1.asked import Call, Owner, Wire

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


@given(body=st.binary(min_size=1, max_size=9_000) | st.integers(1, 9_000).map(lambda n: b"\n" * n))
def test_one_chunk_is_known(body: bytes) -> None:
    """Every chunk of a usual size, whatever is in it."""
    data = b"%x\r\n%b\r\n" % (len(body), body)
    assert whole_chunk(data) == body


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
    body = whole_chunk(data)
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


def _asked(answers: list[list[bytes]], *, discards_at: int) -> object:
    """What is told of them, read by read, up to where the asker has enough."""

    class Asking(Call):
        def on_body(self, data: bytes, framed: bytes = b"") -> None:
            super().on_body(data)
            assert framed in (b"", b"%x\r\n%b\r\n" % (len(data), data))
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
        call = Asking()
        call.connection = connection
        connection.start(call, b"", b"")
        for read in answer:
            if not wire.closing:
                connection.data_received(read)
                told.append(list(call.told))
    connection.connection_lost(None)
    return told, call.told, wire.closing, owner.free, owner.gone


@given(answers=_answers(), discards_at=st.integers(0, 12))
def test_a_connection_that_knows_chunks_tells_the_same(
    answers: list[list[bytes]], discards_at: int
) -> None:
    """However a stream is cut, its asker is told the same, read by read, with and without."""
    short = _asked(answers, discards_at=discards_at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UpstreamConnection, "on_chunk_complete", lambda _: None)
        assert short == _asked(answers, discards_at=discards_at)
