"""Access rules: each keeps somebody out, and lets in who belongs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.admin.access import (
    check_access,
    check_origin,
    cors_headers,
    host_allowed,
    is_loopback,
    preflight_headers,
)
from nexus.core.errors import ApiError

KEY = "a-key"
DEFAULT_ORIGINS = ("http://localhost:*", "http://127.0.0.1:*")


def access(headers: dict[str, str] | None = None, **values: Any) -> ApiError | None:
    return check_access(
        **{
            "peer": "127.0.0.1",
            "headers": {"host": "127.0.0.1:8000", **(headers or {})},
            "admin_key": "",
            "allowed_hosts": (),
            "own_names": (),
            **values,
        }
    )


def status(error: ApiError | None) -> int:
    return 0 if error is None else error.status


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", None])
def test_this_machine_comes_in(peer: str | None) -> None:
    """Loopback peers and the Unix socket need no key where none is set."""
    assert access(peer=peer) is None


@pytest.mark.parametrize("peer", ["192.168.1.5", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", ""])
def test_elsewhere_stays_out_without_a_key(peer: str) -> None:
    """Others get 403, and are told how to be let in."""
    error = access(peer=peer)
    assert error is not None
    assert error.status == 403
    assert "server.admin_key_env" in error.message


@pytest.mark.parametrize("header", ["forwarded", "x-forwarded-for", "x-real-ip", "via"])
def test_a_proxied_request_is_not_from_this_machine(header: str) -> None:
    """What a proxy on this machine passes on counts as coming from elsewhere."""
    error = access({header: "127.0.0.1"})
    assert error is not None
    assert error.status == 403
    assert header in error.message
    assert access({header: "1.2.3.4", "authorization": f"Bearer {KEY}"}, admin_key=KEY) is None


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.0.0.1", None])
def test_with_a_key_everyone_needs_it(peer: str | None) -> None:
    """A key is required from loopback too, and is enough from everywhere."""
    missing = access(peer=peer, admin_key=KEY)
    assert missing is not None
    assert missing.status == 401
    assert ("WWW-Authenticate", "Bearer") in missing.headers
    assert status(access({"authorization": "Bearer wrong"}, peer=peer, admin_key=KEY)) == 401
    assert access({"authorization": f"bearer  {KEY} "}, peer=peer, admin_key=KEY) is None


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", f"Basic {KEY}", KEY, f"Bearer {KEY}x", "Bearer \xfc"]
)
def test_only_the_very_key_opens(authorization: str) -> None:
    """No other scheme, prefix, or non-ASCII text passes, and none of it raises."""
    error = access({"authorization": authorization}, admin_key=KEY)
    assert error is not None
    assert error.status == 401
    assert KEY not in error.message


def test_a_key_beyond_ascii_works() -> None:
    """A key of any characters can be presented."""
    assert access({"authorization": "Bearer schlüssel"}, admin_key="schlüssel") is None


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8000",
        "192.168.1.20:8000",
        "[::1]:8000",
        "[fe80::1%eth0]",
        "[fe80::1%25eth0]:8000",
        "[FE80::1%25En_0.a~b-c]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "LOCALHOST:8000",
        "nexus.localhost:8000",
        "localhost.",
        "box",
        "Box.local:8000",
        "gw.example.org:1",
        "strict.example.org:8000",
    ],
)
def test_hosts_that_can_only_be_us(host: str) -> None:
    """IP literals, localhost, the machine's own names and the listed ones are allowed."""
    assert host_allowed(host, ["gw.example.org", "strict.example.org:8000"], ["box", "BOX.local"])


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "notlocalhost",
        "127.0.0.1.evil.example",
        "2130706433",
        "0x7f.1",
        "gw.example.org.evil.example",
        "strict.example.org:9",
        "strict.example.org",
        "user@localhost",
        "localhost/evil",
        "localhost:80:80",
        "localhost, evil.example",
        "[evil]",
        "[::%]:80",
        "[::1%]",
        "[::1%%]",
        "[::1%a%b]",
        "[::1%25eth0%25]",
        "[::1%eth 0]",
        "[%eth0]",
        "[127.0.0.1]",
        "[127.0.0.1%eth0]",
        "127.0.0.1%eth0",
        "[::1].",
        "[::1",
        "::1",
        "localhost:123456",
        "localhost:",
        "localhost\n",
    ],
)
def test_hosts_that_could_be_anyones(host: str) -> None:
    """Every other Host is refused, odd spellings included: DNS rebinding ends here."""
    assert not host_allowed(host, ["gw.example.org", "strict.example.org:8000"], ["box"])
    error = access({"host": host})
    assert error is not None
    assert error.status == 403
    assert "server.allowed_hosts" in error.message


def test_a_key_does_not_excuse_a_strange_host() -> None:
    """The Host is checked with the right key too."""
    headers = {"host": "evil.example", "authorization": f"Bearer {KEY}"}
    assert status(access(headers, admin_key=KEY)) == 403


@pytest.mark.parametrize(
    ("origin", "host", "ok"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("http://localhost:8000", "LOCALHOST:8000", True),
        ("http://localhost", "localhost", True),
        ("http://localhost", "localhost:80", True),
        ("https://localhost", "localhost:443", True),
        ("https://[::1]:8000", "[::1]:8000", True),
        ("http://localhost:8000", "127.0.0.1:8000", False),
        ("http://127.0.0.1:3000", "127.0.0.1:8000", False),
        ("http://evil.example", "127.0.0.1:8000", False),
        ("null", "127.0.0.1:8000", False),
        ("", "127.0.0.1:8000", False),
        ("file://", "127.0.0.1:8000", False),
    ],
)
def test_the_admin_api_is_for_its_own_pages(origin: str, host: str, ok: bool) -> None:
    """A request with an Origin is served only when it is the very origin it is sent to."""
    assert (access({"origin": origin, "host": host}) is None) is ok


@settings(deadline=None, max_examples=100)
@given(text=st.text(), peer=st.none() | st.text(), key=st.sampled_from(["", KEY]))
def test_no_header_raises(text: str, peer: str | None, key: str) -> None:
    """Any text anywhere gives a verdict; a refusal holds nothing unprintable."""
    for name in ("host", "origin", "authorization"):
        error = access({name: text}, peer=peer, admin_key=key)
        assert error is None or error.message.isprintable()
    check_origin(origin=text, host=text, cors_origins=[text])
    is_loopback(text)


def page(origin: str | None, cors: Any = DEFAULT_ORIGINS, host: str = "127.0.0.1:8000") -> int:
    return status(check_origin(origin=origin, host=host, cors_origins=cors))


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "http://localhost:3000",
        "http://localhost",
        "http://127.0.0.1:5173",
        "http://127.0.0.1:8000",
        "chrome-extension://abcdef",
        "tauri://localhost",
        "app://obsidian.md",
    ],
)
def test_who_may_call_v1(origin: str | None) -> None:
    """Programs, pages of this machine and applications call ``/v1`` without being listed."""
    assert page(origin) == 0


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://evil.example",
        "https://localhost:3000",
        "http://localhost.evil.example:3000",
        "http://127.0.0.1.evil.example",
        "http://192.168.1.5:3000",
        "null",
        "",
        "http://",
        "http://localhost:3000/path",
        "http://a@localhost:3000",
        "HTTP://EVIL.EXAMPLE",
    ],
)
def test_who_may_not_call_v1(origin: str) -> None:
    """Other pages get 403, and the message says where to allow them."""
    error = check_origin(origin=origin, host="127.0.0.1:8000", cors_origins=DEFAULT_ORIGINS)
    assert error is not None
    assert error.status == 403
    assert "server.cors_origins" in error.message


def test_own_pages_call_v1_under_a_sure_name_only() -> None:
    """Same origin is not enough when the name may be a rebound domain."""
    assert page("http://192.168.1.9:8000", (), "192.168.1.9:8000") == 0
    assert page("http://evil.example:8000", (), "evil.example:8000") == 403
    assert (
        check_origin(
            origin="https://gw.example.org",
            host="gw.example.org",
            cors_origins=(),
            allowed_hosts=["gw.example.org"],
        )
        is None
    )


@pytest.mark.parametrize(
    ("pattern", "origin", "ok"),
    [
        ("*", "https://anything.example", True),
        ("*", "null", True),
        ("null", "null", True),
        ("https://app.example.org", "https://app.example.org", True),
        ("https://app.example.org/", "https://app.example.org", True),
        ("https://app.example.org", "https://app.example.org:444", False),
        ("https://app.example.org:443", "https://app.example.org", True),
        ("https://app.example.org", "http://app.example.org", False),
        ("https://*.example.org", "https://a.b.example.org", True),
        ("https://*.example.org", "https://example.org", False),
        ("https://*.example.org", "https://evilexample.org", False),
        ("http://localhost:*", "http://localhost:1", True),
        ("http://[::1]:*", "http://[::1]:3000", True),
        ("nonsense", "http://nonsense", False),
    ],
)
def test_patterns(pattern: str, origin: str, ok: bool) -> None:
    """What each form of ``server.cors_origins`` allows."""
    assert (page(origin, [pattern]) == 0) is ok


def test_an_allowed_page_can_read_the_answer() -> None:
    """The answer names the origin, and caches are told that it depends on it."""
    headers = dict(cors_headers("http://localhost:3000"))
    assert headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in headers


def test_a_preflight_grants_what_was_asked() -> None:
    """Methods of the path and the headers asked for; nothing malformed is echoed."""
    headers = dict(
        preflight_headers(
            "http://localhost:3000",
            requested_headers="authorization,content-type, x-stainless-os",
            methods=("POST", "OPTIONS"),
        )
    )
    assert headers["Access-Control-Allow-Methods"] == "POST, OPTIONS"
    assert headers["Access-Control-Allow-Headers"] == "authorization,content-type, x-stainless-os"
    for odd in ("a\r\nSet-Cookie: x", "a b", None, ""):
        granted = dict(preflight_headers("o", requested_headers=odd, methods=()))
        assert granted["Access-Control-Allow-Headers"] == "authorization, content-type"
