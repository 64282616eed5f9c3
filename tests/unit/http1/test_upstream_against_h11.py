"""The upstream side beside h11: two readings of one answer would hand a body to the wrong call."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.http1.upstream import UpstreamConnection
from tests.unit.http1.asked import Call, Owner, Wire
from tests.unit.http1.test_server_against_h11 import BODIES, chunked, mutate

Read = tuple[int, bytes] | None
"""Status and body of an answer, ``None`` when it is not whole or is refused."""

STATUS_LINES = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 200 ",
    b"HTTP/1.1 201 Created",
    b"HTTP/1.1 404 Not Found",
    b"HTTP/1.1 500 Internal Server Error",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.0 200 OK",
]
ODD_LINES = [b"HTTP/2.0 200 OK", b"HTTP/1.1 099 X", b"HTTP/1.1 20 X", b"HTTP/1.1 2000 X", b"200 OK"]
INTERIM = [
    b"",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 2,
    b"HTTP/1.1 102 Processing\r\nContent-Length: 3\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
]
FIELDS = [
    b"Content-Type: application/json",
    b"X-A:1",
    b"X-A: \t a b \t",
    b"X-High: caf\xc3\xa9",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Keep-Alive: timeout=5",
    b"Content-Length: 3",
    b"Content-Length: 0",
    b"Content-Length: +3",
    b"Content-Length: 3, 3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding : chunked",
    b"X\x00: 1",
    b"X: a\x01b",
    b" folded",
]


@st.composite
def good_answer(draw: st.DrawFn) -> bytes:
    """An answer that is HTTP and whose end is in itself."""
    fields = draw(st.lists(st.sampled_from(FIELDS[:7]), max_size=3))
    if draw(st.booleans()):
        body = draw(st.sampled_from(BODIES))
        fields.append(b"Content-Length: %d" % len(body))
    else:
        body = draw(chunked())
        fields.append(b"Transfer-Encoding: chunked")
    fields = draw(st.permutations(fields))
    line = draw(st.sampled_from(STATUS_LINES[:5]))
    return draw(st.sampled_from(INTERIM[:3])) + b"\r\n".join((line, *fields, b"", body))


@st.composite
def odd_answer(draw: st.DrawFn) -> bytes:
    """An answer that may be anything."""
    line = draw(st.sampled_from(STATUS_LINES * 3 + ODD_LINES))
    fields = draw(st.lists(st.sampled_from(FIELDS), max_size=4))
    body = draw(st.sampled_from(BODIES) | chunked())
    end = draw(st.sampled_from([b"\r\n"] * 9 + [b"\n", b"\r"]))
    return draw(st.sampled_from([b"", *INTERIM])) + end.join((line, *fields, b"", body))


@st.composite
def changed_answer(draw: st.DrawFn) -> bytes:
    """A good or odd answer with a few bytes changed."""
    return mutate(draw, draw(good_answer() | odd_answer()))


@st.composite
def pieces_of(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """``data`` as the network may bring it."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    return [data[a:b] for a, b in pairwise([0, *cuts, len(data)]) if a < b]


def read_by_us(pieces: list[bytes], *, closed: bool) -> tuple[Read, bool]:
    """The answer as the asker is told it, and whether the connection may serve again."""
    owner = Owner()
    connection = UpstreamConnection(owner)
    connection.connection_made(Wire())  # type: ignore[arg-type]
    call = Call()
    call.connection = connection
    connection.start(call, b"", b"")
    for piece in pieces:
        connection.data_received(piece)
    kept = owner.free == 1 and owner.gone == 0
    if closed:
        connection.connection_lost(None)
    told: list[Any] = call.told
    if told[-1:] != ["end"]:
        return None, kept
    return (told[0][0], b"".join(part for part in told[1:-1])), kept


# What we read and h11 refuses: none of it changes where a message ends, and none of it is relayed.
#  - blank lines before a status line are skipped, also behind an interim answer;
#  - a reason may hold any byte but a line end.
_INTERIM = re.compile(rb"HTTP/1\.[01] 1[0-9]{2}[ \r]")
_STATUS_LINE = re.compile(rb"(HTTP/1\.[01] [0-9]{3})(?: [^\r\n]*)?\r\n")


def put_straight(data: bytes) -> bytes:
    """The bytes of an answer without what only h11 refuses."""
    interim = b""
    data = data.lstrip(b"\r\n")
    while _INTERIM.match(data) and (end := data.find(b"\r\n\r\n") + 4) > 3:
        interim += data[:end]
        data = data[end:].lstrip(b"\r\n")
    return _STATUS_LINE.sub(rb"\1 \r\n", interim + data)


def read_by_h11(data: bytes, *, closed: bool) -> tuple[Read, bool]:
    """The same, as h11 reads it."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method="POST", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(put_straight(data))
    if closed:
        connection.receive_data(b"")
    status, body = 0, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            elif not isinstance(event, h11.InformationalResponse):
                return None, False
    except h11.RemoteProtocolError:
        return None, False
    kept = connection.their_state is h11.DONE and not connection.trailing_data[0]
    return (status, body), kept


@settings(deadline=None, max_examples=150)
@given(data=st.data(), answer=good_answer(), closed=st.booleans())
def test_good_answers_are_read_alike(data: st.DataObject, answer: bytes, closed: bool) -> None:
    """What is HTTP beyond doubt is told as h11 reads it, however it is cut, and the connection is
    kept exactly where h11 would keep it."""
    ours, kept = read_by_us(data.draw(pieces_of(answer)), closed=closed)
    theirs, kept_by_h11 = read_by_h11(answer, closed=False)
    assert theirs is not None
    assert ours == theirs
    assert kept == kept_by_h11


@settings(deadline=None, max_examples=300)
@given(data=st.data(), changed=changed_answer(), closed=st.booleans())
def test_odd_answers_are_never_read_otherwise(
    data: st.DataObject, changed: bytes, closed: bool
) -> None:
    """Whatever comes, an answer that we take is one that h11 reads the same; we may refuse more,
    never less; and we never keep a connection that h11 would not."""
    ours, kept = read_by_us(data.draw(pieces_of(changed)), closed=closed)
    theirs, kept_by_h11 = read_by_h11(changed, closed=closed)
    if ours is not None:
        assert ours == theirs
    if kept:
        assert kept_by_h11 or changed.endswith((b"\r", b"\n"))


@settings(deadline=None, max_examples=100)
@given(data=st.data(), changed=changed_answer(), closed=st.booleans())
def test_the_cuts_do_not_matter(data: st.DataObject, changed: bytes, closed: bool) -> None:
    """The same bytes in other reads are the same answer."""
    whole, _ = read_by_us([changed] if changed else [], closed=closed)
    parts, _ = read_by_us(data.draw(pieces_of(changed)), closed=closed)
    assert whole == parts
