"""The parts of a score."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.routing.plan import ScoreParts
from nexus.routing.scorers import (
    Weights,
    combine,
    latency_part,
    load_part,
    priority_part,
    quick_score,
)

modest = settings(deadline=None, max_examples=100)
whole = st.integers(min_value=-5, max_value=1000)
capacities = st.none() | st.integers(min_value=0, max_value=200)
seconds = st.floats(min_value=0.0, max_value=1e6, allow_nan=False)
unit = st.floats(min_value=0.0, max_value=1.0, allow_nan=False)
weight = st.floats(min_value=0.0, max_value=1e300, allow_nan=False)
weights = (
    st.tuples(weight, weight, weight)
    .filter(lambda three: max(three) > 0)
    .map(lambda three: Weights(*three).normalised())
)


def test_the_parts_at_their_landmarks() -> None:
    """The figures of behaviour § 5.1."""
    assert [priority_part(p) for p in (0, 50, 100, 1000)] == [1.0, 0.5, 0.0, 0.0]
    assert [load_part(busy, 4) for busy in (0, 1, 4, 9)] == [1.0, 0.75, 0.0, 0.0]
    assert [load_part(busy, None) for busy in (0, 25, 100, 900)] == [1.0, 0.75, 0.0, 0.0]
    assert [latency_part(t) for t in (0.0, 0.5, None)] == [1.0, 0.5, 0.5]


def test_weights_have_a_sum_of_one() -> None:
    """50, 30 and 20 are a half, three tenths and a fifth."""
    normal = Weights().normalised()
    assert (normal.priority, normal.load, normal.latency) == pytest.approx((0.5, 0.3, 0.2))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Weights(-1.0, 1.0, 1.0), "not negative"),
        (Weights(float("nan"), 1.0, 1.0), "finite"),
        (Weights(float("inf"), 1.0, 1.0), "finite"),
        (Weights(0.0, 0.0, 0.0), "at least one"),
    ],
)
def test_weights_that_mean_nothing_are_refused(bad: Weights, words: str) -> None:
    """Negative, not finite, or all zero."""
    with pytest.raises(ValueError, match=words):
        bad.normalised()


@modest
@given(whole, whole, capacities, st.none() | seconds, weights)
def test_scores_and_parts_stay_within_0_and_1(
    priority: int, busy: int, capacity: int | None, ttft_s: float | None, by: Weights
) -> None:
    """Whatever a backend's figures and whatever the weights."""
    parts = ScoreParts(priority_part(priority), load_part(busy, capacity), latency_part(ttft_s))
    for value in (parts.priority, parts.load, parts.latency, combine(parts, by)):
        assert 0.0 <= value <= 1.0


@modest
@given(whole, whole, capacities, st.none() | seconds, weights)
def test_the_quick_score_is_the_score(
    priority: int, busy: int, capacity: int | None, ttft_s: float | None, by: Weights
) -> None:
    """The hot path's arithmetic gives the same number, bit for bit."""
    parts = ScoreParts(priority_part(priority), load_part(busy, capacity), latency_part(ttft_s))
    assert quick_score(parts.priority, busy, capacity, ttft_s, by) == combine(parts, by)


@modest
@given(unit, unit, unit, unit, st.sampled_from(["priority", "load", "latency"]), weights)
def test_better_in_one_part_never_scores_lower(
    priority: float, load: float, latency: float, better: float, part: str, by: Weights
) -> None:
    """All else equal."""
    values = {"priority": priority, "load": load, "latency": latency}
    raised = {**values, part: max(values[part], better)}
    assert combine(ScoreParts(**raised), by) >= combine(ScoreParts(**values), by)


@modest
@given(whole, whole, capacities)
def test_less_priority_number_and_less_load_are_better(
    one: int, other: int, capacity: int | None
) -> None:
    """Monotone in the facts."""
    low, high = sorted((one, other))
    assert priority_part(low) >= priority_part(high)
    assert load_part(low, capacity) >= load_part(high, capacity)


@modest
@given(seconds, seconds)
def test_a_faster_first_token_is_better(one: float, other: float) -> None:
    """Monotone, and strictly so where people can tell the difference."""
    fast, slow = sorted((one, other))
    assert latency_part(fast) >= latency_part(slow)
    if slow - fast > 0.001 and slow < 10.0:
        assert latency_part(fast) > latency_part(slow)
