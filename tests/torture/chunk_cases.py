"""Chunks: sizes, extensions, ends, trailers (RFC 9112 § 7.1)."""

from __future__ import annotations

from tests.torture.cases import CHUNKED, LONG, SECRET, Answered, Case, Refused, coded
from tests.torture.stage import BODY, chunked

__all__ = ["CHUNKS"]


def _chunks() -> dict[str, Case]:
    rule = "RFC 9112 § 7.1: the grammar of chunks"
    refused = {
        "size of letters": b"zz\r\n" + BODY + b"\r\n0\r\n\r\n",
        "size with a minus": b"-1\r\na\r\n0\r\n\r\n",
        "size with a plus": b"+1\r\na\r\n0\r\n\r\n",
        "size with 0x": b"0x1\r\na\r\n0\r\n\r\n",
        "size empty": b"\r\na\r\n0\r\n\r\n",
        "size with a space before": b" 1\r\na\r\n0\r\n\r\n",
        "size with a space behind": b"1 \r\na\r\n0\r\n\r\n",
        "size with a tab behind": b"1\t\r\na\r\n0\r\n\r\n",
        "size with a space before its extension": b"1 ;a\r\na\r\n0\r\n\r\n",
        "size with words": b"1 a=b\r\na\r\n0\r\n\r\n",
        "size with inner space": b"1 0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n",
        "size with a comma": b"1,\r\na\r\n0\r\n\r\n",
        "size of 17 digits": b"10000000000000001\r\na\r\n0\r\n\r\n",
        "size of 20 digits": b"f%019x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
        "size of 40 digits": b"f" * 40 + b"\r\na\r\n0\r\n\r\n",
        "size of 2**64 and the body's": b"%x\r\n%b\r\n0\r\n\r\n" % (2**64 + len(BODY), BODY),
        "size without end": b"0" * 200_000,
        "size that ends in LF": b"1\na\r\n0\r\n\r\n",
        "size that ends in CR": b"1\ra\r\n0\r\n\r\n",
        "size with NUL": b"1\x00\r\na\r\n0\r\n\r\n",
        "size that is too small": b"1\r\nab\r\n0\r\n\r\n",
        "data that ends in LF": b"1\r\na\n0\r\n\r\n",
        "data that ends in CR": b"1\r\na\r0\r\n\r\n",
        "data that does not end": b"1\r\na0\r\n\r\n",
        "last chunk with LF": b"1\r\na\r\n0\n\n",
        "last chunk with CR": b"1\r\na\r\n0\r\r",
        "all with LF": b"1\na\n0\n\n",
        "extension with LF": b"1;a\nb\r\na\r\n0\r\n\r\n",
        "extension with CR": b"1;a\rb\r\na\r\n0\r\n\r\n",
        "extension that hides a chunk": b"1;a\n5c\r\na\r\n0\r\n\r\n" + SECRET,
        "extension with 0x01": b"1;a\x01\r\na\r\n0\r\n\r\n",
        "extension with a high byte": b"1;a=\xff\r\na\r\n0\r\n\r\n",
        "extension of nothing": b"1;\r\na\r\n0\r\n\r\n",
        "quoted extension without end": b'1;a="b\r\na\r\n0\r\n\r\n',
        "extension of the last of 200 kB": b"1\r\na\r\n0;" + b"a" * 200_000,
        "extension with NUL": b"1;a\x00\r\na\r\n0\r\n\r\n",
        "quoted extension with CRLF": b'1;a="\r\n"\r\na\r\n0\r\n\r\n',
        "extension of 200 kB": b"1;" + b"a" * 200_000 + b"\r\na\r\n0\r\n\r\n",
        "trailer without a name": b"1\r\na\r\n0\r\n: a\r\n\r\n",
        "trailer without a colon": b"1\r\na\r\n0\r\nnonsense\r\n\r\n",
        "trailer with NUL": b"1\r\na\r\n0\r\nX: \x00\r\n\r\n",
        "trailer folded": b"1\r\na\r\n0\r\nX: a\r\n b\r\n\r\n",
        "trailer with LF": b"1\r\na\r\n0\r\nX: a\n\r\n",
        "trailer of 200 kB": b"1\r\na\r\n0\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    }
    cases = {
        name: Case(coded(CHUNKED, body=body), Refused(), rule) for name, body in refused.items()
    }
    fine = {
        "chunks of one byte": chunked(BODY, 1),
        "a size in capitals": b"%X\r\n%b\r\n0\r\n\r\n" % (len(LONG), LONG),
        "a size with zeros before": b"000%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
        "a size of 20 digits, zeros before": b"%020x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
        "many zeros for the last": chunked(BODY, end=b"0000000"),
        "an extension": chunked(BODY, extension=b";a"),
        "extensions with values": chunked(BODY, extension=b";a=b;c=d"),
        "a quoted extension": chunked(BODY, extension=b';a="b;c"'),
        "an extension of the last": chunked(BODY, end=b"0;a=b"),
        "a trailer": chunked(BODY, trailers=b"X-T: 1\r\n"),
        "a trailer that is a host": chunked(BODY, trailers=b"Host: smuggled\r\n"),
        "trailers of credentials": chunked(
            BODY, trailers=b"Authorization: smuggled\r\nX-Nexus-Pin: smuggled\r\n"
        ),
    }  # fmt: skip
    for name, body in fine.items():
        seen = LONG if LONG in body else BODY
        cases["chunks: " + name] = Case(coded(CHUNKED, body=body), Answered(body=seen), rule)
    return cases


CHUNKS = _chunks()
