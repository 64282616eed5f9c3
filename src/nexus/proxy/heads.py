"""The heads of relayed messages: which of the client's fields go upstream, which of the backend's
come back (behaviour § 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from nexus.http1.headers import CREDENTIAL_HEADERS, HOP_BY_HOP, Headers, connection_names
from nexus.proxy.hops import nexus_hops, via_line

if TYPE_CHECKING:
    from nexus.proxy.link import Link

__all__ = ["ClientFields", "answer_fields", "client_fields", "pinned_name", "public_query"]

_STAY_HERE = HOP_BY_HOP | {
    b"host",
    b"accept-encoding",
    b"content-length",
    b"content-encoding",
    b"cookie",
    b"expect",
    b"x-request-id",
    b"origin",
    b"referer",
    b"forwarded",
    b"via",
}
_CREDENTIAL_PARAMETERS = frozenset(
    {b"key", b"api_key", b"api-key", b"apikey", b"access_token", b"token"}
)
_ANSWER_DROPPED = HOP_BY_HOP | {
    b"content-length",
    b"content-type",
    b"set-cookie",
    b"set-cookie2",
    b"clear-site-data",
    b"strict-transport-security",
    b"alt-svc",
    b"x-request-id",
    b"x-content-type-options",
    b"access-control-allow-origin",
    b"access-control-allow-credentials",
    b"access-control-allow-headers",
    b"access-control-allow-methods",
    b"access-control-expose-headers",
    b"access-control-max-age",
    b"access-control-allow-private-network",
}


class ClientFields:
    """The client's header fields, sorted once per head: ``lines`` go to every backend (except the
    ones named in its engine's ``dropped_headers``), ``credentials`` only where they may. ``hops``
    are the Nexus gateways that the request came through. ``start`` is how a request with them
    begins, as it went out last, and ``start_to`` whereto: a connection's next call most often goes
    there, too."""

    __slots__ = (
        "credentials",
        "encoding",
        "hops",
        "names",
        "origin",
        "pin",
        "request_id",
        "start",
        "start_to",
        "values",
    )

    def __init__(self) -> None:
        self.encoding: bytes | None = None
        self.hops: tuple[bytes, ...] = ()
        self.origin: bytes | None = None
        self.pin: bytes | None = None
        self.start = b""
        self.start_to: Link | None = None
        self.names: list[bytes] = []
        self.values: list[bytes] = []
        self.credentials: list[bytes] = []
        self.request_id: bytes | None = None

    def lines(self, dropped: frozenset[bytes]) -> bytes:
        """The fields as they go on the wire, without those an engine misreads."""
        return b"".join(
            [
                line
                for name, line in zip(self.names, self.values, strict=True)
                if name not in dropped
            ]
        )


def client_fields(headers: Headers) -> ClientFields:
    """Sorts a request's fields; those that ``Connection`` names stay here too."""
    fields = ClientFields()
    names, values = fields.names, fields.values
    named: set[bytes] | None = None
    for name, value in headers:
        if name in _STAY_HERE:
            if name == b"connection" and value.lower() not in (b"keep-alive", b"close"):
                named = connection_names(value) | (named or set())
            elif name == b"x-request-id" and fields.request_id is None:
                fields.request_id = value
            elif name == b"content-encoding":
                # Several fields are one list (RFC 9110 § 5.3), and a list of codings is refused.
                known = fields.encoding
                fields.encoding = value if known is None else known + b"," + value
            elif name == b"origin":
                fields.origin = value
            elif name == b"via":
                fields.hops += nexus_hops(value)
        elif name in CREDENTIAL_HEADERS:
            fields.credentials.append(name + b": " + value + b"\r\n")
        elif not name.startswith(b"x-nexus-"):
            names.append(name)
            values.append(name + b": " + value + b"\r\n")
        elif name == b"x-nexus-pin":
            fields.pin = value
    if fields.hops:
        names.append(b"via")
        values.append(via_line(fields.hops))
    if named:
        kept = [(n, v) for n, v in zip(names, values, strict=True) if n not in named]
        fields.names = [n for n, _ in kept]
        fields.values = [v for _, v in kept]
        fields.credentials = [
            line for line in fields.credentials if line.partition(b":")[0] not in named
        ]
    return fields


def pinned_name(pin: bytes, known: Container[str]) -> str:
    """The backend that ``x-nexus-pin`` means: its name as it is, or percent-encoded as
    ``x-nexus-backend`` tells it. One that is not ``known`` is taken as it came."""
    name = pin.decode("latin-1")
    if name not in known:
        decoded = unquote_to_bytes(pin).decode("utf-8", "replace")
        if decoded in known:
            return decoded
    return name


def public_query(query: bytes) -> bytes:
    """A query without the parameters in which some services take their key."""
    return b"&".join(
        part
        for part in query.split(b"&")
        if unquote_to_bytes(part.partition(b"=")[0]).lower() not in _CREDENTIAL_PARAMETERS
    )


def answer_fields(headers: Headers, out: list[bytes]) -> bytes | None:
    """Appends the backend's fields that may pass to ``out``; returns its Content-Type."""
    content_type: bytes | None = None
    named: set[bytes] | None = None
    first = len(out)
    append: Callable[[bytes], None] = out.append
    for name, value in headers:
        if name in _ANSWER_DROPPED:
            if name == b"content-type":
                content_type = value
            elif name == b"connection" and value.lower() not in (b"keep-alive", b"close"):
                named = connection_names(value) | (named or set())
            continue
        if name.startswith((b"x-nexus-", b"access-control-")):
            continue
        append(name + b": " + value + b"\r\n")
    if named:
        # Connection may stand behind what it names.
        out[first:] = [line for line in out[first:] if line.partition(b":")[0] not in named]
    return content_type
