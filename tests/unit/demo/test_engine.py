"""The engine itself: counters, connections, speed, queueing, life."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import pytest

from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.demo.profile import Speed
from tests.unit.demo.wire import CHAT, STREAM, RawClient, chunks, encode, events, exchange, fetch

CHAT_PATH = "/v1/chat/completions"


async def settle(condition: Callable[[], bool]) -> None:
    """Waits for what other tasks bring about, five seconds at most."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_one_connection_serves_many_requests() -> None:
    """Keep-alive: a hundred answers over one connection."""
    async with FakeEngine() as engine:
        client = await RawClient.to(engine)
        for _ in range(50):
            for body in (CHAT, STREAM):
                client.send(CHAT_PATH, body)
                assert (await client.answer())[0] == 200
        assert engine.connections_opened == engine.connections_open == 1
        assert engine.completed == 100
        await client.close()
        await settle(lambda: engine.connections_open == 0)
        assert engine.cancelled == 0


async def test_requests_are_kept_byte_for_byte() -> None:
    """The body and the header names are there as they were sent."""
    async with FakeEngine() as engine:
        body = b'{ "model":"demo-model",  "messages":[], "odd": "\\u00e9" }'
        await fetch(engine, CHAT_PATH + "?a=1", body)
        await fetch(engine, "/v1/models")
        (seen,) = engine.calls
        assert len(engine.requests) == 2
        assert (seen.method, seen.path, seen.query, seen.body) == ("POST", CHAT_PATH, "a=1", body)
        assert (b"Host", b"engine") in seen.headers
        assert seen.header(b"host") == b"engine"


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Three requests in one write get three answers, each its own."""
    async with FakeEngine() as engine:
        client = await RawClient.to(engine)
        for tokens in (1, 2, 3):
            client.send(CHAT_PATH, {**CHAT, "max_tokens": tokens})
        told = [json.loads((await client.answer())[2]) for _ in range(3)]
        assert [answer["usage"]["completion_tokens"] for answer in told] == [1, 2, 3]
        await client.close()


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_a_client_that_leaves_is_counted_and_frees_its_place(body: object) -> None:
    """Leaving before the answer is whole is a cancel, streamed or not."""
    async with FakeEngine(settings=Speed(tokens_per_s=2)) as engine:
        client = await RawClient.to(engine)
        client.send(CHAT_PATH, body)
        await settle(lambda: engine.in_flight == 1)
        await client.close()
        await settle(lambda: engine.in_flight == 0)
        assert (engine.cancelled, engine.completed, engine.broken) == (1, 0, 0)


async def test_a_stream_is_paced() -> None:
    """The first event waits for ttft_s, the others for 1/tokens_per_s each."""
    async with FakeEngine(settings=Speed(ttft_s=0.03, tokens_per_s=100, tokens=5)) as engine:
        client = await RawClient.to(engine)
        began = time.perf_counter()
        client.send(CHAT_PATH, STREAM, close=True)
        await client.until(b"\n\n")
        first_s = time.perf_counter() - began
        await client.rest()
        whole_s = time.perf_counter() - began
        await client.close()
        # uvloop's timers may fire a millisecond early.
        assert first_s >= 0.028
        assert whole_s >= 0.028 + 0.058


async def test_a_plain_answer_takes_its_delay() -> None:
    """``delay_s`` passes before the head."""
    async with FakeEngine(settings=Speed(delay_s=0.03)) as engine:
        began = time.perf_counter()
        await fetch(engine, CHAT_PATH, CHAT)
        assert time.perf_counter() - began >= 0.028


@pytest.mark.parametrize("per_write", [0, 1, 3])
async def test_each_event_is_a_chunk_of_its_own(per_write: int) -> None:
    """However many go out in one write."""
    async with FakeEngine(settings=Speed(events_per_write=per_write)) as engine:
        data, _ = await exchange(engine, STREAM)
        body = data.partition(b"\r\n\r\n")[2]
        assert len(chunks(body)) == 8
        assert all(chunk.endswith(b"\n\n") for chunk in chunks(body))
        assert body.endswith(b"\r\n0\r\n\r\n")


async def test_answers_can_be_padded() -> None:
    """``answer_bytes`` is the body's exact length when the answer is shorter."""
    async with FakeEngine(settings=Speed(answer_bytes=5000)) as engine:
        assert len((await fetch(engine, CHAT_PATH, CHAT))[2]) == 5000


async def test_a_client_that_does_not_read_pauses_the_stream() -> None:
    """Memory stays bounded: the engine stops making events, and goes on when there is room."""
    async with FakeEngine(settings=Speed(tokens=40_000)) as engine:
        client = await RawClient.to(engine)
        client.send(CHAT_PATH, STREAM, close=True)
        await settle(lambda: any(one._paused for one in engine._connections))
        assert engine.completed == 0
        data, _ = await client.rest()
        await client.close()
        assert len(chunks(data.partition(b"\r\n\r\n")[2])) == 40_003
        assert engine.completed == 1


async def test_queueing_makes_no_more_than_slots_answers_at_a_time() -> None:
    """The next waits without a byte until one ends or leaves; load pages tell so."""
    async with FakeEngine(dialect="vllm", slots=1, queueing=True) as engine:
        engine.faults.set(Fault.STALL, count=1)
        first = await RawClient.to(engine)
        first.send(CHAT_PATH, CHAT)
        await settle(lambda: engine.in_flight == 1)
        second, third = await RawClient.to(engine), await RawClient.to(engine)
        second.send(CHAT_PATH, CHAT)
        await settle(lambda: engine.in_flight == 2)
        third.send(CHAT_PATH, CHAT)
        await settle(lambda: engine.in_flight == 3)
        metrics = (await fetch(engine, "/metrics"))[2]
        assert b'vllm:num_requests_running{engine="0",model_name="demo-model"} 1.0' in metrics
        assert b'vllm:num_requests_waiting{engine="0",model_name="demo-model"} 2.0' in metrics
        await second.close()
        await settle(lambda: engine.cancelled == 1)
        await first.close()
        assert (await third.answer())[0] == 200
        await third.close()
        assert (engine.in_flight, engine.cancelled, engine.completed) == (0, 2, 1)


async def test_http10_ends_by_closing() -> None:
    """An HTTP/1.0 engine sends neither chunks nor keep-alive."""
    async with FakeEngine(http10=True) as engine:
        client = await RawClient.to(engine)
        client.send(CHAT_PATH, STREAM)
        data, reset = await client.rest()
        await client.close()
        assert data.startswith(b"HTTP/1.0 200 OK\r\n")
        assert b"chunked" not in data
        assert not reset
        assert events(data.partition(b"\r\n\r\n")[2])[-1] == "[DONE]"


async def test_expect_100_continue_is_granted() -> None:
    """A client that asks first is told to go on."""
    async with FakeEngine() as engine:
        client = await RawClient.to(engine)
        body = encode(CHAT)
        client.writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        client.writer.write(body)
        assert (await client.answer())[0] == 200
        await client.close()


async def test_what_is_not_http_gets_a_400() -> None:
    """Garbage is refused and the connection closed."""
    async with FakeEngine() as engine:
        client = await RawClient.to(engine)
        client.writer.write(b"\x16\x03\x01garbage\r\n\r\n")
        data, _ = await client.rest()
        assert data.startswith(b"HTTP/1.1 400 ")
        await client.close()


async def test_stop_ends_running_answers_and_start_takes_the_same_port() -> None:
    """An engine can be stopped in mid-answer and started again where it was."""
    engine = FakeEngine(settings=Speed(tokens_per_s=1))
    await engine.start()
    port = engine.port
    client = await RawClient.to(engine)
    client.send(CHAT_PATH, STREAM)
    await client.until(b"\n\n")
    await engine.stop()
    assert engine.connections_open == 0
    await client.rest()
    await client.close()
    with pytest.raises(ConnectionRefusedError):
        await RawClient.to(engine)
    engine.settings = Speed()
    await engine.start()
    assert engine.port == port
    assert (await fetch(engine, CHAT_PATH, CHAT))[0] == 200
    await engine.stop()


async def test_a_hundred_clients_at_once() -> None:
    """A hundred connections, half of them streaming, are all served."""
    async with FakeEngine() as engine:
        bodies = [CHAT, STREAM] * 50
        answers = await asyncio.gather(*(fetch(engine, CHAT_PATH, body) for body in bodies))
        assert {status for status, _, _ in answers} == {200}
        assert engine.completed == 100
