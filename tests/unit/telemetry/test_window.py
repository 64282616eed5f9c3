"""Windows: what happened lately, and nothing that is longer ago."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.call import Outcome
from nexus.telemetry.record import AttemptRecord
from nexus.telemetry.stats import Stats, percentile
from nexus.telemetry.window import WINDOWS, Timeline, bucket, bucket_percentile, slice_number
from tests.unit.telemetry.records import a_record


class Clock:
    """Time as the test tells it."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def _requests(view: dict[str, Any]) -> int:
    return sum(row["requests"] for row in view["backends"])


@pytest.mark.parametrize(("window", "slice_s"), [("1m", 10.0), ("5m", 10.0), ("1h", 120.0)])
def test_a_call_is_in_the_window_and_then_no_more(window: str, slice_s: float) -> None:
    """It counts for as long as the window says, and at most a slice longer."""
    clock = Clock()
    stats = Stats(0.0, clock)
    stats.count(a_record())
    length_s = WINDOWS[window]
    for later_s in (0.0, length_s / 2, length_s - 0.01):
        assert _requests(stats.view(clock.now_s + later_s, window=window)) == 1
    gone = stats.view(clock.now_s + length_s + slice_s, window=window)
    assert gone["backends"] == gone["models"] == []
    assert gone["requests"]["total"] == 1


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(st.floats(0, 400), min_size=1, max_size=60),
    window=st.sampled_from(sorted(WINDOWS)),
)
def test_windows_count_what_a_list_of_times_counts(steps: list[float], window: str) -> None:
    """Whatever the gaps between calls: all of the window are counted, none older than a slice
    before it."""
    clock = Clock()
    stats = Stats(0.0, clock)
    times = []
    for step in steps:
        clock.now_s += step
        times.append(clock.now_s)
        stats.count(a_record())
    since_s = clock.now_s - WINDOWS[window]
    slice_s = 120.0 if window == "1h" else 10.0
    counted = _requests(stats.view(clock.now_s, window=window))
    assert sum(at > since_s for at in times) <= counted
    assert counted <= sum(at > since_s - slice_s for at in times)


def test_errors_belong_to_the_backend_that_made_them() -> None:
    """After a failover the first backend has an error in the window, the second the durations."""
    stats = Stats(0.0, Clock())
    stats.count(
        a_record(
            attempts=[
                AttemptRecord("a", "connect_failed", 0, 1.0),
                AttemptRecord("b", "ok", 200, 9.0),
            ]
        )
    )
    first, second = stats.view(1_000.0, window="5m")["backends"]
    assert (first["name"], first["requests"], first["errors"]) == ("a", 1, 1)
    assert first["duration_ms"] == {"p50": None, "p95": None}
    assert (second["name"], second["requests"], second["errors"]) == ("b", 1, 0)
    assert second["duration_ms"]["p50"] == pytest.approx(100.0, rel=0.045)
    assert second["ttft_ms"]["p50"] == pytest.approx(10.0, rel=0.045)


def test_a_timeout_is_an_error_of_the_model() -> None:
    """Models count calls, backends attempts."""
    stats = Stats(0.0, Clock())
    stats.count(a_record(outcome=Outcome.TIMEOUT))
    (model,) = stats.view(1_000.0, window="1m")["models"]
    assert (model["requests"], model["errors"]) == (1, 1)


def test_another_window_is_refused() -> None:
    """The message names those there are."""
    with pytest.raises(ValueError, match="1m, 5m, 1h"):
        Stats(0.0).view(0.0, window="2d")


@settings(deadline=None, max_examples=100)
@given(
    samples=st.lists(st.floats(0.001, 1e7), min_size=1, max_size=50),
    share=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
)
def test_percentiles_are_within_their_accuracy(samples: list[float], share: float) -> None:
    """Within 4.5 % of the exact nearest-rank percentile."""
    histogram: dict[int, int] = {}
    for sample in samples:
        histogram[bucket(sample)] = histogram.get(bucket(sample), 0) + 1
    exact = percentile(samples, share)
    assert bucket_percentile(histogram, share) == pytest.approx(exact, rel=0.045)


def test_a_duration_of_nothing_has_a_bucket() -> None:
    """Zero and less fall in the lowest one."""
    assert bucket(0.0) == bucket(-1.0) == 0


def test_memory_is_bounded_by_slices_and_buckets() -> None:
    """An hour and a half of calls of every duration fill a fixed number of slices."""
    timeline = Timeline()
    for second in range(0, 5_400, 2):
        one = timeline.turn(slice_number(float(second)))
        one.requests += 1
        one.duration[bucket(1.0 + second)] = 1
    assert len(timeline._fine) == 30
    assert len(timeline._coarse) == 31
