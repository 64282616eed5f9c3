"""What strangers write: mDNS records, header fields."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from nexus.admin.access import (
    check_access,
    check_origin,
    cors_headers,
    host_allowed,
    preflight_headers,
)
from nexus.admin.sessions import FailedKeys, Sessions, cookie_token
from nexus.core.backend import Source, parse_backend_url
from nexus.core.errors import ApiError
from nexus.discovery.adverts import Advert, Adverts, Ignored, key_of
from nexus.discovery.naming import base_name
from nexus.discovery.sane import usable
from nexus.discovery.txt import display_name, parse_txt
from nexus.http1.headers import encode_value
from nexus.http1.message import kept_id
from nexus.proxy.admission import decode_body
from nexus.proxy.heads import answer_fields, client_fields, public_query
from nexus.proxy.retry import parse_retry_after
from nexus.telemetry.text import harmless, printable
from tests.fuzz.target import Target

__all__ = ["FIELDS", "TXT"]

_TYPE = "_ollama._tcp.local."
_NAME = re.compile(r"[\w._-]{1,64}")


def _run_txt(data: bytes) -> None:
    """A TXT record and a name become what can stand in a URL, a shell, a page and a log."""
    record, _, rest = data.partition(b"\xfe")
    txt = parse_txt(record)
    assert len(txt.version) <= 64
    assert txt.version.isprintable()
    assert len(txt.models) <= 64
    assert all(model.isprintable() and 0 < len(model) <= 128 for model in txt.models)
    assert txt.base_path.startswith(parse_backend_url(f"http://h:1{txt.base_path}").base_path)
    name = rest.decode("utf-8", "surrogateescape" if data[:1] == b"\x00" else "replace")
    shown = display_name(name)
    assert len(shown) <= 63
    assert shown.isprintable()
    assert not set(shown) & set("<>\"'&;$`|\\/\n")
    assert key_of(name).isprintable()
    adverts = Adverts((_TYPE,))
    try:
        heard = adverts.heard(f"{name}.{_TYPE}", 0.0)
    except UnicodeEncodeError:
        assert any(0xD800 <= ord(char) < 0xE000 for char in name)
        return
    if isinstance(heard, Ignored):
        assert heard.key.isprintable()
        return
    assert isinstance(heard, Advert)
    heard.txt, heard.port = record, len(record) * 257
    heard.server = "h.local."
    heard.v4 = (f"192.168.1.{len(data) % 256}", name)
    heard.v6 = ("fe80::1%eth0", name)
    sighting = adverts.sighting(heard, ())
    if sighting is None or isinstance(sighting, Ignored):
        return
    sighting = usable(sighting)
    assert sighting.source is Source.MDNS
    assert _NAME.fullmatch(base_name(sighting, sighting.engine))


def _clean(value: bytes) -> bool:
    return not {0, 10, 13} & set(value)


_STAY = (
    *(b"cookie:", b"proxy-authorization:", b"host:", b"transfer-encoding:", b"content-length:"),
    *(b"authorization:", b"x-api-key:", b"x-nexus-"),
)
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")


def _fields(data: bytes) -> list[tuple[bytes, bytes]]:
    """As a parser would hand them on: nothing in them that it refuses."""
    found = []
    for line in data.split(b"\n"):
        name, _, value = line.partition(b":")
        name, value = name.strip().lower(), value.strip()
        if _FIELD.fullmatch(name) and _clean(value):
            found.append((name, value))
    return found


def _run_fields(data: bytes) -> None:
    """Fields of strangers decide nothing that they should not, and come out whole or not at all."""
    fields = _fields(data)
    text = {name.decode(): value.decode("latin-1") for name, value in fields}
    for name, value in fields:
        told = value.decode("latin-1")
        wait_s = parse_retry_after(value)
        assert wait_s is None or 0 <= wait_s <= 60
        assert encode_value(told).isascii()
        assert _clean(encode_value(told))
        assert printable(told).isprintable()
        assert not set(harmless(told)) & set("\x1b\x9b\u202e\r")
        cookie_token(told)
        host_allowed(told, (told,), ())
        kept = kept_id(value)
        assert kept is None or kept.isprintable()
        public = public_query(value)
        assert (
            b"key=" not in (b"&" + public).replace(b"&key=x", b"") or b"&key=" not in b"&" + public
        )
        try:
            decode_body(data, value, 1000)
        except ApiError as error:
            assert error.status in (400, 413, 415)
        for line_name, line in (*cors_headers(told), *preflight_headers(
            told, requested_headers=told, methods=("GET",))):  # fmt: skip
            assert _clean(line_name.encode() + line.encode("latin-1", "replace"))
        if name == b"host" and host_allowed(told, (), ()):
            host = urlsplit(f"http://{told}").hostname or ""  # raises: what passes is a URL's host
            if told.startswith("["):  # its zone may read as anything, it is an address
                assert isinstance(ip_address(host), IPv6Address), told
            else:
                assert not host.rstrip(".").endswith(("example", ".com")), told
    access = {"peer": "192.0.2.1", "headers": text, "allowed_hosts": (), "own_names": ()}
    refusal = check_access(admin_key="", **access)  # type: ignore[arg-type]
    assert refusal is not None
    assert refusal.status == 403
    refusal = check_access(admin_key="key-of-the-gate", **access)  # type: ignore[arg-type]
    assert refusal is not None or text.get("authorization", "").endswith("key-of-the-gate")
    check_origin(origin=text.get("origin"), host=text.get("host", ""), cors_origins=())
    Sessions().use(cookie_token(text.get("cookie")), 0.0)
    FailedKeys().note(text.get("host"), 0.0)

    sorted_fields = client_fields(fields)
    for one in (*sorted_fields.values, *sorted_fields.credentials):
        assert one.endswith(b"\r\n")
        assert _clean(one[:-2])
    lines = sorted_fields.lines(frozenset())
    for name in _STAY:
        assert b"\n" + name not in b"\n" + lines
    out: list[bytes] = []
    answer_fields(fields, out)
    for one in out:
        assert one.endswith(b"\r\n")
        assert _clean(one[:-2])
        assert not one.startswith((b"set-cookie:", b"access-control-", b"x-nexus-", b"alt-svc:"))


TXT = Target(name="txt", run=_run_txt, blocks=(b"a" * 200,))
FIELDS = Target(name="fields", run=_run_fields, blocks=(b"a" * 300,))
