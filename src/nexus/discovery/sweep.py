"""Looks for open ports on a range of private addresses, on demand: few, and not too fast."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from time import monotonic

from nexus.discovery.scan import listens

__all__ = ["ADDRESSES_MAX", "Network", "open_ports", "private_ranges", "sweep_s"]

Network = IPv4Network | IPv6Network

ADDRESSES_MAX = 1024
"""Of all ranges together: a /22."""
_PER_S = 500
_AT_ONCE = 128
_CONNECT_S = 0.7
_PRIVATE: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "100.64.0.0/10",  # shared (RFC 6598): where VPNs such as Tailscale put their machines
        "127.0.0.0/8",
        "::1/128",
        "fc00::/7",
    )
)


def private_ranges(texts: Iterable[str]) -> tuple[Network, ...]:
    """The ranges that CIDR ``texts`` name; a single address is one too. Raises ``ValueError`` that
    says what is wrong: no range, not a private one, too large altogether."""
    networks = []
    for text in texts:
        try:
            network = ip_network(text.strip(), strict=False)
        except ValueError:
            raise ValueError(
                f"{text!r} is not a range of addresses; write it like 192.168.1.0/24"
            ) from None
        if not any(_within(network, private) for private in _PRIVATE):
            raise ValueError(
                f"{text} is not a private range. Only your own network is scanned: addresses in "
                "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 169.254.0.0/16, 100.64.0.0/10 and "
                "fc00::/7"
            )
        networks.append(network)
    count = sum(network.num_addresses for network in networks)
    if count > ADDRESSES_MAX:
        raise ValueError(
            f"{' and '.join(map(str, networks))} {'has' if len(networks) == 1 else 'have'} {count} "
            f"addresses: at most {ADDRESSES_MAX} (a /22) are scanned at a time"
        )
    return tuple(networks)


def sweep_s(networks: Sequence[Network], ports: Sequence[int]) -> float:
    """About how many seconds :func:`open_ports` takes."""
    return sum(network.num_addresses for network in networks) * len(ports) / _PER_S + _CONNECT_S


async def open_ports(networks: Sequence[Network], ports: Sequence[int]) -> list[tuple[str, int]]:
    """Addresses and ports that take a connection. 500 a second are tried, one port of all addresses
    after the other, so that no machine gets many at once."""
    targets = (
        (str(address), port)
        for port in dict.fromkeys(ports)
        for network in networks
        for address in (network.hosts() if network.num_addresses > 1 else network)
    )
    found: list[tuple[str, int]] = []
    next_s = monotonic()

    async def work() -> None:
        nonlocal next_s
        for target in targets:
            turn_s = max(next_s, monotonic())
            next_s = turn_s + 1 / _PER_S
            await asyncio.sleep(turn_s - monotonic())
            if await listens(*target, _CONNECT_S):
                found.append(target)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(work())
    return found


def _within(network: Network, outer: Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(outer, IPv4Network) and network.subnet_of(outer)
    return isinstance(outer, IPv6Network) and network.subnet_of(outer)
