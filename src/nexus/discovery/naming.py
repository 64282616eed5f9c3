"""Names for servers that nobody named."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Hashable

from nexus.core.backend import EngineKind, Source
from nexus.discovery.sighting import Sighting

__all__ = ["Names", "base_name"]

_LENGTH_MAX = 64
_REMEMBERED_MAX = 1024


def base_name(sighting: Sighting, engine: EngineKind | None) -> str:
    """What to call the server, the same each time it is found: ``ollama-11434`` on this machine,
    after its mDNS instance elsewhere. Only letters, digits, ``.``, ``_`` and ``-``: it is typed in
    shells and sent in header fields."""
    if sighting.source is Source.SCAN:
        known = engine not in (None, EngineKind.GENERIC)
        return f"{engine.value if known and engine else 'local'}-{sighting.port}"
    slug = "".join(ch if ch.isalnum() or ch in "._-" else "-" for ch in sighting.name)
    words = [word for word in slug.split("-") if word]
    return "-".join(words)[:_LENGTH_MAX].strip("-._") or f"server-{sighting.port}"


class Names:
    """Gives each server a name of its own, the same as the last time it was found at its place."""

    def __init__(self) -> None:
        self._given: OrderedDict[tuple[str, Hashable], str] = OrderedDict()

    def give(self, base: str, place: Hashable, taken: Container[str]) -> str:
        """The name it had, else ``base``; with a number behind it while another one has that."""
        wanted = name = self._given.pop((base, place), base)
        number = 1
        while name in taken:
            number += 1
            name = f"{wanted}-{number}"
        self._given[base, place] = name
        if len(self._given) > _REMEMBERED_MAX:
            self._given.popitem(last=False)
        return name
