"""What is taken of a sighting: anybody on the network can announce anything."""

from __future__ import annotations

from msgspec.structs import replace

from nexus.core.backend import parse_backend_url
from nexus.discovery.nearness import Nearness, nearness, plain, url_of
from nexus.discovery.sighting import Sighting

__all__ = ["usable"]

_ADDRESSES_MAX = 8
_PATH_MAX = 256
_NO_PATH = frozenset("?#@\\\"'<>`{}|^ ")


def usable(sighting: Sighting) -> Sighting:
    """``sighting`` with the addresses that lead somewhere, each once, and a base path as backends
    have it. Raises ``ValueError`` that says why when it leads nowhere."""
    if not 0 < sighting.port < 65536:
        raise ValueError(f"port {sighting.port} is not one")
    addresses = tuple(
        dict.fromkeys(
            plain(address)
            for address in sighting.addresses[: 8 * _ADDRESSES_MAX]
            if nearness(address) is not Nearness.UNUSABLE
        )
    )[:_ADDRESSES_MAX]
    if not addresses:
        raise ValueError("it names no address that can be used")
    path = sighting.base_path
    if len(path) > _PATH_MAX or not path.isascii() or not _NO_PATH.isdisjoint(path):
        raise ValueError("its API path is not one")
    path = f"/{path.strip('/')}" if path.strip("/") else ""
    path = parse_backend_url(url_of(addresses[0], sighting.port, path)).base_path
    return replace(sighting, addresses=addresses, base_path=path)
