"""What the ways of finding a server have in common."""

from __future__ import annotations

import msgspec

from nexus.core.backend import EngineKind, Source

__all__ = ["Sighting"]


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """A server seen by a scan or announced by mDNS.

    ``key`` names where it was seen (``scan:localhost:11434``, or the full name of an mDNS
    instance): a later sighting under the same key replaces this one. ``addresses`` are IP
    literals, nearest first, link-local IPv6 with its scope (``fe80::1%eth0``). ``name`` is what to
    call it, printable, not yet unique. ``engine`` is ``None`` until somebody asks the server.
    ``nexus`` says that it calls itself another Nexus: never a backend, or calls would go in a loop.
    """

    key: str
    source: Source
    name: str
    addresses: tuple[str, ...]
    port: int
    base_path: str = ""
    engine: EngineKind | None = None
    version: str = ""
    models: tuple[str, ...] = ()
    nexus: bool = False
