"""Odd requests that are HTTP all the same: handled, and read in one way only (traps)."""

from __future__ import annotations

import json

import pytest

from nexus.demo.engine import FakeEngine
from tests.harness import Running, raw
from tests.integration.http.wire import CHAT, CHAT_BODY, get, post, request

POST = b"POST " + CHAT + b" HTTP/1.1"
CHUNKED = b"Transfer-Encoding: chunked"


def chunks(body: bytes, size: int, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    """A chunked body in chunks of ``size`` bytes."""
    parts = [
        b"%x%b\r\n%b\r\n" % (len(part), extension, part)
        for part in (body[at : at + size] for at in range(0, len(body), size))
    ]
    return b"".join(parts) + b"0\r\n" + trailers + b"\r\n"


ODD_CHUNKS = chunks(CHAT_BODY, 20, trailers=b"X: 1\r\n" * 5000)
PADDED_LENGTH = b"Content-Length: 000%d" % len(CHAT_BODY)
CHATS = {
    "chunk-of-one-byte": request(POST, CHUNKED, body=chunks(CHAT_BODY, 1)),
    "chunk-extension": request(POST, CHUNKED, body=chunks(CHAT_BODY, 20, b";a=b")),
    "chunk-extension-quoted": request(POST, CHUNKED, body=chunks(CHAT_BODY, 20, b';a="b;c"')),
    "trailers": request(POST, CHUNKED, body=chunks(CHAT_BODY, 20, trailers=b"X-T: 1\r\n")),
    "5000-trailers": request(
        POST, CHUNKED, body=chunks(CHAT_BODY, 20, trailers=b"X: 1\r\n" * 5000)
    ),
    "chunked-in-capitals": request(POST, b"Transfer-Encoding: CHUNKED", body=chunks(CHAT_BODY, 9)),
    "length-tab": request(POST, b"Content-Length: %d\t" % len(CHAT_BODY), body=CHAT_BODY),
    "length-leading-zeros": request(
        POST, b"Content-Length: 000%d" % len(CHAT_BODY), body=CHAT_BODY
    ),
    "names-in-capitals": request(POST, b"CONTENT-LENGTH: %d" % len(CHAT_BODY), body=CHAT_BODY),
    "crlf-before": b"\r\n\r\n" + post(),
    "high-bytes-in-value": post(CHAT_BODY, b"X-Name: caf\xc3\xa9 \xff"),
    "193-fields": post(CHAT_BODY, *(b"X-%d: 1" % number for number in range(190))),
    "query": post(CHAT_BODY, path=CHAT + b"?api-version=1"),
    "trailing-slash": post(CHAT_BODY, path=CHAT + b"/"),
    "absolute-form": request(
        b"POST http://other.test" + CHAT + b" HTTP/1.1",
        b"Content-Length: %d" % len(CHAT_BODY),
        body=CHAT_BODY,
    ),
}


@pytest.mark.parametrize("data", CHATS.values(), ids=CHATS)
async def test_odd_requests_are_served(gateway: Running, engine: FakeEngine, data: bytes) -> None:
    """The body arrives as it was meant, and the connection goes on to the next request."""
    async with raw(gateway.port) as client:
        client.send(data)
        assert (await client.response())[0] == 200
        client.send(get())
        assert (await client.response())[0] == 200
    [call] = engine.calls
    assert call.body == CHAT_BODY
    assert call.header(b"x-t") is None


@pytest.mark.parametrize("cut", [1, 10, 30, 60, 90, 120, 150])
async def test_a_request_in_two_pieces(gateway: Running, engine: FakeEngine, cut: int) -> None:
    """Wherever the network cuts a chunked request, it arrives whole."""
    data = request(POST, CHUNKED, body=chunks(CHAT_BODY, 7, b";x", b"X-T: 1\r\n"))
    async with raw(gateway.port) as client:
        client.send(data[:cut])
        await client.writer.drain()
        client.send(data[cut:])
        assert (await client.response())[0] == 200
    assert engine.calls[0].body == CHAT_BODY


async def test_byte_by_byte(gateway: Running, engine: FakeEngine) -> None:
    """A request that comes one byte at a time arrives whole."""
    async with raw(gateway.port) as client:
        client.writer.transport.get_extra_info("socket").setsockopt(6, 1, 1)
        for byte in post():
            client.send(bytes((byte,)))
            await client.writer.drain()
        assert (await client.response())[0] == 200
    assert engine.calls[0].body == CHAT_BODY


async def test_tiny_chunks_of_a_large_body(gateway: Running, engine: FakeEngine) -> None:
    """A megabyte in chunks of three bytes arrives in order."""
    body = json.dumps({"model": "demo-model", "messages": [], "x": "0123456789" * 60_000}).encode()
    async with raw(gateway.port) as client:
        client.send(request(POST, CHUNKED, body=chunks(body, 3)))
        assert (await client.response())[0] == 200
    assert engine.calls[0].body == body


async def test_the_authority_of_an_absolute_target_counts(gateway: Running) -> None:
    """An absolute-form target's host stands above ``Host`` (RFC 9112 § 3.2.2): here, for the
    same-origin rule."""
    async with raw(gateway.port) as client:
        client.send(
            request(
                b"GET http://127.0.0.1/v1/models HTTP/1.1",
                b"Host: elsewhere.test",
                b"Origin: http://127.0.0.1",
                host=False,
            )
        )
        assert (await client.response())[0] == 200


async def test_a_doubled_slash_is_another_path(gateway: Running) -> None:
    """``//host/path`` is a path, never a host."""
    async with raw(gateway.port) as client:
        client.send(get(b"//health"))
        assert (await client.response())[0] == 404


async def test_other_protocols_of_the_same_shape(gateway: Running) -> None:
    """``RTSP/1.0`` is answered like HTTP/1.0, which frames alike, and closed."""
    async with raw(gateway.port) as client:
        client.send(request(b"GET /health RTSP/1.0"))
        status, headers, _ = await client.response()
        assert (status, headers["connection"]) == (200, "close")
        assert await client.rest() == b""


H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ")


@pytest.mark.parametrize("split", [None, 40, 300], ids=["whole", "in-the-head", "in-the-body"])
async def test_the_body_of_a_request_that_offers_an_upgrade(
    gateway: Running, engine: FakeEngine, split: int | None
) -> None:
    """Java's client offers h2c with every POST: the offer is ignored, the body is read."""
    body = json.dumps({"model": "demo-model", "messages": [], "x": "y" * 300}).encode()
    data = post(body, *H2C)
    async with raw(gateway.port) as client:
        client.send(data[:split])
        await client.writer.drain()
        if split is not None:
            client.send(data[split:])
        status, headers, _ = await client.response()
        assert status == 200
        assert "upgrade" not in headers
        client.send(post())
        assert (await client.response())[0] == 200
    first, second = engine.calls
    assert (first.body, second.body) == (body, CHAT_BODY)
    assert first.header(b"upgrade") is None
    assert first.header(b"http2-settings") is None
    assert first.header(b"connection") is None


async def test_an_upgrade_offer_in_a_chunked_request(gateway: Running, engine: FakeEngine) -> None:
    """The body of a chunked request with an upgrade offer is read, too."""
    async with raw(gateway.port) as client:
        client.send(request(POST, CHUNKED, *H2C, body=chunks(CHAT_BODY, 9)) + get())
        assert (await client.response())[0] == 200
        assert (await client.response())[0] == 200
    assert engine.calls[0].body == CHAT_BODY


async def test_many_upgrade_offers_in_one_write(gateway: Running) -> None:
    """A write full of upgrade offers is answered like any other pipeline."""
    offer = get(b"/livez", b"Connection: upgrade", b"Upgrade: x")
    async with raw(gateway.port) as client:
        client.send(offer * 50)
        for _ in range(50):
            assert (await client.response())[0] == 200


async def test_an_offer_with_expectation_gets_one_go_ahead(gateway: Running) -> None:
    """``Upgrade`` together with ``Expect`` leads to one 100, not two."""
    head, _, body = post(CHAT_BODY, *H2C, b"Expect: 100-continue").partition(b"\r\n\r\n")
    async with raw(gateway.port) as client:
        client.send(head + b"\r\n\r\n")
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(body)
        assert (await client.response())[0] == 200


async def test_a_websocket_offer_is_a_plain_get(gateway: Running) -> None:
    """A GET that offers a WebSocket is answered as a GET (RFC 9110 § 7.8)."""
    async with raw(gateway.port) as client:
        client.send(get(b"/health", b"Connection: Upgrade", b"Upgrade: websocket"))
        assert (await client.response())[0] == 200
        client.send(get())
        assert (await client.response())[0] == 200


@pytest.mark.parametrize(
    "tail", [get(), b"\x00\xff garbage", b"\r\n" * 40], ids=["next", "junk", "crlf"]
)
async def test_bytes_after_close(gateway: Running, tail: bytes) -> None:
    """Bytes behind a request that says ``Connection: close`` do not spoil its answer."""
    async with raw(gateway.port) as client:
        client.send(post(CHAT_BODY, b"Connection: close") + tail)
        status, headers, body = await client.response()
        assert (status, headers["connection"]) == (200, "close")
        assert json.loads(body)["object"] == "chat.completion"
        assert await client.rest() == b""


async def test_a_get_with_a_body(gateway: Running) -> None:
    """A GET's body is read and left out: the next request begins behind it."""
    async with raw(gateway.port) as client:
        client.send(get(b"/health", b"Content-Length: 5") + b"hello" + get(b"/livez"))
        assert (await client.response())[0] == 200
        assert (await client.response())[2] == b'{"status":"alive"}'
