"""Statistics: each call counted once, and the shape that the admin API promises."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.call import Outcome
from nexus.telemetry.record import AttemptRecord
from nexus.telemetry.stats import UNKNOWN_MODEL, Stats, percentile
from tests.unit.telemetry.records import a_record


def test_nothing_yet() -> None:
    """Before the first call everything is zero and the lists are empty."""
    assert Stats(started_s=100.0).view(now_s=112.5) == {
        "uptime_seconds": 12.5,
        "requests": {
            "total": 0,
            "ok": 0,
            "client_error": 0,
            "upstream_error": 0,
            "timeout": 0,
            "cancelled": 0,
            "refused": 0,
            "in_flight": 0,
        },
        "tokens": {"prompt": 0, "completion": 0},
        "backends": [],
        "models": [],
    }


@settings(deadline=None, max_examples=50)
@given(outcomes=st.lists(st.sampled_from(Outcome)))
def test_every_call_counts_once(outcomes: list[Outcome]) -> None:
    """Total is the sum of the outcomes."""
    stats = Stats(0.0)
    for outcome in outcomes:
        stats.count(a_record(outcome=outcome))
    requests = stats.view(1.0)["requests"]
    assert requests["total"] == len(outcomes)
    assert sum(requests[outcome.value] for outcome in Outcome) == len(outcomes)
    assert stats.cancelled == outcomes.count(Outcome.CANCELLED)


def test_calls_under_way_are_counted_elsewhere() -> None:
    """Their number is shown as it is given."""
    stats = Stats(0.0)
    stats.count(a_record())
    assert stats.view(0.0, in_flight=4)["requests"]["in_flight"] == 4


def test_tokens_are_the_engines_own() -> None:
    """Tokens add up; calls that told none add nothing."""
    stats = Stats(0.0)
    stats.count(a_record())
    stats.count(a_record(prompt_tokens=None, completion_tokens=5))
    assert stats.view(0.0)["tokens"] == {"prompt": 3, "completion": 12}


def test_a_failover_counts_at_both_backends() -> None:
    """The backend that failed has a request and an error, the one that answered the durations."""
    stats = Stats(0.0)
    stats.count(
        a_record(
            backend="b",
            attempts=[
                AttemptRecord("a", "error_status", 500, 1.0),
                AttemptRecord("b", "ok", 200, 9),
            ],
        )
    )
    first, second = stats.view(0.0)["backends"]
    assert first == {
        "name": "a",
        "requests": 1,
        "errors": 1,
        "ttft_ms": {"p50": None, "p95": None},
        "duration_ms": {"p50": None, "p95": None},
    }
    assert (second["name"], second["requests"], second["errors"]) == ("b", 1, 0)
    assert second["duration_ms"] == {"p50": 100.0, "p95": 100.0}
    assert second["ttft_ms"] == {"p50": 10.0, "p95": 10.0}


@pytest.mark.parametrize(
    ("outcome", "errors"),
    [
        ("ok", 0),
        ("relayed", 0),
        ("cancelled", 0),
        ("gateway_shortage", 0),
        ("unsupported", 0),
        ("prompt_too_long", 0),
        ("model_not_here", 0),
        ("timeout", 1),
        ("connect_failed", 1),
        ("error_status", 1),
        ("broken_stream", 1),
        ("upstream_error", 1),
    ],
)
def test_which_attempts_are_errors_of_the_backend(outcome: str, errors: int) -> None:
    """Failures of the backend count; the client's mistakes and our own shortages do not."""
    stats = Stats(0.0)
    stats.count(a_record(attempts=[AttemptRecord("gpu", outcome, 0, 1.0)]))
    (backend,) = stats.view(0.0)["backends"]
    assert (backend["requests"], backend["errors"]) == (1, errors)


def test_a_client_that_leaves_is_no_error_of_the_backend() -> None:
    """Cancelled calls count as requests, not as errors, and not into the durations."""
    stats = Stats(0.0)
    stats.count(
        a_record(outcome=Outcome.CANCELLED, attempts=[AttemptRecord("gpu", "cancelled", 200, 1.0)])
    )
    (backend,) = stats.view(0.0)["backends"]
    (model,) = stats.view(0.0)["models"]
    assert (backend["requests"], backend["errors"]) == (1, 0)
    assert (model["name"], model["requests"], model["errors"]) == ("llama3:8b", 1, 0)
    assert model["duration_ms"]["p50"] is None


def test_a_name_that_nobody_serves_is_unknown() -> None:
    """Model names that clients make up are one entry, however many they are."""
    stats = Stats(0.0)
    for n in range(5_000):
        stats.count(
            a_record(model=f"made-up-{n}", served_model="", outcome=Outcome.REFUSED, attempts=[])
        )
    assert [model["name"] for model in stats.view(0.0)["models"]] == [UNKNOWN_MODEL]


def test_the_number_of_models_is_bounded() -> None:
    """Beyond a thousand served names, further ones are counted together."""
    stats = Stats(0.0)
    for n in range(1_500):
        stats.count(a_record(served_model=f"m{n}"))
    models = stats.view(0.0)["models"]
    assert len(models) == 1_001
    assert {m["name"]: m["requests"] for m in models}[UNKNOWN_MODEL] == 500


def test_percentiles_follow_the_last_calls() -> None:
    """Old durations fall out of the ring."""
    stats = Stats(0.0)
    for _ in range(1_000):
        stats.count(a_record(duration_ms=9_000.0))
    for _ in range(600):
        stats.count(a_record(duration_ms=5.0, ttft_ms=None))
    (backend,) = stats.view(0.0)["backends"]
    assert backend["duration_ms"] == {"p50": 5.0, "p95": 5.0}
    assert backend["requests"] == 1_600


@settings(deadline=None, max_examples=100)
@given(
    samples=st.lists(st.floats(0, 1e6), min_size=1), share=st.sampled_from([0.0, 0.5, 0.95, 1.0])
)
def test_a_percentile_is_a_sample_with_enough_below(samples: list[float], share: float) -> None:
    """Nearest rank: a sample that at least that share does not exceed, and no smaller one does."""
    value = percentile(samples, share)
    assert value in samples
    assert value is not None
    assert sum(s <= value for s in samples) >= share * len(samples)
    below = [s for s in samples if s < value]
    assert not below or len(below) < share * len(samples)


def test_a_percentile_of_nothing_is_none() -> None:
    """No samples, no figure."""
    assert percentile([], 0.5) is None
