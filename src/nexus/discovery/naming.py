"""Names for servers that nobody named."""

from __future__ import annotations

from collections.abc import Container

from nexus.core.backend import EngineKind, Source
from nexus.discovery.sighting import Sighting

__all__ = ["base_name", "unique_name"]

_LENGTH_MAX = 64


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


def unique_name(base: str, taken: Container[str]) -> str:
    """``base``, or the first of ``base-2``, ``base-3``, ... that is not taken."""
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    return name
