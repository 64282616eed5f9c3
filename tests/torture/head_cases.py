"""Bytes and line ends of a head (RFC 9112 §§ 2.2, 5; RFC 9110 § 5.5)."""

from __future__ import annotations

from tests.torture.cases import LENGTH, NUMBER, Answered, Case, Refused, fields
from tests.torture.stage import BODY, POST, head, post

__all__ = ["HEADS"]


def _bytes() -> dict[str, Case]:
    rule = "RFC 9112 § 5.1, RFC 9110 § 5.5: field names are tokens, values hold no control bytes"
    refused = {
        f"0x{byte:02x} in a value": fields(b"X-A: a%cb" % byte)
        for byte in (*range(9), *range(0xB, 0x20), 0x7F)
    }
    refused |= {
        f"0x{byte:02x} in a name": fields(b"X%cA: b" % byte)
        for byte in b"\x00\x01\t\x0b\x0c \"(,/;@[\x7f\x80"
    }  # fmt: skip
    refused |= {
        "a field without a name": fields(b": a"),
        "a field without a colon": fields(b"nonsense"),
        "a blank field name": fields(b" : a"),
        "a NUL behind the head": head(POST, LENGTH)[:-2] + b"\x00\r\n" + BODY,
        "a space before the first field": head(POST, b" X-A: 1", LENGTH, host=False) + BODY,
        "a line of spaces": fields(b"  "),
        "a line of a tab": fields(b"\t"),
    }
    cases = {name: Case(data, Refused(), rule) for name, data in refused.items()}
    rule = "RFC 9112 § 5.2: obs-fold in a request is refused"
    twin = fields(b"X-A: 1")
    cases["obs-fold"] = Case(fields(b"X-A: 1", b" folded"), Refused(), rule, twin)
    cases["obs-fold with a tab"] = Case(fields(b"X-A: 1", b"\tfolded"), Refused(), rule, twin)
    cases["obs-fold of nothing"] = Case(fields(b"X-A:", b" "), Refused(), rule, twin)
    cases["obs-fold hides a coding"] = Case(
        fields(b"X-A: 1", b" Transfer-Encoding: chunked"), Refused(), rule, twin
    )
    cases["obs-fold behind the length"] = Case(
        head(POST, LENGTH, b" 0") + BODY, Refused(), rule, post()
    )
    rule = "RFC 9112 § 2.2: a bare CR is invalid, a bare LF is no line end here"
    whole = post()
    cases["LF for every CRLF"] = Case(whole.replace(b"\r\n", b"\n"), Refused(), rule)
    cases["CR for every CRLF"] = Case(whole.replace(b"\r\n", b"\r"), Refused(), rule)
    cases["LF behind the request line"] = Case(
        whole.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"), Refused(), rule
    )
    cases["LF behind a field"] = Case(whole.replace(b"test\r\n", b"test\n"), Refused(), rule)
    cases["LF behind the length"] = Case(
        whole.replace(NUMBER + b"\r\n\r\n", NUMBER + b"\n\r\n"), Refused(), rule
    )
    cases["LF for the blank line"] = Case(whole.replace(b"\r\n\r\n", b"\r\n\n"), Refused(), rule)
    cases["two LF for the end"] = Case(whole.replace(b"\r\n\r\n", b"\n\n"), Refused(), rule)
    cases["CR LF LF behind the request line"] = Case(
        whole.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\n\n"), Refused(), rule
    )
    cases["CR CR LF"] = Case(whole.replace(b"\r\n\r\n", b"\r\n\r\r\n"), Refused(), rule)
    cases["a CRLF before the request"] = Case(
        b"\r\n" + whole, Answered(), "RFC 9112 § 2.2: at least one empty line is ignored"
    )
    cases["50 CRLF before the request"] = Case(b"\r\n" * 50 + whole, Answered(), "the same")
    cases["high bytes in a value"] = Case(
        fields(b"X-A: caf\xc3\xa9 \xff"), Answered(), "RFC 9110 § 5.5: obs-text"
    )
    cases["an empty value"] = Case(fields(b"X-A:"), Answered(), "RFC 9110 § 5.5")
    return cases


HEADS = _bytes()
