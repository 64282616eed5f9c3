"""Sizes: 431, 414, 413 (behaviour § 2.2), and that an early refusal reaches who still uploads."""

from __future__ import annotations

import asyncio
import json

import pytest

from nexus.demo.engine import FakeEngine
from tests.harness import Raw, Running, raw, running
from tests.integration.http.wire import (
    CHAT,
    CHAT_BODY,
    check_error,
    closed,
    expect_error,
    get,
    post,
    request,
)

POST = b"POST " + CHAT + b" HTTP/1.1"
CHUNKED = b"Transfer-Encoding: chunked"
MAX_BODY = 10_485_760
MAX_HEAD = 65_536
MAX_TARGET = 16_384


def sized_body(size: int) -> bytes:
    """A chat request's JSON of exactly ``size`` bytes."""
    bare = len(json.dumps({"model": "demo-model", "messages": [], "x": ""}))
    return json.dumps({"model": "demo-model", "messages": [], "x": "a" * (size - bare)}).encode()


def sized_head(size: int) -> bytes:
    """A GET whose head has exactly ``size`` bytes between request line and blank line, counted as
    the server counts: fields with their separators, and the target."""
    bare = len(b"Host: gateway.test\r\n") + len(b"X-Fill: \r\n") + len(b"/health")
    return get(b"/health", b"X-Fill: " + b"a" * (size - bare))


# --- heads --------------------------------------------------------------------------------------


TOO_LARGE = {
    "300-kb-in-one-field": get(b"/health", b"X-A: " + b"a" * 300_000),
    "300-kb-name": get(b"/health", b"a" * 300_000 + b": 1"),
    "300-kb-in-many-fields": get(b"/health", *[b"X-A: " + b"a" * 2000] * 150),
    "5000-fields": get(b"/health", *[b"X-A: 1"] * 5000),
    "201-fields": get(b"/health", *[b"X-A: 1"] * 200),
    "just-too-large": sized_head(MAX_HEAD + 1),
    "unfinished": b"GET /health HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 100_000,
    "behind-another": get(b"/livez") + get(b"/health", b"X-A: " + b"a" * 300_000),
    "behind-a-large-body": post(sized_body(100_000)) + get(b"/health", b"X-A: " + b"a" * 100_000),
}


@pytest.mark.parametrize("data", TOO_LARGE.values(), ids=TOO_LARGE)
async def test_a_head_that_is_too_large(gateway: Running, data: bytes) -> None:
    """A head over its limit, whatever it is made of, is 431 and closed."""
    async with raw(gateway.port) as client:
        client.send(data)
        answer = await client.response()
        if data.count(b"HTTP/1.1\r\n") == 2:
            assert answer[0] == 200
            answer = await client.response()
        check_error(answer, 431, "invalid_request_error")
        assert answer[1]["connection"] == "close"
        await closed(client)


@pytest.mark.parametrize("pieces", [1, 2, 7], ids=["whole", "2-pieces", "7-pieces"])
@pytest.mark.parametrize(
    ("size", "status"), [(MAX_HEAD - 100, 200), (MAX_HEAD + 64, 431), (2 * MAX_HEAD - 200, 431)]
)
async def test_the_border_of_a_head(gateway: Running, size: int, status: int, pieces: int) -> None:
    """The limit holds for a head that comes in pieces, each of them below it."""
    data = sized_head(size)
    step = len(data) // pieces + 1
    async with raw(gateway.port) as client:
        for at in range(0, len(data), step):
            client.send(data[at : at + step])
            await client.writer.drain()
        assert (await client.response())[0] == status


async def test_an_endless_head_is_not_gathered(gateway: Running) -> None:
    """Twenty megabytes of unfinished head end at the limit: refused, the rest thrown away."""
    async with raw(gateway.port) as client:
        client.send(b"GET /health HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 20_000_000)
        check_error(await client.response(), 431)
        await closed(client)


TARGETS = {
    "300-kb": get(b"/" + b"a" * 300_000),
    "just-too-long": get(b"/" + b"a" * MAX_TARGET),
    "long-query": get(b"/health?" + b"a" * 300_000),
    "unfinished": b"GET /" + b"a" * 40_000,
}


@pytest.mark.parametrize("data", TARGETS.values(), ids=TARGETS)
async def test_a_target_that_is_too_long(gateway: Running, data: bytes) -> None:
    """A request target over its limit is 414 and closed."""
    await expect_error(gateway.port, data, 414, "invalid_request_error")


async def test_the_longest_target(gateway: Running) -> None:
    """A target of exactly the limit passes."""
    async with raw(gateway.port) as client:
        client.send(get(b"/health?" + b"a" * (MAX_TARGET - len(b"/health?"))))
        assert (await client.response())[0] == 200


# --- bodies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [MAX_BODY + 1, 2**31, 2**32, 2**63, 2**63 - 1, 2**64 - 1])
async def test_a_length_that_is_too_large(
    gateway: Running, engine: FakeEngine, length: int
) -> None:
    """413 is decided from Content-Length, before a byte of the body is read."""
    head = request(POST, b"Content-Length: %d" % length)
    error = await expect_error(gateway.port, head, 413, "payload_too_large")
    assert str(MAX_BODY) in error["message"]
    assert engine.calls == []


async def test_a_length_that_overflows(gateway: Running) -> None:
    """A length that no integer holds is malformed."""
    await expect_error(gateway.port, request(POST, b"Content-Length: " + b"9" * 40), 400)
    await expect_error(gateway.port, request(POST, b"Content-Length: %d" % 2**64), 400)


@pytest.mark.parametrize("length", [2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
async def test_a_length_near_the_borders_of_integers(gateway: Running, length: int) -> None:
    """A length that some integer would turn negative or small is 413 like any that is too large."""
    data = request(POST, b"Content-Length: %d" % length, body=b"{}")
    async with raw(gateway.port) as client:
        client.send(data)
        answer = await client.response()
        check_error(answer, 413, "payload_too_large")
        assert answer[1]["connection"] == "close"


async def test_the_largest_body(gateway: Running, engine: FakeEngine) -> None:
    """Exactly 10 485 760 bytes pass, by length and in chunks, and arrive whole."""
    body = sized_body(MAX_BODY)
    assert len(body) == MAX_BODY
    async with raw(gateway.port) as client:
        client.send(post(body))
        assert (await client.response())[0] == 200
        half = MAX_BODY // 2
        client.send(
            request(POST, CHUNKED)
            + b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n"
            % (half, body[:half], MAX_BODY - half, body[half:])
        )
        assert (await client.response())[0] == 200
    assert [call.body == body for call in engine.calls] == [True, True]


async def test_one_byte_more_than_the_largest_body(gateway: Running, engine: FakeEngine) -> None:
    """One byte more is 413: from its length, and while chunks are read."""
    await expect_error(gateway.port, post(sized_body(MAX_BODY + 1)), 413, "payload_too_large")
    chunked = request(POST, CHUNKED) + b"%x\r\n%b" % (MAX_BODY + 1, b"a" * (MAX_BODY + 1))
    await expect_error(gateway.port, chunked, 413, "payload_too_large")
    assert engine.calls == []


async def test_chunks_without_end(gateway: Running) -> None:
    """A chunked body is refused as soon as it exceeds the limit, though its end is nowhere."""
    chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    async with raw(gateway.port) as client:
        client.send(request(POST, CHUNKED) + chunk * 161)
        check_error(await client.response(), 413, "payload_too_large")
        await closed(client)


class BlockingUpload(asyncio.Protocol):
    """A client that writes all of its 11 MB before it reads, like a plain blocking one."""

    def __init__(self) -> None:
        self.received = b""
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer."""
        self.received += data

    def eof_received(self) -> None:
        """The server ended its side."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self.ended.set_result(exc)


async def test_an_early_refusal_reaches_who_still_uploads(gateway: Running) -> None:
    """The 413 to 11 MB is read by the client in 30 of 30, with either framing, not lost in a
    reset."""
    loop = asyncio.get_running_loop()
    body = b"a" * 11_000_000
    length = request(POST, b"Content-Length: %d" % len(body))
    chunked = request(POST, CHUNKED) + b"%x\r\n" % len(body)
    got = 0
    for turn in range(30):
        transport, client = await loop.create_connection(BlockingUpload, "127.0.0.1", gateway.port)
        transport.pause_reading()
        transport.write(length if turn % 2 else chunked)
        transport.write(body)
        while transport.get_write_buffer_size():
            await asyncio.sleep(0.001)
        transport.resume_reading()
        async with asyncio.timeout(10):
            assert await client.ended is None
        got += client.received.startswith(b"HTTP/1.1 413 ")
    assert got == 30


async def test_an_early_refusal_to_an_ordinary_client(gateway: Running) -> None:
    """httpx gets the 413 too."""
    for _ in range(5):
        answer = await gateway.client.post(CHAT.decode(), content=b"a" * 11_000_000)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "payload_too_large"


async def test_after_a_refusal_the_gateway_serves_on(gateway: Running) -> None:
    """A refused upload costs nobody else anything."""
    async with raw(gateway.port) as uploading, raw(gateway.port) as other:
        uploading.send(request(POST, b"Content-Length: 11000000") + b"a" * 100_000)
        other.send(post())
        assert (await other.response())[0] == 200
        check_error(await uploading.response(), 413)


# --- what is configured -------------------------------------------------------------------------


async def test_configured_limits(engine: FakeEngine) -> None:
    """The limits are those of the configuration."""
    server = {"max_body_bytes": 1000, "max_header_bytes": 2048, "max_target_bytes": 256}
    async with running(engine, server=server) as run:
        await expect_error(run.port, post(b" " * 1001), 413, "payload_too_large")
        await expect_error(run.port, get(b"/health", b"X-A: " + b"a" * 2048), 431)
        await expect_error(run.port, get(b"/" + b"a" * 256), 414)
        async with raw(run.port) as client:
            client.send(post())
            assert (await client.response())[0] == 200


# --- all bodies together ------------------------------------------------------------------------


async def upload_part(port: int, part: bytes, whole: int) -> Raw:
    """A connection that has sent a part of its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = Raw(reader, writer)
    client.send(request(POST, b"Content-Length: %d" % whole) + part)
    await writer.drain()
    return client


async def test_all_bodies_together(engine: FakeEngine) -> None:
    """Bodies held in all over ``max_buffered_bytes`` are 503 with Retry-After; what a client that
    leaves or is refused had taken is given back."""
    async with running(engine, server={"max_buffered_bytes": 100_000}) as run:
        budget = run.gateway.budget
        first = await upload_part(run.port, b"a" * 80_000, 90_000)
        second = await upload_part(run.port, b"a" * 30_000, 40_000)
        answer = await second.response()
        check_error(answer, 503, "service_unavailable")
        assert int(answer[1]["retry-after"]) >= 1
        assert answer[1]["connection"] == "close"
        assert 0 < budget.used_bytes <= 100_000
        first.writer.transport.abort()
        await run.settled()
        async with raw(run.port) as client:
            client.send(post(sized_body(90_000)))
            assert (await client.response())[0] == 200
        second.writer.close()


async def test_a_decoded_body_counts_as_what_it_is(engine: FakeEngine) -> None:
    """A small gzip that grows beyond the budget is 503, and nothing stays taken."""
    import gzip

    body = gzip.compress(sized_body(200_000))
    async with running(engine, server={"max_buffered_bytes": 100_000}) as run:
        async with raw(run.port) as client:
            client.send(post(body, b"Content-Encoding: gzip"))
            answer = await client.response()
            check_error(answer, 503, "service_unavailable")
            assert "retry-after" in answer[1]
        await run.settled()
        served = await run.client.post(CHAT.decode(), content=CHAT_BODY)
        assert served.status_code == 200
