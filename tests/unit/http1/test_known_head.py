"""A head seen before is read past the parser, and nobody can tell by what comes out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.http1.known_head import KnownHead
from nexus.http1.server import ServerLimits
from nexus.http1.upstream import AnswerMemo, UpstreamConnection
from tests.unit.http1.asked import Call, Owner, Wire, told_of
from tests.unit.http1.served import serve

REQUEST = b"POST /v1/x?q HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello"
BARE = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nDate: x\r\ncontent-length:  5\r\nX-A: b\r\n\r\nhello"


def _mutations(data: bytes) -> st.SearchStrategy[bytes]:
    """``data`` again, whole or cut, longer, with bytes changed, or with another length."""
    places = st.integers(0, len(data))
    end = data.index(b"\r\n\r\n") + 4
    bodies = st.binary(max_size=30)
    return st.one_of(
        st.just(data),
        places.map(lambda at: data[:at]),
        st.tuples(places, st.binary(max_size=4)).map(lambda p: data[: p[0]] + p[1] + data[p[0] :]),
        st.tuples(places, st.binary(min_size=1, max_size=2)).map(
            lambda p: data[: p[0]] + p[1] + data[p[0] + len(p[1]) :]
        ),
        bodies.map(lambda body: data[:end].replace(b" 5", b" %d" % len(body)) + body),
        st.tuples(bodies, bodies).map(
            lambda p: data[:end].replace(b" 5", b" %d" % len(p[0])) + p[0] + p[1]
        ),
        st.sampled_from([b"+5", b"-5", b"5 ", b" 5", b"05", b"5,5", b"5\r\nContent-Length: 5", b""])
        .map(lambda digits: data.replace(b" 5", b" " + digits)),
        st.just(data + data),
        st.just(b"\r\n" + data),
    )  # fmt: skip


def _seen(pieces: list[bytes]) -> tuple[Any, ...]:
    recorder, transport, budget = serve(pieces, ServerLimits(head_bytes=200, body_bytes=40))
    refusal = recorder.refusal
    return (
        [(r.method, r.path, r.query, r.headers, r.body, r.keep_alive) for r in recorder.requests],
        None if refusal is None else (refusal.status, refusal.message),
        transport.written,
        transport.ended or transport.closed,
        budget.used_bytes,
        recorder.faults,
    )


@given(data=st.sampled_from([REQUEST, BARE]).flatmap(lambda one: st.tuples(st.just(one), st.lists(
    st.one_of(_mutations(one)), min_size=1, max_size=3))))  # fmt: skip
@settings(deadline=None, max_examples=400)
def test_a_server_connection_that_knows_the_head_reads_the_same(
    data: tuple[bytes, list[bytes]],
) -> None:
    """Whatever follows a request, the service is handed the same with and without the memory."""
    first, later = data
    known = _seen([first, *later])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KnownHead, "body_of", lambda *_: None)
        assert known == _seen([first, *later])


@given(later=st.lists(_mutations(ANSWER), min_size=1, max_size=3))
@settings(deadline=None, max_examples=400)
def test_an_upstream_connection_that_knows_the_head_tells_the_same(later: list[bytes]) -> None:
    """Whatever an answer is followed by, its handler is told the same with and without."""
    known = told_of([ANSWER, *later])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KnownHead, "body_of", lambda *_: None)
        assert known == told_of([ANSWER, *later])


def test_the_short_way_is_taken() -> None:
    """Else the tests above compare a thing with itself: the second head is not parsed."""
    head = KnownHead.of(REQUEST, 5, b"POST ")
    assert head is not None
    assert head.body_of(REQUEST.replace(b"5", b"11") + b" world") == (b"11", b"hello world")
    memo = AnswerMemo()
    memo.learn(ANSWER, 5, [(b"date", b"x")], None)
    assert memo.body_of(ANSWER) == (b"5", b"hello")


def test_heads_that_always_differ_are_not_learned_for_ever() -> None:
    """A backend that stamps each answer is looked at once in a while only."""
    memo = AnswerMemo()
    learned = 0
    for number in range(1000):
        before = memo.raw
        memo.learn(ANSWER.replace(b"Date: x", b"X: %d" % number), 5, [], None)
        learned += memo.raw is not before
    assert learned < 30


def test_an_answer_with_the_known_head_in_pieces_is_the_parsers() -> None:
    """A head in one read and its body in the next is not whole in one."""

    async def both() -> list[object]:
        owner = Owner()
        connection = UpstreamConnection(owner)
        connection.connection_made(Wire())  # type: ignore[arg-type]
        call = Call()
        for cut in (len(ANSWER), len(ANSWER) - 2, len(ANSWER) - 5, 20):
            call.connection = connection
            connection.start(call, b"", b"")
            connection.data_received(ANSWER[:cut])
            if cut < len(ANSWER):
                connection.data_received(ANSWER[cut:])
        assert owner.free == 4
        return call.told

    told = asyncio.run(both())
    assert told.count("end") == 4
    assert b"".join(part for part in told if isinstance(part, bytes)) == b"hello" * 4


def test_a_body_that_looks_like_an_answer_teaches_nothing() -> None:
    """A head in one read and a body in the next that is itself a whole answer: no head is learned
    from the inside of a body."""
    owner = Owner()
    connection = UpstreamConnection(owner)
    connection.connection_made(Wire())  # type: ignore[arg-type]
    call = Call()
    call.connection = connection
    connection.start(call, b"", b"")
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ANSWER))
    connection.data_received(ANSWER)
    assert (call.told[-1], owner.free) == ("end", 1)
    assert owner.answers.raw is None


@given(
    before=st.integers(0, 10**6),
    body=st.integers(0, 2_000),
    said=st.integers(-3, 2_000).map(lambda n: b"%d" % n) | st.sampled_from([b"00", b"+1", b"-0"]),
)
def test_only_the_length_that_is_there_will_do(before: int, body: int, said: bytes) -> None:
    """Whatever length came before, a head is known again only if it says the body's very length,
    spelled plainly."""
    head = KnownHead(b"POST / HTTP/1.1\r\ncontent-length: ", b"\r\nhost: a\r\n\r\n")
    head.body_of(head.before + b"%d" % before + head.after + b"x" * min(before, 2_000))
    found = head.body_of(head.before + said + head.after + b"x" * body)
    if said == b"%d" % body:
        # An empty body is the parser's when the one before took two digits to count.
        assert found == (said, b"x" * body) or (found is None and not body)
    else:
        assert found is None
