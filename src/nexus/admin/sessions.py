"""Browsers that have signed in: random tokens, kept in memory for a while (behaviour § 11).

Time is an argument, monotonic seconds. A token is looked up by its hash, so that how long that
takes says nothing of the tokens there are.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from hashlib import sha256
from ipaddress import IPv6Address, ip_address

__all__ = ["COOKIE", "SESSION_S", "FailedKeys", "Sessions", "cookie_token"]

COOKIE = "nexus_session"
SESSION_S = 12 * 3600.0
"""So long may a session be unused until it ends."""

_SESSIONS_MAX = 256
_PEERS_MAX = 1_024
_FAILURES_MAX = 20
_FORGIVEN_PER_S = 2.0


class Sessions:
    """Who has signed in. Bounded: beyond that the one unused for longest is signed out."""

    __slots__ = ("_ends_s",)

    def __init__(self) -> None:
        self._ends_s: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ends_s)

    def open(self, now_s: float) -> str:
        """A new session's token."""
        token = secrets.token_urlsafe(32)
        while len(self._ends_s) >= _SESSIONS_MAX:
            self._ends_s.popitem(last=False)
        self._ends_s[_hash(token)] = now_s + SESSION_S
        return token

    def use(self, token: str, now_s: float) -> bool:
        """Whether the token is good; if so, its session lives on from now."""
        key = _hash(token)
        ends_s = self._ends_s.get(key)
        if ends_s is None:
            return False
        if ends_s <= now_s:
            del self._ends_s[key]
            return False
        self._ends_s[key] = now_s + SESSION_S
        self._ends_s.move_to_end(key)
        return True

    def close(self, token: str) -> None:
        """Signs out; a token that is none is ignored."""
        self._ends_s.pop(_hash(token), None)

    def clear(self) -> None:
        """Signs everyone out (the key has changed)."""
        self._ends_s.clear()


class FailedKeys:
    """Wrong keys, counted by who sent them: after many at once, that peer waits.

    It costs a dictionary's look-up, and a program with a wrong key that asks every second is never
    shut out together with the people of its machine.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, peer: str | None, now_s: float) -> float | None:
        """How long ``peer`` must wait until it may present a key again; ``None``: it may now."""
        count = self._count(_group(peer), now_s)
        if count + 1 <= _FAILURES_MAX:
            return None
        return (count + 1 - _FAILURES_MAX) / _FORGIVEN_PER_S

    def note(self, peer: str | None, now_s: float) -> None:
        """``peer`` sent a wrong key."""
        group = _group(peer)
        count = self._count(group, now_s) + 1
        self._counts.pop(group, None)
        while len(self._counts) >= _PEERS_MAX:
            self._counts.popitem(last=False)
        self._counts[group] = count, now_s

    def _count(self, group: str, now_s: float) -> float:
        count, at_s = self._counts.get(group, (0.0, now_s))
        return max(0.0, count - (now_s - at_s) * _FORGIVEN_PER_S)


def cookie_token(header: str | None) -> str:
    """The session's token out of a ``Cookie`` header (RFC 6265 § 4.2), empty when it has none."""
    for pair in (header or "").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _hash(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def _group(peer: str | None) -> str:
    """Whoever has one IPv6 address has its /64."""
    if peer is None or ":" not in peer:
        return peer or ""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return f"{int(address) >> 64:x}::/64"
    return peer
