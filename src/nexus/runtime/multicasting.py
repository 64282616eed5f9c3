"""The gateway's part in mDNS: it browses for servers, and announces itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from nexus import __version__
from nexus.config.schema import DiscoveryConfig
from nexus.discovery.announce import MdnsAnnouncer, beyond_loopback
from nexus.discovery.mdns import MdnsBrowser
from nexus.discovery.multicast import Multicast
from nexus.discovery.sighting import Sighting

__all__ = ["MdnsPart"]


class MdnsPart:
    """Browser and announcer on the same sockets, as far as ``settings`` want them.

    ``instance_id`` tells this gateway's advert from others. What goes wrong with multicast is said
    there, in one warning.
    """

    def __init__(
        self,
        settings: DiscoveryConfig,
        instance_id: str,
        on_seen: Callable[[Sighting], None],
        on_gone: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._instance_id = instance_id
        self._on_seen = on_seen
        self._on_gone = on_gone
        self._multicast = Multicast()
        self._browser: MdnsBrowser | None = None
        self._announcer: MdnsAnnouncer | None = None
        self._withdrawing: asyncio.Future[None] | None = None

    async def start(self, listeners: Sequence[tuple[str, int]]) -> None:
        """Begins; announces the first of ``listeners`` that is reached from elsewhere."""
        settings = self._settings
        if settings.mdns:
            self._browser = MdnsBrowser(
                settings.service_types,
                self._on_seen,
                self._on_gone,
                own_id=self._instance_id,
                multicast=self._multicast,
            )
            await self._browser.start()
        where = [(host, port) for host, port in listeners if beyond_loopback(host)]
        if settings.announce and where:
            host, port = where[0]
            self._announcer = MdnsAnnouncer(
                host=host,
                port=port,
                instance_id=self._instance_id,
                version=__version__,
                multicast=self._multicast,
            )
            await self._announcer.start()

    def look_again(self) -> None:
        """Asks the network anew."""
        if self._browser is not None:
            self._browser.look_again()

    async def still_announced(self, keys: Sequence[str]) -> bool:
        """Whether somebody answers, on the wire, for one of the sightings."""
        if self._browser is None:
            return False
        return any(await asyncio.gather(*(self._browser.ask_again(key) for key in keys)))

    def withdraw(self) -> None:
        """Takes our advert back, in the background: a gateway that drains wants no new clients."""
        announcer, self._announcer = self._announcer, None
        if announcer is not None:
            self._withdrawing = asyncio.ensure_future(announcer.aclose())

    async def aclose(self) -> None:
        """Withdraws our advert and ends browsing."""
        self.withdraw()
        if self._withdrawing is not None:
            await self._withdrawing
        if self._browser is not None:
            await self._browser.aclose()
