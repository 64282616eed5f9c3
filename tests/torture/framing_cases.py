"""How long is the body? Every way to say it twice, wrongly or oddly (RFC 9112 §§ 6.1, 6.3)."""

from __future__ import annotations

from tests.torture.cases import (
    CHUNKED,
    GET_TWIN,
    LENGTH,
    NUMBER,
    SECRET,
    Answered,
    Case,
    Refused,
    coded,
    lengthy,
)
from tests.torture.stage import BODY, PATH, POST, chunked, get, head

__all__ = ["BOTH_FRAMINGS", "CODINGS", "LENGTHS"]

CODED = chunked(BODY)


def _both_framings() -> dict[str, Case]:
    rule = "RFC 9112 § 6.1: both may be an attempt at smuggling"
    empty = b"0\r\n\r\n" + SECRET
    cases = {
        "length, then chunked": coded(LENGTH, CHUNKED),
        "chunked, then length": coded(CHUNKED, LENGTH),
        "length of the coded body": coded(b"Content-Length: %d" % len(CODED), CHUNKED),
        "length that covers a hidden request": coded(
            b"Content-Length: %d" % len(empty), CHUNKED, body=empty
        ),
        "length of the size line": coded(b"Content-Length: 4", CHUNKED, body=b"5c\r\n" + SECRET),
        "length 0 and chunked": coded(b"Content-Length: 0", CHUNKED),
        "chunked with a tab before": coded(LENGTH, b"Transfer-Encoding:\tchunked"),
        "chunked without a space": coded(LENGTH, b"Transfer-Encoding:chunked"),
        "chunked in capitals": coded(LENGTH, b"TRANSFER-ENCODING: CHUNKED"),
        "chunked between fields": coded(LENGTH, b"X-A: 1", CHUNKED, b"X-B: 1"),
        "chunked and length of HTTP/1.0": head(b"POST " + PATH + b" HTTP/1.0", CHUNKED, LENGTH)
        + CODED,
        "both under an Expect": coded(LENGTH, CHUNKED, b"Expect: 100-continue"),
        "xchunked and length": coded(LENGTH, b"Transfer-Encoding: xchunked", body=BODY),
        "identity and length": coded(LENGTH, b"Transfer-Encoding: identity", body=BODY),
        "empty coding and length": coded(LENGTH, b"Transfer-Encoding:", body=BODY),
        "chunked and length, quoted": coded(LENGTH, b'Transfer-Encoding: "chunked"', body=BODY),
        "chunked, length as a trailer": coded(
            CHUNKED, body=chunked(BODY, trailers=b"Content-Length: 5\r\n")
        ),
        "chunked, coding as a trailer": coded(
            CHUNKED, body=chunked(BODY, trailers=b"Transfer-Encoding: chunked\r\n")
        ),
    }
    return {name: Case(data, Refused(), rule) for name, data in cases.items()}


def _lengths() -> dict[str, Case]:
    rule = "RFC 9112 § 6.3: an invalid Content-Length is an unrecoverable error"
    refused = {
        "two lengths alike": coded(LENGTH, LENGTH, body=BODY),
        "two lengths unlike": coded(LENGTH, b"Content-Length: 1", body=BODY),
        "two lengths, the first 0": coded(b"Content-Length: 0", LENGTH, body=SECRET),
        "three lengths alike": coded(LENGTH, LENGTH, LENGTH, body=BODY),
        "two lengths of HTTP/1.0": head(b"POST " + PATH + b" HTTP/1.0", LENGTH, LENGTH) + BODY,
        "two lengths apart": coded(LENGTH, b"X-A: 1", b"content-length: 0", body=BODY),
        "length, then an empty one": coded(LENGTH, b"Content-Length:", body=BODY),
        "length +": lengthy(b" +" + NUMBER),
        "length -": lengthy(b" -1"),
        "length list": lengthy(b" " + NUMBER + b", " + NUMBER),
        "length list unlike": lengthy(b" " + NUMBER + b",0"),
        "length empty": lengthy(b""),
        "length of spaces": lengthy(b"   "),
        "length hex": lengthy(b" 0x5C"),
        "length exponent": lengthy(b" 9e1"),
        "length decimal": lengthy(b" 92.0"),
        "length underscored": lengthy(b" 9_2"),
        "length grouped": lengthy(b" 1,000"),
        "length quoted": lengthy(b' "92"'),
        "length with inner space": lengthy(b" 9 2"),
        "length with inner tab": lengthy(b" 9\t2"),
        "length with words": lengthy(b" " + NUMBER + b" bytes"),
        "length with a semicolon": lengthy(b" " + NUMBER + b";a"),
        "length in other digits": lengthy(" \u0669\u0662".encode()),
        "length in full width": lengthy(" \uff19\uff12".encode()),
        "length with a superscript": lengthy(b" 9\xb2"),
        "length with NUL": lengthy(b" " + NUMBER + b"\x00"),
        "length with a form feed": lengthy(b" \x0c" + NUMBER),
        "length with a vertical tab": lengthy(b" " + NUMBER + b"\x0b"),
        "length with a bare CR": lengthy(b" " + NUMBER + b"\r"),
        "length folded": lengthy(b"\r\n " + NUMBER),
        "length of 2**64": lengthy(b" 18446744073709551616"),
        "length of 2**64 and the body's": lengthy(b" %d" % (2**64 + len(BODY))),
        "length of 40 digits": lengthy(b" " + b"9" * 40),
        "space before the colon": coded(b"Content-Length : " + NUMBER, body=BODY),
        "tab before the colon": coded(b"Content-Length\t: " + NUMBER, body=BODY),
        "space before the name": coded(LENGTH, b" Content-Length: 0", body=BODY),
        "an underscore in its name": coded(LENGTH, b"Content_Length: 0", body=BODY),
        "NUL in its name": coded(LENGTH, b"Content\x00-Length: 0", body=BODY),
        "a high byte behind its name": coded(LENGTH, b"Content-Length\xa0: 0", body=BODY),
    }
    cases = {name: Case(data, Refused(), rule) for name, data in refused.items()}
    for number in (2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1):
        cases[f"length of {number}"] = Case(
            head(POST, b"Content-Length: %d" % number) + BODY,
            Refused(413),
            "RFC 9110 § 15.5.14; no integer turns it small or negative",
        )
    rule = "RFC 9110 § 8.6: 1*DIGIT, optional white space around it"
    fine = {
        "length with zeros before": lengthy(b" 000" + NUMBER),
        "length with a tab before": lengthy(b"\t" + NUMBER),
        "length with a tab behind": lengthy(b" " + NUMBER + b"\t"),
        "length with spaces around": lengthy(b"   " + NUMBER + b"   "),
        "length without a space": lengthy(NUMBER),
        "length in capitals": head(POST, b"CONTENT-LENGTH: " + NUMBER) + BODY,
    }
    return cases | {name: Case(data, Answered(), rule) for name, data in fine.items()}


def _codings() -> dict[str, Case]:
    rule = "RFC 9112 §§ 6.1, 6.3: a coding that is not understood, or chunked not last"
    refused = {
        "xchunked": b": xchunked",
        "chunkedx": b": chunkedx",
        "identity": b": identity",
        "chunked, identity": b": chunked, identity",
        "identity, chunked": b": identity, chunked",
        "gzip, chunked": b": gzip, chunked",
        "chunked, gzip": b": chunked, gzip",
        "chunked, chunked": b": chunked, chunked",
        "an empty coding": b":",
        "a comma": b": ,",
        "chunked,": b": chunked,",
        ", chunked": b": ,chunked",
        "chunked with a parameter": b": chunked;q=1",
        "chunked quoted": b': "chunked"',
        "chunked with NUL": b": chunked\x00",
        "chunked with a vertical tab": b":\x0bchunked",
        "chunked with a form feed": b": chunked\x0c",
        "chunked with a high byte": b": chunked\xa0",
        "chunked with a bare CR": b": chunked\r",
        "chunked folded": b":\r\n chunked",
        "chunked with inner space": b": chun ked",
        # White space like any other by the grammar; the parser is stricter, and loses nobody.
        "chunked with a tab behind": b": chunked\t",
        "a coding with a space before its colon": b" : chunked",
        "a coding with a tab before its colon": b"\t: chunked",
    }
    cases = {
        name: Case(coded(b"Transfer-Encoding" + value), Refused(), rule)
        for name, value in refused.items()
    }
    two = {
        "chunked twice": (CHUNKED, CHUNKED),
        "chunked, then identity": (CHUNKED, b"Transfer-Encoding: identity"),
        "identity, then chunked": (b"Transfer-Encoding: identity", CHUNKED),
        "gzip, then chunked": (b"Transfer-Encoding: gzip", CHUNKED),
        "chunked, then an empty one": (CHUNKED, b"Transfer-Encoding:"),
        "a coding that is folded away": (b"X-A: 1", b" Transfer-Encoding: chunked", LENGTH),
        "a name with a space before": (b" Transfer-Encoding: chunked",),
        "an underscore in the name of a coding": (LENGTH, b"Transfer_Encoding: chunked"),
        "NUL in the name of a coding": (LENGTH, b"Transfer-Encoding\x00: chunked"),
    }
    cases |= {name: Case(coded(*lines), Refused(), rule) for name, lines in two.items()}
    cases["chunked of HTTP/1.0"] = Case(
        head(b"POST " + PATH + b" HTTP/1.0", CHUNKED) + CODED,
        Refused(),
        "RFC 9112 § 6.1: its framing is faulty",
    )
    cases["a coded GET"] = Case(
        get(b"/livez", b"Transfer-Encoding: gzip, chunked") + CODED, Refused(), rule, GET_TWIN
    )
    rule = "RFC 9112 § 7: codings are case-insensitive, white space around a value is none of it"
    fine = {
        "chunked plain": b": chunked",
        "chunked in mixed case": b": ChUnKeD",
        "chunked with a tab": b":\tchunked",
        "chunked with spaces": b":   chunked   ",
    }
    for name, value in fine.items():
        cases[name] = Case(coded(b"Transfer-Encoding" + value), Answered(), rule)
    return cases


BOTH_FRAMINGS = _both_framings()
LENGTHS = _lengths()
CODINGS = _codings()
