"""Clients that are slow or silent: 408, idle close, stall, and patience where it is due."""

from __future__ import annotations

import asyncio
import json

from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.demo.profile import Speed
from tests.harness import Raw, Running, chat, eventually, raw, running
from tests.integration.http.wire import (
    CHAT,
    CHAT_BODY,
    check_error,
    closed,
    get,
    post,
    request,
)

POST = b"POST " + CHAT + b" HTTP/1.1"
STREAM = json.dumps(chat(stream=True, max_tokens=100_000)).encode()
QUICK = {
    "client_head_timeout_seconds": 0.2,
    "client_body_timeout_seconds": 0.2,
    "keep_alive_seconds": 0.2,
}


async def expect_408(client: Raw) -> None:
    """The next answer is 408, then the connection closes."""
    answer = await client.response()
    check_error(answer, 408, "invalid_request_error")
    assert answer[1]["connection"] == "close"
    await closed(client)


async def drip(client: Raw, data: bytes) -> None:
    """Sends a byte at a time, for ever, until the other side ends."""
    while not client.writer.is_closing():
        client.send(data)
        await asyncio.sleep(0.01)


async def test_a_head_that_stalls(engine: FakeEngine) -> None:
    """Half a head, then nothing: 408 in the time for a head."""
    async with running(engine, server=QUICK) as run, raw(run.port) as client:
        client.send(b"GET /health HTTP/1.1\r\nHost: a\r\n")
        await expect_408(client)


async def test_a_head_that_drips(engine: FakeEngine) -> None:
    """Bytes that trickle do not stretch the time for a head."""
    async with running(engine, server=QUICK) as run, raw(run.port) as client:
        client.send(b"GET /health HTTP/1.1\r\nX-A: ")
        dripping = asyncio.create_task(drip(client, b"a"))
        await expect_408(client)
        dripping.cancel()


async def test_a_second_head_that_stalls(engine: FakeEngine) -> None:
    """The time for a head holds for each request of a connection."""
    settings = {**QUICK, "keep_alive_seconds": 60}
    async with running(engine, server=settings) as run, raw(run.port) as client:
        client.send(get() + b"GET /hea")
        assert (await client.response())[0] == 200
        await expect_408(client)


async def test_who_says_nothing_at_all(engine: FakeEngine) -> None:
    """A connection without a byte is closed without one."""
    async with running(engine, server=QUICK) as run, raw(run.port) as client:
        await closed(client)
        assert not run.gateway.server.connections


async def test_a_body_that_stalls(engine: FakeEngine) -> None:
    """Half a body, then nothing: 408, and what was held is given back."""
    async with running(engine, server=QUICK) as run, raw(run.port) as client:
        client.send(request(POST, b"Content-Length: 1000", body=b"{"))
        await eventually(lambda: run.gateway.budget.used_bytes == 1, "a byte is held")
        await expect_408(client)
        await run.settled()
    assert engine.calls == []


async def test_a_chunked_body_that_stalls(engine: FakeEngine) -> None:
    """The same for chunks."""
    async with running(engine, server=QUICK) as run, raw(run.port) as client:
        client.send(request(POST, b"Transfer-Encoding: chunked", body=b"5\r\nhel"))
        await expect_408(client)


async def test_a_body_that_drips(engine: FakeEngine) -> None:
    """A few bytes now and then are a stall, too."""
    settings = {**QUICK, "client_body_timeout_seconds": 0.5}
    async with running(engine, server=settings) as run, raw(run.port) as client:
        client.send(request(POST, b"Content-Length: 100000", body=b"{"))
        dripping = asyncio.create_task(drip(client, b"a"))
        await expect_408(client)
        dripping.cancel()


async def test_a_slow_but_steady_upload(engine: FakeEngine) -> None:
    """An upload that goes on takes as long as it takes: several times the body timeout."""
    settings = {**QUICK, "client_body_timeout_seconds": 0.1}
    body = json.dumps(chat(text="x" * 5000)).encode()
    async with running(engine, server=settings) as run, raw(run.port) as client:
        client.send(request(POST, b"Content-Length: %d" % len(body)))
        began_s = asyncio.get_running_loop().time()
        step = len(body) // 40 + 1
        for at in range(0, len(body), step):
            client.send(body[at : at + step])
            await asyncio.sleep(0.01)
        assert (await client.response())[0] == 200
        assert asyncio.get_running_loop().time() - began_s > 0.3
    assert engine.calls[0].body == body


async def test_an_idle_connection_closes(engine: FakeEngine) -> None:
    """After an answer a connection waits for ``keep_alive_seconds``, then closes without a word."""
    async with running(engine, server=QUICK) as run, raw(run.port) as client:
        client.send(post())
        status, headers, _ = await client.response()
        assert status == 200
        assert "connection" not in headers
        await closed(client)
        assert not run.gateway.server.connections


async def test_a_call_that_takes_long_is_no_idle_client(engine: FakeEngine) -> None:
    """None of the client's time limits run while it waits for its answer."""
    engine.settings = Speed(delay_s=1.0)
    async with running(engine, server=QUICK) as run, raw(run.port) as client:
        client.send(post())
        assert (await client.response())[0] == 200


async def test_waiting_behind_a_call_is_not_slow(engine: FakeEngine) -> None:
    """A request that waits for its turn in the pipeline is not timed until it is read."""
    engine.settings = Speed(delay_s=0.6)
    whole = post()
    async with running(engine, server=QUICK) as run, raw(run.port) as client:
        client.send(whole + whole[:90])
        assert (await client.response())[0] == 200
        client.send(whole[90:])
        assert (await client.response())[0] == 200


# --- slow readers -------------------------------------------------------------------------------


async def read_slowly(client: Raw) -> bytes:
    """Reads to the end with a pause at every read; the transport pauses meanwhile."""
    data = b""
    while part := await client.reader.read(200_000):
        data += part
        await asyncio.sleep(0.001)
    return data


async def slow_connection(port: int) -> Raw:
    """A client with a small buffer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    return Raw(reader, writer)


async def test_a_slow_reader_gets_everything(engine: FakeEngine) -> None:
    """A large answer reaches a reader that takes its time, whole, also past the idle timeout."""
    engine.settings = Speed(answer_bytes=20_000_000)
    async with running(engine, server=QUICK) as run:
        client = await slow_connection(run.port)
        client.send(post(CHAT_BODY, b"Connection: close"))
        data = await read_slowly(client)
        client.writer.close()
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    if b"transfer-encoding: chunked" in head:
        assert body.endswith(b"0\r\n\r\n")
    assert len(body) >= 20_000_000


async def test_a_reader_that_never_reads_a_stream(engine: FakeEngine) -> None:
    """It is cut after the stall time; until then memory is bounded and the engine is paused, and
    its work is cancelled then."""
    engine.settings = Speed(events_per_write=50)
    stream = json.dumps(chat(stream=True, max_tokens=1_000_000)).encode()
    async with running(engine, server=QUICK) as run:
        client = await slow_connection(run.port)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(post(stream))
        server = run.gateway.server
        await eventually(lambda: server.unwritten_bytes > 0, "the client's buffers are full")
        most = 0
        while run.gateway.plane.in_flight:
            most = max(most, server.unwritten_bytes)
            await asyncio.sleep(0.005)
        assert most < 2_000_000
        await eventually(lambda: engine.cancelled == 1, "the engine was told")
        assert not server.connections
        client.writer.transport.abort()


async def test_a_reader_that_never_reads_a_large_answer(engine: FakeEngine) -> None:
    """The same for a plain answer that is too large to be held."""
    engine.settings = Speed(answer_bytes=30_000_000)
    async with running(engine, server=QUICK) as run:
        client = await slow_connection(run.port)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(post())
        server = run.gateway.server
        await eventually(lambda: server.unwritten_bytes > 0, "the client's buffers are full")
        most = 0
        while server.connections:
            most = max(most, server.unwritten_bytes)
            await asyncio.sleep(0.005)
        assert most < 8_000_000
        client.writer.transport.abort()


async def test_a_finished_answer_that_nobody_reads(gateway: Running, engine: FakeEngine) -> None:
    """An answer that is whole and closed, and never read, goes after the linger time."""
    engine.settings = Speed(answer_bytes=4_000_000)
    server = gateway.gateway.server
    server.linger_timer.length_s = 0.1
    client = await slow_connection(gateway.port)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(post(CHAT_BODY, b"Connection: close"))
    await eventually(lambda: server.unwritten_bytes > 0, "the client's buffers are full")
    await eventually(lambda: not server.connections, "the connection was cut")
    client.writer.transport.abort()


async def test_a_kept_connection_whose_answer_nobody_reads_ends_with_the_drain(
    engine: FakeEngine,
) -> None:
    """Idle by all that the gateway knows, closed by the drain, and cut after the linger time: a
    close alone never ends before a reader that stalls."""
    engine.settings = Speed(answer_bytes=12_000_000)
    async with running(engine, server={"max_held_response_bytes": 16_000_000}) as run:
        server = run.gateway.server
        server.linger_timer.length_s = 0.1
        client = await slow_connection(run.port)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        try:
            client.send(post())
            await eventually(lambda: server.unwritten_bytes > 0, "the client's buffers are full")
            await run.settled()
            server.drain()
            await eventually(lambda: not server.connections, "the connection was cut")
        finally:
            client.writer.transport.abort()


async def test_an_idle_answer_is_not_cut_while_it_is_read(engine: FakeEngine) -> None:
    """The idle timeout of a kept-alive connection does not cut an answer in the middle of its
    reading."""
    engine.settings = Speed(answer_bytes=3_900_000)
    async with running(engine, server={**QUICK, "client_body_timeout_seconds": 30}) as run:
        run.gateway.server.linger_timer.length_s = 0.1
        client = await slow_connection(run.port)
        client.send(post())
        data = b""
        while part := await client.reader.read(50_000):
            data += part
            await asyncio.sleep(0.01)
        client.writer.close()
    assert len(data) > 3_900_000


async def test_a_stalled_engine_does_not_time_the_client(engine: FakeEngine) -> None:
    """A client that waits on a silent stream is not the slow one."""
    engine.faults.set(Fault.STALL_AFTER_EVENTS, delay_s=0.8)
    async with running(engine, server=QUICK) as run, raw(run.port) as client:
        client.send(post(json.dumps(chat(stream=True)).encode()))
        status, _, body = await client.response()
        assert status == 200
        assert body.endswith(b"data: [DONE]\n\n")
