"""The server beside h11, a parser of other descent: two readings of one request are a smuggling."""

from __future__ import annotations

import re
from itertools import pairwise

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.http1.served import serve

Seen = tuple[bytes, bytes, bytes]
"""Method, target, body."""

# --- what is asked ------------------------------------------------------------------------------

METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"get", b"FOO"]
TARGETS = [b"/", b"/v1/models", b"/a?b=c", b"/a?b?c", b"//x", b"/%20", b"/a;b", b"*", b"/a#b", b"a"]
VERSIONS = [b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"RTSP/1.0"]
FIELDS = [
    b"Accept: */*",
    b"X-A:1",
    b"X-A: \t a b \t",
    b"X-A:",
    b"X-High: caf\xc3\xa9",
    b"Connection: keep-alive",
    b"Connection: close",
    b"Upgrade: h2c",
    b"Connection: upgrade",
    b"Expect: 100-continue",
    b"Host: again",
    b"Content-Length: 0",
    b"Content-Length: 3",
    b"Content-Length: +3",
    b"Content-Length: 3, 3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding : chunked",
    b"Transfer_Encoding: chunked",
    b"X\x00: 1",
    b"X: a\x01b",
    b" folded",
]
ODD_BYTES = [b"\r", b"\n", b" ", b"\t", b"\x00", b":", b",", b"0", b"\xff"]
BODIES = [b"", b"abc", b'{"model":"m"}', b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n\r\n"]


@st.composite
def chunked(draw: st.DrawFn) -> bytes:
    """A chunked body, its chunks of any size, with or without extensions and trailers."""
    body = draw(st.sampled_from(BODIES))
    size = draw(st.integers(1, 9))
    extension = draw(st.sampled_from([b"", b";a", b";a=b", b';a="b"']))
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    coded = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)
    return coded + b"0\r\n" + draw(st.sampled_from([b"", b"X-T: 1\r\n"])) + b"\r\n"


@st.composite
def good_request(draw: st.DrawFn) -> bytes:
    """A request that is HTTP."""
    fields = [b"Host: a", *draw(st.lists(st.sampled_from(FIELDS[:7]), max_size=3))]
    framing = draw(st.sampled_from(["none", "length", "chunks"]))
    body = b""
    if framing == "length":
        body = draw(st.sampled_from(BODIES))
        fields.append(b"Content-Length: %d" % len(body))
    elif framing == "chunks":
        body = draw(chunked())
        fields.append(b"Transfer-Encoding: chunked")
    fields = draw(st.permutations(fields))
    line = b"%b %b HTTP/1.1" % (
        draw(st.sampled_from(METHODS[:7])),
        draw(st.sampled_from(TARGETS[:7])),
    )
    return b"\r\n".join((line, *fields, b"", body))


@st.composite
def odd_request(draw: st.DrawFn) -> bytes:
    """A request that may be anything: fields that contradict each other, odd words, odd bytes."""
    line = b" ".join(draw(st.sampled_from(words)) for words in (METHODS, TARGETS, VERSIONS))
    fields = draw(st.lists(st.sampled_from(FIELDS), max_size=4))
    if draw(st.integers(0, 5)):
        fields.insert(0, b"Host: a")
    body = draw(st.sampled_from(BODIES) | chunked())
    end = draw(st.sampled_from([b"\r\n"] * 9 + [b"\n", b"\r"]))
    return end.join((line, *fields, b"", body))


def mutate(draw: st.DrawFn, data: bytes) -> bytes:
    """A few bytes taken out, put in or changed."""
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        byte = draw(
            st.sampled_from([b"\r", b"\n", b" ", b"\t", b"\x00", b":", b",", b"0", b"\xff"])
        )
        cut = draw(st.integers(0, 1))
        data = data[:at] + draw(st.sampled_from([b"", byte])) + data[at + cut :]
    return data


@st.composite
def odd_bytes(draw: st.DrawFn) -> bytes:
    """A few requests, good and odd ones, with a few bytes changed."""
    requests = draw(st.lists(good_request() | odd_request(), min_size=1, max_size=3))
    return mutate(draw, b"".join(requests))


@st.composite
def pieces_of(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """``data`` as the network may bring it."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    edges = [0, *cuts, len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


# --- what is read -------------------------------------------------------------------------------


def read_by_us(pieces: list[bytes]) -> tuple[list[Seen], bool]:
    """The requests that the server accepted, and whether it refused or closed then."""
    recorder, transport, budget = serve(pieces)
    assert recorder.faults == []
    assert budget.used_bytes == 0
    seen = [
        (
            request.method,
            request.path + (b"?" + request.query if request.query else b""),
            request.body,
        )
        for request in recorder.requests
    ]
    return seen, transport.ended or transport.closed


# What we read and h11 refuses: none of it changes where a message ends, so it is put straight for
# h11, and nothing else is.
#  - blank lines before a request: RFC 9112 § 2.2 asks servers to skip them;
#  - several spaces between the words of a request line are read as one;
#  - RTSP/1.0 and 1.1 are read as the HTTP of that number, which frames alike.
_REQUEST_LINE = re.compile(rb"\A([A-Z]+) +([^ \r\n]+) +(?:HTTP|RTSP)/(1\.[01])\r\n")


def put_straight(data: bytes) -> bytes:
    """The bytes of a next request without what only h11 refuses."""
    return _REQUEST_LINE.sub(rb"\1 \2 HTTP/\3\r\n", data.lstrip(b"\r\n"), count=1)


def read_by_h11(data: bytes) -> tuple[list[Seen], bool]:
    """The requests that h11 reads in ``data``, and whether it refused what follows."""
    seen: list[Seen] = []
    while data := put_straight(data):
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        connection.receive_data(data)
        body = b""
        try:
            head = connection.next_event()
            if not isinstance(head, h11.Request):
                return seen, False
            while isinstance(event := connection.next_event(), h11.Data):
                body += event.data
        except h11.RemoteProtocolError:
            return seen, True
        if not isinstance(event, h11.EndOfMessage):
            return seen, False
        seen.append((head.method, head.target, body))
        connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is not h11.DONE:
            return seen, False
        data, _ = connection.trailing_data
    return seen, False


def same_target(ours: bytes, theirs: bytes) -> bool:
    """Equal but for an empty query, which says nothing."""
    return ours == theirs or ours + b"?" == theirs


@settings(deadline=None, max_examples=100)
@given(data=st.data(), requests=st.lists(good_request(), min_size=1, max_size=4))
def test_good_requests_are_read_alike(data: st.DataObject, requests: list[bytes]) -> None:
    """What is HTTP beyond doubt is accepted, and read as h11 reads it, however it is cut."""
    whole = b"".join(requests)
    ours, _ = read_by_us(data.draw(pieces_of(whole)))
    theirs, refused = read_by_h11(whole)
    assert not refused
    assert ours == theirs
    closing = [b"Connection: close" in request for request in requests]
    expected = closing.index(True) + 1 if True in closing else len(requests)
    assert len(ours) == expected


@settings(deadline=None, max_examples=100)
@given(data=st.data(), whole=odd_bytes())
def test_odd_bytes_are_never_read_otherwise(data: st.DataObject, whole: bytes) -> None:
    """Whatever comes, a request that we accept is one that h11 reads the same; we may refuse more
    than h11, never less; and where h11 has a whole request, we have it or have refused."""
    check_agreement(data.draw(pieces_of(whole)))


def check_agreement(pieces: list[bytes]) -> None:
    """What we accept, h11 reads the same; what it has whole, we have or refused."""
    ours, ended = read_by_us(pieces)
    theirs, _ = read_by_h11(b"".join(pieces))
    for our, their in zip(ours, theirs, strict=False):
        assert our[0] == their[0]
        assert same_target(our[1], their[1])
        assert our[2] == their[2]
    assert len(ours) <= len(theirs)
    if len(ours) < len(theirs):
        assert ended


REAL = {
    "openai": (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:8000\r\n"
        b"Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nAccept: application/json\r\n"
        b"Content-Type: application/json\r\nUser-Agent: OpenAI/Python 1.99.0\r\n"
        b"X-Stainless-Lang: python\r\nX-Stainless-OS: Linux\r\nAuthorization: Bearer sk-none\r\n"
        b"Content-Length: @\r\n\r\n"
    ),
    "node": (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost:8000\r\nconnection: keep-alive\r\n"
        b"content-type: application/json\r\naccept: */*\r\naccept-language: *\r\n"
        b"sec-fetch-mode: cors\r\nuser-agent: node\r\naccept-encoding: gzip, deflate\r\n"
        b"content-length: @\r\n\r\n"
    ),
    "curl": (
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost:8000\r\nUser-Agent: curl/8.5.0\r\n"
        b"Accept: */*\r\nContent-Length: @\r\nContent-Type: application/json\r\n\r\n"
    ),
    "java": (
        b"POST /v1/chat/completions HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Content-Length: @\r\nHost: localhost:8000\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
        b"Upgrade: h2c\r\nUser-Agent: Java-http-client/21\r\n\r\n"
    ),
    "poller": b"GET /v1/models HTTP/1.1\r\nHost: localhost:8000\r\nAccept: */*\r\n\r\n",
}
"""Heads as clients send them, one like the other but for the length."""


@st.composite
def real_sequence(draw: st.DrawFn) -> list[bytes]:
    """One client's requests on a kept connection, a read each: their head is known after the
    first. Some have a few bytes changed, some follow in the read of the one before."""
    head = draw(st.sampled_from(sorted(REAL)))
    reads: list[bytes] = []
    for _ in range(draw(st.integers(2, 5))):
        body = draw(st.sampled_from(BODIES) | st.binary(max_size=30)) if b"@" in REAL[head] else b""
        one = REAL[head].replace(b"@", b"%d" % len(body)) + body
        if draw(st.integers(0, 3)) == 0:
            one = mutate(draw, one)
        if reads and draw(st.integers(0, 4)) == 0:
            reads[-1] += one
        else:
            reads.append(one)
    return [read for read in reads if read]


@settings(deadline=None, max_examples=200)
@given(data=st.data(), reads=real_sequence())
def test_real_requests_with_bytes_changed_are_never_read_otherwise(
    data: st.DataObject, reads: list[bytes]
) -> None:
    """The same for what clients really send, one request after the other on a kept connection, a
    read each and cut anywhere."""
    check_agreement(reads)
    check_agreement(data.draw(pieces_of(b"".join(reads))))


@settings(deadline=None, max_examples=60)
@given(data=st.data(), whole=odd_bytes())
def test_the_cuts_do_not_matter(data: st.DataObject, whole: bytes) -> None:
    """The same bytes in other pieces are the same requests and the same refusal."""
    first, _, _ = serve([whole])
    second, _, _ = serve(data.draw(pieces_of(whole)))
    assert [(r.method, r.path, r.query, r.body) for r in first.requests] == [
        (r.method, r.path, r.query, r.body) for r in second.requests
    ]
    statuses = [None if one.refusal is None else one.refusal.status for one in (first, second)]
    assert statuses[0] == statuses[1]
