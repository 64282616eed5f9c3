"""One server that discovery knows of, and what it asks and is told about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from math import inf
from typing import Protocol

import msgspec

from nexus.core.backend import Backend, BackendSpec, Source
from nexus.discovery.nearness import OWN_MACHINE, identity, url_of
from nexus.discovery.sighting import Sighting
from nexus.engines.fingerprint import Fingerprint

__all__ = ["Finding", "FoundServer", "Outside", "Place", "Policy", "Question", "Stage"]

Place = tuple[frozenset[str], int, str]
"""What a server is told from another by: who (``addresses.identity``), port, base path."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """``[discovery]`` as far as it decides. ``interval_s`` is the health checks'; ``servers_max``
    bounds how many servers are kept in mind, backends or not."""

    auto_approve: str = "private"
    grace_s: float = 60.0
    interval_s: float = 30.0
    forward_authorization: bool = False
    servers_max: int = 256


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What answers there? ``addresses`` in the order to try them."""

    server: int
    addresses: tuple[str, ...]
    port: int
    base_path: str

    def url(self, address: str) -> str:
        """The server's URL by one of its addresses."""
        return url_of(address, self.port, self.base_path)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a :class:`Question`: the address that could be reached and what is there, both
    ``None`` when none could."""

    server: int
    address: str | None = None
    found: Fingerprint | None = None


class Stage(Enum):
    """What has become of a server."""

    WAITING = "its turn to be asked has not come"
    ASKED = "asked what it is"
    BACKEND = "a backend"
    SAME = "known as another backend already"
    LEFT = "nothing to use, or nobody there; asked again later"
    DISMISSED = "removed by the operator"


class FoundServer:
    """A server and everything that was seen of it.

    ``sightings`` are those that stand, by key; ``sighting`` (the one that tells most),
    ``addresses`` and ``who`` outlive the last of them, since the same server may come back.
    ``name`` is its backend's while it is one, ``url`` where that is reached; ``same_as`` names the
    backend of somebody else that it was last recognised as. Times are monotonic seconds, ``inf``
    for never, ``None`` for "it is not so".
    """

    __slots__ = (
        "addresses",
        "again_at_s",
        "gone_at_s",
        "ill_since_s",
        "name",
        "number",
        "query_at_s",
        "same_as",
        "sighting",
        "sightings",
        "stage",
        "tries",
        "url",
        "who",
    )

    def __init__(self, number: int, first: Sighting) -> None:
        self.number = number
        self.sightings: dict[str, Sighting] = {}
        self.sighting = first
        self.addresses: tuple[str, ...] = ()
        self.who: frozenset[str] = frozenset()
        self.stage = Stage.WAITING
        self.name: str | None = None
        self.url = ""
        self.same_as = ""
        self.gone_at_s: float | None = None
        self.ill_since_s: float | None = None
        self.again_at_s = inf
        self.query_at_s = inf
        self.tries = 0

    def gather(self, is_own: Callable[[str], bool]) -> None:
        """Takes together what its sightings say; with none, what they said stays."""
        if not self.sightings:
            return
        ones = self.sightings.values()
        self.sighting = max(ones, key=lambda one: one.source is Source.MDNS)
        # Nearest first: a scan is of this machine.
        nearest = sorted(ones, key=lambda one: one.source is not Source.SCAN)
        self.addresses = tuple(dict.fromkeys(a for one in nearest for a in one.addresses))
        self.who = identity(self.addresses, is_own)

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.who, self.sighting.port, self.sighting.base_path

    @property
    def scanned(self) -> bool:
        """Whether a scan of this machine sees it."""
        return any(one.source is Source.SCAN for one in self.sightings.values())

    @property
    def here(self) -> bool:
        """Whether it runs on this machine."""
        return OWN_MACHINE in self.who

    @property
    def reachable(self) -> tuple[str, ...]:
        """The addresses that lead to it: another machine's may be ours too (Docker's bridge)."""
        if self.here:
            return self.addresses
        return tuple(address for address in self.addresses if address in self.who)

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it can be reached."""
        port, path = self.sighting.port, self.sighting.base_path
        return tuple(url_of(address, port, path) for address in self.reachable)


class Outside(Protocol):
    """What the directory knows of the rest, and what it has done there. Every method returns at
    once; ``ask`` and ``query`` are answered later, by ``Directory.told`` and ``queried``."""

    def backends(self) -> Mapping[str, Backend]:
        """Every backend known, by name."""

    def is_own(self, address: str) -> bool:
        """Whether this machine has the address."""

    def is_me(self, address: str, port: int) -> bool:
        """Whether this very gateway listens there."""

    def addresses_of(self, host: str) -> tuple[str, ...]:
        """What a backend's host name was last resolved to."""

    def ask(self, question: Question) -> None:
        """Find out what answers."""

    def query(self, name: str, keys: tuple[str, ...]) -> None:
        """Ask the network afresh whether the server of backend ``name`` is still announced."""

    def add(self, spec: BackendSpec, *, pending: bool) -> bool:
        """Take in a backend (``pending``: it waits for approval); whether that could be done."""

    def remove(self, name: str, why: str) -> None:
        """Forget a backend."""

    def move(self, name: str, url: str) -> bool:
        """The backend is to be reached elsewhere now; whether that could be done."""

    def suspect(self, name: str) -> None:
        """Backend ``name`` may be down: check it now."""

    def note(self, kind: str, **fields: object) -> None:
        """Something worth a line in the log, once for each kind."""
