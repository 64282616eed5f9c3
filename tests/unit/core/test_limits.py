"""Budgets of bytes and of retries."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.limits import Budget, TokenBucket


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 60), max_size=30))
def test_a_budget_is_never_exceeded(counts: list[int]) -> None:
    """It says no rather than exceed its limit, takes nothing then, and what is given back fits."""
    budget = Budget(100)
    taken = []
    for count in counts:
        before = budget.used_bytes
        fits = before + count <= 100
        assert budget.take(count) is fits
        assert budget.used_bytes == (before + count if fits else before)
        if fits:
            taken.append(count)
    for count in taken:
        budget.give(count)
    assert budget.used_bytes == 0


def test_a_full_bucket_gives_its_size() -> None:
    """In one instant as many permits as its size, then none."""
    bucket = TokenBucket(3.0, 10.0)
    assert [bucket.take(5.0) for _ in range(5)] == [True, True, True, False, False]


def test_time_refills_a_bucket() -> None:
    """``per_s`` permits a second, up to the size; a clock that stands back takes none away."""
    bucket = TokenBucket(2.0, 10.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert bucket.take(0.1)
    assert not bucket.take(0.0)
    assert [bucket.take(100.0) for _ in range(3)] == [True, True, False]


def test_use_refills_a_bucket() -> None:
    """Each call adds its fraction: five calls at 0.2 pay for one failover."""
    bucket = TokenBucket(1.0, 0.0)
    assert bucket.take(0.0)
    assert not bucket.take(0.0)
    for _ in range(5):
        bucket.refill(0.2)
    assert bucket.take(0.0)
    assert not bucket.take(0.0)
