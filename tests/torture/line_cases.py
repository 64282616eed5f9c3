"""Request lines, targets, hosts, sizes, methods (RFC 9112 § 3; RFC 9110 § 9)."""

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
    fields,
    line,
)
from tests.torture.stage import BODY, PATH, POST, chunked, get, head

__all__ = ["LINES"]


def _lines() -> dict[str, Case]:
    rule = "RFC 9112 § 3: the request line"
    host = "RFC 9112 § 3.2: exactly one valid Host"
    refused = {
        "HTTP/0.9": b"GET /livez\r\n\r\n",
        "HTTP/0.9 with a Host": b"GET /livez\r\nHost: a\r\n\r\n",
        "HTTP/0.9 call": b"POST " + PATH + b"\r\n\r\n",
        "HTTP/1.2": line(b"GET /livez HTTP/1.2"),
        "HTTP/1.10": line(b"GET /livez HTTP/1.10"),
        "HTTP/01.1": line(b"GET /livez HTTP/01.1"),
        "HTTP/1": line(b"GET /livez HTTP/1"),
        "HTTP/1.": line(b"GET /livez HTTP/1."),
        "HTTP/2.0": line(b"GET /livez HTTP/2.0"),
        "HTTP/9.9": line(b"GET /livez HTTP/9.9"),
        "http/1.1": line(b"GET /livez http/1.1"),
        "XTTP/1.1": line(b"GET /livez XTTP/1.1"),
        "HTTP/1.1 and more": line(b"GET /livez HTTP/1.1 HTTP/1.1"),
        "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
        "the PROXY protocol": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + get(),
        "a response": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "an unknown method": line(b"FROBNICATE /livez HTTP/1.1"),
        "a method in lower case": line(b"get /livez HTTP/1.1"),
        "a method with NUL": line(b"GE\x00T /livez HTTP/1.1"),
        "a space before the method": b" " + get(),
        "a tab behind the method": line(b"GET\t/livez HTTP/1.1"),
        "a tab before the version": line(b"GET /livez\tHTTP/1.1"),
        "a target without a slash": line(b"GET livez HTTP/1.1"),
        "a target of a star": line(b"GET * HTTP/1.1"),
        "no target": line(b"GET HTTP/1.1"),
        "a fragment": line(b"GET /livez#part HTTP/1.1"),
        "a high byte in the target": line(b"GET /livez\xff HTTP/1.1"),
        "NUL in the target": line(b"GET /livez\x00 HTTP/1.1"),
        "0x01 in the target": line(b"GET /\x01livez HTTP/1.1"),
        "0x7f in the target": line(b"GET /livez\x7f HTTP/1.1"),
        "a CR in the target": line(b"GET /liv\rez HTTP/1.1"),
        "another scheme": line(b"GET ftp://gateway.test/livez HTTP/1.1"),
        "absolute-form with a user": line(b"GET http://user@gateway.test/livez HTTP/1.1"),
        "absolute-form without a host": line(b"GET http:///livez HTTP/1.1"),
        "absolute-form with a fragment": line(b"GET http://a/livez#part HTTP/1.1"),
        "authority-form of a GET": line(b"GET gateway.test:80 HTTP/1.1"),
    }
    cases = {name: Case(data, Refused(), rule, GET_TWIN) for name, data in refused.items()}
    hosts = {
        "no Host": line(b"GET /livez HTTP/1.1", host=False),
        "two Hosts": get(b"/livez", b"Host: other.test"),
        "two Hosts alike": get(b"/livez", b"Host: gateway.test"),
        "absolute-form without Host": line(b"GET http://a/livez HTTP/1.1", host=False),
    }
    for value in (b"", b" ", b"a b", b"a/b", b"user@a", b"a, b", b"a:port", b"a:80:80", b"\xff",
                  b"[::1", b"::1", b"a#b", b"a?b", b"http://a", b'"a"', b"a\tb"):  # fmt: skip
        name = f"Host {value.decode('latin-1')!r}"
        hosts[name] = head(b"GET /livez HTTP/1.1", b"Host: " + value, host=False)
    cases |= {name: Case(data, Refused(), host, GET_TWIN) for name, data in hosts.items()}
    cases["CONNECT"] = Case(
        head(b"CONNECT example.test:443 HTTP/1.1") + SECRET,
        Refused(405),
        "RFC 9110 § 9.3.6: not offered, what follows is nobody's",
        GET_TWIN,
    )
    cases["CONNECT of a path"] = Case(
        head(b"CONNECT /livez HTTP/1.1") + SECRET, Refused(405), "RFC 9110 § 9.3.6", GET_TWIN
    )
    cases["a target that is too long"] = Case(
        get(b"/" + b"a" * 20_000), Refused(414), "behaviour § 2.2", GET_TWIN
    )
    cases["a target that is too long and has no end"] = Case(
        b"GET /" + b"a" * 40_000, Refused(414), "behaviour § 2.2", GET_TWIN
    )
    for name, data in {
        "a field of 70 kB": fields(b"X-A: " + b"a" * 70_000),
        "a field name of 70 kB": fields(b"a" * 70_000 + b": 1"),
        "a field without end": head(POST, LENGTH)[:-2] + b"X-A: " + b"a" * 140_000,
        "fields of 70 kB": fields(*[b"X-A: " + b"a" * 1000] * 70),
        "1000 fields": fields(*[b"X-A: 1"] * 1000),
    }.items():
        cases[name] = Case(data, Refused(431), "RFC 6585 § 5, behaviour § 2.2")
    cases["absolute-form"] = Case(
        head(b"POST http://other.test" + PATH + b" HTTP/1.1", LENGTH) + BODY,
        Answered(),
        "RFC 9112 § 3.2.2: a server must accept it",
    )
    cases["absolute-form in capitals"] = Case(
        line(b"GET HTTP://gateway.test/livez HTTP/1.1"), PAGE, "RFC 3986 § 3.1", GET_TWIN
    )
    cases["absolute-form without a path"] = Case(
        line(b"GET http://127.0.0.1?x HTTP/1.1"),
        Answered(status=200, body=None),
        "RFC 9112 § 3.2.1",
        GET_TWIN,
    )
    cases["a star of OPTIONS"] = Case(
        line(b"OPTIONS * HTTP/1.1"), Answered(status=404, body=None), "RFC 9110 § 9.3.7", GET_TWIN
    )
    cases["two slashes"] = Case(
        get(b"//gateway.test/livez"), Answered(status=404, body=None), rule, GET_TWIN
    )
    cases["dots in a path"] = Case(
        get(b"/v1/../livez"), Answered(status=404, body=None), rule, GET_TWIN
    )
    cases["TRACE"] = Case(
        line(b"TRACE /livez HTTP/1.1"), Answered(status=405, body=None), "RFC 9110 § 9.3.8",
        GET_TWIN,
    )  # fmt: skip
    cases["HEAD"] = Case(
        line(b"HEAD /livez HTTP/1.1"),
        Answered(body=None, headless=True),
        "RFC 9110 § 9.3.2: no content",
        GET_TWIN,
    )
    for value in (b"[::1]:80", b"[fe80::1%25eth0]", b"[fe80::1%br-a_b~.C]:80", b"a_b.c-d:80"):
        cases[f"a Host of {value.decode()}"] = Case(
            head(b"GET /livez HTTP/1.1", b"Host: " + value, host=False), PAGE, host, GET_TWIN
        )
    cases["absolute-form of an address"] = Case(
        line(b"GET https://[::1]:80/livez HTTP/1.1"), PAGE, "RFC 9112 § 3.2.2", GET_TWIN
    )
    cases["a call without a length"] = Case(
        head(POST),
        Answered(status=400, body=None),
        "RFC 9112 § 6.3: no body then",
        GET_TWIN,
    )
    cases["HEAD of a call"] = Case(
        head(b"HEAD " + PATH + b" HTTP/1.1"),
        Answered(status=405, body=None, headless=True),
        "RFC 9110 § 9.3.2: an error neither",
    )
    cases["HEAD with a body"] = Case(
        head(b"HEAD /livez HTTP/1.1", b"Content-Length: %d" % len(SECRET)) + SECRET,
        Answered(body=None, headless=True),
        "RFC 9110 § 9.3.2: its body is read and left out",
        GET_TWIN,
    )
    cases["GET with a body"] = Case(
        get(b"/livez", b"Content-Length: %d" % len(SECRET)) + SECRET,
        PAGE,
        "RFC 9110 § 9.3.1: its body is read and left out",
        GET_TWIN,
    )
    cases["GET with chunks"] = Case(
        get(b"/livez", CHUNKED) + chunked(SECRET), PAGE, "RFC 9110 § 9.3.1", GET_TWIN
    )
    return cases


LINES = _lines()
