"""Scores are worked out anew when live figures change, and only then; nobody can tell."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.live import BackendLive
from nexus.core.snapshot import Snapshot
from nexus.health import breaker
from nexus.routing.router import Router, RoutingSettings
from nexus.routing.scorers import Weights
from nexus.routing.strategies import Strategy
from tests.unit.routing.fleet import NOW_S, ask, candidate, fleet, order


def _change(live: BackendLive, what: str, now_s: float) -> None:
    match what:
        case "begin":
            live.begin()
        case "end":
            if live.in_flight:
                live.end()
        case "polled":
            live.polled(live.in_flight + 2, 1)
        case "unknown load":
            live.polled(None, None)
        case "park":
            live.park(now_s + 2.0)
        case "probed":
            live.probed(0.3)
        case "first token":
            live.first_token("m", 0.1 + live.in_flight, now_s)
        case "hard failure":
            breaker.record_failure(live, now_s, hard=True)
        case "success":
            breaker.record_success(live, now_s)
        case "probe ok":
            breaker.probe_ok(live, now_s)
        case "trial":
            breaker.begin_trial(live, now_s)


_WHAT = [
    *("begin", "begin", "end", "polled", "unknown load", "park", "probed", "first token"),
    *("hard failure", "success", "probe ok", "trial"),
]
_STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(_WHAT), st.sampled_from([0.0, 0.5, 3.0])),
    min_size=1,
    max_size=25,
)


def _fleet() -> Snapshot:
    return fleet(
        candidate("a", priority=40),
        candidate("b", capacity=2),
        candidate("c", max_concurrency=2),
        candidate("d", capacity=1, priority=90),
    )


def _decide(router: Router, snapshot: Snapshot, now_s: float, turn: int) -> object:
    try:
        plan = router.route(snapshot, ask(needs_tools=turn % 2 == 0), now_s=now_s, rng=Random(turn))
    except Exception as refusal:
        return str(refusal)
    return plan.candidates, plan.reason


@given(steps=_STEPS, strategy=st.sampled_from([Strategy.SMART, Strategy.LEAST_LOAD]))
@settings(max_examples=150, deadline=None)
def test_a_router_that_remembers_decides_as_one_that_does_not(
    steps: list[tuple[int, str, float]], strategy: Strategy
) -> None:
    """After any change of any figure the plan is that of a router which sees all for the first
    time."""
    snapshot = _fleet()
    lives = list(snapshot.live.values())
    remembering = Router(RoutingSettings(strategy=strategy))
    now_s = NOW_S
    for turn, (who, what, later_s) in enumerate(steps):
        now_s += later_s
        _change(lives[who], what, now_s)
        fresh = Router(RoutingSettings(strategy=strategy))
        assert _decide(remembering, snapshot, now_s, turn) == _decide(fresh, snapshot, now_s, turn)


def test_new_weights_count_from_the_next_call() -> None:
    """A reload replaces the settings; scores of the old ones are not used again."""
    snapshot = fleet(candidate("near", priority=10), candidate("idle", priority=90))
    snapshot.live["near"].begin()
    router = Router(RoutingSettings(weights=Weights(priority=1, load=0, latency=0)))
    assert order(router.route(snapshot, ask(), now_s=NOW_S, rng=Random(1))) == ["near", "idle"]
    router.settings = RoutingSettings(weights=Weights(priority=0, load=1, latency=0))
    assert order(router.route(snapshot, ask(), now_s=NOW_S, rng=Random(1))) == ["idle", "near"]
