"""A read that is one chunk is told by its length, and is what a parser would say it is."""

from __future__ import annotations

import httptools
from hypothesis import example, given
from hypothesis import strategies as st

from nexus.http1.chunk import whole_chunk

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
