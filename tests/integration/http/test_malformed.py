"""What a parser must not read in two ways: refused with 400 and closed (behaviour § 2.2)."""

from __future__ import annotations

import pytest

from nexus.demo.engine import FakeEngine
from tests.harness import Running, raw
from tests.integration.http.wire import CHAT, CHAT_BODY, expect_error, get, post, request

POST = b"POST " + CHAT + b" HTTP/1.1"
GET = b"GET /health HTTP/1.1"
CHUNKED = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: %d" % len(CHAT_BODY)
ONE_CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(CHAT_BODY), CHAT_BODY)


def lengthy(value: bytes) -> bytes:
    """A chat request whose Content-Length has this value."""
    return request(POST, b"Content-Length:" + value, body=CHAT_BODY)


def coded(*fields: bytes, body: bytes = ONE_CHUNK, line: bytes = POST) -> bytes:
    """A chunked chat request with these header lines."""
    return request(line, *fields, body=body)


REFUSED_BY_THE_PARSER = {
    "length-then-coding": coded(LENGTH, CHUNKED),
    "coding-then-length": coded(CHUNKED, LENGTH),
    "two-lengths-alike": coded(LENGTH, LENGTH, body=CHAT_BODY),
    "two-lengths-unlike": coded(LENGTH, b"Content-Length: 1", body=CHAT_BODY),
    "length-plus": lengthy(b" +5"),
    "length-minus": lengthy(b" -5"),
    "length-list": lengthy(b" 2, 2"),
    "length-empty": lengthy(b""),
    "length-hex": lengthy(b" 0x10"),
    "length-inner-space": lengthy(b" 1 0"),
    "space-before-colon-coding": coded(b"Transfer-Encoding : chunked"),
    "space-before-colon-length": request(POST, b"Content-Length : 5", body=b"hello"),
    "coding-xchunked": coded(b"Transfer-Encoding: xchunked"),
    "coding-identity": coded(b"Transfer-Encoding: identity"),
    "coding-chunked-twice-in-one": coded(b"Transfer-Encoding: chunked, chunked"),
    "coding-chunked-twice": coded(CHUNKED, CHUNKED),
    "obs-fold": get(b"/health", b"X-A: 1", b" folded"),
    "obs-fold-tab": get(b"/health", b"X-A: 1", b"\tfolded"),
    "bare-lf": b"GET /health HTTP/1.1\nHost: gateway.test\n\n",
    "bare-lf-in-head": b"GET /health HTTP/1.1\r\nHost: gateway.test\nX-A: 1\r\n\r\n",
    "bare-cr": b"GET /health HTTP/1.1\rHost: gateway.test\r\r",
    "nul-in-value": get(b"/health", b"X-A: a\x00b"),
    "cr-in-value": get(b"/health", b"X-A: a\rb"),
    "0x01-in-value": get(b"/health", b"X-A: a\x01b"),
    "0x7f-in-value": get(b"/health", b"X-A: a\x7fb"),
    "nul-in-name": get(b"/health", b"X\x00A: b"),
    "no-name": get(b"/health", b": b"),
    "no-colon": get(b"/health", b"nonsense"),
    "chunk-size-garbage": coded(CHUNKED, body=b"zz\r\nhello\r\n0\r\n\r\n"),
    "chunk-size-minus": coded(CHUNKED, body=b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk-size-0x": coded(CHUNKED, body=b"0x5\r\nhello\r\n0\r\n\r\n"),
    "chunk-size-plus": coded(CHUNKED, body=b"+5\r\nhello\r\n0\r\n\r\n"),
    "chunk-size-overflow": coded(CHUNKED, body=b"1" + b"0" * 16 + b"\r\nhello\r\n0\r\n\r\n"),
    "chunk-size-empty": coded(CHUNKED, body=b"\r\nhello\r\n0\r\n\r\n"),
    "chunk-longer-than-said": coded(CHUNKED, body=b"3\r\nhello\r\n0\r\n\r\n"),
    "chunk-lf-only": coded(CHUNKED, body=b"5\nhello\n0\n\n"),
    "chunk-extension-lf": coded(CHUNKED, body=b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    "chunk-extension-cr": coded(CHUNKED, body=b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    "version-9.9": request(b"GET /health HTTP/9.9"),
    "version-1.2": request(b"GET /health HTTP/1.2"),
    "version-lower-case": request(b"GET /health http/1.1"),
    "method-unknown": request(b"FROBNICATE /health HTTP/1.1"),
    "method-lower-case": request(b"get /health HTTP/1.1"),
    "trailer-length": coded(CHUNKED, body=b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"),
    "trailer-coding": coded(CHUNKED, body=b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "tls-on-a-plain-port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "nonsense": b"\x00\x01\x02\x03\r\n\r\n",
}


@pytest.mark.parametrize("data", REFUSED_BY_THE_PARSER.values(), ids=REFUSED_BY_THE_PARSER)
async def test_what_the_parser_refuses(gateway: Running, engine: FakeEngine, data: bytes) -> None:
    """Malformed HTTP is 400 and the connection closes; no engine hears of it."""
    await expect_error(gateway.port, data, 400, "invalid_request_error")
    assert engine.calls == []


REFUSED_BY_US = {
    "host-missing": request(GET, host=False),
    "host-twice": request(GET, b"Host: other.test"),
    "host-twice-alike": request(GET, b"Host: gateway.test"),
    "host-empty": request(GET, b"Host:", host=False),
    "host-garbage": request(GET, b"Host: a b", host=False),
    "host-slash": request(GET, b"Host: a/b", host=False),
    "host-user": request(GET, b"Host: user@a", host=False),
    "host-list": request(GET, b"Host: a, b", host=False),
    "host-bad-port": request(GET, b"Host: a:port", host=False),
    "host-high-byte": request(GET, b"Host: \xff", host=False),
    "http-0.9": b"GET /health\r\n\r\n",
    "http-2.0": request(b"GET /health HTTP/2.0"),
    "http-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http-1.0-chunked": coded(CHUNKED, line=b"POST " + CHAT + b" HTTP/1.0"),
    "coding-gzip-chunked": coded(b"Transfer-Encoding: gzip, chunked"),
    "coding-empty": coded(b"Transfer-Encoding:"),
    "coding-of-a-get": request(GET, b"Transfer-Encoding: gzip, chunked"),
    "fragment": request(b"GET /health#part HTTP/1.1"),
    "fragment-absolute": request(b"GET http://gateway.test/health#part HTTP/1.1"),
    "target-without-slash": request(b"GET health HTTP/1.1"),
    "target-star": request(b"GET * HTTP/1.1"),
    "target-other-scheme": request(b"GET ftp://gateway.test/health HTTP/1.1"),
    "target-with-user": request(b"GET http://user@gateway.test/health HTTP/1.1"),
    "target-without-host": request(b"GET http:///health HTTP/1.1"),
    "target-high-byte": request(b"GET /\xffhealth HTTP/1.1"),
    "target-control-byte": request(b"GET /\x01health HTTP/1.1"),
    "underscore-coding": coded(b"Transfer_Encoding: chunked", LENGTH, body=CHAT_BODY),
    "underscore-length": request(POST, b"Content_Length: 5", LENGTH, body=CHAT_BODY),
    "chunk-extension-200-kb": coded(
        CHUNKED, body=b"5;" + b"a" * 200_000 + b"\r\nhello\r\n0\r\n\r\n"
    ),
}


@pytest.mark.parametrize("data", REFUSED_BY_US.values(), ids=REFUSED_BY_US)
async def test_what_only_we_refuse(gateway: Running, engine: FakeEngine, data: bytes) -> None:
    """What the parser believes and we do not is 400 and closed, too; no engine hears of it."""
    await expect_error(gateway.port, data, 400, "invalid_request_error")
    assert engine.calls == []


async def test_connect_is_not_offered(gateway: Running) -> None:
    """CONNECT is 405 with ``Allow``, and what follows it is nobody's."""
    async with raw(gateway.port) as client:
        client.send(request(b"CONNECT example.test:443 HTTP/1.1") + b"\x16\x03\x01")
        status, headers, _ = await client.response()
        assert (status, headers["connection"]) == (405, "close")
        assert headers["allow"] == "GET, HEAD, OPTIONS, POST"
        assert await client.rest() == b""


@pytest.mark.parametrize("cut", range(1, 60, 7))
async def test_a_bad_head_in_pieces(gateway: Running, cut: int) -> None:
    """However the bytes arrive, the refusal is the same."""
    data = coded(LENGTH, CHUNKED)
    async with raw(gateway.port) as client:
        client.send(data[:cut])
        client.send(data[cut:])
        status, headers, _ = await client.response()
        assert (status, headers["connection"]) == (400, "close")


async def test_a_good_request_before_a_bad_one(gateway: Running) -> None:
    """A request that came whole is answered before the refusal of what follows it."""
    async with raw(gateway.port) as client:
        client.send(post() + b"NONSENSE\r\n\r\n")
        assert (await client.response())[0] == 200
        status, headers, _ = await client.response()
        assert (status, headers["connection"]) == (400, "close")
        assert await client.rest() == b""
