"""``Expect: 100-continue`` (RFC 9110 § 10.1.1)."""

from __future__ import annotations

import pytest

from nexus.demo.engine import FakeEngine
from tests.harness import Running, raw
from tests.integration.http.wire import CHAT, CHAT_BODY, check_error, closed, get, request

POST = b"POST " + CHAT + b" HTTP/1.1"
EXPECT = b"Expect: 100-continue"
LENGTH = b"Content-Length: %d" % len(CHAT_BODY)
GO_AHEAD = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize("field", [LENGTH, b"Transfer-Encoding: chunked"], ids=["length", "chunks"])
@pytest.mark.parametrize("expect", [EXPECT, b"expect: 100-Continue"], ids=["lower", "mixed"])
async def test_told_to_go_ahead(
    gateway: Running, engine: FakeEngine, field: bytes, expect: bytes
) -> None:
    """Who expects it is told to go ahead, then served."""
    async with raw(gateway.port) as client:
        client.send(request(POST, field, expect))
        assert await client.until(b"\r\n\r\n") == GO_AHEAD
        if field is LENGTH:
            client.send(CHAT_BODY)
        else:
            client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(CHAT_BODY), CHAT_BODY))
        assert (await client.response())[0] == 200
    assert engine.calls[0].body == CHAT_BODY
    assert engine.calls[0].header(b"expect") is None


async def test_refused_without_go_ahead(gateway: Running) -> None:
    """A body over the limit is 413 at once: its client is never told to go ahead."""
    async with raw(gateway.port) as client:
        client.send(request(POST, b"Content-Length: 11000000", EXPECT))
        answer = await client.response()
        check_error(answer, 413, "payload_too_large")
        await closed(client)


async def test_behind_another_request(gateway: Running, engine: FakeEngine) -> None:
    """Pipelined behind another request, the go-ahead comes after that one's answer."""
    async with raw(gateway.port) as client:
        client.send(request(POST, LENGTH, body=CHAT_BODY) + request(POST, LENGTH, EXPECT))
        status, _, body = await client.response()
        assert status == 200
        assert b"chat.completion" in body
        assert await client.until(b"\r\n\r\n") == GO_AHEAD
        client.send(CHAT_BODY)
        assert (await client.response())[0] == 200
    assert len(engine.calls) == 2


async def test_behind_another_request_with_its_body(gateway: Running) -> None:
    """Who does not wait for the go-ahead is served all the same."""
    one = request(POST, LENGTH, EXPECT, body=CHAT_BODY)
    async with raw(gateway.port) as client:
        client.send(get(b"/livez") + one + get(b"/livez"))
        assert (await client.response())[2] == b'{"status":"alive"}'
        answer = await client.response()
        if answer[0] == 100:
            answer = await client.response()
        assert answer[0] == 200
        assert (await client.response())[2] == b'{"status":"alive"}'


async def test_without_a_body(gateway: Running) -> None:
    """A request without a body gets no go-ahead."""
    async with raw(gateway.port) as client:
        client.send(get(b"/health", EXPECT))
        assert (await client.response())[0] == 200


async def test_of_http_1_0(gateway: Running) -> None:
    """HTTP/1.0 has no interim answers: the expectation is ignored."""
    async with raw(gateway.port) as client:
        client.send(request(b"POST " + CHAT + b" HTTP/1.0", LENGTH, EXPECT, body=CHAT_BODY))
        assert (await client.response())[0] == 200


async def test_another_expectation(gateway: Running) -> None:
    """What else may be expected we cannot meet: 417, closed."""
    async with raw(gateway.port) as client:
        client.send(request(POST, LENGTH, b"Expect: the-moon"))
        answer = await client.response()
        check_error(answer, 417)
        await closed(client)


async def test_leaving_instead_of_going_ahead(gateway: Running) -> None:
    """A client that leaves after the go-ahead leaves nothing behind."""
    async with raw(gateway.port) as client:
        client.send(request(POST, LENGTH, EXPECT))
        assert await client.until(b"\r\n\r\n") == GO_AHEAD
