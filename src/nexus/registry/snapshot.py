"""Builds the immutable picture of the fleet that the data plane routes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nexus.core.backend import Backend
from nexus.core.live import BackendLive
from nexus.core.snapshot import Candidate, Snapshot

__all__ = ["build_snapshot", "routes_of"]


def routes_of(backend: Backend, live: BackendLive) -> dict[str, Candidate]:
    """Every name under which ``backend`` takes calls: its models' ids, and their aliases where no
    other model of the same backend has that id (a real model wins over an alias)."""
    candidates = [Candidate(backend, model, live) for model in backend.models]
    routes = {candidate.model.id: candidate for candidate in candidates}
    for candidate in candidates:
        for alias in candidate.model.aliases:
            routes.setdefault(alias, candidate)
    return routes


def build_snapshot(
    version: int, fleet: Iterable[tuple[Backend, BackendLive, Mapping[str, Candidate]]]
) -> Snapshot:
    """The snapshot of ``fleet``: each backend with its live figures and its routes (made by
    :func:`routes_of` when the backend last changed, so that a rebuild only joins them)."""
    ordered = sorted(fleet, key=lambda member: (member[0].spec.priority, member[0].name))
    joined: dict[str, list[Candidate]] = {}
    listed: set[str] = set()
    for backend, _, routes in ordered:
        for name, candidate in routes.items():
            joined.setdefault(name, []).append(candidate)
        if backend.routable:
            listed.update(model.id for model in backend.models)
    return Snapshot(
        version=version,
        backends={backend.name: backend for backend, _, _ in ordered},
        live={backend.name: live for backend, live, _ in ordered},
        candidates={name: tuple(candidates) for name, candidates in joined.items()},
        listed=tuple(sorted(listed)),
    )
