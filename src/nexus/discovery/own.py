"""Which addresses are this machine's own."""

from __future__ import annotations

import socket

from nexus.discovery.nearness import Nearness, nearness, plain

__all__ = ["is_own_address"]


def is_own_address(address: str) -> bool:
    """Whether this machine has ``address``.

    The system is asked which source it would send from: for an address of its own that is this
    very one. Nothing is sent (UDP), and ``ip_nonlocal_bind`` does not deceive it as a bind would.
    """
    near = nearness(address)
    if near is Nearness.LOOPBACK:
        return True
    if near is Nearness.UNUSABLE:
        return False
    try:
        # Port 9 discards (RFC 863); none is ever contacted.
        infos = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
        family, kind, protocol, _, where = infos[0]
        with socket.socket(family, kind, protocol) as sock:
            sock.connect(where)
            source = str(sock.getsockname()[0])
    except OSError:
        return False
    return plain(source).partition("%")[0] == plain(address).partition("%")[0]
