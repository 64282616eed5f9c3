"""The registry's immutable picture of the fleet: what the data plane routes on."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nexus.core.backend import Backend
from nexus.core.live import BackendLive
from nexus.core.model import Model

__all__ = ["Candidate", "Snapshot"]


class Candidate(msgspec.Struct, frozen=True):
    """One backend that serves one model, with its live figures (the only part that changes)."""

    backend: Backend
    model: Model
    live: BackendLive


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet at one moment. Replaced whole, never changed.

    ``backends`` by name. ``candidates``: model name (ids and the aliases engines accept) → every
    backend that serves it, whatever its status (the router tells why one is dropped), in stable
    order: priority, then name. ``listed``: model ids of routable backends, sorted, as
    ``/v1/models`` shows them.
    """

    version: int = 0
    backends: Mapping[str, Backend] = {}
    live: Mapping[str, BackendLive] = {}
    candidates: Mapping[str, tuple[Candidate, ...]] = {}
    listed: tuple[str, ...] = ()

    @property
    def routable(self) -> bool:
        """Whether at least one backend can take calls."""
        return any(backend.routable for backend in self.backends.values())
