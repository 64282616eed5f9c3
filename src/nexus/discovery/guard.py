"""Which mDNS packets are read at all.

mDNS is for one link; nobody beyond it may tell us of servers (RFC 6762 § 11). The library reads
whatever reaches port 5353, from the Internet too, and as fast as it comes, in the loop that serves
clients.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from time import monotonic

from nexus.core.limits import TokenBucket
from nexus.discovery.addresses import OwnAddress
from nexus.discovery.interfaces import MDNS_PORT

__all__ = ["Guard", "Neighbours"]

_PACKETS_AT_ONCE = 1000.0
_PACKETS_PER_S = 300.0
"""A busy office has some 50; reading one takes about 0.1 ms."""
_PACKET_BYTES = 1500
"""A larger one counts as several: its hundreds of records take as long to read."""
_REMEMBERED_MAX = 1024


class Neighbours:
    """Who may send: whoever is on a network of this machine, or has an address that is no global
    one (several networks may share a link, and routers keep such addresses out). All senders share
    one rate."""

    def __init__(self) -> None:
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._known: dict[str, bool] = {}
        self._rate = TokenBucket(_PACKETS_AT_ONCE, _PACKETS_PER_S)

    def learn(self, own: Sequence[OwnAddress]) -> None:
        """Takes in this machine's addresses."""
        self._known.clear()
        self._networks = [
            ipaddress.ip_network(f"{one.address}/{one.prefix_bits}", strict=False) for one in own
        ]

    def admit(self, address: str, now_s: float, size_bytes: int = 0) -> bool:
        """Whether a packet from there is read now."""
        if not self._is_near(address):
            return False
        return all(self._rate.take(now_s) for _ in range(1 + size_bytes // _PACKET_BYTES))

    def _is_near(self, address: str) -> bool:
        near = self._known.get(address)
        if near is None:
            near = self._judge(address)
            if len(self._known) >= _REMEMBERED_MAX:
                self._known.clear()
            self._known[address] = near
        return near

    def _judge(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return not ip.is_global or any(ip in network for network in self._networks)


class Guard(asyncio.DatagramProtocol):
    """Stands before the protocol of one of the library's sockets."""

    def __init__(self, inner: asyncio.DatagramProtocol, neighbours: Neighbours) -> None:
        self._inner = inner
        self._neighbours = neighbours

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Passes on what is admitted. An answer comes from port 5353, or is none (RFC 6762 § 6)."""
        is_answer = len(data) > 2 and data[2] & 0x80
        if is_answer and addr[1] != MDNS_PORT:
            return
        if self._neighbours.admit(addr[0], monotonic(), len(data)):
            self._inner.datagram_received(data, addr)

    def error_received(self, exc: Exception) -> None:
        """Passes it on."""
        self._inner.error_received(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        """Passes it on."""
        self._inner.connection_lost(exc)
