"""HTTP/1.0 clients: no chunked coding, close unless kept alive by agreement (RFC 9112 § 9.3)."""

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


async def test_kept_alive(gateway: Running) -> None:
    """Who asks for keep-alive gets it, and is told so: else it would wait for the end."""
    async with raw(gateway.port) as client:
        for _ in range(3):
            client.send(post10(CHAT_BODY, KEEP))
            status, headers, _ = await client.response()
            assert (status, headers["connection"]) == (200, "keep-alive")


@pytest.mark.parametrize("fields", [(KEEP, b"Connection: close"), (b"Connection: close", KEEP)])
async def test_close_wins(gateway: Running, fields: tuple[bytes, ...]) -> None:
    """Whoever says both means close."""
    async with raw(gateway.port) as client:
        client.send(post10(CHAT_BODY, *fields))
        status, headers, _ = await client.response()
        assert (status, headers["connection"]) == (200, "close")
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
