"""Request bodies with ``Content-Encoding`` (behaviour § 2.2): decoded, bounded, or refused."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest

from nexus.demo.engine import FakeEngine
from tests.harness import Running, raw
from tests.integration.http.wire import CHAT_BODY, check_error, get, post


def raw_deflate(data: bytes) -> bytes:
    """The bare DEFLATE format, as some clients send it."""
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(data) + encoder.flush()


GOOD = {
    "gzip": (b"gzip", gzip.compress(CHAT_BODY)),
    "x-gzip": (b"x-gzip", gzip.compress(CHAT_BODY)),
    "gzip-in-capitals": (b"GZIP", gzip.compress(CHAT_BODY)),
    "deflate": (b"deflate", zlib.compress(CHAT_BODY)),
    "deflate-raw": (b"deflate", raw_deflate(CHAT_BODY)),
    "identity": (b"identity", CHAT_BODY),
}


@pytest.mark.parametrize(("coding", "body"), GOOD.values(), ids=GOOD)
async def test_decoded(gateway: Running, engine: FakeEngine, coding: bytes, body: bytes) -> None:
    """The backend gets the decoded body without the field that says it was encoded."""
    async with raw(gateway.port) as client:
        client.send(post(body, b"Content-Encoding: " + coding))
        assert (await client.response())[0] == 200
    [call] = engine.calls
    assert call.body == CHAT_BODY
    assert call.header(b"content-encoding") is None
    assert call.header(b"content-length") == b"%d" % len(CHAT_BODY)


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip, gzip", b"gzip, br", b"nonsense"])
async def test_unknown(gateway: Running, engine: FakeEngine, coding: bytes) -> None:
    """Another coding is 415 and says which are known; the connection goes on."""
    async with raw(gateway.port) as client:
        client.send(post(CHAT_BODY, b"Content-Encoding: " + coding) + get())
        answer = await client.response()
        check_error(answer, 415)
        assert answer[1]["accept-encoding"] == "gzip, deflate"
        assert (await client.response())[0] == 200
    assert engine.calls == []


DAMAGED = {
    "not-gzip": (b"gzip", CHAT_BODY),
    "cut": (b"gzip", gzip.compress(CHAT_BODY)[:-5]),
    "checksum": (b"gzip", gzip.compress(CHAT_BODY)[:-8] + bytes(8)),
    "surplus": (b"gzip", gzip.compress(CHAT_BODY) + b"more"),
    "empty": (b"gzip", b""),
    "not-deflate": (b"deflate", CHAT_BODY),
    "deflate-cut": (b"deflate", zlib.compress(CHAT_BODY)[:-5]),
}


@pytest.mark.parametrize(("coding", "body"), DAMAGED.values(), ids=DAMAGED)
async def test_damaged(gateway: Running, engine: FakeEngine, coding: bytes, body: bytes) -> None:
    """A damaged body is 400 and reaches nobody."""
    async with raw(gateway.port) as client:
        client.send(post(body, b"Content-Encoding: " + coding))
        check_error(await client.response(), 400)
    assert engine.calls == []


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
async def test_bomb(gateway: Running, engine: FakeEngine, coding: bytes) -> None:
    """The limit counts decoded bytes: a body that unpacks to 30 MB is 413."""
    encoder = zlib.compressobj(wbits=31 if coding == b"gzip" else 15)
    zeros = bytes(10_000_000)
    bomb = b"".join(encoder.compress(zeros) for _ in range(3)) + encoder.flush()
    assert len(bomb) < 300_000
    async with raw(gateway.port) as client:
        client.send(post(bomb, b"Content-Encoding: " + coding))
        check_error(await client.response(), 413, "payload_too_large")
    assert engine.calls == []


async def test_the_border_counts_decoded_bytes(gateway: Running) -> None:
    """Exactly the limit once decoded passes, one byte more does not."""
    bare = len(json.dumps({"model": "demo-model", "messages": [], "x": ""}))
    for more, status in ((0, 200), (1, 413)):
        text = "a" * (10_485_760 - bare + more)
        body = json.dumps({"model": "demo-model", "messages": [], "x": text}).encode()
        async with raw(gateway.port) as client:
            client.send(post(gzip.compress(body, 1), b"Content-Encoding: gzip"))
            assert (await client.response())[0] == status
