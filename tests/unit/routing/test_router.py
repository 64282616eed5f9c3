"""The router: one profile and one snapshot in, one plan or one refusal out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nexus.core.backend import BackendStatus
from nexus.core.call import RequestProfile, RouteReason
from nexus.core.errors import ApiError
from nexus.core.live import BreakerState
from nexus.core.snapshot import Candidate, Snapshot
from nexus.routing.router import Router, RoutingSettings
from nexus.routing.scorers import Weights
from nexus.routing.strategies import Strategy
from tests.unit.routing.fleet import ask, candidate, drops, fleet, live, order, route

SICK = BackendStatus.UNHEALTHY
OPEN = BreakerState.OPEN


def refusal(snapshot: Snapshot, profile: RequestProfile | None = None, **settings: Any) -> ApiError:
    """The error that a request gets, which an explanation must show too."""
    with pytest.raises(ApiError) as caught:
        route(snapshot, profile, **settings)
    explained = route(snapshot, profile, explain=True, **settings)
    assert explained.candidates == ()
    assert explained.refusal is not None
    assert explained.refusal.message == caught.value.message
    return caught.value


# Settings


def test_settings_normalise_the_weights() -> None:
    """Whatever scale they were written in."""
    weights = RoutingSettings(weights=Weights(1.0, 1.0, 2.0)).weights
    assert (weights.priority, weights.load, weights.latency) == (0.25, 0.25, 0.5)


def test_settings_refuse_what_means_nothing() -> None:
    """Weights of nothing, a strategy nobody knows."""
    with pytest.raises(ValueError, match="at least one"):
        RoutingSettings(weights=Weights(0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="fastest"):
        RoutingSettings(strategy="fastest")  # type: ignore[arg-type]


def test_a_strategy_may_come_as_its_word() -> None:
    """As configuration has it."""
    assert RoutingSettings(strategy="random").strategy is Strategy.RANDOM  # type: ignore[arg-type]


# The plan


def test_one_healthy_backend_is_the_plan() -> None:
    """Nothing aliased, nothing fallen back, nothing dropped."""
    plan = route(fleet(candidate("a")), ask(text_bytes=41))
    assert order(plan) == ["a"]
    assert (plan.requested_model, plan.model, plan.alias_chain) == ("m", "m", ())
    assert (plan.reason, plan.fallback_model) == (RouteReason.CAPABILITY_MATCH, None)
    assert (plan.estimated_tokens, plan.dropped, plan.refusal) == (11, (), None)


def test_a_plan_names_as_many_candidates_as_may_be_tried() -> None:
    """An explained one names all."""
    snapshot = fleet(*(candidate(f"b{n:02}", priority=n) for n in range(30)))
    assert order(route(snapshot, candidates_max=3)) == ["b00", "b01", "b02"]
    assert len(route(snapshot, candidates_max=3, explain=True).candidates) == 30


def test_an_alias_leads_to_its_model() -> None:
    """And the plan tells the way."""
    plan = route(fleet(candidate("a")), ask("gpt-4"), aliases={"gpt-4": "big", "big": "m"})
    assert (plan.requested_model, plan.model) == ("gpt-4", "m")
    assert plan.alias_chain == ("gpt-4", "big", "m")


def test_a_full_backend_is_passed_over_and_told() -> None:
    """Learned capacity is soft: it stays in the plan, behind."""
    snapshot = fleet(
        candidate("near", priority=0, capacity=2, figures=live(in_flight=2)),
        candidate("far", priority=90),
    )
    plan = route(snapshot)
    assert order(plan) == ["far", "near"]
    assert plan.reason is RouteReason.OVERFLOW


def test_a_full_backend_that_was_not_the_first_choice_is_no_overflow() -> None:
    """Nor is a fleet that is full everywhere."""
    full = live(in_flight=2)
    plan = route(fleet(candidate("far", priority=90, capacity=2, figures=full), candidate("near")))
    assert (order(plan), plan.reason) == (["near", "far"], RouteReason.CAPABILITY_MATCH)
    everywhere = fleet(*(candidate(n, capacity=2, figures=full) for n in "ab"))
    assert route(everywhere).reason is RouteReason.CAPABILITY_MATCH


def test_the_engines_own_word_counts_as_load() -> None:
    """Requests of others fill a backend too."""
    figures = live()
    figures.polled(3, 1)
    snapshot = fleet(candidate("a", priority=0, capacity=4, figures=figures), candidate("b"))
    assert order(route(snapshot)) == ["b", "a"]


def test_learned_ratios_move_the_estimate() -> None:
    """Of the model that serves, not of the alias."""
    router = Router(RoutingSettings(aliases={"alias": "m"}))
    for second in range(100):
        router.ratios.learn("m", 4000, 2000, False, float(second))
    plan = route(fleet(candidate("a")), ask("alias", text_bytes=4000), router=router)
    assert plan.estimated_tokens == pytest.approx(2000, abs=10)


# Pin


def test_a_pin_leaves_one_candidate() -> None:
    """However good the others are."""
    snapshot = fleet(candidate("a", priority=0), candidate("b", priority=99))
    plan = route(snapshot, ask(pin="b"), explain=True)
    assert (order(plan), drops(plan)) == (["b"], {"a": "pin"})


def test_a_pin_to_nobody_is_404() -> None:
    """Even when the model is unknown as well."""
    error = refusal(fleet(candidate("a")), ask(pin="zzz"))
    assert (error.status, error.code) == (404, "backend_not_found")
    assert "'zzz'" in error.message


def test_a_pin_to_a_backend_without_the_model_is_404() -> None:
    """The message says what that backend has."""
    error = refusal(fleet(candidate("a"), candidate("b", "other")), ask(pin="b"))
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert error.message == "Model 'm' is not on backend 'b' (from x-nexus-pin). It has: other"


def test_a_long_name_is_not_sent_back_whole() -> None:
    """A client may call a model anything, megabytes too."""
    error = refusal(fleet(candidate("a")), ask("x" * 1_000_000))
    assert error.code == "model_not_found"
    assert len(error.message) < 300


def test_a_pin_to_a_sick_backend_is_503() -> None:
    """The healthy other does not count."""
    error = refusal(fleet(candidate("a", status=SICK), candidate("b")), ask(pin="a"))
    assert error.status == 503
    assert error.message == "No healthy backend for model 'm' on 'a' (from x-nexus-pin)"


def test_a_pin_to_a_tripped_backend_is_tried() -> None:
    """It is the least bad of the one that was asked for."""
    snapshot = fleet(candidate("a", figures=live(breaker=OPEN, open_for_s=5)), candidate("b"))
    assert order(route(snapshot, ask(pin="a"))) == ["a"]


# The breaker


def test_when_all_are_tripped_the_least_bad_is_tried() -> None:
    """The one that would be let through soonest."""
    snapshot = fleet(
        candidate("a", figures=live(breaker=OPEN, open_for_s=8)),
        candidate("b", figures=live(breaker=OPEN, open_for_s=2)),
    )
    plan = route(snapshot, explain=True)
    assert (order(plan), drops(plan)) == (["b"], {"a": "breaker"})


def test_a_tripped_backend_that_cannot_is_not_tried() -> None:
    """Least bad among those that could."""
    snapshot = fleet(
        candidate("blind", vision=False, figures=live(breaker=OPEN, open_for_s=1)),
        candidate("sees", vision=True, figures=live(breaker=OPEN, open_for_s=9)),
    )
    assert order(route(snapshot, ask(needs_vision=True))) == ["sees"]


def test_a_tripped_backend_beats_a_fallback() -> None:
    """Breakers never leave a model without candidates."""
    snapshot = fleet(
        candidate("a", figures=live(breaker=OPEN, open_for_s=8)), candidate("b", "other")
    )
    plan = route(snapshot, fallbacks={"m": ("other",)})
    assert (order(plan), plan.model) == (["a"], "m")


# Fallbacks


@pytest.mark.parametrize(
    "broken",
    [
        candidate("a", status=SICK),
        candidate("a", vision=False),
        candidate("a", figures=live(parked_for_s=5)),
        candidate("a", max_concurrency=1, figures=live(in_flight=1)),
        candidate("a", "something-else"),
    ],
)
def test_a_fallback_serves_when_nobody_else_can(broken: Candidate) -> None:
    """Sick, unable, parked, full or unknown; the first fallback that can."""
    snapshot = fleet(
        broken,
        candidate("b", "second", vision=False),
        candidate("c", "third"),
        candidate("d", "fourth"),
    )
    plan = route(
        snapshot, ask(needs_vision=True), fallbacks={"m": ("none", "second", "third", "fourth")}
    )
    assert (order(plan), plan.model, plan.fallback_model) == (["c"], "third", "third")
    assert plan.reason is RouteReason.FALLBACK
    assert plan.requested_model == "m"


def test_fallbacks_are_one_level_deep() -> None:
    """A fallback's own fallbacks are not asked."""
    snapshot = fleet(
        candidate("a", status=SICK), candidate("b", "n", status=SICK), candidate("c", "o")
    )
    error = refusal(snapshot, fallbacks={"m": ("n",), "n": ("o",)})
    assert error.message == "No healthy backend for model 'm'"


def test_a_fallback_may_be_an_alias_and_belong_to_one() -> None:
    """The names of both ends are resolved."""
    plan = route(
        fleet(candidate("a", status=SICK), candidate("b", "n")),
        ask("gpt-4"),
        aliases={"gpt-4": "m", "spare": "n"},
        fallbacks={"gpt-4": ("spare",)},
    )
    assert (plan.alias_chain, plan.fallback_model) == (("gpt-4", "m"), "n")


def test_no_fallback_while_the_model_itself_can() -> None:
    """However poor its candidate."""
    snapshot = fleet(candidate("a", priority=100), candidate("b", "n", priority=0))
    assert route(snapshot, fallbacks={"m": ("n",)}).fallback_model is None


# Refusals


def test_an_unknown_model_is_404_with_the_nearest_names_first() -> None:
    """At most ten; names that hold what was typed, then the most alike."""
    names = ["llama3:8b", "llama3:70b", "qwen2:72b", *(f"zz{n}" for n in range(20))]
    snapshot = fleet(*(candidate(f"b{n}", name) for n, name in enumerate(names)))
    error = refusal(snapshot, ask("qwen2:7b"))
    assert (error.status, error.type) == (404, "invalid_request_error")
    assert (error.code, error.param) == ("model_not_found", "model")
    assert error.message.startswith("Model 'qwen2:7b' not found. Available: qwen2:72b, ")
    assert error.message.count(",") == 9
    assert refusal(snapshot, ask("LLAMA3")).message.startswith(
        "Model 'LLAMA3' not found. Available: llama3:"
    )


def test_an_unknown_model_without_any_model_says_so() -> None:
    """An empty fleet."""
    error = refusal(fleet(), ask("gpt-4"))
    assert error.message == "Model 'gpt-4' not found. No models available"


def test_an_alias_to_nowhere_is_told_by_the_name_asked_for() -> None:
    """The client never heard of the other."""
    error = refusal(fleet(candidate("a")), ask("gpt-4"), aliases={"gpt-4": "gone"})
    assert error.message == "Model 'gpt-4' not found. Available: m"


def test_a_very_long_unknown_name_is_answered() -> None:
    """Comparing is bounded."""
    snapshot = fleet(*(candidate(f"b{n}", f"{'x' * 2000}{n}") for n in range(300)))
    assert refusal(snapshot, ask("y" * 100_000)).status == 404


def test_a_known_model_with_nobody_healthy_is_503() -> None:
    """Sick, unknown or draining; with Retry-After."""
    snapshot = fleet(
        candidate("a", status=SICK),
        candidate("b", status=BackendStatus.UNKNOWN),
        candidate("c", status=BackendStatus.DRAINING),
    )
    error = refusal(snapshot)
    assert (error.status, error.type) == (503, "server_error")
    assert (error.code, error.message) == (
        "service_unavailable",
        "No healthy backend for model 'm'",
    )
    assert error.retry_after_s == 5.0


def test_healthy_but_unable_is_400_and_says_what_there_is() -> None:
    """Which capability, and every backend with its reason."""
    error = refusal(
        fleet(candidate("a", vision=False), candidate("b", vision=False)),
        ask(needs_vision=True),
    )
    assert (error.status, error.type) == (400, "invalid_request_error")
    assert (error.code, error.param) == ("unsupported_capability", "messages")
    assert error.message == (
        "No backend serves model 'm' with vision (images). Backends: a (no vision), b (no vision)."
    )


def test_unable_for_several_reasons_names_them_all() -> None:
    """A sick backend is listed, but is no reason."""
    error = refusal(
        fleet(
            candidate("a", tools=False),
            candidate("b", context=4096),
            candidate("c", status=SICK, reason="timeout"),
        ),
        ask(needs_tools=True, text_bytes=36_000),
    )
    assert (error.status, error.param) == (400, None)
    assert error.message == (
        "No backend serves model 'm' with tools and a context of 9000 tokens (estimated input). "
        "Backends: a (no tools), b (context 4096 < estimated 9000 tokens), "
        "c (unhealthy: timeout)."
    )


@pytest.mark.parametrize(
    ("unable", "said", "words"),
    [
        (candidate("a", json=False), {"needs_json": True}, "JSON output (response_format)"),
        (
            candidate("a", context=4096, refuses_long_output=True),
            {"max_output_tokens": 5000},
            "a context of 5010 tokens (estimated input and requested output)",
        ),
        (candidate("a", embeddings=False), {"endpoint": "/v1/embeddings"}, "/v1/embeddings"),
        (
            candidate("a", ignores=frozenset({"n", "logit_bias"})),
            {"fields": frozenset({"n", "logit_bias", "stop"})},
            "the fields logit_bias, n (routing.strict_parameters)",
        ),
    ],
)
def test_each_inability_has_its_words(unable: Candidate, said: dict[str, Any], words: str) -> None:
    """In the terms of the client's request."""
    error = refusal(fleet(unable), ask(**said), strict_parameters=True)
    assert error.code == "unsupported_capability"
    assert words in error.message


def test_a_long_list_of_unable_backends_is_cut() -> None:
    """The message stays readable."""
    snapshot = fleet(*(candidate(f"b{n:02}", tools=False) for n in range(25)))
    error = refusal(snapshot, ask(needs_tools=True))
    assert error.message.endswith("b09 (no tools) and 15 more.")


def test_all_parked_is_429_with_the_soonest_time() -> None:
    """Whole seconds, rounded up, as Retry-After wants it."""
    snapshot = fleet(
        candidate("a", figures=live(parked_for_s=30)),
        candidate("b", figures=live(parked_for_s=6.2)),
        candidate("c", status=SICK),
    )
    error = refusal(snapshot)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert error.retry_after_s == 7.0


def test_all_at_their_limit_is_503_for_a_second() -> None:
    """Those that cannot serve it anyhow do not change that."""
    snapshot = fleet(
        candidate("a", max_concurrency=1, figures=live(in_flight=1)),
        candidate("b", tools=False),
    )
    error = refusal(snapshot, ask(needs_tools=True))
    assert (error.status, error.code, error.retry_after_s) == (503, "service_unavailable", 1.0)
    assert "configured limit" in error.message


def test_parked_and_full_together_are_503() -> None:
    """Somebody may be free in a moment."""
    snapshot = fleet(
        candidate("a", max_concurrency=1, figures=live(in_flight=1)),
        candidate("b", figures=live(parked_for_s=30)),
    )
    error = refusal(snapshot)
    assert (error.status, error.retry_after_s) == (503, 1.0)


# Explaining


def test_the_explanation_is_the_plan_as_json() -> None:
    """The fields of behaviour § 13."""
    snapshot = fleet(
        candidate("a", vision=True, figures=live(ttft_s=0.5)),
        candidate("b", ignores=frozenset({"n"})),
        candidate("c", vision=False),
    )
    said = ask("alias", needs_vision=True, images=1, fields=frozenset({"n"}))
    plan = route(snapshot, said, aliases={"alias": "m"}, explain=True)
    view = msgspec.json.decode(msgspec.json.encode(Router.explain_view(plan, decision_us=9.5)))
    profile = view.pop("profile")
    assert profile["fields"] == ["n"]
    assert (profile["needs_vision"], profile["estimated_tokens"]) == (True, 1010)
    scores = [one.pop("score") for one in view["candidates"]]
    assert scores == pytest.approx([0.65, 0.65])
    assert view == {
        "requested_model": "alias",
        "model": "m",
        "alias_chain": ["alias", "m"],
        "chosen": "a",
        "reason": "capability-match",
        "candidates": [
            {
                "backend": "a",
                "parts": {"priority": 0.5, "load": 1.0, "latency": 0.5},
                "ignored": [],
                "behind": [],
            },
            {
                "backend": "b",
                "parts": {"priority": 0.5, "load": 1.0, "latency": 0.5},
                "ignored": ["n"],
                "behind": ["ignored", "unknown"],
            },
        ],
        "dropped": [{"backend": "c", "reason": "vision", "detail": "no vision"}],
        "fallback_model": None,
        "error": None,
        "decision_us": 9.5,
    }


def test_a_refusal_is_explained_not_raised() -> None:
    """With everything that was dropped."""
    snapshot = fleet(candidate("a", status=SICK, reason="connection refused"))
    view = Router.explain_view(route(snapshot, explain=True))
    assert (view["chosen"], view["reason"], view["candidates"]) == (None, None, [])
    assert view["dropped"] == [
        {"backend": "a", "reason": "unhealthy", "detail": "unhealthy: connection refused"}
    ]
    assert view["error"] == {
        "status": 503,
        "code": "service_unavailable",
        "message": "No healthy backend for model 'm'",
    }


def test_an_explained_plan_is_the_plan() -> None:
    """Same candidates, same order, same reason."""
    snapshot = fleet(*(candidate(f"b{n}", priority=n % 3) for n in range(9)))
    plain, explained = route(snapshot), route(snapshot, explain=True)
    assert order(plain) == order(explained)
    assert plain.reason is explained.reason
