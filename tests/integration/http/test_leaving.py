"""A client that goes, by FIN or RST, in whatever phase: nothing of it stays."""

from __future__ import annotations

import json
import socket
import struct

import pytest

from nexus.core.call import Outcome
from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.demo.profile import Speed
from tests.harness import Raw, Running, chat, eventually, raw
from tests.integration.http.wire import CHAT, CHAT_BODY, get, post, request

POST = b"POST " + CHAT + b" HTTP/1.1"
STREAM = json.dumps(chat(stream=True, max_tokens=100_000)).encode()
LENGTH = b"Content-Length: %d" % len(CHAT_BODY)


def leave(client: Raw, how: str) -> None:
    """Ends the connection: FIN, RST, or FIN of our side only."""
    if how == "half":
        client.writer.write_eof()
        return
    if how == "rst":
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


LEAVING = pytest.mark.parametrize("how", ["fin", "rst", "half"])

BEFORE_IT_IS_WHOLE = {
    "nothing-sent": b"",
    "in-the-request-line": b"GET /hea",
    "in-the-head": b"GET /health HTTP/1.1\r\nHost: gateway.test\r\nX-A",
    "head-without-body": request(POST, LENGTH),
    "in-the-body": request(POST, LENGTH, body=CHAT_BODY[:20]),
    "in-a-large-body": request(POST, b"Content-Length: 5000000") + b"a" * 1_000_000,
    "in-a-chunk-size": request(POST, b"Transfer-Encoding: chunked") + b"1",
    "in-a-chunk": request(POST, b"Transfer-Encoding: chunked") + b"ff\r\nabc",
    "in-the-trailers": request(POST, b"Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\nX: 1",
    "after-expect": request(POST, LENGTH, b"Expect: 100-continue"),
    "after-a-refusal": request(POST, b"Content-Length: 20000000") + b"a" * 1_000_000,
}


@LEAVING
@pytest.mark.parametrize("data", BEFORE_IT_IS_WHOLE.values(), ids=BEFORE_IT_IS_WHOLE)
async def test_before_the_request_is_whole(
    gateway: Running, engine: FakeEngine, data: bytes, how: str
) -> None:
    """No connection, timer or held byte stays of a request that never became whole."""
    server = gateway.gateway.server
    async with raw(gateway.port) as client:
        client.send(data)
        await eventually(lambda: len(server.connections) == 1, "the server has the connection")
        leave(client, how)
        await eventually(lambda: not server.connections, "the server let go of the connection")
        assert len(server.head_timer) + len(server.body_timer) == 0
        assert len(server.linger_timer) + len(server.stall_timer) == 0
        await gateway.settled()
    assert engine.calls == []
    refused = data is BEFORE_IT_IS_WHOLE["after-a-refusal"]  # which was answered, and is a call
    assert [record.status for record in gateway.records] == [413] * refused


@LEAVING
async def test_between_requests(gateway: Running, how: str) -> None:
    """An idle connection that ends is forgotten."""
    server = gateway.gateway.server
    async with raw(gateway.port) as client:
        client.send(get())
        assert (await client.response())[0] == 200
        leave(client, how)
        await eventually(lambda: not server.connections, "the server let go of the connection")


@LEAVING
@pytest.mark.parametrize("body", [CHAT_BODY, STREAM], ids=["plain", "stream"])
async def test_while_waiting_for_the_answer(
    gateway: Running, engine: FakeEngine, body: bytes, how: str
) -> None:
    """Before a byte of the answer: the engine's work is cancelled, the call counted."""
    engine.faults.set(Fault.STALL)
    async with raw(gateway.port) as client:
        client.send(post(body))
        await eventually(lambda: engine.in_flight == 1, "the call is at the engine")
        leave(client, how)
        await eventually(lambda: engine.in_flight == 0, "the engine was told")
    await gateway.settled()
    assert [record.outcome for record in gateway.records] == [Outcome.CANCELLED]
    assert engine.cancelled == 1


@LEAVING
async def test_in_the_middle_of_a_stream(gateway: Running, engine: FakeEngine, how: str) -> None:
    """After the commit: the engine's stream is cancelled at once."""
    engine.settings = Speed(tokens_per_s=200)
    async with raw(gateway.port) as client:
        client.send(post(STREAM))
        await client.until(b"data: ")
        leave(client, how)
        await eventually(lambda: engine.cancelled == 1, "the engine was told")
    await gateway.settled()
    assert [record.outcome for record in gateway.records] == [Outcome.CANCELLED]


@LEAVING
async def test_with_requests_in_the_pipeline(
    gateway: Running, engine: FakeEngine, how: str
) -> None:
    """What waits behind the running call is forgotten with it."""
    engine.faults.set(Fault.STALL)
    async with raw(gateway.port) as client:
        client.send(post() * 5)
        await eventually(lambda: engine.in_flight == 1, "the call is at the engine")
        leave(client, how)
        await eventually(lambda: engine.in_flight == 0, "the engine was told")
    await gateway.settled()
    assert len(engine.calls) == 1


@LEAVING
async def test_with_requests_behind_the_running_one(
    gateway: Running, engine: FakeEngine, how: str
) -> None:
    """The same when they came later, in reads of their own: a client that is kept from being read
    could not leave any more."""
    engine.faults.set(Fault.STALL)
    async with raw(gateway.port) as client:
        client.send(post())
        await eventually(lambda: engine.in_flight == 1, "the call is at the engine")
        [connection] = gateway.gateway.server.connections
        client.send(post() * 2)
        await eventually(lambda: connection._backlog_bytes == 2 * len(post()), "they wait")
        leave(client, how)
        await eventually(lambda: engine.in_flight == 0, "the engine was told")
    await gateway.settled()
    assert len(engine.calls) == 1


async def test_while_dialling(gateway: Running, engine: FakeEngine) -> None:
    """A client that leaves at once, before the backend's connection is made."""
    gateway.gateway.plane.drop_connections()
    for _ in range(20):
        async with raw(gateway.port) as client:
            client.send(post())
            await client.writer.drain()
            leave(client, "rst")
    await gateway.settled()
    await eventually(lambda: engine.in_flight == 0, "the engine is at rest")


async def test_a_refused_uploader_that_stays_silent_is_cut(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was refused and neither reads on nor leaves is cut after a while."""
    server = gateway.gateway.server
    server.linger_timer.length_s = 0.05
    async with raw(gateway.port) as client:
        client.send(request(POST, b"Content-Length: 20000000") + b"a" * 1000)
        assert (await client.response())[0] == 413
        await eventually(lambda: not server.connections, "the connection was cut")
