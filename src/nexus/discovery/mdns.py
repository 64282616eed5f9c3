"""Browses the local network for servers that announce themselves by mDNS (RFC 6762, RFC 6763)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from nexus.discovery.addresses import OwnAddress
from nexus.discovery.adverts import SRV, Advert, Adverts, Ignored, Question, key_of, service_type
from nexus.discovery.multicast import Multicast
from nexus.discovery.sighting import Sighting
from nexus.telemetry.logs import get_logger

if TYPE_CHECKING:
    from zeroconf import Zeroconf
    from zeroconf.asyncio import AsyncZeroconf

    from nexus.discovery.wire import Batch, Listener

__all__ = ["MdnsBrowser"]

_FIRST_QUERIES_S = (0.05, 1.0, 3.0, 9.0, 30.0, 60.0, 120.0)
"""When the types are asked for after a start, each counted from the one before (RFC 6762 § 5.2):
multicast by radio gets lost."""
_QUERY_S = 300.0
"""Later on. Records live 19 minutes at least in the library's cache; half of a life refreshes."""
_TICK_S = 0.25
_QUESTIONS_MAX = 24
"""Questions about single adverts per tick, however many adverts come."""
_AGAIN_S = 10.0
"""A sighting heard again is told again, at most this often."""
_LOG_S = 600.0
_ASK_AGAIN_S = (0.5, 1.0, 1.5)


class MdnsBrowser:
    """Tells ``on_seen`` of each server announced under ``service_types`` (with or without a dot at
    the end), and again when it changed or announced itself again (every 10 s at most); ``on_gone``
    of each that said goodbye or expired, by its key. Both are called in the event loop and must
    not block.

    ``own_id`` is this gateway's instance id: its own advert is passed over. ``multicast`` holds the
    sockets and may be shared with the announcer. Raises ``ValueError`` for a service type that is
    none. Where there is no multicast nothing is seen; see :class:`Multicast`.
    """

    def __init__(
        self,
        service_types: Iterable[str],
        on_seen: Callable[[Sighting], None],
        on_gone: Callable[[str], None],
        *,
        own_id: str = "",
        multicast: Multicast | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._log = get_logger("discovery")
        self._adverts = Adverts([service_type(name) for name in service_types], own_id)
        self._on_seen = on_seen
        self._on_gone = on_gone
        self._multicast = multicast or Multicast()
        self._clock = clock
        self._own: Sequence[OwnAddress] = ()
        self._zeroconf: AsyncZeroconf | None = None
        self._listener: Listener | None = None
        self._asking: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._queries = 0
        self._query_at_s = 0.0
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._told_at_s: dict[str, float] = {}
        self._complained: dict[str, tuple[float, int]] = {}

    async def start(self) -> None:
        """Begins to browse; returns at once. Failure is one warning, and tried again."""
        await self._multicast.attach(self)

    async def aclose(self) -> None:
        """Ends browsing. ``on_gone`` is not called."""
        await self._multicast.detach(self)

    def look_again(self) -> None:
        """Asks the network anew, as after a start (the machine slept, somebody wants to know)."""
        self._queries = 0
        self._query_at_s = self._clock() + _FIRST_QUERIES_S[0]
        self._wake.set()

    async def ask_again(self, key: str) -> bool:
        """Whether the advertiser of a sighting answers a fresh query on the wire, within 3 s.

        A record in the cache does not count: that of a dead host lives for 19 minutes and more.
        When nobody answers, the advert is forgotten without ``on_gone``; announced again, it is
        seen again.
        """
        from nexus.discovery import wire

        advert = self._adverts.named(key)
        if advert is None:
            return False
        folded = advert.name.lower()
        answer = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(folded, set()).add(answer)
        try:
            for number, wait_s in enumerate(_ASK_AGAIN_S):
                if self._zeroconf is None:
                    break
                wire.ask(self._zeroconf.zeroconf, [Question(advert.name, SRV, number == 0)])
                await asyncio.wait((answer,), timeout=wait_s)
                if answer.done():
                    return True
        finally:
            waiting = self._waiting[folded]
            waiting.discard(answer)
            if not waiting:
                del self._waiting[folded]
        self._forget(advert.name)
        return False

    # --- the sockets' life (MulticastUser) --------------------------------------------------

    async def opened(self, zeroconf: AsyncZeroconf, own: Sequence[OwnAddress]) -> None:
        """The sockets are there: listens, and asks."""
        from nexus.discovery import wire

        self._zeroconf = zeroconf
        self._own = own
        self._listener = wire.Listener(self._adverts.types, self._deliver)
        zeroconf.zeroconf.async_add_listener(self._listener, None)
        self.look_again()
        self._asking = asyncio.get_running_loop().create_task(self._ask())

    def moving(self, own: Sequence[OwnAddress]) -> None:
        """The addresses of this machine change."""
        self._own = own

    async def moved(self, own: Sequence[OwnAddress]) -> None:
        """Another network perhaps: asks anew. What is nearest may have changed."""
        self._own = own
        for advert in list(self._adverts.by_name.values()):
            self._tell(advert)
        self.look_again()

    async def closing(self) -> None:
        """Ends listening. What was seen stays: it may well be there."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
            await asyncio.wait((asking,))
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is not None and self._listener is not None:
            zeroconf.zeroconf.async_remove_listener(self._listener)

    # --- asking -----------------------------------------------------------------------------

    async def _ask(self) -> None:
        """Asks for the types, and for what single adverts left out; sleeps in between."""
        while self._zeroconf is not None:
            try:
                next_s = self._ask_once(self._zeroconf.zeroconf)
            except Exception:
                self._log.exception("mdns_fault")
                next_s = self._clock() + _QUERY_S
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), max(next_s - self._clock(), 0.01))
            except TimeoutError:
                pass

    def _ask_once(self, zeroconf: Zeroconf) -> float:
        """Sends what is due; returns when to come again."""
        from nexus.discovery import wire

        now_s = self._clock()
        if now_s >= self._query_at_s:
            wire.ask_for_types(zeroconf, self._adverts.types, first=self._queries == 0)
            self._queries += 1
            later = self._queries >= len(_FIRST_QUERIES_S)
            self._query_at_s = now_s + (_QUERY_S if later else _FIRST_QUERIES_S[self._queries])
        due = self._adverts.due(now_s, _QUESTIONS_MAX)
        if due.questions:
            wire.ask(zeroconf, due.questions)
        for name in due.forgotten:
            self._complain(Ignored("unresolved", key_of(name)))
            self._forget(name)
        for advert in list(self._adverts.by_name.values()):
            if advert.told is None and advert.resolved:
                self._tell(advert)
        if due.next_s is None:
            return self._query_at_s
        return min(self._query_at_s, max(due.next_s, now_s + _TICK_S))

    def _forget(self, name: str) -> None:
        from nexus.discovery import wire

        advert = self._adverts.gone(name)
        if advert is not None:
            self._told_at_s.pop(advert.key, None)
        if self._zeroconf is not None:
            wire.forget(self._zeroconf.zeroconf, self._adverts.types, name)

    # --- hearing ----------------------------------------------------------------------------

    def _deliver(self, batch: Batch) -> None:
        """Called within the library: nothing may come out of here."""
        try:
            self._take(batch)
        except Exception:
            self._log.exception("mdns_fault")

    def _take(self, batch: Batch) -> None:
        from nexus.discovery import wire

        if self._zeroconf is None:
            return
        for folded in batch.answered:
            for answer in self._waiting.get(folded, ()):
                if not answer.done():
                    answer.set_result(None)
        for name in batch.gone:
            advert = self._adverts.gone(name)
            if advert is not None:
                self._lost(advert)
        now_s = self._clock()
        changed: dict[str, Advert] = {}
        for name in batch.heard:
            heard = self._adverts.heard(name, now_s)
            if isinstance(heard, Ignored):
                self._complain(heard)
            else:
                changed[heard.key] = heard
        for folded in batch.touched:
            known = self._adverts.by_name.get(folded)
            if known is not None:
                changed[known.key] = known
        for server in batch.servers:
            changed.update({one.key: one for one in self._adverts.at_server(server)})
        missing = False
        for advert in changed.values():
            wire.read(self._zeroconf.zeroconf, advert)
            if advert.resolved:
                self._tell(advert)
            else:
                missing = True
        if missing:
            self._wake.set()

    def _tell(self, advert: Advert) -> None:
        if not advert.resolved:
            return
        told, seen = advert.told, self._adverts.sighting(advert, self._own)
        now_s = self._clock()
        if not isinstance(seen, Sighting):
            if isinstance(told, Sighting):
                self._lost(advert)
            advert.told = seen or Ignored("own", advert.key)
            if seen is not None and seen != told:
                self._complain(seen)
            return
        if seen == told and now_s - self._told_at_s.get(seen.key, 0.0) < _AGAIN_S:
            return
        advert.told = seen
        self._told_at_s[seen.key] = now_s
        self._log.debug("mdns_seen", advert=seen.key, addresses=seen.addresses, port=seen.port)
        self._on_seen(seen)

    def _lost(self, advert: Advert) -> None:
        self._told_at_s.pop(advert.key, None)
        if isinstance(advert.told, Sighting):
            self._log.debug("mdns_gone", advert=advert.key)
            self._on_gone(advert.key)

    def _complain(self, ignored: Ignored) -> None:
        """One line for each kind of fault in ten minutes; the next says how many went unsaid."""
        now_s = self._clock()
        said_at_s, unsaid = self._complained.get(ignored.kind, (-_LOG_S, 0))
        if now_s - said_at_s < _LOG_S:
            self._complained[ignored.kind] = (said_at_s, unsaid + 1)
            return
        self._complained[ignored.kind] = (now_s, 0)
        more = {"others": unsaid} if unsaid else {}
        self._log.info("mdns_advert_ignored", reason=ignored.kind, advert=ignored.key, **more)
