"""Discovery at work: what looks around, the directory that decides, the registry that it changes.

All in the event loop of the gateway; nothing here may raise into it, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Protocol

from nexus.config.schema import DiscoveryConfig
from nexus.core.backend import Backend, BackendSpec
from nexus.discovery.directory import Directory
from nexus.discovery.found import Finding, Policy, Question
from nexus.discovery.nearness import Nearness, nearness
from nexus.discovery.own import is_own_address
from nexus.discovery.scan import LoopbackScanner, listens
from nexus.discovery.sighting import Sighting
from nexus.engines.fingerprint import Fingerprint
from nexus.runtime.multicasting import MdnsPart
from nexus.runtime.resolving import Resolver
from nexus.telemetry.logs import get_logger

__all__ = ["Discovery", "Fleet"]

_CONNECT_S = 1.0
_ASKED_AT_ONCE = 16
_TICK_S = 2.0
_TICKS_PER_GRACE = 5
_FIRST_LOOK_S = 5.0
"""By then whoever is there has been found."""
_LOOPBACK = ("127.0.0.1", "::1")


class Fleet(Protocol):
    """What discovery changes and knows of the gateway. ``instance_id`` tells it from others."""

    instance_id: str

    def backends(self) -> Mapping[str, Backend]:
        """Every backend known, by name."""

    def listeners(self) -> list[tuple[str, int]]:
        """Where this gateway listens: addresses (``0.0.0.0`` and ``::`` too) and ports."""

    def add_backend(self, spec: BackendSpec, *, pending: bool = False) -> Backend:
        """Takes in a backend. Raises ``ValueError``."""

    def move_backend(self, name: str, url: str) -> None:
        """Changes where a backend is reached. Raises ``KeyError``, ``ValueError``."""

    def forget_backend(self, name: str) -> None:
        """Takes out a backend. Raises ``KeyError``."""

    def suspect(self, backend: str) -> None:
        """Has a backend checked now; unknown names are ignored."""


class Discovery:
    """Finds backends from :meth:`start` to :meth:`aclose`.

    ``identify`` finds out which program answers at a URL; ``on_error`` takes faults of our own.
    ``interval_s`` is between two looks at this machine's ports.
    """

    def __init__(
        self,
        settings: DiscoveryConfig,
        fleet: Fleet,
        *,
        interval_s: float,
        identify: Callable[[str], Awaitable[Fingerprint]],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._settings = settings
        self._fleet = fleet
        self._interval_s = interval_s
        self._identify = identify
        self._on_error = on_error
        self._log = get_logger("discovery")
        self._noted: set[str] = set()
        self._names = Resolver(interval_s)
        self._mdns = MdnsPart(settings, fleet.instance_id, self.seen, self.gone)
        self._places = asyncio.Semaphore(_ASKED_AT_ONCE)
        self._asking = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.directory = Directory(
            Policy(
                auto_approve=settings.auto_approve,
                grace_s=settings.grace_period_seconds,
                interval_s=interval_s,
                forward_authorization=settings.forward_authorization,
            ),
            self,
        )
        self._scanner = LoopbackScanner(
            settings.scan_ports if settings.scan else (),
            on_seen=self.seen,
            on_gone=self.gone,
            skip=self._needs_no_look,
        )

    # --- life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begins to look around; returns at once. Does nothing when discovery is off."""
        settings = self._settings
        if not settings.enabled:
            return
        self._spawn(self._keep_ticking())
        self._spawn(self._tell())
        if self._scanner.ports:
            self._spawn(self._keep_scanning())
        if settings.mdns or settings.announce:
            self._spawn(self._mdns.start(self._fleet.listeners()))

    async def aclose(self) -> None:
        """Ends it all, and withdraws our advert. Backends that were found stay."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._names.close()
        await self._guarded(self._mdns.aclose())

    @property
    def asking(self) -> int:
        """How many servers are being asked what they are."""
        return self._asking

    def withdraw(self) -> None:
        """Takes our advert back, in the background: a gateway that drains wants no new clients."""
        self._mdns.withdraw()

    def look_again(self) -> None:
        """Looks at this machine's ports and asks the network now, as after a start."""
        if not self._tasks:
            return  # off, or ended
        self._spawn(self._scanner.scan())
        self._mdns.look_again()

    async def scan_now(self) -> None:
        """Looks at this machine's ports now."""
        await self._scanner.scan()

    def dismiss(self, name: str) -> None:
        """The operator removed this backend: it is not found again."""
        self.directory.dismiss(name)

    def seen(self, sighting: Sighting) -> None:
        """Somebody saw a server."""
        self.directory.seen(sighting, monotonic())

    def gone(self, key: str) -> None:
        """What was seen under ``key`` is there no more."""
        self.directory.gone(key, monotonic())

    async def _tell(self) -> None:
        """A person who starts it is told where it looks and, without any engine, what to do."""
        ports = list(self._scanner.ports)
        self._log.info("looking_for_backends", ports=ports, mdns=self._settings.mdns)
        await asyncio.sleep(_FIRST_LOOK_S)
        if self._fleet.backends():
            return
        looked = []
        if ports:
            looked.append(f"on ports {', '.join(map(str, ports))} of this machine")
        if self._settings.mdns:
            looked.append("by mDNS")
        where = " or ".join(looked) or "(discovery.scan and discovery.mdns are off)"
        self._log.warning(
            "no_backends",
            hint=f"no engine found {where}: start one (it is found by itself), name "
            "one in [[backends]], or try: nexus demo",
        )

    async def _keep_scanning(self) -> None:
        while True:
            await self._guarded(self._scanner.scan())
            await asyncio.sleep(self._interval_s)

    async def _keep_ticking(self) -> None:
        grace_s = self._settings.grace_period_seconds
        period_s = min(_TICK_S, max(0.05, grace_s / _TICKS_PER_GRACE))
        while True:
            await asyncio.sleep(period_s)
            await self._guarded(self._tick())

    async def _tick(self) -> None:
        found = self._fleet.backends().values()
        ports = {one.address.port for one in found if not one.spec.source.named_by_operator}
        await self._names.learn(one.address.host for one in found if one.address.port in ports)
        self.directory.tick(monotonic())

    def _needs_no_look(self, port: int) -> bool:
        """Ours, or a backend's that is well: its health checks look at it."""
        if any(self.is_me(address, port) for address in _LOOPBACK):
            return True
        return any(
            backend.routable
            and backend.address.port == port
            and any(
                nearness(one) is Nearness.LOOPBACK
                for one in self.addresses_of(backend.address.host)
            )
            for backend in self._fleet.backends().values()
        )

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            self._on_error(error)

    # --- Outside, for the directory ---------------------------------------------------------

    def backends(self) -> Mapping[str, Backend]:
        """Every backend known, by name."""
        return self._fleet.backends()

    def is_own(self, address: str) -> bool:
        """Whether this machine has the address."""
        return is_own_address(address)

    def is_me(self, address: str, port: int) -> bool:
        """Whether this gateway listens there."""
        for host, own_port in self._fleet.listeners():
            if own_port != port:
                continue
            if host == address or (host in ("0.0.0.0", "::") and is_own_address(address)):  # noqa: S104
                return True
        return False

    def addresses_of(self, host: str) -> tuple[str, ...]:
        """A literal itself; a name's addresses as far as known."""
        return self._names.addresses_of(host)

    def ask(self, question: Question) -> None:
        """Finds out what answers, then tells the directory."""
        self._asking += 1
        self._spawn(self._find_out(question))

    def query(self, name: str, keys: tuple[str, ...]) -> None:
        """Whether anybody still announces it."""
        self._spawn(self._ask_again(name, keys))

    def add(self, spec: BackendSpec, *, pending: bool) -> bool:
        """Takes in a backend."""
        try:
            self._fleet.add_backend(spec, pending=pending)
        except ValueError as error:
            self._log.info("discovery_ignored", kind="known", url=spec.url, why=str(error))
            return False
        self._log.info(
            "backend_found",
            backend=spec.name,
            url=spec.url,
            source=spec.source.value,
            **({"hint": f"use it: nexus backends approve {spec.name}"} if pending else {}),
        )
        return True

    def remove(self, name: str, why: str) -> None:
        """Takes out a backend, unless a configuration has named it meanwhile."""
        backend = self._fleet.backends().get(name)
        if backend is not None and backend.spec.source.named_by_operator:
            return
        with suppress(KeyError):
            self._fleet.forget_backend(name)
            self._log.info("backend_removed", backend=name, reason=why)

    def move(self, name: str, url: str) -> bool:
        """It has another address now; one that a configuration has named is where that says."""
        backend = self._fleet.backends().get(name)
        if backend is not None and backend.spec.source.named_by_operator:
            return False
        try:
            self._fleet.move_backend(name, url)
        except (KeyError, ValueError) as error:
            self._log.info("discovery_ignored", kind="known", url=url, why=str(error))
            return False
        self._log.info("backend_moved", backend=name, url=url)
        return True

    def suspect(self, name: str) -> None:
        """Has a backend checked now."""
        self._fleet.suspect(name)

    def note(self, kind: str, **fields: object) -> None:
        """One line for each kind; the others are for those who look for a fault."""
        log = self._log.debug if kind in self._noted else self._log.info
        self._noted.add(kind)
        log("discovery_ignored", kind=kind, **fields)

    # --- asking -----------------------------------------------------------------------------

    async def _find_out(self, question: Question) -> None:
        finding = Finding(server=question.server)
        try:
            async with self._places:
                # One of the backends on that port that are named by host name may be this server.
                await self._names.learn(
                    one.address.host
                    for one in self._fleet.backends().values()
                    if one.address.port == question.port
                )
                reached = await asyncio.gather(
                    *(listens(one, question.port, _CONNECT_S) for one in question.addresses)
                )
                for address, there in zip(question.addresses, reached, strict=True):
                    if there:
                        found = await self._identify(question.url(address))
                        finding = Finding(server=question.server, address=address, found=found)
                        break
        finally:
            self._asking -= 1
            self.directory.told(finding, monotonic())

    async def _ask_again(self, name: str, keys: tuple[str, ...]) -> None:
        answered = await self._mdns.still_announced(keys)
        self.directory.queried(name, answered, monotonic())
