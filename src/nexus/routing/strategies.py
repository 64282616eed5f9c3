"""Strategies: in which order candidates of equal rank are tried.

Each is one function and one row of ``STRATEGIES``. It is given the contenders in the snapshot's
stable order (priority, then name), the generator and the model's turn, and returns them in the
order of attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from operator import itemgetter
from random import Random
from types import MappingProxyType

from nexus.core.snapshot import Candidate

__all__ = ["STRATEGIES", "Contender", "Order", "Strategy"]

Contender = tuple[int, float, Candidate]
"""Rank, score, candidate. A bare tuple: one is made per candidate and request."""

Order = Callable[[list[Contender], Random, int], list[Contender]]

_DRAWN = 8
"""How many places are drawn by lot. A call makes a few attempts; to shuffle a thousand candidates
for them would cost more than all the rest of the decision."""


class Strategy(StrEnum):
    """The values of ``routing.strategy``."""

    SMART = "smart"
    ROUND_ROBIN = "round_robin"
    PRIORITY_ONLY = "priority_only"
    RANDOM = "random"
    LEAST_LOAD = "least_load"


def _smart(these: list[Contender], rng: Random, turn: int) -> list[Contender]:
    """Best score first."""
    return _best_first(these, itemgetter(1), rng)


def _round_robin(these: list[Contender], rng: Random, turn: int) -> list[Contender]:
    """Each in its turn."""
    first = turn % len(these)
    return these[first:] + these[:first]


def _priority_only(these: list[Contender], rng: Random, turn: int) -> list[Contender]:
    """Lowest priority number first. (Not its part of the score, which is flat above 100.)"""
    return _best_first(these, lambda one: -one[2].backend.spec.priority, rng)


def _random(these: list[Contender], rng: Random, turn: int) -> list[Contender]:
    """By lot."""
    order = list(these)
    _draw(order, 0, len(order), rng)
    return order


def _least_load(these: list[Contender], rng: Random, turn: int) -> list[Contender]:
    """The least busy in proportion to its capacity first."""
    # Its score is its load part: RoutingSettings sees to the weights.
    return _best_first(these, itemgetter(1), rng)


STRATEGIES: Mapping[Strategy, Order] = MappingProxyType(
    {
        Strategy.SMART: _smart,
        Strategy.ROUND_ROBIN: _round_robin,
        Strategy.PRIORITY_ONLY: _priority_only,
        Strategy.RANDOM: _random,
        Strategy.LEAST_LOAD: _least_load,
    }
)


def _best_first(
    these: list[Contender], worth: Callable[[Contender], float], rng: Random
) -> list[Contender]:
    """Sorted by ``worth``, highest first; who is worth the same stands there by lot."""
    order = sorted(these, key=worth, reverse=True)
    begin, count = 0, len(order)
    while begin < count - 1 and begin < _DRAWN:
        value = worth(order[begin])
        end = begin + 1
        while end < count and worth(order[end]) == value:
            end += 1
        if end - begin > 1:
            _draw(order, begin, end, rng)
        begin = end
    return order


def _draw(order: list[Contender], begin: int, end: int, rng: Random) -> None:
    """Shuffles ``order[begin:end]`` in place, as far as its first ``_DRAWN`` places."""
    for place in range(begin, min(end - 1, begin + _DRAWN)):
        other = place + int(rng.random() * (end - place))
        order[place], order[other] = order[other], order[place]
