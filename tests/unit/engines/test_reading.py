"""The tolerant readers."""

from __future__ import annotations

import pytest

from nexus.engines.reading import (
    entries,
    flag,
    metric_sum,
    obj,
    parse,
    positive,
    text,
    texts,
    whole,
)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a":1}', {"a": 1}),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b"", None),
        (b"{", None),
        (b'{"a":1}x', None),
        (b"\xff", None),
        (b"[" * 100_000, None),
        (b"1" * 5000, None),
        ("{}".encode("utf-16"), {}),
    ],
)
def test_any_bytes_parse_to_a_value_or_to_nothing(body: bytes, value: object) -> None:
    """No bytes raise."""
    assert parse(body) == value


def test_a_wrong_type_reads_as_nothing() -> None:
    """Each reader takes its own type and nothing else."""
    assert (obj([1]), entries({"a": 1}), texts("ab")) == ({}, [], ())
    assert (text(3), text(""), flag(1), whole("3"), whole(True)) == (None,) * 5
    assert entries([1, {"a": 1}, None]) == [{"a": 1}]
    assert texts(["a", 1, "", "b"]) == ("a", "b")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3),
        (3.9, 3),
        (0, 0),
        (-1, None),
        (float("nan"), None),
        (float("inf"), None),
        (2**60, None),
    ],
)
def test_a_number_is_a_count_or_nothing(value: float, number: int | None) -> None:
    """Negative, endless and absurd numbers are no counts."""
    assert whole(value) == number


def test_zero_is_not_known_where_a_size_is_asked_for() -> None:
    """A window of 0 is llama.cpp's "not known"."""
    assert (positive(0), positive(5)) == (None, 5)


def test_a_lone_surrogate_does_not_travel_on() -> None:
    """What could not be sent as UTF-8 is replaced."""
    found = text(parse(b'"a\\ud800b"'))
    assert found == "a?b"


@pytest.mark.parametrize(
    ("exposition", "total"),
    [
        (b"x 3", 3),
        (b"x{a=\"1\"} 1\nx{a=\"2\"} 2.0\n", 3),
        (b"# TYPE x gauge\nxy 5\n", None),
        (b"x{a=\"} 9\"} 4 1700000000000\n", 4),
        (b"x NaN\nx 2\n", 2),
        (b"x 1e\nx 1.2.3\n", None),
        (b"x +Inf\n", None),
        (b"\xff\x00x 3\nx 1e400\n", None),
        (b"", None),
    ],
)  # fmt: skip
def test_a_metric_is_the_sum_of_its_series(exposition: bytes, total: int | None) -> None:
    """Other names, broken lines and what is no number are passed over."""
    assert metric_sum(exposition, "x") == total
