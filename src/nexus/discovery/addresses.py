"""Which of an advert's addresses to use, and which first."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

import msgspec

__all__ = ["OwnAddress", "nearest_first"]

_ADDRESSES_MAX = 16


class OwnAddress(msgspec.Struct, frozen=True):
    """One address of one of this machine's network interfaces. ``address`` has no scope;
    ``prefix_bits`` is the length of its network's prefix, ``index`` the interface's number."""

    address: str
    prefix_bits: int
    interface: str
    index: int


def nearest_first(addresses: Iterable[str], own: Sequence[OwnAddress]) -> tuple[str, ...]:
    """The usable ones of ``addresses`` (IP literals, IPv6 perhaps with a scope), nearest first: on
    a network of this machine before behind a router, private before public, IPv4 before IPv6
    before link-local IPv6.

    Left out is what no other machine can mean: loopback (it would lead back to this machine),
    multicast, unspecified and reserved addresses, and link-local IPv6 without a scope. An address
    that this machine has too (every Docker host has 172.17.0.1) is left out when the advert has
    others, since it then is another machine's.
    """
    mine = {one.address for one in own}
    networks = [
        network
        for one in own
        if (network := _network(f"{one.address}/{one.prefix_bits}")) is not None
    ]
    ranked: dict[str, tuple[bool, bool, int, str]] = {}
    for text in addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if not _usable(address):
            continue
        plain = ipaddress.ip_address(str(address).partition("%")[0])
        on_link = plain.is_link_local or any(plain in network for network in networks)
        kind = 2 if plain.is_link_local else int(plain.version == 6)
        ranked[str(address)] = (not on_link, plain.is_global, kind, str(address))
    foreign = [text for text in ranked if text.partition("%")[0] not in mine]
    kept = foreign or list(ranked)
    return tuple(sorted(kept, key=ranked.__getitem__)[:_ADDRESSES_MAX])


def _usable(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.is_link_local and not address.scope_id:
            return False
        # is_reserved is true of most of the unassigned IPv6 space, 64:ff9b:: (NAT64) included.
        return not (address.is_loopback or address.is_multicast or address.is_unspecified)
    return not (
        address.is_loopback
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
        or int(address) >> 24 == 0
    )


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
