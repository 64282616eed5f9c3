"""IP addresses as discovery sees them: how near they are, which may be used unasked, how a URL
writes them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["OWN_MACHINE", "Nearness", "identity", "may_be_used", "nearness", "plain", "url_of"]

OWN_MACHINE = "localhost"
"""Stands for every address of this machine where servers are compared."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_PRIVATE: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",  # RFC 1918
        "169.254.0.0/16",  # RFC 3927
        "fc00::/7",  # RFC 4193
        "fe80::/10",  # RFC 4291 § 2.5.6
    )
)
_METADATA = frozenset(ip_address(text).packed for text in ("169.254.169.254", "fd00:ec2::254"))
"""Where clouds answer with the machine's own secrets, whatever the scope: never a server of
models."""


class Nearness(StrEnum):
    """Where an address leads."""

    LOOPBACK = "loopback"
    PRIVATE = "private"
    """Private or link-local: this network."""
    PUBLIC = "public"
    """Anywhere else (shared and documentation ranges included)."""
    UNUSABLE = "unusable"
    """No address to connect to: malformed, multicast, unspecified, link-local without scope."""


@lru_cache(maxsize=4096)
def nearness(address: str) -> Nearness:
    """How near ``address`` is. Never raises: what is no IP literal is unusable."""
    ip = _parse(address)
    if ip is None or ip.is_multicast or ip.is_unspecified or ip.packed in _METADATA:
        return Nearness.UNUSABLE
    if ip.is_loopback:
        return Nearness.LOOPBACK
    if isinstance(ip, IPv4Address):
        if ip.is_reserved or ip in ip_network("0.0.0.0/8"):
            return Nearness.UNUSABLE
    elif ip.is_link_local and not ip.scope_id:
        return Nearness.UNUSABLE
    if any(ip in network for network in _PRIVATE if network.version == ip.version):
        return Nearness.PRIVATE
    return Nearness.PUBLIC


def plain(address: str) -> str:
    """The one spelling of ``address`` (``::ffff:10.0.0.1`` is ``10.0.0.1``); what is no IP literal
    stays as it is."""
    ip = _parse(address)
    return address if ip is None else str(ip)


def may_be_used(address: str, auto_approve: str) -> bool:
    """Whether policy ``auto_approve`` (``loopback``, ``private``, ``never``) trusts it unasked."""
    near = nearness(address)
    if near is Nearness.LOOPBACK:
        return auto_approve in ("loopback", "private")
    return near is Nearness.PRIVATE and auto_approve == "private"


def identity(addresses: tuple[str, ...], is_own: Callable[[str], bool]) -> frozenset[str]:
    """What stands for a server that has ``addresses``, to compare it by.

    All addresses of this machine are one. A server that has others too is another machine: then
    those that are also ours (Docker's bridge is ``172.17.0.1`` everywhere) lead nowhere and count
    for nothing.
    """
    others = frozenset(
        plain(address)
        for address in addresses
        if nearness(address) is not Nearness.LOOPBACK and not is_own(address)
    )
    return others or frozenset({OWN_MACHINE})


def url_of(address: str, port: int, base_path: str = "") -> str:
    """The URL of a server; IPv6 in brackets, with its scope."""
    host = plain(address)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{base_path}"


def _parse(address: str) -> Address | None:
    try:
        ip = ip_address(address)
    except ValueError:
        return None
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip
