"""Strategies: the order within a rank."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.snapshot import Snapshot
from nexus.routing.plan import ScoreParts
from nexus.routing.router import Router, RoutingSettings
from nexus.routing.strategies import STRATEGIES, Strategy
from tests.unit.routing.fleet import NOW_S, ask, candidate, fleet, live, order, route


def firsts(snapshot: Snapshot, strategy: Strategy, calls: int) -> Counter[str]:
    """Who came first how often in ``calls`` decisions of one router."""
    router, rng = Router(RoutingSettings(strategy=strategy)), Random(7)
    return Counter(
        order(router.route(snapshot, ask(), now_s=NOW_S, rng=rng))[0] for _ in range(calls)
    )


def test_every_strategy_has_its_row() -> None:
    """The table is whole."""
    assert set(STRATEGIES) == set(Strategy)


@pytest.mark.parametrize("strategy", list(Strategy))
@settings(deadline=None, max_examples=30)
@given(
    backends=st.lists(
        st.tuples(st.integers(0, 120), st.integers(0, 5), st.sampled_from([None, 1, 3])),
        min_size=1,
        max_size=24,
    ),
    seed=st.integers(0, 5),
)
def test_every_strategy_names_each_candidate_once(
    strategy: Strategy, backends: list[tuple[int, int, int | None]], seed: int
) -> None:
    """Nobody is lost or tried twice, and lower ranks come first."""
    snapshot = fleet(
        *(
            candidate(f"b{n}", priority=p, capacity=c, figures=live(in_flight=busy))
            for n, (p, busy, c) in enumerate(backends)
        )
    )
    plan = route(snapshot, strategy=strategy, seed=seed, candidates_max=24)
    assert sorted(order(plan)) == sorted(snapshot.backends)
    ranks = [scored.rank for scored in plan.candidates]
    assert ranks == sorted(ranks)


def test_smart_weighs_priority_load_and_latency() -> None:
    """Fifty, thirty and twenty of a hundred."""
    snapshot = fleet(
        candidate("near", priority=10, figures=live(in_flight=50, ttft_s=0.5)),
        candidate("far", priority=90, figures=live(ttft_s=0.0)),
    )
    near, far = route(snapshot, explain=True).candidates
    assert near.candidate.backend.name == "near"
    assert near.score == pytest.approx(0.5 * 0.9 + 0.3 * 0.5 + 0.2 * 0.5)
    assert far.score == pytest.approx(0.5 * 0.1 + 0.3 * 1.0 + 0.2 * 1.0)
    assert near.parts == ScoreParts(priority=0.9, load=0.5, latency=0.5)


@pytest.mark.parametrize(
    "strategy", [Strategy.SMART, Strategy.PRIORITY_ONLY, Strategy.LEAST_LOAD, Strategy.RANDOM]
)
@pytest.mark.parametrize("size", [2, 3, 30])
def test_equals_share_the_work(strategy: Strategy, size: int) -> None:
    """Tied backends come first equally often, within chance; in large fleets too."""
    calls = 300 * size
    counts = firsts(fleet(*(candidate(f"b{n:02}") for n in range(size))), strategy, calls)
    assert len(counts) == size
    assert all(200 < count < 400 for count in counts.values())


def test_a_tie_behind_the_best_is_spread_too() -> None:
    """Else all of a failed backend's calls would go to one of several equals."""
    snapshot = fleet(candidate("best", priority=0), candidate("x"), candidate("y"))
    seconds = Counter(order(route(snapshot, seed=seed))[1] for seed in range(40))
    assert set(seconds) == {"x", "y"}


def test_the_same_generator_gives_the_same_plan() -> None:
    """Chance comes in as an argument."""
    snapshot = fleet(*(candidate(f"b{n}") for n in range(9)))
    assert order(route(snapshot, seed=3)) == order(route(snapshot, seed=3))


def test_round_robin_takes_turns_per_model() -> None:
    """A, b, c and again, whatever other models do in between."""
    router = Router(RoutingSettings(strategy=Strategy.ROUND_ROBIN))
    snapshot = fleet(*(candidate(name) for name in "abc"), candidate("z", "other"))
    seen = []
    for _ in range(6):
        seen.append(order(route(snapshot, router=router)))
        route(snapshot, ask("other"), router=router)
    assert ["".join(names) for names in seen] == ["abc", "bca", "cab", "abc", "bca", "cab"]


def test_explaining_takes_nobodys_turn() -> None:
    """Round robin goes on where it was."""
    router = Router(RoutingSettings(strategy=Strategy.ROUND_ROBIN))
    snapshot = fleet(candidate("a"), candidate("b"))
    assert order(route(snapshot, router=router, explain=True)) == ["a", "b"]
    assert order(route(snapshot, router=router)) == ["a", "b"]
    assert order(route(snapshot, router=router)) == ["b", "a"]


def test_priority_only_looks_at_nothing_else() -> None:
    """Not at load, not at latency, and also above 100."""
    snapshot = fleet(
        candidate("first", priority=150, figures=live(in_flight=90, ttft_s=9.0)),
        candidate("second", priority=151),
    )
    assert order(route(snapshot, strategy=Strategy.PRIORITY_ONLY)) == ["first", "second"]


def test_least_load_compares_with_the_capacity() -> None:
    """Five of twenty is less than two of four; priority does not count."""
    snapshot = fleet(
        candidate("half", priority=0, capacity=4, figures=live(in_flight=2)),
        candidate("quarter", capacity=20, figures=live(in_flight=5)),
    )
    assert order(route(snapshot, strategy=Strategy.LEAST_LOAD)) == ["quarter", "half"]


def test_random_ignores_scores() -> None:
    """The worst comes first as often as the best."""
    snapshot = fleet(candidate("best", priority=0), candidate("worst", priority=100))
    counts = firsts(snapshot, Strategy.RANDOM, 400)
    assert 140 < counts["worst"] < 260
