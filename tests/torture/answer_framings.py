"""How long is the answer? Every way to say it twice, wrongly or oddly (RFC 9112 §§ 6, 7)."""

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
    coded,
    failing,
    lengthy,
    relayed,
)

__all__ = ["CHUNKS", "FRAMING", "TRAILERS"]

NUMBER = b"%d" % len(BODY)

FRAMING = {
    **failing(
        "RFC 9112 § 6.3: a message with both framings, or a length that is none, is an error",
        {
            "length and chunks": head(JSON, LENGTH, CODED) + WHOLE,
            "chunks and length": head(JSON, CODED, LENGTH) + WHOLE,
            "length 0 and chunks": head(JSON, "content-length: 0", CODED) + WHOLE,
            "a length that hides a second answer": head(
                JSON, CODED, f"content-length: {len(WHOLE) + len(SECOND)}"
            )
            + WHOLE
            + SECOND,
            "two lengths alike": head(JSON, LENGTH, LENGTH) + BODY,
            "two lengths unlike": head(JSON, LENGTH, "content-length: 5") + BODY,
            "two lengths, 0 first": head(JSON, "content-length: 0", LENGTH) + BODY,
            "two lengths apart": head(JSON, LENGTH, "x: a", "Content-Length: 5") + BODY,
            "length +": lengthy(b" +" + NUMBER),
            "length negative": lengthy(b" -1"),
            "length -0": lengthy(b" -0"),
            "length list": lengthy(b" " + NUMBER + b", " + NUMBER),
            "length empty": lengthy(b""),
            "length hex": lengthy(b" 0x3d"),
            "length in words": lengthy(b" many"),
            "length inner space": lengthy(b" 6 1"),
            "length decimal": lengthy(b" 61.0"),
            "length 2**64": lengthy(b" %d" % 2**64),
            "length 2**64 and the body's": lengthy(b" %d" % (2**64 + len(BODY))),
            "length of 40 digits": lengthy(b" " + b"9" * 40),
            "length with NUL": lengthy(b" " + NUMBER + b"\x00"),
            "length folded": lengthy(b"\r\n " + NUMBER),
            "space before the colon": head(JSON)[:-2] + b"content-length : 5\r\n\r\n" + BODY,
            "coding gzip": head(JSON, "transfer-encoding: gzip") + BODY,
            "coding xchunked": head(JSON, "transfer-encoding: xchunked") + WHOLE,
            "coding identity": head(JSON, "transfer-encoding: identity") + BODY,
            "coding empty": head(JSON, "transfer-encoding:") + BODY,
            "gzip, chunked": head(JSON, "transfer-encoding: gzip, chunked") + WHOLE,
            "chunked, gzip": head(JSON, "transfer-encoding: chunked, gzip") + WHOLE,
            "chunked, identity": head(JSON, "transfer-encoding: chunked, identity") + WHOLE,
            "chunked, chunked": head(JSON, "transfer-encoding: chunked, chunked") + WHOLE,
            "chunked twice": head(JSON, CODED, CODED) + WHOLE,
            "gzip, then chunked": head(JSON, "transfer-encoding: gzip", CODED) + WHOLE,
            "identity and length": head(JSON, LENGTH, "transfer-encoding: identity") + BODY,
            "space before the colon of a coding": head(JSON)[:-2]
            + b"transfer-encoding : chunked\r\n\r\n"
            + WHOLE,
            "length shorter than its JSON": lengthy(b" 10"),
            "length 0": lengthy(b" 0"),
        },
    ),
    **failing(
        "RFC 9112 § 8: an incomplete message",
        {
            "length longer than its body": lengthy(b" 1000"),
            "length 2**31": lengthy(b" %d" % 2**31),
            "length 2**63 - 1": lengthy(b" %d" % (2**63 - 1)),
            "length 2**63": lengthy(b" %d" % 2**63),
            "length 2**64 - 1": lengthy(b" %d" % (2**64 - 1)),
            "half a head": GOOD[:30],
            "a head without its last line": head(JSON, LENGTH)[:-2],
            "half a body": GOOD[:-5],
            "no body": head(JSON, LENGTH),
            "half a chunk": coded(WHOLE[:10]),
            "no last chunk": coded(WHOLE[:-5]),
            "no last CRLF": coded(WHOLE[:-2]),
            "nothing at all": b"",
        },
        closed=True,
    ),
    **relayed(
        "RFC 9112 § 6: framed in one way",
        {
            "length": GOOD,
            "length with zeros before": lengthy(b" 00" + NUMBER),
            "length with tabs": lengthy(b"\t" + NUMBER + b"\t"),
            "length without a space": lengthy(NUMBER),
            "length in capitals": GOOD.replace(b"content-length", b"CONTENT-LENGTH"),
            "chunks": coded(WHOLE),
            "chunks of one byte": coded(chunked(BODY, 1)),
            "chunked in capitals": head(JSON, "Transfer-Encoding: CHUNKED") + WHOLE,
            "extensions": coded(chunked(BODY, extension=b';a=b;c="d;e"')),
            "trailers": coded(chunked(BODY, trailers=b"x-t: smuggled\r\nset-cookie: a=b\r\n")),
            "5000 trailers": coded(chunked(BODY, trailers=b"x: 1\r\n" * 5000)),
            "a size in capitals, zeros before": coded(
                b"%020X\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
            ),
            "a last chunk of many zeros": coded(chunked(BODY, end=b"00000000")),
        },
    ),
    **relayed(
        "RFC 9112 § 6.3: as long as the connection",
        {
            "until the end": head(JSON) + BODY,
            "until the end of HTTP/1.0": head(JSON, version="1.0") + BODY,
            "until the end, and says so": head(JSON, "connection: close") + BODY,
            "chunks of HTTP/1.0": head(JSON, CODED, version="1.0") + WHOLE,
        },
        kept=False,
        closed=True,
    ),
}

TRAILERS = relayed(
    "RFC 9110 § 6.5.1: of no use as trailers; the parser heeds them, so the connection ends",
    {
        "a coding as a trailer": coded(chunked(BODY, trailers=b"transfer-encoding: x\r\n")),
        "chunked as a trailer": coded(chunked(BODY, trailers=b"Transfer-Encoding: chunked\r\n")),
        "close as a trailer": coded(chunked(BODY, trailers=b"Connection: close\r\n")),
        "proxy-connection as a trailer": coded(
            chunked(BODY, trailers=b"proxy-connection: close\r\n")
        ),
    },
    kept=False,
)

CHUNKS = failing(
    "RFC 9112 § 7.1: the grammar of chunks",
    {
        name: coded(body)
        for name, body in {
            "size of letters": b"zz\r\n" + BODY + b"\r\n0\r\n\r\n",
            "size with a minus": b"-1\r\na\r\n0\r\n\r\n",
            "size with a plus": b"+1\r\na\r\n0\r\n\r\n",
            "size with 0x": b"0x1\r\na\r\n0\r\n\r\n",
            "size empty": b"\r\na\r\n0\r\n\r\n",
            "size with a space before": b" 1\r\na\r\n0\r\n\r\n",
            "size of 17 digits": b"1" + b"0" * 16 + b"\r\n" + BODY,
            "size of 20 digits": b"f%019x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
            "size of 2**64 and the body's": b"%x\r\n%b\r\n0\r\n\r\n" % (2**64 + len(BODY), BODY),
            "size with a space behind": b"%x \r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
            "size with NUL": b"1\x00\r\na\r\n0\r\n\r\n",
            "size that ends in LF": b"%x\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
            "size that is too small": b"5\r\n" + BODY + b"\r\n0\r\n\r\n",
            "data that ends in LF": b"%x\r\n%b\n0\r\n\r\n" % (len(BODY), BODY),
            "data that does not end": b"%x\r\n%b0\r\n\r\n" % (len(BODY), BODY),
            "all with LF": b"%x\n%b\n0\n\n" % (len(BODY), BODY),
            "garbage behind a chunk": WHOLE[:-5] + b"smuggled",
            "extension with LF": b"%x;a\nb\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
            "a length as a trailer": chunked(BODY, trailers=b"content-length: 9\r\n"),
            "a trailer without a colon": chunked(BODY, trailers=b"nonsense\r\n"),
            "a trailer with NUL": chunked(BODY, trailers=b"x: \x00\r\n"),
            "a trailer with LF": chunked(BODY, trailers=b"x: a\n"),
            "a trailer folded": chunked(BODY, trailers=b"x: a\r\n b\r\n"),
        }.items()
    },
) | failing(
    "every read is bounded",
    {
        "a trailer without end": coded(chunked(BODY)[:-2] + b"x: " + b"a" * 2_000_000),
        "trailers without end": coded(chunked(BODY)[:-2] + b"x: aaaaaaaa\r\n" * 200_000),
        "an extension without end": coded(b"5;" + b"a" * 2_000_000),
        "a size without end": coded(b"0" * 2_000_000),
    },
)
