"""Status lines, interim answers and fields of a backend (RFC 9112 §§ 4, 5; RFC 9110 § 15.2)."""

from __future__ import annotations

from tests.integration.scripted import head
from tests.torture.stage import chunked
from tests.torture.told import (
    BODY,
    CODED,
    GOOD,
    JSON,
    LENGTH,
    SECOND,
    WHOLE,
    failing,
    line,
    relayed,
)

__all__ = ["HEADS", "INTERIM", "LINES"]

LINES = {
    **failing(
        "RFC 9112 § 4, RFC 9110 § 15: the status line",
        {
            "HTTP/0.9": line(b"HTTP/0.9 200 OK"),
            "HTTP/1.2": line(b"HTTP/1.2 200 OK"),
            "HTTP/2.0": line(b"HTTP/2.0 200 OK"),
            "HTTP/2": line(b"HTTP/2 200 OK"),
            "http/1.1": line(b"http/1.1 200 OK"),
            "ICY": line(b"ICY 200 OK"),
            "no status": line(b"HTTP/1.1 OK"),
            "status 0": line(b"HTTP/1.1 0 OK"),
            "status 000": line(b"HTTP/1.1 000 OK"),
            "status 20": line(b"HTTP/1.1 20 OK"),
            "status 2000": line(b"HTTP/1.1 2000 OK"),
            "status 099": line(b"HTTP/1.1 099 OK"),
            "status 600": line(b"HTTP/1.1 600 OK"),
            "status 999": line(b"HTTP/1.1 999 OK"),
            "status 65736": line(b"HTTP/1.1 65736 OK"),
            "status -200": line(b"HTTP/1.1 -200 OK"),
            "status +200": line(b"HTTP/1.1 +200 OK"),
            "status 2OO": line(b"HTTP/1.1 2OO OK"),
            "status 200OK": line(b"HTTP/1.1 200OK"),
            "two spaces": line(b"HTTP/1.1  200 OK"),
            "a tab": line(b"HTTP/1.1\t200 OK"),
            "a CR in the reason": line(b"HTTP/1.1 200 O\rK"),
            "a space before": line(b" HTTP/1.1 200 OK"),
            "a request": b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
            "LF behind the status line": GOOD.replace(b"OK\r\n", b"OK\n"),
            "LF everywhere": GOOD.replace(b"\r\n", b"\n"),
            "CR everywhere": GOOD.replace(b"\r\n", b"\r"),
            "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
            "HTML without a head": b"<html><body>smuggled</body></html>",
        },
    ),
    **failing(
        "not HTTP, or too little of it",
        {"SSH": b"SSH-2.0-OpenSSH_9.6\r\n", "an H": b"H", "a line end": b"\r\n"},
        closed=True,
    ),
    **failing(
        "RFC 9110 § 7.8: nobody asked to switch",
        {
            "101": head(status="101 Switching Protocols"),
            "101 with Upgrade": head("connection: upgrade", "upgrade: h2c", status="101 S"),
            "101, then an answer": head("upgrade: x", "connection: upgrade", status="101 S") + GOOD,
        },
    ),
    **failing(
        "RFC 9110 §§ 15.3.5, 15.4: neither no content nor a redirect is an answer here",
        {
            "204": head(status="204 No Content"),
            "304": head(status="304 Not Modified"),
            "205": head("content-length: 0", status="205 Reset Content"),
            "302": head("location: http://smuggled/", "content-length: 0", status="302 Found"),
            "204 with a length": head(JSON, LENGTH, status="204 No Content") + BODY,
            "204 with chunks": head(JSON, CODED, status="204 No Content") + WHOLE,
            "204, then a second answer": head(status="204 No Content") + SECOND,
            "304 with a length": head(JSON, LENGTH, status="304 Not Modified") + BODY,
        },
    ),
    **relayed(
        "RFC 9112 § 4: the reason says nothing",
        {
            "no reason": line(b"HTTP/1.1 200 "),
            "no reason and no space": line(b"HTTP/1.1 200"),
            "a reason of high bytes": line(b"HTTP/1.1 200 \xc3\xa4\xff"),
            "another reason": line(b"HTTP/1.1 200 500 Internal Server Error"),
        },
    ),
}

INTERIM = {
    **relayed(
        "RFC 9110 § 15.2: a client reads any number of interim answers",
        {
            "100": head(status="100 Continue") + GOOD,
            "102 and 103": head(status="102 Processing")
            + head("link: smuggled", "set-cookie: a", status="103 Early Hints")
            + GOOD,
            "32 of them": head(status="100 Continue") * 32 + GOOD,
            "100 with a length of 0": head("content-length: 0", status="100 Continue") + GOOD,
            "32 large ones": head("x: " + "a" * 3000, status="103 Early Hints") * 32 + GOOD,
            "199": head(status="199 Odd") + GOOD,
        },
    ),
    **failing(
        "bounded: nobody needs more",
        {
            "33 of them": head(status="100 Continue") * 33 + GOOD,
            "5000 of them": head(status="100 Continue") * 5000 + GOOD,
            "one of 70 kB": head("x: " + "a" * 70_000, status="103 Early Hints") + GOOD,
            "one of 600 fields": head(*["x: a"] * 600, status="103 Early Hints") + GOOD,
        },
    ),
    **failing(
        "RFC 9110 § 8.6: no Content-Length in an interim answer, RFC 9112 § 6.1: no coding",
        {
            "100 with a length": head("content-length: 8", status="100 Continue")
            + b"smuggled"
            + GOOD,
            "103 that swallows": head(f"content-length: {len(SECOND)}", status="103 Early Hints")
            + SECOND
            + GOOD,
            "103 with chunks": head(CODED, status="103 Early Hints") + chunked(b"smuggled") + GOOD,
            "103 with a length and no body": head("content-length: 5", status="103 Early Hints")
            + GOOD,
        },
    ),
    **failing(
        "RFC 9110 § 15.2: an interim answer is none",
        {"100 alone": head(status="100 Continue"), "100 and half": head(status="100 C")[:-1]},
        closed=True,
    ),
}

HEADS = {
    **failing(
        "RFC 9110 § 5.5, RFC 9112 § 5: fields",
        {
            **{
                f"0x{byte:02x} in a value": head(JSON, LENGTH, f"x: a{chr(byte)}b") + BODY
                for byte in b"\x00\x01\x08\x0b\x0c\r\x1f\x7f"
            },
            **{
                f"0x{byte:02x} in a name": head(JSON, LENGTH, f"x{chr(byte)}y: a") + BODY
                for byte in b'\x00\t ",/;@[\x7f\x80'
            },
            "a field folded": head(JSON, LENGTH, "x: a\r\n b") + BODY,
            "a field without a colon": head(JSON, LENGTH, "nonsense") + BODY,
            "a field without a name": head(JSON, LENGTH, ": a") + BODY,
            "a space before the first": b"HTTP/1.1 200 OK\r\n x: a\r\n"
            + GOOD.partition(b"\r\n")[2],
            "LF behind a field": GOOD.replace(b"json\r\n", b"json\n"),
            "LF for the blank line": GOOD.replace(b"\r\n\r\n", b"\r\n\n"),
            "two LF for the end": GOOD.replace(b"\r\n\r\n", b"\n\n"),
            "CR CR LF": GOOD.replace(b"\r\n\r\n", b"\r\n\r\r\n"),
        },
    ),
    **failing(
        "bounded",
        {
            "513 fields": head(JSON, LENGTH, *["x: a"] * 511) + BODY,
            "5000 fields": head(JSON, LENGTH, *["x: a"] * 5000) + BODY,
            "a field of 70 kB": head(JSON, LENGTH, "x: " + "a" * 70_000) + BODY,
            "a field of 300 kB": head(JSON, LENGTH, "x: " + "a" * 300_000) + BODY,
            "a field without end": head(JSON, LENGTH)[:-2] + b"x: " + b"a" * 2_000_000,
            "a name without end": head(JSON, LENGTH)[:-2] + b"x" * 2_000_000,
            "a reason without end": b"HTTP/1.1 200 " + b"a" * 2_000_000,
            "blank lines without end": b"\r\n" * 100_000,
        },
    ),
    **relayed(
        "RFC 9110 §§ 5.5, 7.6.1",
        {
            "512 fields": head(JSON, LENGTH, *["x: a"] * 510) + BODY,
            "high bytes in a value": head(JSON, LENGTH, "x: \xe4\xff") + BODY,
            "Connection names a field": head(JSON, LENGTH, "x-a: smuggled", "connection: x-a")
            + BODY,
            "an upgrade offered": head(JSON, LENGTH, "connection: upgrade", "upgrade: h2") + BODY,
            "fields that are ours": head(
                JSON,
                LENGTH,
                "x-nexus-backend: smuggled",
                "x-request-id: smuggled",
                "set-cookie: smuggled",
                "access-control-allow-origin: smuggled",
                "clear-site-data: smuggled",
                "trailer: smuggled",
                "proxy-authenticate: smuggled",
            )
            + BODY,
        },
    ),
    **relayed(
        "RFC 9112 § 9.3",
        {
            "close": head(JSON, LENGTH, "connection: close") + BODY,
            "close in a list": head(JSON, LENGTH, "connection: x, CLOSE") + BODY,
            "proxy-connection": head(JSON, LENGTH, "proxy-connection: close") + BODY,
            "HTTP/1.0": head(JSON, LENGTH, version="1.0") + BODY,
            # RFC 9112 § 6.1: the framing of HTTP/1.0 with a coding is faulty.
            "chunks of HTTP/1.0, kept alive": head(
                JSON, CODED, "connection: keep-alive", version="1.0"
            )
            + WHOLE,
            "close, and more": head(JSON, LENGTH, "connection: close") + BODY + SECOND,
        },
        kept=False,
    ),
}
