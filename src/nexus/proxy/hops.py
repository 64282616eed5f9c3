"""The marks that gateways leave on a request, so that none goes in a circle (behaviour § 7).

Each Nexus adds itself to ``Via`` (RFC 9110 § 7.6.3) as ``1.1 nexus-<instance id>``. Of a ``Via``
that comes in, the Nexus hops are passed on and other proxies' are not: they are nobody's business
upstream.
"""

from __future__ import annotations

from nexus.core.errors import ApiError

__all__ = ["check_loop", "hop_mark", "nexus_hops", "via_line"]

_PREFIX = b"nexus-"
_HOPS_MAX = 4
"""Gateways that a request may have passed. A circle whose marks get lost still ends."""
_ID_MAX = 64


def hop_mark(instance_id: str) -> bytes:
    """How this gateway names itself in ``Via``."""
    return _PREFIX + instance_id.encode()


def nexus_hops(via: bytes) -> tuple[bytes, ...]:
    """The Nexus gateways that a ``Via`` field names, in order; one more than allowed at most."""
    if _PREFIX not in via.lower():
        return ()
    hops = []
    for entry in via.lower().split(b","):
        words = entry.split()
        if len(words) > 1 and words[1].startswith(_PREFIX):
            hops.append(words[1][: len(_PREFIX) + _ID_MAX])
    return tuple(hops[: _HOPS_MAX + 1])


def via_line(hops: tuple[bytes, ...]) -> bytes:
    """A header line that names ``hops``."""
    return b"via: " + b", ".join([b"1.1 " + hop for hop in hops]) + b"\r\n"


def check_loop(hops: tuple[bytes, ...], own: bytes) -> None:
    """Raises ``ApiError`` 508 when the request has been here before, or through too many."""
    if own in hops:
        raise ApiError.loop_detected(
            "This request has passed through this gateway before: a backend leads back to it."
        )
    if len(hops) > _HOPS_MAX:
        raise ApiError.loop_detected(
            f"This request has passed through more than {_HOPS_MAX} Nexus gateways."
        )
