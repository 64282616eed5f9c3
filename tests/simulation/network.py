"""A network on a virtual clock: latency, reads split anywhere, hosts that refuse or are cut off."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from tests.simulation.end import WINDOW_BYTES, End
from tests.simulation.loop import SimLoop

__all__ = ["Host", "Network"]


class Host(Protocol):
    """A place that can be dialled."""

    name: str
    refuses: bool
    cut_off: bool

    def accept(self, end: End) -> asyncio.BaseProtocol:
        """A connection came; who speaks on it."""


class Network:
    """All connections, and what delays them. ``trace`` has everything that happened."""

    def __init__(self, loop: SimLoop, rng: Random, *, latency_s: float, splits: float) -> None:
        self.loop = loop
        self.rng = rng
        self.hosts: dict[str, Host] = {}
        self.trace: list[tuple[Any, ...]] = []
        self.open: dict[End, None] = {}
        self.to_clients: list[End] = []
        self.heard_s: dict[str, float] = {}
        """When something of the answer to a request was last heard."""
        self.shortage = 0.0
        """How often a dial fails of the gateway's own shortage."""
        self._latency_s = latency_s
        self._splits = splits
        self._held: dict[str, list[tuple[Callable[..., None], tuple[bytes, ...]]]] = {}
        self._dials = 0

    def note(self, who: str, what: str, detail: object = b"") -> None:
        """Writes down what happened."""
        self.trace.append((self.loop.now_s, who, what, detail))

    def delay_s(self) -> float:
        """How long something is on its way."""
        return self._latency_s * (0.5 + self.rng.random())

    def cut_size(self, size: int) -> int:
        """How many of ``size`` bytes arrive in one read."""
        if size > 1 and self._splits and self.rng.random() < self._splits:
            return self.rng.randint(1, size - 1)
        return size

    def carry(self, sender: End, arrive: Callable[..., None], args: tuple[bytes, ...]) -> None:
        """Lets something arrive, unless the way is cut: then it comes once that is mended."""
        place = sender.name.partition("/")[0]
        host = self.hosts.get(place)
        if host is not None and host.cut_off:
            self._held.setdefault(place, []).append((arrive, args))
            return
        arrive(*args)

    def mend(self, host: Host) -> None:
        """The way to ``host`` is there again: what was lost is sent once more."""
        host.cut_off = False
        for arrive, args in self._held.pop(host.name, []):
            self.loop.call_soon(arrive, *args)

    def left(self, end: End) -> None:
        """An end is gone."""
        self.open.pop(end, None)

    def pair(self, name: str, window_bytes: int = WINDOW_BYTES) -> tuple[End, End]:
        """Two ends that are connected; the protocols are the caller's to set."""
        near = End(self, f"{name}/gateway", window_bytes)
        far = End(self, f"{name}/peer", window_bytes)
        near.peer, far.peer = far, near
        self.open[near] = self.open[far] = None
        return near, far

    async def dial(
        self, make: Callable[[], asyncio.BaseProtocol], address: str
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """``loop.create_connection``: raises ``OSError`` as the system would."""
        self._dials += 1
        number = self._dials
        host = self.hosts[address]
        if self.shortage and self.rng.random() < self.shortage:
            raise OSError(errno.EMFILE, "too many open files")
        await asyncio.sleep(2 * self.delay_s())
        while host.cut_off:
            await asyncio.sleep(0.5)
        if host.refuses:
            self.note(f"{address}/{number}", "refused")
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")
        near, far = self.pair(f"{address}/{number}")
        far.protocol = host.accept(far)
        near.protocol = make()
        near.protocol.connection_made(near)
        self.note(near.name, "connected")
        return near, near.protocol
