"""What a head says of the connection: upgrades, close, HTTP/1.0, expectations."""

from __future__ import annotations

from tests.torture.cases import (
    CHUNKED,
    GET_TWIN,
    LENGTH,
    PAGE,
    SECRET,
    Answered,
    Case,
    Refused,
    coded,
    fields,
    line,
)
from tests.torture.stage import BODY, PATH, POST, chunked, get, head

__all__ = ["CONNECTIONS"]


def _hops() -> dict[str, Case]:
    upgrade = "RFC 9110 § 7.8: a server may ignore Upgrade"
    h2c = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ")
    socket = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
    close = "RFC 9112 § 9.6: what follows is nobody's"
    cases = {
        "h2c": Case(fields(*h2c), Answered(), upgrade),
        "h2c in chunks": Case(coded(CHUNKED, *h2c), Answered(), upgrade),
        "h2c with both framings": Case(coded(LENGTH, CHUNKED, *h2c), Refused(), upgrade),
        "h2c with a length that is none": Case(
            head(POST, b"Content-Length: +5", *h2c) + BODY, Refused(), upgrade
        ),
        "h2c that is too large": Case(
            head(POST, b"Content-Length: 99999999", *h2c) + BODY, Refused(413), upgrade
        ),
        "websocket": Case(get(b"/livez", *socket), PAGE, upgrade, GET_TWIN),
        "an upgrade to HTTP/2, and its preface": Case(
            get(b"/livez", b"Connection: Upgrade", b"Upgrade: h2c", b"Connection: close")
            + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            Answered(body=None, closes=True),
            upgrade,
            GET_TWIN,
        ),
        "websocket call": Case(fields(*socket), Answered(), upgrade),
        "Upgrade without Connection": Case(fields(b"Upgrade: h2c"), Answered(), upgrade),
        "Connection without Upgrade": Case(fields(b"Connection: upgrade"), Answered(), upgrade),
        "Upgrade and close": Case(
            fields(b"Connection: close, Upgrade", b"Upgrade: x") + SECRET,
            Answered(closes=True),
            upgrade,
        ),
        "Connection names the length": Case(
            fields(b"Connection: content-length, host"),
            Answered(),
            "RFC 9110 § 7.6.1: ours are written anew",
        ),
        "close": Case(fields(b"Connection: close") + SECRET, Answered(closes=True), close),
        "Proxy-Connection: close": Case(
            fields(b"Proxy-Connection: close") + SECRET, Answered(closes=True), close
        ),
        "Proxy-Connection: keep-alive": Case(
            fields(b"Proxy-Connection: keep-alive"), Answered(), "RFC 9112 § 9.3"
        ),
        "close as a trailer": Case(
            coded(CHUNKED, body=chunked(BODY, trailers=b"Connection: close\r\n")) + SECRET,
            Answered(closes=True),
            "RFC 9110 § 6.5.1: no use as a trailer, and no harm",
        ),
        "Proxy-Connection as a trailer": Case(
            coded(CHUNKED, body=chunked(BODY, trailers=b"Proxy-Connection: close\r\n")),
            Answered(closes=True),
            "the same",
        ),
        "an upgrade as a trailer": Case(
            coded(
                CHUNKED,
                body=chunked(BODY, trailers=b"Connection: keep-alive, upgrade\r\nUpgrade: x\r\n"),
            ),
            Answered(closes=True),
            "the same",
        ),
        "close in a list": Case(
            fields(b"Connection: keep-alive, CLOSE") + SECRET, Answered(closes=True), close
        ),
        "close, then keep-alive": Case(
            fields(b"Connection: close", b"Connection: keep-alive") + SECRET,
            Answered(closes=True),
            close,
        ),
        "Connection names the coding": Case(
            coded(b"Connection: transfer-encoding", CHUNKED),
            Answered(),
            "RFC 9110 § 7.6.1: ours are written anew",
        ),
        "close of a page": Case(
            get(b"/livez", b"Connection: close") + SECRET,
            Answered(body=None, closes=True),
            close,
            GET_TWIN,
        ),
        "close, then garbage": Case(
            fields(b"Connection: close") + b"\x00\xff", Answered(closes=True), close
        ),
        "TE": Case(fields(b"TE: trailers", b"Connection: TE"), Answered(), "RFC 9110 § 10.1.4"),
        "Trailer": Case(
            coded(CHUNKED, b"Trailer: X-T", body=chunked(BODY, trailers=b"X-T: 1\r\n")),
            Answered(),
            "RFC 9110 § 6.6.2",
        ),
    }
    old = b"POST " + PATH + b" HTTP/1.0"
    rule = "RFC 9112 § 9.3: HTTP/1.0 is closed upon"
    cases |= {
        "HTTP/1.0": Case(head(old, LENGTH) + BODY + SECRET, Answered(closes=True), rule),
        "HTTP/1.0 without Host": Case(
            head(old, LENGTH, host=False) + BODY, Answered(closes=True), rule
        ),
        "HTTP/1.0 kept alive": Case(
            head(old, LENGTH, b"Connection: keep-alive") + BODY + SECRET,
            Answered(closes=True),
            rule,
        ),
        "HTTP/1.0 without a length": Case(
            head(b"GET /livez HTTP/1.0"), Answered(body=None, closes=True), rule, GET_TWIN
        ),
        "HTTP/1.0 with an upgrade": Case(
            head(old, LENGTH, b"Connection: Upgrade", b"Upgrade: h2c") + BODY,
            Answered(closes=True),
            rule,
        ),
        "RTSP/1.0": Case(
            line(b"GET /livez RTSP/1.0"), Answered(body=None, closes=True), rule, GET_TWIN
        ),
    }
    rule = "RFC 9110 § 10.1.1"
    cases |= {
        "Expect": Case(fields(b"Expect: 100-continue"), Answered(continues=1), rule),
        "Expect in capitals": Case(fields(b"Expect: 100-CONTINUE"), Answered(continues=1), rule),
        "Expect in chunks": Case(
            coded(CHUNKED, b"Expect: 100-continue"), Answered(continues=1), rule
        ),
        "Expect with an upgrade": Case(
            fields(b"Expect: 100-continue", *h2c), Answered(continues=1), rule
        ),
        "Expect without a body": Case(
            get(b"/livez", b"Expect: 100-continue"), PAGE, rule, GET_TWIN
        ),
        "Expect of HTTP/1.0": Case(
            head(old, LENGTH, b"Expect: 100-continue") + BODY, Answered(closes=True), rule
        ),
        "Expect twice alike": Case(
            fields(b"Expect: 100-continue", b"Expect: 100-continue"), Answered(continues=1), rule
        ),
        "Expect and close": Case(
            fields(b"Expect: 100-continue", b"Connection: close") + SECRET,
            Answered(closes=True, continues=1),
            rule,
        ),
        "Expect with a parameter": Case(fields(b"Expect: 100-continue;q=1"), Refused(417), rule),
        "Expect something else": Case(fields(b"Expect: 200-ok"), Refused(417), rule),
        "Expect twice": Case(
            fields(b"Expect: 100-continue", b"Expect: 200-ok"), Refused(417), rule
        ),
        "Expect and a body that is too large": Case(
            head(POST, b"Content-Length: 99999999", b"Expect: 100-continue"), Refused(413), rule
        ),
    }  # fmt: skip
    return cases


CONNECTIONS = _hops()
