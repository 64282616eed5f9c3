"""Filters: who is no candidate, who stands behind others, and the words for it."""

from __future__ import annotations

from typing import Any

import pytest

from nexus.core.backend import BackendStatus, EngineKind
from nexus.core.live import BreakerState
from nexus.core.model import ModelKind
from nexus.core.snapshot import Candidate
from nexus.routing.filters import Ask, detail, obstacle
from nexus.routing.plan import explain_view
from tests.unit.routing.fleet import CHAT, NOW_S, ask, candidate, drops, fleet, live, order, route

EMBED = "/v1/embeddings"
GOOD = candidate("good", vision=True, tools=True, json=True, context=100_000)


@pytest.mark.parametrize(
    ("bad", "said", "reason", "words"),
    [
        (
            candidate("bad", status=BackendStatus.UNHEALTHY, reason="connection refused"),
            {},
            "unhealthy",
            "unhealthy: connection refused",
        ),
        (
            candidate("bad", status=BackendStatus.UNKNOWN, reason="loading"),
            {},
            "unhealthy",
            "unknown: loading",
        ),
        (candidate("bad", status=BackendStatus.DRAINING), {}, "draining", "draining"),
        (
            candidate("bad", paths=frozenset({EMBED}), engine=EngineKind.OLLAMA),
            {},
            "endpoint",
            "ollama does not serve /v1/chat/completions",
        ),
        (
            candidate("bad", kind=ModelKind.EMBEDDING),
            {},
            "endpoint",
            "an embedding model does not serve /v1/chat/completions",
        ),
        (candidate("bad", vision=False), {"needs_vision": True}, "vision", "no vision"),
        (candidate("bad", tools=False), {"needs_tools": True}, "tools", "no tools"),
        (candidate("bad", json=False), {"needs_json": True}, "json", "no JSON mode"),
        (
            candidate("bad", context=4096),
            {"text_bytes": 36_000},
            "context",
            "context 4096 < estimated 9000 tokens",
        ),
        (
            candidate("bad", context=4096, refuses_long_output=True),
            {"text_bytes": 4000, "max_output_tokens": 4000},
            "output",
            "context 4096 < estimated 5000 tokens with the requested output",
        ),
        (
            candidate("bad", context=4096, refuses_output_over_window=True),
            {"text_bytes": 40, "max_output_tokens": 4097},
            "output",
            "context 4096 < estimated 4107 tokens with the requested output",
        ),
        (
            candidate("bad", max_concurrency=2, figures=live(in_flight=2)),
            {},
            "max-concurrency",
            "2 calls of at most 2",
        ),
        (
            candidate("bad", figures=live(parked_for_s=7.5)),
            {},
            "parked",
            "asked for patience, 7.5 s more",
        ),
        (
            candidate("bad", figures=live(breaker=BreakerState.OPEN, open_for_s=2.0)),
            {},
            "breaker",
            "circuit breaker open, 2.0 s more",
        ),
        (
            candidate("bad", figures=live(breaker=BreakerState.HALF_OPEN, trial=True)),
            {},
            "breaker",
            "circuit breaker half-open, a trial is under way",
        ),
    ],
)
def test_a_backend_that_cannot_is_dropped_with_its_reason(
    bad: Candidate, said: dict[str, Any], reason: str, words: str
) -> None:
    """Each filter, the candidate that passes them all beside it."""
    plan = route(fleet(bad, GOOD), ask(**said), explain=True)
    assert order(plan) == ["good"]
    assert drops(plan) == {"bad": reason}
    assert plan.dropped[0].detail == words


@pytest.mark.parametrize(
    ("fine", "said"),
    [
        (candidate("fine", paths=frozenset({CHAT})), {}),
        (candidate("fine", context=10), {"text_bytes": 40}),
        (candidate("fine", max_concurrency=2, figures=live(in_flight=1)), {}),
        (candidate("fine", figures=live(parked_for_s=0.0)), {}),
        (candidate("fine", context=110, refuses_long_output=True), {"max_output_tokens": 100}),
        (
            candidate("fine", context=4096, refuses_output_over_window=True),
            {"text_bytes": 4000, "max_output_tokens": 4096},
        ),
        (candidate("fine", figures=live(breaker=BreakerState.OPEN, open_for_s=0.0)), {}),
        (candidate("fine", figures=live(breaker=BreakerState.HALF_OPEN)), {}),
        (candidate("fine", vision=False, tools=False, json=False), {}),
        (candidate("fine"), {"needs_vision": True, "needs_tools": True, "needs_json": True}),
    ],
)
def test_a_backend_at_the_edge_is_kept(fine: Candidate, said: dict[str, Any]) -> None:
    """Each filter's border, and unknown capabilities."""
    assert order(route(fleet(fine), ask(**said))) == ["fine"]


def test_embeddings_are_asked_of_those_that_may_have_them() -> None:
    """Known not to: dropped. Unknown stands behind an embedding model."""
    plan = route(
        fleet(
            candidate("a", embeddings=False),
            candidate("b", priority=0),
            candidate("c", kind=ModelKind.EMBEDDING),
            candidate("d", embeddings=True, priority=90),
        ),
        ask(endpoint=EMBED),
        explain=True,
    )
    assert order(plan) == ["c", "d", "b"]
    assert drops(plan) == {"a": "endpoint"}
    assert plan.dropped[0].detail == "no embeddings"


def test_more_unknown_capabilities_stand_further_behind() -> None:
    """Known to have both, unknown in one, unknown in both, whatever their priority."""
    snapshot = fleet(
        candidate("both", priority=0),
        candidate("one", priority=10, vision=True),
        candidate("none", priority=90, vision=True, tools=True),
    )
    plan = route(snapshot, ask(needs_vision=True, needs_tools=True))
    assert order(plan) == ["none", "one", "both"]


def test_ignored_fields_rank_a_candidate_behind_and_are_named() -> None:
    """Only those that the request has, sorted."""
    ignores = frozenset({"n", "logit_bias", "user"})
    snapshot = fleet(candidate("a", priority=0, ignores=ignores), candidate("b", priority=90))
    plan = route(snapshot, ask(fields=frozenset({"n", "logit_bias", "stop"})))
    assert order(plan) == ["b", "a"]
    assert [scored.ignored for scored in plan.candidates] == [(), ("logit_bias", "n")]
    assert order(route(snapshot, ask(fields=frozenset({"stop"})))) == ["a", "b"]


def test_strict_parameters_drop_who_ignores_fields() -> None:
    """With the names for people."""
    snapshot = fleet(
        candidate("a", ignores=frozenset({"n"}), engine=EngineKind.OLLAMA), candidate("b")
    )
    said = ask(fields=frozenset({"n"}))
    plan = route(snapshot, said, strict_parameters=True, explain=True)
    assert order(plan) == ["b"]
    assert drops(plan) == {"a": "ignored-fields"}
    assert plan.dropped[0].detail == "ollama ignores n"


def test_requested_output_only_ranks() -> None:
    """Unless the engine refuses it; the estimated input alone drops."""
    snapshot = fleet(candidate("small", priority=0, context=1000), candidate("large", context=8000))
    plan = route(snapshot, ask(text_bytes=400, max_output_tokens=2000))
    assert order(plan) == ["large", "small"]


def test_output_that_just_fits_ranks_nobody_behind() -> None:
    """Ten tokens in, a hundred out, a window of 110; one more does not fit."""
    snapshot = fleet(candidate("a", priority=0, context=110), candidate("b", context=111))
    assert order(route(snapshot, ask(max_output_tokens=100))) == ["a", "b"]
    assert order(route(snapshot, ask(max_output_tokens=101))) == ["b", "a"]


def test_the_classes_weigh_in_their_order() -> None:
    """Unknown capability, ignored fields, long output, learned capacity, breaker (but for the one
    that has waited longest for a trial)."""
    waiting = live(breaker=BreakerState.OPEN, open_for_s=-5.0)
    snapshot = fleet(
        candidate("unknown", priority=0, context=10_000),
        candidate("ignores", priority=1, tools=True, ignores=frozenset({"n"})),
        candidate("output", priority=2, tools=True, context=1000),
        candidate("full", priority=3, tools=True, capacity=1, figures=live(in_flight=1)),
        candidate("tripped", priority=4, tools=True, figures=live(breaker=BreakerState.OPEN)),
        candidate("trial", priority=98, figures=waiting, tools=True),
        candidate("plain", priority=99, tools=True),
    )
    said = ask(needs_tools=True, max_output_tokens=2000, fields=frozenset({"n"}))
    plan = route(snapshot, said)
    assert order(plan) == ["trial", "plain", "tripped", "full", "output", "ignores", "unknown"]


def test_a_half_open_backend_keeps_its_place_for_its_one_trial() -> None:
    """Behind others it would never get the trial that closes its breaker."""
    waiting = live(breaker=BreakerState.HALF_OPEN)
    snapshot = fleet(candidate("a", priority=0, figures=waiting), candidate("b"))
    assert order(route(snapshot)) == ["a", "b"]
    waiting.trial_in_flight = True
    assert order(route(snapshot)) == ["b"]


def test_when_its_time_has_come_a_tripped_backend_has_its_place_again() -> None:
    """An open breaker becomes half-open by time too: else a backend whose checks were good all the
    time would wait for the next of them."""
    tripped = live(breaker=BreakerState.OPEN, open_for_s=1.0)
    snapshot = fleet(candidate("a", priority=0, figures=tripped), candidate("b"))
    assert order(route(snapshot)) == ["b"]
    tripped.open_until_s = NOW_S
    assert order(route(snapshot)) == ["a", "b"]


def test_one_tripped_backend_at_a_time_is_tried() -> None:
    """Of several whose time has come only the longest waiting stands before the sound ones."""
    snapshot = fleet(
        candidate("a", priority=0, figures=live(breaker=BreakerState.OPEN, open_for_s=-1.0)),
        candidate("b", priority=0, figures=live(breaker=BreakerState.OPEN, open_for_s=-2.0)),
        candidate("sound", priority=90),
    )
    assert order(route(snapshot)) == ["b", "sound", "a"]


def test_what_a_backend_can_do_is_asked_before_how_busy_it_is() -> None:
    """A backend that is parked, full and blind is dropped as blind."""
    bad = candidate("bad", vision=False, max_concurrency=1, figures=live(in_flight=1))
    bad.live.parked_until_s = NOW_S + 5
    request = Ask(ask(needs_vision=True), 10, strict=False)
    reason = obstacle(bad, request, NOW_S)
    assert reason == "vision"
    assert detail(reason, bad, request, NOW_S) == "no vision"


def test_what_a_name_suggests_ranks_between_known_and_unknown() -> None:
    """However busy: known first, then guessed, then unknown; two guesses before one unknown."""
    profile = ask(needs_tools=True, needs_vision=True)
    known = candidate("known", tools=True, vision=True, figures=live(in_flight=50))
    guessed = candidate(
        "guessed", tools=True, vision=True, guessed=("tools", "vision"), priority=10
    )
    unknown = candidate("unknown", tools=True, priority=0)
    plan = route(fleet(unknown, guessed, known), profile)
    assert order(plan) == ["known", "guessed", "unknown"]
    view = explain_view(plan)
    assert [one["behind"] for one in view["candidates"]] == [[], ["guessed"], ["unknown"]]  # type: ignore[attr-defined]


def test_what_is_ignored_are_fields_of_text_generation() -> None:
    """``n`` images are made by an engine that ignores ``n`` answers."""
    images = "/v1/images/generations"
    one = fleet(candidate("exo", ignores=frozenset({"n"})))
    chat = route(one, ask(fields=frozenset({"n"})))
    assert chat.candidates[0].ignored == ("n",)
    drawn = route(one, ask(endpoint=images, fields=frozenset({"n"})))
    assert drawn.candidates[0].ignored == ()
