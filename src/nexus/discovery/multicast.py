"""The mDNS sockets of this process, shared by whoever browses and announces.

They are opened when the first user comes, follow the machine's interfaces as those come and go,
and are closed with the last user. Where there is no multicast (a container, an interface that is
down, a port that is taken) one warning says so; it is tried again quietly.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from nexus.discovery.addresses import OwnAddress
from nexus.discovery.guard import Guard, Neighbours
from nexus.discovery.interfaces import multicast_addresses, own_addresses, try_to_send
from nexus.telemetry.logs import get_logger

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncZeroconf

__all__ = ["Multicast", "MulticastUser"]

_LOOK_S = 5.0
"""How often the list of interfaces is looked at, or opening tried again (0.3 ms each time)."""
_OPEN_S = 5.0
_CLOSE_S = 2.0


class MulticastUser(Protocol):
    """What is told of the sockets' life. It returns soon; ``closing`` has 2 s."""

    async def opened(self, zeroconf: AsyncZeroconf, own: Sequence[OwnAddress]) -> None:
        """The sockets are there; ``own`` are this machine's addresses."""

    def moving(self, own: Sequence[OwnAddress]) -> None:
        """Interfaces came, went or changed their addresses; the sockets are about to follow."""

    async def moved(self, own: Sequence[OwnAddress]) -> None:
        """The sockets have followed."""

    async def closing(self) -> None:
        """The sockets are about to be closed."""


class Multicast:
    """See the module. ``look_s``: seconds between two looks at the interfaces, whose addresses
    ``addresses`` tells."""

    def __init__(
        self,
        *,
        look_s: float = _LOOK_S,
        addresses: Callable[[], tuple[OwnAddress, ...]] = own_addresses,
    ) -> None:
        self._log = get_logger("discovery")
        self._look_s = look_s
        self._addresses = addresses
        self._users: list[MulticastUser] = []
        self._zeroconf: AsyncZeroconf | None = None
        self._task: asyncio.Task[None] | None = None
        self._own: tuple[OwnAddress, ...] = ()
        self._found: tuple[OwnAddress, ...] = ()
        self._joined: Sequence[OwnAddress] = ()
        self._neighbours = Neighbours()
        self._ready = False
        self._warned = False

    @property
    def available(self) -> bool:
        """Whether the sockets are open."""
        return self._ready

    async def attach(self, user: MulticastUser) -> None:
        """Adds a user; opening happens in the background."""
        self._users.append(user)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        elif self._ready and self._zeroconf is not None:
            await user.opened(self._zeroconf, self._own)

    async def detach(self, user: MulticastUser) -> None:
        """Takes leave of a user; closes the sockets after the last. Takes a few seconds at most."""
        if user not in self._users:
            return
        self._users.remove(user)
        if self._zeroconf is not None:
            await _bounded(user.closing())
        if self._users or self._task is None:
            return
        task, self._task = self._task, None
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await self._close()

    async def _run(self) -> None:
        while True:
            try:
                if self._zeroconf is None:
                    await self._open()
                else:
                    await self._follow()
            except Exception as error:
                await self._close()
                self._unavailable(error)
            await asyncio.sleep(self._look_s)

    async def _open(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, _import_zeroconf)
        from zeroconf import IPVersion
        from zeroconf.asyncio import AsyncZeroconf

        own = self._addresses()
        self._found = multicast_addresses(own)
        usable = _that_send(self._found)
        has_v6 = any(":" in one.address for one in usable)
        self._zeroconf = zeroconf = AsyncZeroconf(
            interfaces=_choices(usable),
            ip_version=IPVersion.All if has_v6 else IPVersion.V4Only,
        )
        await zeroconf.zeroconf.async_wait_for_start(_OPEN_S)
        self._guard(own)
        self._own = own
        self._joined = usable
        if self._warned:
            self._log.info("mdns_available", interfaces=_names(usable))
        else:
            self._log.debug("mdns_open", interfaces=_names(usable))
        self._ready = True
        for user in list(self._users):
            await user.opened(zeroconf, own)

    async def _follow(self) -> None:
        """Joins and leaves as the interfaces did. The library compares addresses alone: an
        interface that is another one with the same address is left first."""
        zeroconf = self._zeroconf
        assert zeroconf is not None
        own = self._addresses()
        found = multicast_addresses(own)
        # An address still being checked for duplicates (IPv6) cannot be bound: tried again.
        whole = len(zeroconf.zeroconf.engine.senders) >= len(self._joined)
        changed = own != self._own or found != self._found
        if whole and not changed:
            return
        usable = _that_send(found) if changed else self._joined
        for user in list(self._users):
            user.moving(own)
        before = {one.address for one in self._joined}
        same = [one for one in usable if one in self._joined or one.address not in before]
        if len(same) < len(usable):
            await zeroconf.async_update_interfaces(_choices(same))
        await zeroconf.async_update_interfaces(_choices(usable))
        self._guard(own)
        self._own = own
        self._found = found
        self._joined = usable
        if changed or len(zeroconf.zeroconf.engine.senders) >= len(usable):
            self._log.debug("mdns_moved", interfaces=_names(usable))
            for user in list(self._users):
                await user.moved(own)

    def _guard(self, own: Sequence[OwnAddress]) -> None:
        """Puts a guard before each socket that has none."""
        self._neighbours.learn(own)
        assert self._zeroconf is not None
        for reader in self._zeroconf.zeroconf.engine.readers:
            inner = reader.transport.get_protocol()
            if not isinstance(inner, Guard):
                guard = Guard(cast("asyncio.DatagramProtocol", inner), self._neighbours)
                reader.transport.set_protocol(guard)

    async def _close(self) -> None:
        zeroconf, self._zeroconf = self._zeroconf, None
        self._ready = False
        self._own = ()
        self._joined = ()
        if zeroconf is None:
            return
        for user in list(self._users):
            await _bounded(user.closing())
        await _bounded(zeroconf.async_close())

    def _unavailable(self, error: Exception) -> None:
        log = self._log.debug if self._warned else self._log.warning
        self._warned = True
        log(
            "mdns_unavailable",
            reason=str(error) or type(error).__name__,
            hint="servers on this machine are still found; name others in [[backends]], or set "
            "discovery.mdns = false",
        )


def _import_zeroconf() -> None:
    """Takes 100 ms, so it happens in a thread. What the library has to say of single sockets is
    silenced: one warning of ours tells of them all."""
    import zeroconf.asyncio  # noqa: F401

    if not get_logger("discovery").enabled(logging.DEBUG):
        logging.getLogger("zeroconf").setLevel(logging.CRITICAL + 1)


def _that_send(usable: Sequence[OwnAddress]) -> list[OwnAddress]:
    """Those by which a packet goes out. Raises ``OSError`` when none is left."""
    sending: list[OwnAddress] = []
    refusal = OSError("no network interface is up")
    for one in usable:
        try:
            try_to_send(one)
        except OSError as error:
            refusal = error
        else:
            sending.append(one)
    if not sending:
        raise refusal
    return sending


def _choices(usable: Iterable[OwnAddress]) -> list[str | int]:
    """As the library wants them: IPv4 by address, IPv6 by the interface's number (a link-local
    address may stand on several interfaces)."""
    return [one.index if ":" in one.address else one.address for one in usable]


def _names(usable: Iterable[OwnAddress]) -> list[str]:
    return sorted({one.interface for one in usable})


async def _bounded(work: Coroutine[object, object, object]) -> None:
    with contextlib.suppress(Exception):
        await asyncio.wait_for(work, _CLOSE_S)
