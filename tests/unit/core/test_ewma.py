"""Moving averages."""

from __future__ import annotations

from math import e

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.ewma import Ewma


def test_the_first_sample_sets_it() -> None:
    """Before it nothing is known."""
    average = Ewma()
    assert average.value is None
    average.add(3.0, 100.0)
    assert average.value == 3.0


def test_memory_fades_to_1_by_e_in_tau() -> None:
    """After ``tau_s`` what was known weighs 1/e."""
    average = Ewma(tau_s=30.0)
    average.add(1.0, 0.0)
    average.add(0.0, 30.0)
    assert average.value == pytest.approx(1 / e)


def test_samples_of_one_instant_count() -> None:
    """A burst moves the average although no time passes, a clock that stands back included."""
    average = Ewma()
    average.add(0.0, 5.0)
    average.add(10.0, 5.0)
    assert average.value == pytest.approx(1.0)
    average.add(10.0, 4.0)
    assert average.value == pytest.approx(1.9)


_samples = st.tuples(st.floats(0, 1e6), st.floats(0, 1e6))


@settings(deadline=None, max_examples=100)
@given(st.lists(_samples, min_size=1, max_size=30))
def test_it_stays_among_its_samples(samples: list[tuple[float, float]]) -> None:
    """Whatever the times, it is never outside what was seen."""
    average = Ewma()
    for sample, now_s in samples:
        average.add(sample, now_s)
    seen = [sample for sample, _ in samples]
    assert average.value is not None
    assert min(seen) - 1e-6 <= average.value <= max(seen) + 1e-6
