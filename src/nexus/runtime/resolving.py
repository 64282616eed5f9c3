"""Addresses of backends that are named by host name: discovery compares servers by address."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic

from nexus.discovery.nearness import Nearness, nearness

__all__ = ["Resolver"]

_WAIT_S = 1.0
_LOOPBACK = ("127.0.0.1", "::1")


class Resolver:
    """Remembers what names were last resolved to; asks again after ``fresh_s`` seconds.

    ``resolve`` finds the addresses of a name; raises ``OSError`` when there are none.
    """

    def __init__(
        self, fresh_s: float, resolve: Callable[[str], Awaitable[Iterable[str]]] | None = None
    ) -> None:
        self._fresh_s = fresh_s
        self._resolve = resolve or _system
        self._known: dict[str, tuple[str, ...]] = {}
        self._asked_at_s: dict[str, float] = {}
        self._asking: set[asyncio.Task[None]] = set()

    def addresses_of(self, host: str) -> tuple[str, ...]:
        """A literal itself; a name's addresses as far as known."""
        if host == "localhost":
            return _LOOPBACK
        if nearness(host) is not Nearness.UNUSABLE:
            return (host,)
        return self._known.get(host, ())

    async def learn(self, hosts: Iterable[str]) -> None:
        """Resolves those that are names and not known afresh. Waits for 1 s at most: a slow answer
        is remembered when it comes."""
        now_s = monotonic()
        asked = []
        for host in set(hosts):
            if host == "localhost" or nearness(host) is not Nearness.UNUSABLE:
                continue
            if now_s - self._asked_at_s.get(host, -self._fresh_s) < self._fresh_s:
                continue
            self._asked_at_s[host] = now_s
            asked.append(asyncio.ensure_future(self._learn(host)))
        self._asking.update(asked)
        for task in asked:
            task.add_done_callback(self._asking.discard)
        if asked:
            await asyncio.wait(asked, timeout=_WAIT_S)

    def close(self) -> None:
        """Waits for no answer any more."""
        for task in self._asking:
            task.cancel()

    async def _learn(self, host: str) -> None:
        try:
            addresses = await self._resolve(host)
        except (OSError, UnicodeError):
            addresses = ()  # what is no name, or not known, is no server that was found
        self._known[host] = tuple(dict.fromkeys(addresses))


async def _system(host: str) -> list[str]:
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(info[4][0]) for info in infos]
