"""Announces this gateway by mDNS, so that others on the network find it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nexus.discovery.addresses import OwnAddress
from nexus.discovery.multicast import Multicast
from nexus.telemetry.logs import get_logger

if TYPE_CHECKING:
    from zeroconf import ServiceInfo
    from zeroconf.asyncio import AsyncZeroconf

    from nexus.discovery.wire import RivalListener

__all__ = ["MdnsAnnouncer", "announced_addresses", "beyond_loopback"]

_TYPE = "_llm._tcp.local."
_HOST_TTL_S = 120
_OTHER_TTL_S = 4500


class MdnsAnnouncer:
    """Announces ``_llm._tcp`` with ``type=nexus``, ``version``, ``api_path=/v1`` and ``id``.

    ``host`` is the address it listens on (``0.0.0.0`` and ``::`` stand for all of the machine's),
    ``port`` the port, ``instance_id`` (hexadecimal) what this gateway knows itself by. When the
    name is taken on the network, a number is added to it. ``multicast`` holds the sockets and may
    be shared with the browser.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        instance_id: str,
        version: str,
        name: str = "",
        multicast: Multicast | None = None,
    ) -> None:
        self._log = get_logger("discovery")
        self._host = host
        self._port = port
        self._id = instance_id
        self._version = version
        self._name = _instance_name(name or f"nexus-{socket.gethostname().partition('.')[0]}")
        self._multicast = multicast or Multicast()
        self._own: Sequence[OwnAddress] = ()
        self._zeroconf: AsyncZeroconf | None = None
        self._info: ServiceInfo | None = None
        self._announcing: asyncio.Task[None] | None = None
        self._rival: RivalListener | None = None

    @property
    def announced_as(self) -> str:
        """The instance's full name, empty until announced."""
        return self._info.name if self._info is not None else ""

    async def start(self) -> None:
        """Begins to announce; returns at once. Failure is one warning, and tried again."""
        await self._multicast.attach(self)

    async def aclose(self) -> None:
        """Withdraws the advert, within 2 s."""
        await self._multicast.detach(self)

    async def opened(self, zeroconf: AsyncZeroconf, own: Sequence[OwnAddress]) -> None:
        """The sockets are there: asks whether the name is free, then announces (2 s)."""
        self._zeroconf = zeroconf
        self._own = own
        self._announcing = asyncio.get_running_loop().create_task(self._announce())

    def moving(self, own: Sequence[OwnAddress]) -> None:
        """Announces the addresses that this machine has from now on."""
        self._own = own
        addresses = announced_addresses(self._host, own)
        if self._info is not None and addresses:
            self._info.addresses = [_packed(one) for one in addresses]

    async def moved(self, own: Sequence[OwnAddress]) -> None:
        """Announces anew: where the interfaces are the same, nobody else does."""
        if self._announcing is not None:
            await asyncio.wait((self._announcing,))
        if self._zeroconf is None:
            return
        if self._info is None:
            self._announcing = asyncio.get_running_loop().create_task(self._announce())
            return
        self.moving(own)
        with contextlib.suppress(Exception):
            await self._zeroconf.async_update_service(self._info)

    async def closing(self) -> None:
        """Says goodbye, three times as the library does (0.3 s)."""
        announcing, self._announcing = self._announcing, None
        if announcing is not None and not announcing.done():
            announcing.cancel()
            await asyncio.wait((announcing,))
        zeroconf, self._zeroconf = self._zeroconf, None
        info, self._info = self._info, None
        self._unlisten(zeroconf)
        if zeroconf is not None and info is not None:
            await (await zeroconf.async_unregister_service(info))

    async def _announce(self) -> None:
        from nexus.discovery.wire import RivalListener

        zeroconf = self._zeroconf
        addresses = announced_addresses(self._host, self._own)
        if zeroconf is None or not addresses:
            return
        info = self._described(addresses)
        try:
            sent = await zeroconf.async_register_service(info, allow_name_change=True)
            self._info = info
            self._rival = RivalListener(info.name, info.server or "", self._step_aside)
            zeroconf.zeroconf.async_add_listener(self._rival, None)
            await sent
        except Exception as error:
            self._log.warning("mdns_not_announced", reason=str(error) or type(error).__name__)
            return
        self._log.info("mdns_announced", name=info.name.rstrip("."), addresses=addresses)

    def _described(self, addresses: Sequence[str]) -> ServiceInfo:
        from zeroconf import ServiceInfo

        return ServiceInfo(
            _TYPE,
            f"{self._name}.{_TYPE}",
            port=self._port,
            properties={
                "type": "nexus",
                "version": self._version,
                "api_path": "/v1",
                "id": self._id,
            },
            # A host name of its own: the machine's belongs to its mDNS responder.
            server=f"nexus-{self._id[:12]}.local.",
            addresses=[_packed(one) for one in addresses],
            host_ttl=_HOST_TTL_S,
            other_ttl=_OTHER_TTL_S,
        )

    def _step_aside(self) -> None:
        """Leaves a name that another gateway claims as well, and takes one with our id in it; once,
        since whoever claims that too means harm. No goodbye: it would take the other's advert
        away."""
        zeroconf, info = self._zeroconf, self._info
        suffix = f"-{self._id[:6]}"
        if zeroconf is None or info is None or self._name.endswith(suffix):
            return
        self._info = None
        self._unlisten(zeroconf)
        zeroconf.zeroconf.registry.async_remove(info)
        if self._announcing is not None:
            self._announcing.cancel()
        self._name += suffix
        self._announcing = asyncio.get_running_loop().create_task(self._announce())

    def _unlisten(self, zeroconf: AsyncZeroconf | None) -> None:
        rival, self._rival = self._rival, None
        if zeroconf is not None and rival is not None:
            zeroconf.zeroconf.async_remove_listener(rival)


def beyond_loopback(host: str) -> bool:
    """Whether a listener bound to ``host`` (an IP literal) can be reached from elsewhere."""
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def announced_addresses(host: str, own: Sequence[OwnAddress]) -> list[str]:
    """The addresses at which a listener bound to ``host`` is reached."""
    if host == "0.0.0.0":  # noqa: S104 - compared, not bound
        return [one.address for one in own if ":" not in one.address]
    if host == "::":
        return [one.address for one in own]
    return [host.partition("%")[0]] if beyond_loopback(host) else []


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def _instance_name(text: str) -> str:
    """A name that fits into a DNS label with a number behind it."""
    kept = re.sub(r"[^A-Za-z0-9-]+", "-", text)[:48].strip("-")
    return kept or "nexus"
