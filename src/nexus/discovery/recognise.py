"""Which server is which, however it is reached. Pure."""

from __future__ import annotations

from nexus.core.backend import Backend
from nexus.discovery.found import Outside, Place
from nexus.discovery.nearness import identity

__all__ = ["is_backend", "same_place"]


def same_place(one: Place, other: Place) -> bool:
    """Whether both are one server: same port and path, and one of them knows all addresses that the
    other knows. A single address in common proves nothing (Docker's bridge has the same one on
    every machine)."""
    return one[1:] == other[1:] and _within(one[0], other[0])


def is_backend(place: Place, backend: Backend, outside: Outside) -> bool:
    """Whether the server at ``place`` is ``backend``. One that the operator named stands for all of
    its port, whatever path is in its URL."""
    who, port, path = place
    address = backend.address
    if address.port != port:
        return False
    if address.base_path != path and not backend.spec.source.named_by_operator:
        return False
    hosts = outside.addresses_of(address.host)
    return bool(hosts) and _within(who, identity(hosts, outside.is_own))


def _within(one: frozenset[str], other: frozenset[str]) -> bool:
    return one <= other or other <= one
