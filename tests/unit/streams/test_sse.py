from __future__ import annotations

import itertools
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.streams.sse import EventBuffer, Payload, payloads

_LINE_END = re.compile(rb"\r\n|\r|\n")

line_ends = st.sampled_from([b"\n", b"\r", b"\r\n"])
texts = st.text(st.characters(blacklist_characters="\r\n", codec="utf-8"), max_size=12).map(
    lambda text: text.encode()
)
lines = st.one_of(
    texts.map(lambda text: b"data: " + text),
    texts.map(lambda text: b"data:" + text),
    texts.map(lambda text: b": " + text),
    texts.map(lambda text: b"event: " + text),
    texts.filter(bool),
)
streams = st.lists(st.tuples(st.one_of(lines, st.just(b"")), line_ends), max_size=24).map(
    lambda pairs: b"".join(line + end for line, end in pairs)
)
cuts = st.lists(st.integers(min_value=0, max_value=400), max_size=12)


def split(data: bytes, places: list[int]) -> list[bytes]:
    """``data`` in reads that end at ``places``; none is empty."""
    edges = sorted({0, len(data), *(place for place in places if place < len(data))})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def at_boundary(sent: bytes) -> bool:
    """Whether ``sent`` ends after a whole event, told by splitting lines as the standard says."""
    if not sent:
        return True
    pieces = _LINE_END.split(sent)
    # The piece after the last line end is empty, and so is the line before it.
    return pieces[-1] == b"" and len(pieces) > 2 and pieces[-2] == b""


@settings(deadline=None, max_examples=300)
@given(streams, cuts)
def test_any_split_gives_the_same_bytes(stream: bytes, places: list[int]) -> None:
    """What comes out and what is kept back are the bytes that went in, in order."""
    buffer = EventBuffer()
    out = b"".join(buffer.feed(read) for read in split(stream, places))
    assert out + buffer.rest == stream
    assert out + buffer.take_rest() == stream
    assert buffer.rest == b""


@settings(deadline=None, max_examples=300)
@given(streams, cuts)
def test_half_an_event_is_never_sent(stream: bytes, places: list[int]) -> None:
    """Everything sent so far ends at an event boundary after every read, whatever the line ends."""
    buffer = EventBuffer()
    sent = b""
    for read in split(stream, places):
        sent += buffer.feed(read)
        assert at_boundary(sent)


@settings(deadline=None, max_examples=300)
@given(streams, cuts)
def test_a_whole_event_is_never_kept_back(stream: bytes, places: list[int]) -> None:
    """All before the half event goes at once: what is kept holds no boundary of its own."""
    buffer = EventBuffer()
    for read in split(stream, places):
        buffer.feed(read)
        rest = buffer.rest
        assert not any(two in rest for two in (b"\n\n", b"\r\r", b"\n\r"))


@settings(deadline=None, max_examples=200)
@given(streams, cuts)
def test_blocks_hold_the_events_of_the_whole(stream: bytes, places: list[int]) -> None:
    """The events read block by block are those of the stream read at once."""
    buffer = EventBuffer()
    blocks = [buffer.feed(read) for read in split(stream, places)]
    whole = b"".join(blocks)
    assert [one for block in blocks for one in payloads(block)] == payloads(whole)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 40), st.integers(1, 30), st.binary(max_size=200))
def test_an_event_over_the_limit_is_passed_on(limit: int, step: int, noise: bytes) -> None:
    """No more than the limit (or one read) is ever kept back, and no byte is lost by that."""
    stream = b"data: " + noise.replace(b"\n", b"x").replace(b"\r", b"x") + b"\n\ndata: y\n\n"
    buffer = EventBuffer(limit)
    out = b""
    for at in range(0, len(stream), step):
        out += buffer.feed(stream[at : at + step])
        assert len(buffer.rest) <= max(limit, step)  # a read is looked at as a whole
    assert out + buffer.take_rest() == stream
    first = len(stream) - len(b"data: y\n\n")
    if any(limit < at < first for at in range(step, first, step)):
        assert buffer.overflowed


def test_short_events_do_not_overflow() -> None:
    """The limit is one event's, not the stream's."""
    buffer = EventBuffer(16)
    for _ in range(100):
        assert buffer.feed(b"data: 1") == b""
        assert buffer.feed(b"\n\n") == b"data: 1\n\n"
    assert not buffer.overflowed


def test_crlf_cut_before_its_line_feed_goes_at_once() -> None:
    """CR CR or LF CR end an event; a line feed that belongs to that CR follows with the next."""
    buffer = EventBuffer()
    assert buffer.feed(b"data: 1\r\n\r") == b"data: 1\r\n\r"
    assert buffer.feed(b"\ndata: 2\r\n\r\n") == b"\ndata: 2\r\n\r\n"


def test_a_lone_crlf_is_one_line_end() -> None:
    """CR LF inside an event is no boundary, however it is cut."""
    buffer = EventBuffer()
    assert [buffer.feed(part) for part in (b"data: 1\r", b"\n", b"data: 2", b"\r\n")] == [b""] * 4
    assert buffer.feed(b"\r\n") == b"data: 1\r\ndata: 2\r\n\r\n"


def test_payloads_read_fields_as_the_standard_does() -> None:
    """One space after the colon goes, data lines join with LF, comments and ids carry nothing."""
    block = (
        b": hello\n\nid: 7\ndata: a\ndata:b\ndata:  c\n\n"
        b"event: error\r\ndata: {}\r\n\r\nevent: lost\n\ndata\r\rretry: 5\n\n"
    )
    assert payloads(block) == [
        Payload(b"", b"a\nb\n c"),
        Payload(b"error", b"{}"),
        Payload(b"", b""),
    ]


def test_payloads_takes_a_last_event_without_blank_line() -> None:
    """A half event at the end is told too: whether it counts is the caller's business."""
    assert payloads(b"data: 1\n\ndata: 2") == [Payload(b"", b"1"), Payload(b"", b"2")]
