"""How the fleet changes with the configuration: worked out before anything is touched.

A backend follows its *server*: what is known of one (health, live figures, drain) stays with it,
whatever its table in the file is called now and whoever named it first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from nexus.config.problem import ConfigError, Problem
from nexus.core.backend import Backend, BackendSpec, Source
from nexus.registry.store import is_same_place, is_same_server

__all__ = ["FleetPlan", "check_fleet", "plan_fleet"]


class FleetPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to give to ``Store.reform``: names that go, and specs that come with the name of the
    backend whose place each takes (``None``: a new one)."""

    removed: frozenset[str] = frozenset()
    moves: tuple[tuple[str | None, BackendSpec], ...] = ()


def check_fleet(specs: Sequence[BackendSpec], source: str) -> None:
    """Raises :class:`ConfigError` when two tables of ``source`` (a file) name one server."""
    problems: list[Problem] = []
    for position, spec in enumerate(specs):
        for earlier, other in enumerate(specs[:position]):
            if is_same_server(spec, other):
                problems.append(
                    Problem(
                        source=source,
                        key=f"backends[{position}].url",
                        message=f'is the same server as backends[{earlier}] ("{other.name}")',
                    )
                )
                break
    if problems:
        raise ConfigError(problems)


def plan_fleet(
    present: Mapping[str, Backend],
    before: Sequence[BackendSpec],
    after: Sequence[BackendSpec],
    source: str,
) -> FleetPlan:
    """From the backends that are ``present``, of which the file named ``before``, to those that it
    names now. What else is present stays, but for what ``after`` names: the file takes that over.

    Raises :class:`ConfigError` when that cannot be.
    """
    check_fleet(after, source)
    known = {spec.name: spec for spec in before}
    left = dict(present)
    moves: list[tuple[str | None, BackendSpec]] = []
    removed: set[str] = set()
    open_specs: list[BackendSpec] = []
    for spec in after:
        backend = left.get(spec.name)
        static = backend is not None and backend.spec.source is Source.STATIC
        if static and known.get(spec.name) == spec:
            del left[spec.name]  # as the file had it: changes made at run time stay
        elif backend is not None and is_same_place(spec, backend.spec):
            del left[spec.name]
            moves.append((spec.name, spec))
        else:
            open_specs.append(spec)
    still_open: list[BackendSpec] = []
    for spec in open_specs:
        twin = next((name for name in left if is_same_server(spec, left[name].spec)), None)
        if twin is None:
            still_open.append(spec)
        else:
            del left[twin]
            moves.append((twin, spec))
    problems: list[Problem] = []
    for spec in still_open:
        holder = left.get(spec.name)
        if holder is None:
            moves.append((None, spec))
        elif holder.spec.source is Source.STATIC:
            del left[spec.name]
            moves.append((spec.name, spec))
        elif holder.spec.source is Source.MANUAL:
            position = list(after).index(spec)
            problems.append(
                Problem(
                    source=source,
                    key=f"backends[{position}].name",
                    message=f'the name "{spec.name}" is taken by a backend that was added while '
                    "the gateway ran, and is another server: remove that one first",
                )
            )
        else:  # discovery finds it again, and another name for it
            del left[spec.name]
            removed.add(spec.name)
            moves.append((None, spec))
    if problems:
        raise ConfigError(problems)
    removed |= {name for name, one in left.items() if one.spec.source is Source.STATIC}
    return FleetPlan(removed=frozenset(removed), moves=tuple(moves))
