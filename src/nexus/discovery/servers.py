"""The servers that discovery keeps in mind: a bounded number, found by key and by place."""

from __future__ import annotations

from collections.abc import Iterator

from nexus.discovery.found import FoundServer, Place, Stage
from nexus.discovery.recognise import same_place
from nexus.discovery.sighting import Sighting

__all__ = ["Servers"]


class Servers:
    """At most ``most`` of them. While it is iterated, servers may come and go."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._by_number: dict[int, FoundServer] = {}
        self._by_key: dict[str, FoundServer] = {}
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[FoundServer]:
        return iter(list(self._by_number.values()))

    def get(self, number: int) -> FoundServer | None:
        """By its number."""
        return self._by_number.get(number)

    def of_key(self, key: str) -> FoundServer | None:
        """The one that a sighting under ``key`` belongs to."""
        return self._by_key.get(key)

    def at(self, place: Place) -> FoundServer | None:
        """The one that is there."""
        for server in self._by_number.values():
            if same_place(server.place, place):
                return server
        return None

    def new(self, first: Sighting) -> FoundServer | None:
        """A new one. When there are too many, the oldest that is of no use goes; ``None`` when each
        is of use."""
        if len(self._by_number) >= self.most:
            useless = (one for one in self._by_number.values() if one.stage is Stage.LEFT)
            oldest = next(useless, None)
            if oldest is None:
                return None
            self.drop(oldest)
        self._numbers += 1
        server = self._by_number[self._numbers] = FoundServer(self._numbers, first)
        return server

    def attach(self, server: FoundServer, sighting: Sighting) -> None:
        """The sighting is of this server."""
        server.sightings[sighting.key] = sighting
        self._by_key[sighting.key] = server

    def detach(self, key: str) -> FoundServer | None:
        """That sighting stands no more; the server whose it was."""
        server = self._by_key.pop(key, None)
        if server is not None:
            del server.sightings[key]
        return server

    def drop(self, server: FoundServer) -> None:
        """Forgets it."""
        for key in server.sightings:
            del self._by_key[key]
        del self._by_number[server.number]
