"""Builds the immutable picture of the fleet that the data plane routes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from nexus.core.backend import Backend
from nexus.core.live import BackendLive
from nexus.core.snapshot import Candidate, Snapshot

__all__ = ["build_snapshot", "renewed", "routes_of"]


Routes: TypeAlias = Mapping[str, Candidate]


def routes_of(backend: Backend, live: BackendLive) -> dict[str, Candidate]:
    """Every name under which ``backend`` takes calls: its models' ids, and their aliases where no
    other model of the same backend has that id (a real model wins over an alias)."""
    candidates = [Candidate(backend, model, live) for model in backend.models]
    routes = {candidate.model.id: candidate for candidate in candidates}
    for candidate in candidates:
        for alias in candidate.model.aliases:
            routes.setdefault(alias, candidate)
    return routes


def build_snapshot(version: int, fleet: Iterable[tuple[Backend, BackendLive, Routes]]) -> Snapshot:
    """The snapshot of ``fleet``: each backend with its live figures and its routes (made by
    :func:`routes_of` when the backend last changed, so that a rebuild only joins them)."""
    ordered = sorted(fleet, key=lambda member: (member[0].spec.priority, member[0].name))
    joined: dict[str, list[Candidate]] = {}
    for _, _, routes in ordered:
        for name, candidate in routes.items():
            joined.setdefault(name, []).append(candidate)
    return Snapshot(
        version=version,
        backends={backend.name: backend for backend, _, _ in ordered},
        live={backend.name: live for backend, live, _ in ordered},
        candidates={name: tuple(candidates) for name, candidates in joined.items()},
        listed=_listed(backend for backend, _, _ in ordered),
    )


def renewed(
    before: Snapshot, version: int, backend: Backend, live: BackendLive, routes: Routes
) -> Snapshot:
    """What :func:`build_snapshot` would make of ``before``'s fleet with ``backend`` in the place it
    had there, under the same names as before and with the same live figures: a check that found
    nothing new, in a tenth of the time where the fleet is large."""
    old = before.backends[backend.name]
    candidates = dict(before.candidates)
    for name, candidate in routes.items():
        row = candidates[name]
        place = next(at for at, one in enumerate(row) if one.live is live)
        candidates[name] = (*row[:place], candidate, *row[place + 1 :])
    backends = {**before.backends, backend.name: backend}
    same = old.routable is backend.routable and _ids(old) == _ids(backend)
    return Snapshot(
        version=version,
        backends=backends,
        live=before.live,
        candidates=candidates,
        listed=before.listed if same else _listed(backends.values()),
    )


def _ids(backend: Backend) -> list[str]:
    return [model.id for model in backend.models]


def _listed(backends: Iterable[Backend]) -> tuple[str, ...]:
    return tuple(
        sorted({model.id for backend in backends if backend.routable for model in backend.models})
    )
