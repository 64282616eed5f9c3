"""How streams end (behaviour § 6), and what becomes of calls whose client is slow or leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import cast

import pytest

from nexus.core.call import Outcome
from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.demo.profile import Speed
from tests.harness import Running, chat, eventually, raw, running
from tests.integration.scripted import Scripted, Talk, chunked, head, playing
from tests.integration.test_deadlines import EVENT, LAST, STREAM_HEAD, request
from tests.integration.test_failover import PATH, duo, whole_stream

FINISH, DONE = LAST.split(b"\n\n")[0] + b"\n\n", b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"boom","type":"server_error","code":500}}\n\n'


class Played:
    def __init__(self, upstream: Scripted, gateway: Running) -> None:
        self.upstream = upstream
        self.gateway = gateway

    async def stream(self, *pieces: bytes, close: bool = False, reset: bool = False) -> bytes:
        """What the client gets when the upstream plays ``pieces``."""
        self.upstream.script = playing(*pieces, close=close, reset=reset)
        answer = await self.gateway.client.post(PATH, json=chat(stream=True))
        await self.gateway.settled()
        return answer.content

    @property
    def outcome(self) -> Outcome:
        return self.gateway.records[-1].outcome


@pytest.fixture
async def played() -> AsyncIterator[Played]:
    async with Scripted(playing()) as upstream, running(upstream.spec()) as gateway:
        yield Played(upstream, gateway)


def ours(got: bytes, before: bytes) -> str:
    """The message of our own error event, which with ``[DONE]`` is all that follows ``before``."""
    assert got.startswith(before)
    event, done, rest = got[len(before) :].split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return str(json.loads(event.removeprefix(b"data: "))["error"]["message"])


@pytest.mark.parametrize(("cut", "added"), [(2, b"\n\n"), (1, b"\n")])
async def test_a_last_event_is_completed_by_what_it_lacks(
    played: Played, cut: int, added: bytes
) -> None:
    """An end within the blank line after an event: that line is finished, and no other begun."""
    got = await played.stream(STREAM_HEAD + chunked(EVENT, FINISH[:-cut]))
    assert got == EVENT + FINISH[:-cut] + added + DONE
    assert played.outcome is Outcome.OK


async def test_a_clean_end_without_a_finish_reason_is_broken(played: Played) -> None:
    """A hidden dead runner ends its body properly and says nothing: the client is told."""
    got = await played.stream(STREAM_HEAD + chunked(EVENT, EVENT))
    assert "before it was complete" in ours(got, EVENT * 2)
    assert played.outcome is Outcome.UPSTREAM_ERROR


async def test_done_without_a_finish_reason_comes_after_our_error(played: Played) -> None:
    """Our error goes before a ``[DONE]`` that no finish reason preceded, which is said once."""
    got = await played.stream(STREAM_HEAD + chunked(EVENT, EVENT + DONE))
    assert "without a finish reason" in ours(got, EVENT * 2)


async def test_done_alone_is_a_failed_attempt() -> None:
    """``[DONE]`` as the first data event says nothing: the next backend is asked."""
    async with duo() as both:
        both.bad.faults.set(Fault.DONE_ONLY)
        answer = await both.ask(stream=True)
        assert answer.headers["x-nexus-backend"] == "good"
        assert whole_stream(answer)


@pytest.mark.parametrize("kept", [True, False])
async def test_after_an_upstream_error_only_done_is_added(played: Played, kept: bool) -> None:
    """The engine has said it itself: no second error, and ``[DONE]`` only where it is missing."""
    body = chunked(EVENT, ERROR + (DONE if kept else b""))
    assert await played.stream(STREAM_HEAD + body) == EVENT + ERROR + DONE
    assert played.outcome is Outcome.UPSTREAM_ERROR


async def test_after_an_upstream_error_a_reset_adds_only_done(played: Played) -> None:
    """However the connection ends after it."""
    cut = b"%x\r\n%b\r\n" % (len(EVENT + ERROR), EVENT + ERROR)
    assert await played.stream(STREAM_HEAD, cut, reset=True) == EVENT + ERROR + DONE


@pytest.mark.parametrize("reset", [True, False])
async def test_half_an_event_is_never_sent(played: Played, reset: bool) -> None:
    """What came of an event that never became whole stays here."""
    pieces = (EVENT, EVENT + EVENT[:30])
    cut = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces)
    got = await played.stream(STREAM_HEAD, cut, reset=reset, close=not reset)
    assert "lost before the answer was whole" in ours(got, EVENT * 2)


async def test_a_whole_last_event_without_blank_line_counts(played: Played) -> None:
    """``[DONE]`` without its blank line before a clean end is not lost."""
    got = await played.stream(STREAM_HEAD + chunked(EVENT, FINISH, b"data: [DONE]"))
    assert got == EVENT + FINISH + DONE
    assert played.outcome is Outcome.OK


async def test_a_reset_after_the_end_harms_nothing(played: Played) -> None:
    """With finish reason and ``[DONE]`` said, a cut connection is a success."""
    whole = EVENT + FINISH + DONE
    cut = b"%x\r\n%b\r\n" % (len(whole), whole)
    assert await played.stream(STREAM_HEAD, cut, reset=True) == whole
    assert played.outcome is Outcome.OK


async def test_a_reset_before_the_usage_that_was_asked_for(played: Played) -> None:
    """A usage event that was asked for and never came makes the stream broken."""
    body = EVENT + FINISH
    played.upstream.script = playing(STREAM_HEAD, b"%x\r\n%b\r\n" % (len(body), body), reset=True)
    asked = chat(stream=True, stream_options={"include_usage": True})
    answer = await played.gateway.client.post(PATH, json=asked)
    assert "lost before" in ours(answer.content, body)
    answer = await played.gateway.client.post(PATH, json=chat(stream=True))
    assert answer.content == body + DONE


async def test_a_stream_that_ends_with_the_connection(played: Played) -> None:
    """Neither length nor chunks: EOF is the end, and the events decide whether it is whole."""
    bare = head("content-type: text/event-stream", "connection: close")
    assert await played.stream(bare, EVENT, LAST, close=True) == EVENT + LAST
    assert played.outcome is Outcome.OK
    assert "before it was complete" in ours(await played.stream(bare, EVENT, close=True), EVENT)


async def test_garbage_before_the_commit_is_a_502(played: Played) -> None:
    """Nothing of it reaches the client."""
    for garbage in (b"<html>no</html>", b"data: not json\n\n", b"\x00\x01\x02", b"[1,2]\n"):
        got = await played.stream(STREAM_HEAD + chunked(garbage))
        error = json.loads(got)["error"]
        assert error["message"].startswith("Invalid backend response"), error


async def test_an_event_over_a_mebibyte_passes(played: Played) -> None:
    """Held-back bytes are bounded: the giant goes through as it comes, byte for byte."""
    big = EVENT.replace(b'"a"', b'"' + b"x" * 3_000_000 + b'"')
    pieces = [big[at : at + 100_000] for at in range(0, len(big), 100_000)]
    got = await played.stream(STREAM_HEAD, chunked(EVENT, *pieces, LAST))
    assert got == EVENT + big + LAST


async def test_comments_before_the_first_event_are_passed_on(played: Played) -> None:
    """They do not commit, and come along with the first event."""
    comment = b": waiting in queue\n\n"
    got = await played.stream(STREAM_HEAD, *(chunked(comment)[:-5],) * 3, chunked(EVENT, LAST))
    assert got == comment * 3 + EVENT + LAST


async def test_endless_comments_do_not_fill_memory(played: Played) -> None:
    """More than 64 KiB of comments before the first event are dropped whole."""
    comment = b": " + b"x" * 1000 + b"\n\n"
    frames = chunked(*(comment,) * 200)[:-5]
    got = await played.stream(STREAM_HEAD, frames, chunked(EVENT, LAST))
    assert got.endswith(EVENT + LAST)
    kept = got[: -len(EVENT + LAST)]
    assert len(kept) <= 130 * 1024
    assert kept == comment * (len(kept) // len(comment))


async def test_the_content_type_is_exact(played: Played) -> None:
    """``text/event-stream`` and nothing more, whatever the engine calls it."""
    for kind in ("text/event-stream; charset=utf-8", "application/json", "text/html"):
        played.upstream.script = playing(
            head(f"content-type: {kind}", "transfer-encoding: chunked") + chunked(EVENT, LAST)
        )
        answer = await played.gateway.client.post(PATH, json=chat(stream=True))
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.content == EVENT + LAST


async def test_a_responses_stream_ends_in_its_own_way(played: Played) -> None:
    """Whole with ``response.completed`` and without ``[DONE]``; broken with ``event: error``."""
    first = b'event: response.created\ndata: {"type":"response.created","response":{}}\n\n'
    last = b'event: response.completed\ndata: {"type":"response.completed","response":{}}\n\n'
    body = {"model": "demo-model", "input": "a", "stream": True}
    played.upstream.script = playing(STREAM_HEAD + chunked(first, last))
    answer = await played.gateway.client.post("/v1/responses", json=body)
    assert answer.content == first + last
    played.upstream.script = playing(STREAM_HEAD + chunked(first))
    answer = await played.gateway.client.post("/v1/responses", json=body)
    assert answer.content.startswith(first + b'event: error\ndata: {"type":"error","error":{')
    assert b"[DONE]" not in answer.content


async def test_the_end_of_the_drain_says_nothing_twice(played: Played) -> None:
    """Calls that are cut then: after ``[DONE]`` no error follows; in the middle one does."""
    bare = head("content-type: text/event-stream", "connection: close")
    for said in (EVENT + LAST, EVENT):
        played.upstream.script = playing(bare, said)
        async with raw(played.gateway.port) as client:
            client.send(request(stream=True))
            await client.until(said[-20:])
            played.gateway.gateway.plane.cancel_all()
            rest = await client.until(b"0\r\n\r\n")
        if said == EVENT:
            assert b'"error"' in rest
            assert rest.count(b"data: [DONE]\n\n") == 1
        else:
            assert b"data: " not in rest
        await played.gateway.settled()


# --- plain answers after the commit -------------------------------------------------------------


async def test_a_big_plain_answer_streams_on() -> None:
    """Over ``max_held_response_bytes`` it commits, byte for byte, and the budget is given back."""
    size = 300_000
    async with (
        FakeEngine(settings=Speed(answer_bytes=size)) as engine,
        running(engine, server={"max_held_response_bytes": 1000}) as gateway,
    ):
        answer = await gateway.client.post(PATH, json=chat())
        assert answer.status_code == 200
        assert len(answer.content) >= size
        assert answer.json()["object"] == "chat.completion"


async def test_half_a_big_plain_answer_is_cut() -> None:
    """Past the commit of a body of bytes only a cut connection tells that it is not whole."""
    big = b'{"x":"' + b"y" * 50_000
    pieces = (head("content-type: application/json", "content-length: 100000"), big)
    async with (
        Scripted(playing(*pieces, close=True)) as upstream,
        running(upstream.spec(), server={"max_held_response_bytes": 1000}) as gateway,
        raw(gateway.port) as client,
    ):
        client.send(request())
        got = await client.rest()
        assert b"content-length: 100000\r\n" in got
        assert got.endswith(big)
        await gateway.settled()
        assert gateway.records[-1].outcome is Outcome.UPSTREAM_ERROR


# --- slow clients, leaving clients --------------------------------------------------------------


async def test_a_slow_client_pauses_its_upstream() -> None:
    """Memory stays bounded while the client does not read; then it gets every byte."""
    big = EVENT.replace(b'"a"', b'"' + b"x" * 60_000 + b'"')
    count = 600
    written = 0

    async def much(talk: Talk) -> None:
        nonlocal written
        await talk.write(STREAM_HEAD)
        for _ in range(count):
            await talk.write(b"%x\r\n%b\r\n" % (len(big), big))
            written += 1
        await talk.write(chunked(LAST))

    async with (
        Scripted(much) as upstream,
        running(upstream.spec()) as gateway,
        raw(gateway.port) as client,
    ):
        transport = cast(asyncio.Transport, client.writer.transport)
        transport.pause_reading()
        client.send(request(stream=True))
        server = gateway.gateway.server
        await eventually(lambda: server.unwritten_bytes > 200_000, "the client's buffer is full")
        last, peak = -1, 0
        while written != last:
            last = written
            for _ in range(20):
                await asyncio.sleep(0.005)
                peak = max(peak, server.unwritten_bytes)
        assert written < count
        assert peak < 1_500_000
        transport.resume_reading()
        await client.until(b"\r\n\r\n")
        parts = []
        while size := int(await client.until(b"\r\n"), 16):
            parts.append((await client.reader.readexactly(size + 2))[:-2])
        assert b"".join(parts) == big * count + LAST
        await gateway.settled()
        assert gateway.records[-1].outcome is Outcome.OK


async def test_a_slow_client_is_no_fault_of_its_backend() -> None:
    """A plain answer that its client does not read in time is cut, and counts against nobody."""

    async def much(talk: Talk) -> None:
        await talk.write(head("content-type: application/json", "content-length: 40000000"))
        for _ in range(400):
            await talk.write(b" " * 100_000)

    async with (
        Scripted(much) as upstream,
        running(
            upstream.spec(),
            server={"request_timeout_seconds": 0.5, "max_held_response_bytes": 1000},
        ) as gateway,
        raw(gateway.port) as client,
    ):
        cast(asyncio.Transport, client.writer.transport).pause_reading()
        client.send(request())
        await eventually(lambda: gateway.records, "the answer is cut")
        assert gateway.records[0].outcome is Outcome.TIMEOUT
        live = gateway.gateway.store.live(upstream.name)
        assert (live.errors_total, live.consecutive_failures) == (0, 0)


async def test_a_paused_client_that_leaves_frees_the_upstream() -> None:
    """Leaving counts also when nothing is being read from the upstream."""
    big = EVENT.replace(b'"a"', b'"' + b"x" * 60_000 + b'"')
    gone = asyncio.Event()

    async def endless(talk: Talk) -> None:
        try:
            await talk.write(STREAM_HEAD)
            while True:
                await talk.write(b"%x\r\n%b\r\n" % (len(big), big))
        finally:
            gone.set()

    async with Scripted(endless) as upstream, running(upstream.spec()) as gateway:
        async with raw(gateway.port) as client:
            transport = cast(asyncio.Transport, client.writer.transport)
            transport.pause_reading()
            client.send(request(stream=True))
            server = gateway.gateway.server
            await eventually(lambda: server.unwritten_bytes > 200_000, "the buffer is full")
            transport.abort()
        await asyncio.wait_for(gone.wait(), 10)
        await gateway.settled()
        assert gateway.records[-1].outcome is Outcome.CANCELLED


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "after"),
    [(Fault.STALL, 0), (Fault.STALL_AFTER_HEAD, 0), (Fault.STALL_AFTER_EVENTS, 2)],
)
async def test_a_client_that_leaves_cancels_upstream(
    fault: Fault, after: int, stream: bool
) -> None:
    """Before and after the commit: cancelled at once, counted once, blamed on nobody."""
    async with FakeEngine(dialect="vllm") as engine, running(engine) as gateway:
        engine.faults.set(fault, after_events=after or 2)
        async with raw(gateway.port) as client:
            client.send(request(stream=stream))
            await eventually(lambda: engine.in_flight == 1, "the call is upstream")
            if stream and after:
                await client.until(b"data: ")
        await eventually(lambda: engine.cancelled == 1, "upstream is cancelled")
        await gateway.settled()
        assert [record.outcome for record in gateway.records] == [Outcome.CANCELLED]
        live = gateway.gateway.store.live("demo")
        assert (live.consecutive_failures, live.errors_total) == (0, 0)
        engine.faults.clear()
        assert (await gateway.client.post(PATH, json=chat())).status_code == 200


async def test_a_client_that_leaves_while_we_dial() -> None:
    """No connection yet: nothing is sent, nothing leaks."""
    async with (
        FakeEngine() as engine,
        running(engine, server={"pool_idle_per_backend": 0}) as gateway,
    ):
        for _ in range(20):
            async with raw(gateway.port) as client:
                client.send(request())
        await gateway.settled()
        await eventually(
            lambda: engine.in_flight == 0 and len(gateway.records) <= 20, "nothing is left"
        )
        assert (await gateway.client.post(PATH, json=chat())).status_code == 200
