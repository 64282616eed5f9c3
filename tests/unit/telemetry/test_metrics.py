"""Metrics: each finished call counted once, in bounded memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.call import Outcome
from nexus.telemetry.histogram import Histogram
from nexus.telemetry.metrics import OTHER, Metrics
from nexus.telemetry.names import METRICS, Kind
from nexus.telemetry.record import AttemptRecord, CallRecord
from nexus.telemetry.stats import UNKNOWN_MODEL
from tests.unit.telemetry.records import a_record

CHAT = "/v1/chat/completions"


def _refused(model: str, **fields: Any) -> CallRecord:
    values: dict[str, Any] = {
        "model": model,
        "served_model": "",
        "backend": "",
        "attempts": [],
        "outcome": Outcome.CLIENT_ERROR,
        "prompt_tokens": None,
        "completion_tokens": None,
        "ttft_ms": None,
    }
    return a_record(**{**values, **fields})


@settings(deadline=None, max_examples=50)
@given(outcomes=st.lists(st.sampled_from(Outcome)))
def test_every_call_counts_once(outcomes: list[Outcome]) -> None:
    """Each outcome as often as it came, each duration observed once."""
    metrics = Metrics()
    for outcome in outcomes:
        metrics.record(a_record(outcome=outcome))
    counted = {} if not outcomes else metrics.calls[CHAT, "llama3:8b", "gpu"].outcomes
    assert {one: n for one, n in counted.items() if n} == {
        one: outcomes.count(one) for one in set(outcomes)
    }
    assert sum(row.duration.count for row in metrics.calls.values()) == len(outcomes)
    assert metrics.cancelled == outcomes.count(Outcome.CANCELLED)


def test_a_name_that_nobody_knows_is_unknown() -> None:
    """What clients make up is one series; a known model that nobody could serve keeps its name."""
    metrics = Metrics({"llama3:8b"}.__contains__)
    for n in range(1_000):
        metrics.record(_refused(f"made-up-{n}"))
    metrics.record(_refused("llama3:8b", outcome=Outcome.REFUSED))
    assert set(metrics.calls) == {(CHAT, UNKNOWN_MODEL, ""), (CHAT, "llama3:8b", "")}


def test_a_call_that_failed_everywhere_counts_for_the_model_that_was_tried() -> None:
    """Not for the alias by which the client named it."""
    metrics = Metrics()
    record = a_record(served_model="", model="gpt-4", outcome=Outcome.UPSTREAM_ERROR)
    record.routed_model = "llama3:8b"
    metrics.record(record)
    assert set(metrics.calls) == {(CHAT, "llama3:8b", "gpu")}


def test_series_are_bounded() -> None:
    """A hundred thousand names that somehow count as served are a thousand series and one."""
    metrics = Metrics()
    for n in range(100_000):
        metrics.record(
            a_record(
                served_model=f"m{n}",
                backend=f"b{n}",
                attempts=[AttemptRecord(f"b{n}", "ok", 200, 1.0)],
            )
        )
    assert len(metrics.calls) == len(metrics.attempts) == 1_001
    assert metrics.calls[CHAT, OTHER, OTHER].outcomes[Outcome.OK] == 99_000
    assert metrics.attempts[OTHER].outcomes["ok"] == 99_000


def test_what_is_gone_is_dropped_after_an_hour() -> None:
    """Series of vanished backends and models go, those of others and of the recent past stay."""
    metrics = Metrics({"kept"}.__contains__)
    for model, backend in (("kept", "here"), ("kept", "gone"), ("lost", "here"), ("kept", "")):
        attempts = [AttemptRecord(backend, "ok", 200, 1.0)] if backend else []
        metrics.record(
            a_record(served_model=model, backend=backend, attempts=attempts, at_s=1_000.0)
        )
    metrics.record(_refused("nonsense", at_s=1_000.0))
    before = set(metrics.calls)
    metrics.prune({"here"}, 1_000.0 + 3_600.0)
    assert set(metrics.calls) == before
    metrics.prune({"here"}, 1_000.0 + 3_601.0)
    assert set(metrics.calls) == {
        (CHAT, "kept", "here"),
        (CHAT, "kept", ""),
        (CHAT, UNKNOWN_MODEL, ""),
    }
    assert set(metrics.attempts) == {"here"}


@pytest.mark.parametrize(
    ("backends", "failovers", "retries"),
    [("a", 0, 0), ("ab", 1, 0), ("aa", 0, 1), ("aab", 1, 1), ("abc", 2, 0), ("aba", 2, 0)],
)
def test_failovers_and_retries(backends: str, failovers: int, retries: int) -> None:
    """Elsewhere is a failover, there again a retry; every attempt counts."""
    metrics = Metrics()
    attempts = [AttemptRecord(name, "reset", 0, 1.0) for name in backends]
    metrics.record(a_record(attempts=attempts))
    assert (metrics.failovers, metrics.retries) == (failovers, retries)
    counted = {name: row.outcomes["reset"] for name, row in metrics.attempts.items()}
    assert counted == {name: backends.count(name) for name in set(backends)}


def test_tokens_are_reported_or_estimated() -> None:
    """Estimates count only where the engine told nothing, and apart."""
    metrics = Metrics()
    metrics.record(a_record())
    metrics.record(a_record(prompt_tokens=None, completion_tokens=None, estimated_tokens=40))
    metrics.record(a_record(prompt_tokens=1, completion_tokens=2, estimated_tokens=900))
    assert (
        metrics.input_tokens,
        metrics.output_tokens,
        metrics.estimated_tokens,
    ) == (4, 9, 40)
    (row,) = metrics.calls.values()
    assert (row.input_tokens, row.output_tokens, row.estimated_tokens) == (4, 9, 40)


def test_only_streams_have_a_first_token() -> None:
    """A plain answer comes whole: its time is its duration."""
    metrics = Metrics()
    metrics.record(a_record())
    (row,) = metrics.calls.values()
    assert row.ttft is None
    metrics.record(a_record(stream=True, ttft_ms=500.0, duration_ms=2_500.0, completion_tokens=5))
    assert row.ttft is not None
    assert row.ttft.sum == pytest.approx(0.5)
    assert row.per_token is not None
    assert (row.per_token.count, row.per_token.sum) == (1, pytest.approx(0.5))


@pytest.mark.parametrize(
    "fields",
    [
        {"completion_tokens": 1},
        {"completion_tokens": None},
        {"outcome": Outcome.UPSTREAM_ERROR},
        {"outcome": Outcome.CANCELLED},
    ],
)
def test_time_per_token_is_of_good_streams_with_tokens(fields: dict[str, Any]) -> None:
    """One token has no time between tokens; a broken stream's time was not for tokens."""
    metrics = Metrics()
    metrics.record(a_record(stream=True, **fields))
    (row,) = metrics.calls.values()
    assert row.per_token is None


def test_bytes_and_routing_time() -> None:
    """Bodies add up; a call that was never routed has no decision."""
    metrics = Metrics()
    record = a_record()
    record.routing_s = 3e-5
    metrics.record(record)
    metrics.record(a_record())
    assert (metrics.bytes_in, metrics.bytes_out) == (22, 26)
    assert metrics.routing.count == 1


def test_reloads() -> None:
    """Applied and rejected ones."""
    metrics = Metrics()
    metrics.reloaded(applied=True)
    metrics.reloaded(applied=False)
    metrics.reloaded(applied=False)
    assert metrics.reloads == {"applied": 1, "rejected": 2}


@settings(deadline=None, max_examples=100)
@given(values=st.lists(st.floats(0, 20)))
def test_a_histogram_counts_what_does_not_exceed_a_bound(values: list[float]) -> None:
    """Buckets are cumulative, their bounds inclusive (Prometheus' ``le``); the last has all."""
    histogram = Histogram((1.0, 5.0, 10.0))
    for value in values:
        histogram.observe(value)
    assert histogram.cumulative() == [
        (bound, sum(value <= bound for value in values)) for bound in (1.0, 5.0, 10.0, float("inf"))
    ]
    assert histogram.count == len(values)
    assert histogram.sum == pytest.approx(sum(values))


def test_names_follow_the_rules() -> None:
    """Base units, ``_total`` for counters and for nothing else, rising buckets, help that ends."""
    for metric in METRICS.values():
        assert metric.name.startswith("nexus_")
        assert metric.name.endswith("_total") is (metric.kind is Kind.COUNTER)
        assert bool(metric.buckets) is (metric.kind is Kind.HISTOGRAM)
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert metric.help.endswith((".", ").", "versions."))
        assert not any(unit in metric.name for unit in ("_ms", "milli", "_us", "_kb", "_mb"))


def test_buckets_fit_language_models() -> None:
    """TTFT from 10 ms to a minute, durations to ten minutes, 1 to 1000 tokens a second."""
    ends = {
        name: (METRICS[name].buckets[0], METRICS[name].buckets[-1])
        for name in (
            "nexus_time_to_first_token_seconds",
            "nexus_request_duration_seconds",
            "nexus_time_per_output_token_seconds",
        )
    }
    assert list(ends.values()) == [(0.01, 60.0), (0.01, 600.0), (0.001, 1.0)]
