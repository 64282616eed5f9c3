"""Learned token ratios."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.routing.ratio import Ratios
from tests.unit.routing.fleet import ask


def test_four_bytes_are_a_token_until_something_is_learned() -> None:
    """Rounded up, and no text is no token."""
    ratios = Ratios()
    assert [ratios.estimate_tokens("m", ask(text_bytes=n)) for n in (0, 1, 4, 5)] == [0, 1, 1, 2]


def test_an_image_counts_a_thousand_tokens() -> None:
    """Beside the text."""
    assert Ratios().estimate_tokens("m", ask(text_bytes=8, images=3)) == 3002


def test_the_ratio_approaches_what_the_engine_reports() -> None:
    """Per model; the others keep theirs."""
    ratios = Ratios()
    for second in range(200):
        ratios.learn("m", 6000, 2000, False, float(second))
    assert ratios.ratio("m") == pytest.approx(3.0, abs=0.01)
    assert ratios.ratio("other") == 4.0
    assert ratios.estimate_tokens("m", ask(text_bytes=3000)) == pytest.approx(1000, abs=5)


def test_one_report_does_not_overthrow_the_ratio() -> None:
    """It starts at four and moves."""
    ratios = Ratios()
    ratios.learn("m", 8000, 1000, False, 5.0)
    assert 4.0 < ratios.ratio("m") < 5.0


@pytest.mark.parametrize(("text", "tokens", "images"), [(40, 30, 0), (9000, 0, 0), (9000, 900, 1)])
def test_what_would_teach_nonsense_teaches_nothing(text: int, tokens: int, images: int) -> None:
    """A short prompt is mostly template, a count of 0 is none, images have tokens of their own."""
    ratios = Ratios()
    assert ratios.learn("m", text, tokens, False, 0.0, images=images) is False
    assert ratios.ratio("m") == 4.0


def test_a_cut_prompt_is_told_and_teaches_nothing() -> None:
    """Usage far below the estimate, from an engine that truncates."""
    ratios = Ratios()
    assert ratios.learn("m", 80_000, 4096, True, 0.0) is True
    assert ratios.ratio("m") == 4.0
    assert ratios.looks_truncated("m", 80_000, 4096)
    assert not ratios.looks_truncated("m", 80_000, 19_000)


def test_the_same_count_from_an_engine_that_never_truncates_is_no_cut() -> None:
    """There it is simply dense text."""
    ratios = Ratios()
    assert ratios.learn("m", 80_000, 9_000, False, 0.0) is False
    assert ratios.ratio("m") > 4.0


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(-1, 10**7)), max_size=30))
def test_the_ratio_stays_within_its_bounds(reports: list[tuple[int, int]]) -> None:
    """One to eight, whatever engines say."""
    ratios = Ratios()
    for second, (text, tokens) in enumerate(reports):
        ratios.learn("m", text, tokens, False, float(second))
        assert 1.0 <= ratios.ratio("m") <= 8.0
