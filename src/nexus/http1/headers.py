"""Header rules: what goes through, what stays here, how a head is written.

RFC 9110 § 7.6.1 (hop-by-hop), RFC 9112 §§ 3 and 6 (request line, framing).
"""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from time import time
from urllib.parse import quote

__all__ = [
    "CREDENTIAL_HEADERS",
    "HOP_BY_HOP",
    "Headers",
    "connection_names",
    "encode_value",
    "http_date",
    "is_field_value",
    "serialise_response",
    "status_line",
]

Headers = list[tuple[bytes, bytes]]
"""Header fields in order; names lower case, values as they came."""

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

CREDENTIAL_HEADERS = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})
"""What may reach a backend as the client's own credential (behaviour § 2.3)."""

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


def status_line(status: int) -> bytes:
    """``HTTP/1.1 200 OK`` with its line end; an unknown status has an empty phrase."""
    line = _STATUS_LINES.get(status)
    return line if line is not None else b"HTTP/1.1 %d \r\n" % status


def connection_names(value: bytes) -> set[bytes]:
    """The lower-case options of a ``Connection`` field: each names a header that stays here."""
    return {name.strip().lower() for name in value.split(b",")} - {b""}


def encode_value(text: str) -> bytes:
    """A header value of any text: visible ASCII as it is, all else percent-encoded, so that no
    name from outside can split a response."""
    if text.isascii() and text.isprintable() and " " not in text:
        return text.encode("ascii")
    return quote(text, safe="!#$&'()*+,/:;=?@[]~", errors="replace").encode("ascii")


def is_field_value(text: str) -> bool:
    """Whether a configured header value may go on the wire (RFC 9110 § 5.5): no control bytes."""
    return (
        all(ch == "\t" or (ch >= " " and ch != "\x7f") for ch in text)
        and max(text, default=" ") <= "\u00ff"
    )


_date = (0, b"")


def http_date() -> bytes:
    """Now as an IMF-fixdate (RFC 9110 § 5.6.7), made once a second."""
    global _date
    now = int(time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True).encode())
    return _date[1]


def serialise_response(
    status: int,
    headers: Headers,
    body: bytes,
    *,
    close: bool,
    head_only: bool = False,
) -> bytes:
    """One whole response of our own making, Content-Length framed, in one piece of bytes."""
    parts = [status_line(status), b"server: nexus\r\ndate: ", http_date(), b"\r\n"]
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"x-content-type-options: nosniff\r\n")
    if close:
        parts.append(b"connection: close\r\n")
    if status == 204 or status < 200:
        parts.append(b"\r\n")
    else:
        parts.append(b"content-length: %d\r\n\r\n" % len(body))
        if not head_only:
            parts.append(body)
    return b"".join(parts)
