"""HTTP/1.0 clients: no chunked coding, and every answer ends its connection (RFC 9112 § 9.3)."""

from __future__ import annotations

import json

import pytest

from nexus.demo.engine import FakeEngine
from tests.harness import Running, chat, raw
from tests.integration.http.wire import CHAT, CHAT_BODY, closed, request

POST = b"POST " + CHAT + b" HTTP/1.0"
KEEP = b"Connection: keep-alive"
STREAM = json.dumps(chat(stream=True)).encode()


def post10(body: bytes, *fields: bytes, host: bool = True) -> bytes:
    """A POST of HTTP/1.0."""
    return request(POST, b"Content-Length: %d" % len(body), *fields, host=host, body=body)


@pytest.mark.parametrize("host", [True, False], ids=["with-host", "without-host"])
async def test_closed_after_the_answer(gateway: Running, host: bool) -> None:
    """Without agreement the connection closes after a sized answer; Host may be missing."""
    async with raw(gateway.port) as client:
        client.send(post10(CHAT_BODY, host=host))
        status, headers, _ = await client.response()
        assert (status, headers["connection"]) == (200, "close")
        assert "content-length" in headers
        await closed(client)


ASKING = [(KEEP,), (KEEP, b"Connection: close"), (b"Connection: close", KEEP)]


@pytest.mark.parametrize("fields", ASKING)
async def test_keep_alive_is_declined(gateway: Running, fields: tuple[bytes, ...]) -> None:
    """Who asks for keep-alive is told that the connection closes, and it does: a client that is
    not told would wait for an end that does not come."""
    async with raw(gateway.port) as client:
        client.send(post10(CHAT_BODY, *fields))
        status, headers, _ = await client.response()
        assert (status, headers["connection"]) == (200, "close")
        await closed(client)


@pytest.mark.parametrize("line", [b"GET /health", b"GET /nowhere", b"PUT " + CHAT])
async def test_pages_and_errors_close_too(gateway: Running, line: bytes) -> None:
    """Whatever answers an HTTP/1.0 request that asked for keep-alive closes, and says so."""
    async with raw(gateway.port) as client:
        client.send(request(line + b" HTTP/1.0", KEEP))
        _, headers, _ = await client.response()
        assert headers["connection"] == "close"
        await closed(client)


@pytest.mark.parametrize("fields", [(), (KEEP,)], ids=["close", "keep-alive"])
async def test_a_stream_ends_with_the_connection(
    gateway: Running, fields: tuple[bytes, ...]
) -> None:
    """A streamed answer has no chunks: it ends where the connection does."""
    async with raw(gateway.port) as client:
        client.send(post10(STREAM, *fields))
        data = await client.rest()
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"content-length" not in head
    assert b"connection: close" in head
    assert body.startswith(b"data: {")
    assert body.endswith(b"data: [DONE]\n\n")


async def test_an_error(gateway: Running, engine: FakeEngine) -> None:
    """Errors come sized and closed, too."""
    async with raw(gateway.port) as client:
        client.send(request(b"GET /nowhere HTTP/1.0"))
        status, headers, _ = await client.response()
        assert (status, headers["connection"]) == (404, "close")
        await closed(client)
    assert engine.calls == []
