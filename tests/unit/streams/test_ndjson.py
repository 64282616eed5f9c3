"""Lines out of bytes in any split."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.streams.ndjson import LineTooLong, NdjsonSplitter


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from([b"\n", b"\r\n", b"\r", b"{}", b'{"a": 1}', b"x" * 30])).map(b"".join),
    st.lists(st.integers(0, 200)),
)
def test_any_split_decodes_the_same(data: bytes, cuts: list[int]) -> None:
    """Where the reads end makes no difference to the lines or to what is left."""
    whole = NdjsonSplitter(10_000)
    split = NdjsonSplitter(10_000)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    lines = [line for start, end in pairwise(places) for line in split.feed(data[start:end])]
    assert lines == whole.feed(data)
    assert split.end() == whole.end()


@settings(deadline=None, max_examples=100)
@given(st.lists(st.binary(min_size=1).filter(lambda line: not set(line) & {10, 13})))
def test_lines_come_out_as_they_went_in(lines: list[bytes]) -> None:
    """With LF or CRLF, blank lines left out."""
    for end in (b"\n", b"\r\n", b"\n\n"):
        assert NdjsonSplitter().feed(b"".join(line + end for line in lines)) == lines


def test_a_last_line_without_an_end_is_told_at_the_end() -> None:
    """Once only."""
    splitter = NdjsonSplitter()
    assert splitter.feed(b'{"a":1}\n{"b"') == [b'{"a":1}']
    assert splitter.feed(b":2}") == []
    assert splitter.end() == b'{"b":2}'
    assert splitter.end() == b""


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_at_the_limit_passes(end: bytes) -> None:
    """The limit counts the line without its end, however it is split."""
    line = b"x" * 100
    assert NdjsonSplitter(100).feed(line + end) == [line]
    splitter = NdjsonSplitter(100)
    assert [out for byte in line + end for out in splitter.feed(bytes([byte]))] == [line]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"y\n"])
def test_a_line_over_the_limit_is_refused(end: bytes) -> None:
    """Memory is bounded, whether or not the line ends."""
    with pytest.raises(LineTooLong):
        NdjsonSplitter(100).feed(b"x" * 102 + end)
    splitter = NdjsonSplitter(100)
    splitter.feed(b"x" * 100)
    splitter.feed(b"x")
    with pytest.raises(LineTooLong):
        splitter.feed(b"x" + end)


def test_many_short_lines_in_one_read_are_no_long_line() -> None:
    """The limit is per line."""
    assert len(NdjsonSplitter(10).feed(b"{}\n" * 1000)) == 1000
