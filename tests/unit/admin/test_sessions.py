"""Sessions and wrong keys: bounded, and over in time."""

from __future__ import annotations

import pytest

from nexus.admin.sessions import SESSION_S, FailedKeys, Sessions, cookie_token


def test_a_session_lives_while_it_is_used() -> None:
    """Each use lets it live on; unused for long enough it ends."""
    sessions = Sessions()
    token = sessions.open(0.0)
    assert sessions.use(token, SESSION_S - 1)
    assert sessions.use(token, 2 * SESSION_S - 2)
    assert not sessions.use(token, 4 * SESSION_S)
    assert not sessions.use(token, 0.0)
    assert len(sessions) == 0


def test_tokens_are_not_guessed() -> None:
    """Another token, an empty one and half of one are none; two sessions have two tokens."""
    sessions = Sessions()
    token = sessions.open(0.0)
    assert token != sessions.open(0.0)
    assert len(token) >= 43
    for other in ("", "x", token[:-1], token + "x", "\udce9"):
        assert not sessions.use(other, 1.0)


def test_sessions_are_bounded() -> None:
    """Beyond the bound the one unused for longest goes."""
    sessions = Sessions()
    first = sessions.open(0.0)
    second = sessions.open(0.0)
    assert sessions.use(first, 1.0)
    for _ in range(255):
        sessions.open(2.0)
    assert len(sessions) == 256
    assert sessions.use(first, 3.0)
    assert not sessions.use(second, 3.0)


def test_signing_out() -> None:
    """A closed session's token is none any more; closing what is none does nothing."""
    sessions = Sessions()
    token = sessions.open(0.0)
    sessions.close("other")
    sessions.close(token)
    assert not sessions.use(token, 1.0)


def test_wrong_keys_are_slowed_down() -> None:
    """After twenty at once that peer waits; then two a second; others do not wait."""
    failed = FailedKeys()
    for _ in range(20):
        assert failed.wait_s("10.0.0.9", 5.0) is None
        failed.note("10.0.0.9", 5.0)
    assert failed.wait_s("10.0.0.9", 5.0) == pytest.approx(0.5)
    assert failed.wait_s("10.0.0.8", 5.0) is None
    assert failed.wait_s("10.0.0.9", 5.6) is None


def test_one_network_is_one_peer() -> None:
    """Addresses of one IPv6 /64 are one; IPv4, mapped too, each its own."""
    failed = FailedKeys()
    for number in range(20):
        failed.note(f"2001:db8::{number:x}", 0.0)
        failed.note(f"::ffff:10.0.0.{number}", 0.0)
    assert failed.wait_s("2001:db8::ffff:1", 0.0) is not None
    assert failed.wait_s("2001:db8:0:1::1", 0.0) is None
    assert failed.wait_s("::ffff:10.0.0.3", 0.0) is None


def test_peers_are_bounded() -> None:
    """Who floods from many addresses takes no more memory than a thousand of them."""
    failed = FailedKeys()
    for number in range(3000):
        failed.note(f"peer-{number}", 0.0)
    assert len(failed._counts) == 1024


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, ""),
        ("", ""),
        ("nexus_session=abc", "abc"),
        ("a=1; nexus_session=abc; b=2", "abc"),
        ("xnexus_session=abc", ""),
        ("nexus_session", ""),
    ],
)
def test_the_cookie(header: str | None, token: str) -> None:
    """The token is found among other cookies, by its whole name."""
    assert cookie_token(header) == token
