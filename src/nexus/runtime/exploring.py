"""``nexus discover``: who is there right now, with or without a gateway running."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from nexus.core.backend import Source
from nexus.discovery.mdns import MdnsBrowser
from nexus.discovery.nearness import Nearness, identity, nearness, url_of
from nexus.discovery.own import is_own_address
from nexus.discovery.sane import usable
from nexus.discovery.scan import LoopbackScanner
from nexus.discovery.sighting import Sighting
from nexus.discovery.sweep import Network, open_ports
from nexus.runtime.probing import ProbeReport, probe_url

__all__ = ["Explored", "explore"]

_LISTEN_S = 3.0
"""How long answers to an mDNS question are waited for."""
_PROBE_S = 3.0
_PROBED_AT_ONCE = 16


class Explored(msgspec.Struct, frozen=True, kw_only=True):
    """A server that answered. ``name`` is how it announces itself, empty if it does not."""

    source: Source
    report: ProbeReport
    name: str = ""


async def explore(
    networks: Sequence[Network],
    ports: Sequence[int],
    *,
    loopback: bool,
    service_types: Sequence[str] = (),
) -> list[Explored]:
    """Every inference server (other gateways too) on the ``ports`` of ``networks`` and, if
    ``loopback``, of this machine, and those that announce one of ``service_types`` within 3 s;
    each once. Nothing but ``GET`` is sent, and to public addresses nothing at all."""
    looks = [_swept(networks, ports), _announced(service_types)]
    if loopback:
        looks.append(_scanned(ports))
    sightings = _once([one for some in await asyncio.gather(*looks) for one in some])
    places = asyncio.Semaphore(_PROBED_AT_ONCE)

    async def probe(sighting: Sighting) -> Explored | None:
        async with places:
            return await _probe(sighting)

    explored = await asyncio.gather(*map(probe, sightings))
    return [one for one in explored if one is not None]


async def _probe(sighting: Sighting) -> Explored | None:
    for address in sighting.addresses:
        url = url_of(address, sighting.port, sighting.base_path)
        report = await probe_url(url, timeout_s=_PROBE_S)
        found = report.found
        if found is not None and (found.engine is not None or found.nexus):
            return Explored(source=sighting.source, report=report, name=sighting.name)
    return None


async def _swept(networks: Sequence[Network], ports: Sequence[int]) -> list[Sighting]:
    found = await open_ports(networks, ports) if networks else []
    return [
        Sighting(
            key=f"sweep:{address}:{port}",
            source=Source.SCAN,
            name="",
            addresses=(address,),
            port=port,
        )
        for address, port in sorted(found)
    ]


async def _scanned(ports: Sequence[int]) -> list[Sighting]:
    seen: list[Sighting] = []
    scanner = LoopbackScanner(
        ports, on_seen=seen.append, on_gone=lambda _: None, skip=lambda _: False
    )
    await scanner.scan()
    return [replace(one, name="") for one in seen]


async def _announced(service_types: Sequence[str]) -> list[Sighting]:
    if not service_types:
        return []
    seen: dict[str, Sighting] = {}

    def on_seen(sighting: Sighting) -> None:
        seen[sighting.key] = sighting

    def on_gone(key: str) -> None:
        seen.pop(key, None)

    browser = MdnsBrowser(service_types, on_seen, on_gone)
    await browser.start()
    try:
        await asyncio.sleep(_LISTEN_S)
    finally:
        await browser.aclose()
    near = []
    for one in seen.values():
        addresses = tuple(address for address in one.addresses if _is_near(address))
        try:
            near.append(usable(replace(one, addresses=addresses)))
        except ValueError:
            continue  # absurd, or public only
    return near


def _once(sightings: Sequence[Sighting]) -> list[Sighting]:
    """Each server once, as it was seen first."""
    servers: dict[object, Sighting] = {}
    for one in sightings:
        who = identity(one.addresses, is_own_address)
        servers.setdefault((who, one.port, one.base_path), one)
    return list(servers.values())


def _is_near(address: str) -> bool:
    return nearness(address) in (Nearness.LOOPBACK, Nearness.PRIVATE) or is_own_address(address)
