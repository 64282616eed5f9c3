"""Line-ups: what is remembered is what the filters say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.backend import BackendStatus
from nexus.core.live import BreakerState
from nexus.core.model import ModelKind
from nexus.core.snapshot import Candidate
from nexus.routing.filters import Ask, obstacle
from nexus.routing.lineup import Lineups
from nexus.routing.plan import DropReason
from nexus.routing.router import Router
from tests.unit.routing.fleet import NOW_S, ask, candidate, drops, fleet, live, order, route

maybe = st.sampled_from([None, True, False])
names = st.frozensets(st.sampled_from(["n", "logit_bias", "stop"]), max_size=3)
endpoints = st.sampled_from(["/v1/chat/completions", "/v1/embeddings", "/v1/rerank"])

figures = st.builds(
    live,
    in_flight=st.integers(0, 2),
    parked_for_s=st.sampled_from([None, 0.0, 3.0]),
    breaker=st.sampled_from(BreakerState),
    open_for_s=st.sampled_from([-1.0, 2.0]),
    trial=st.booleans(),
)
backends = st.lists(
    st.fixed_dictionaries(
        {
            "status": st.sampled_from([BackendStatus.HEALTHY] * 4 + list(BackendStatus)),
            "priority": st.integers(0, 100),
            "max_concurrency": st.sampled_from([0, 0, 2]),
            "capacity": st.sampled_from([None, 1]),
            "context": st.sampled_from([None, 100, 1000]),
            "kind": st.sampled_from([ModelKind.CHAT, ModelKind.CHAT, ModelKind.EMBEDDING]),
            "vision": maybe,
            "tools": maybe,
            "json": maybe,
            "embeddings": maybe,
            "ignores": names,
            "paths": st.sampled_from([frozenset(), frozenset({"/v1/chat/completions"})]),
            "refuses_long_output": st.booleans(),
            "refuses_output_over_window": st.booleans(),
            "guessed": st.sampled_from([(), ("tools",), ("vision", "json_mode")]),
            "figures": figures,
        }
    ),
    min_size=1,
    max_size=5,
)
asks = st.lists(
    st.fixed_dictionaries(
        {
            "endpoint": endpoints,
            "needs_vision": st.booleans(),
            "needs_tools": st.booleans(),
            "needs_json": st.booleans(),
            "text_bytes": st.sampled_from([0, 400, 404, 4000, 4001]),
            "max_output_tokens": st.sampled_from([None, 10, 900]),
            "fields": names,
            "pin": st.sampled_from([None, None, None, "b0"]),
        }
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=100)
@given(backends, asks, st.booleans())
def test_the_plan_holds_exactly_those_that_pass_every_filter(
    described: list[dict[str, Any]], requests: list[dict[str, Any]], strict: bool
) -> None:
    """Whatever was asked of the same router before; tripped ones only for want of others."""
    snapshot = fleet(*(candidate(f"b{n}", **one) for n, one in enumerate(described)))
    router = Router()
    router.settings = type(router.settings)(strict_parameters=strict)
    for said in requests:
        profile = ask(**said)
        request = Ask(profile, -(-profile.text_bytes // 4), strict)
        reasons = {
            one.backend.name: obstacle(one, request, NOW_S) for one in snapshot.candidates["m"]
        }
        free = {name for name, reason in reasons.items() if reason is None}
        tripped = {name for name, reason in reasons.items() if reason is DropReason.BREAKER}
        plan = route(snapshot, profile, router=router, explain=True)
        chosen = set(order(plan))
        if free:
            assert chosen == free
        elif tripped:
            assert len(chosen) == 1
            assert chosen <= tripped
        else:
            assert not chosen
            assert plan.refusal is not None
        assert chosen | set(drops(plan)) == set(reasons)
        assert not chosen & set(drops(plan))


@settings(deadline=None, max_examples=100)
@given(
    st.integers(0, 120),
    st.integers(0, 150),
    st.floats(0.0, 100.0),
    st.sampled_from(["priority", "load", "latency"]),
)
def test_better_in_one_part_and_equal_elsewhere_never_comes_second(
    priority: int, busy: int, ttft_s: float, part: str
) -> None:
    """Unless the score is the same: then it is chance."""
    worse = {"priority": priority + 1, "load": busy + 1, "latency": ttft_s + 0.01}
    facts = {"priority": priority, "load": busy, "latency": ttft_s}

    def built(name: str, values: dict[str, Any]) -> Candidate:
        state = live(in_flight=values["load"], ttft_s=values["latency"])
        return candidate(name, priority=values["priority"], figures=state)

    snapshot = fleet(built("good", facts), built("worse", {**facts, part: worse[part]}))
    first, second = route(snapshot).candidates
    assert first.score >= second.score
    if first.score > second.score:
        assert first.candidate.backend.name == "good"


def test_a_new_snapshot_is_seen_at_once() -> None:
    """What was remembered of the old one is forgotten."""
    router = Router()
    assert order(route(fleet(candidate("a")), router=router)) == ["a"]
    assert order(route(fleet(candidate("b")), router=router)) == ["b"]


def test_new_settings_are_seen_at_once() -> None:
    """On the same snapshot."""
    router = Router()
    snapshot = fleet(candidate("a", ignores=frozenset({"n"})), candidate("b", priority=90))
    said = ask(fields=frozenset({"n"}))
    assert order(route(snapshot, said, router=router)) == ["b", "a"]
    router.settings = type(router.settings)(strict_parameters=True)
    assert order(route(snapshot, said, router=router)) == ["b"]


def test_sizes_on_both_sides_of_a_window_are_told_apart() -> None:
    """Input of exactly the window fits, one token more does not; whichever came first."""
    snapshot = fleet(candidate("a", priority=0, context=100), candidate("b", context=1000))
    for sizes in ((400, 401), (401, 400)):
        router = Router()
        plans = {size: route(snapshot, ask(text_bytes=size), router=router) for size in sizes}
        assert order(plans[400]) == ["a", "b"]
        assert order(plans[401]) == ["b"]


@pytest.mark.parametrize(
    "said",
    [
        {"endpoint": "/v1/embeddings"},
        {"needs_vision": True},
        {"needs_tools": True},
        {"needs_json": True},
        {"max_output_tokens": 5000},
        {"text_bytes": 8000},
        {"fields": frozenset({"n"})},
        {"pin": "b"},
    ],
)
@pytest.mark.parametrize("plain_first", [True, False])
def test_all_that_the_filters_see_is_told_apart(said: dict[str, Any], plain_first: bool) -> None:
    """A plain request and one that asks for more do not take each other's line-up."""
    snapshot = fleet(
        candidate(
            "a",
            priority=0,
            vision=False,
            tools=False,
            json=False,
            embeddings=False,
            context=1000,
            ignores=frozenset({"n"}),
        ),
        candidate("b", vision=True, tools=True, json=True, embeddings=True),
    )
    router = Router()
    firsts = {}
    for special in (False, True) if plain_first else (True, False):
        profile = ask(**said) if special else ask()
        firsts[special] = order(route(snapshot, profile, router=router))[0]
    assert firsts == {False: "a", True: "b"}


def test_clients_cannot_fill_the_memory() -> None:
    """Neither with names of models, nor of fields, nor with sizes."""
    snapshot = fleet(candidate("a", ignores=frozenset({"n"}), context=100))
    lineups = Lineups(snapshot)
    for number in range(500):
        lineups.players(f"model-{number}", Ask(ask(), number, strict=False))
        strange = ask(fields=frozenset({f"field-{number}"}), pin="a" if number % 2 else None)
        lineups.players("m", Ask(strange, number, strict=False))
        lineups.players("m", Ask(ask(endpoint=f"/v1/{number}"), 1, strict=False))
    assert set(lineups._by_model) == {"m"}
    assert len(lineups._by_model["m"]._by_kind) <= 64
