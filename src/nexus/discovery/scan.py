"""Looks which well-known ports of this machine are listened on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from nexus.core.backend import Source
from nexus.discovery.sighting import Sighting

__all__ = ["LoopbackScanner", "listens"]

_LOOPBACK = ("127.0.0.1", "::1")
_TIMEOUT_S = 0.5


async def listens(address: str, port: int, timeout_s: float) -> bool:
    """Whether a TCP connection to ``address`` comes about. Nothing is sent."""
    # Not sock_connect: uvloop's loses the scope of a link-local address.
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            transport, _ = await loop.create_connection(asyncio.Protocol, address, port)
    except (OSError, TimeoutError):
        return False
    transport.close()
    return True


class LoopbackScanner:
    """Tells which of ``ports`` are listened on: ``on_seen`` when one is, ``on_gone`` (with the key)
    when it is no more. ``skip`` says which ports need no look now: what is known of them stays."""

    def __init__(
        self,
        ports: Sequence[int],
        *,
        on_seen: Callable[[Sighting], None],
        on_gone: Callable[[str], None],
        skip: Callable[[int], bool],
    ) -> None:
        self.ports = tuple(dict.fromkeys(ports))
        self._on_seen = on_seen
        self._on_gone = on_gone
        self._skip = skip
        self._seen: dict[int, Sighting] = {}
        self._lock = asyncio.Lock()

    async def scan(self) -> None:
        """One look at every port, one after the other: nobody on this machine lets us wait."""
        async with self._lock:
            for port in self.ports:
                if not self._skip(port):
                    await self._look(port)

    async def _look(self, port: int) -> None:
        for address in _LOOPBACK:
            if await listens(address, port, _TIMEOUT_S):
                break
        else:
            before = self._seen.pop(port, None)
            if before is not None:
                self._on_gone(before.key)
            return
        sighting = Sighting(
            key=f"scan:localhost:{port}",
            source=Source.SCAN,
            name=f"localhost:{port}",
            addresses=(address,),
            port=port,
        )
        self._seen[port] = sighting
        self._on_seen(sighting)
