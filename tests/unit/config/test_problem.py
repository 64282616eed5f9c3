"""Problems read well."""

from __future__ import annotations

import pytest

from nexus.config.problem import ConfigError, Problem, ProblemList, nearest_name


def test_a_problem_names_everything_it_knows() -> None:
    """File, line, key, what is wrong and the nearest name stand on one line."""
    problem = Problem(source="n.toml", line=3, key="server.prot", message="bad", nearest="port")
    assert str(problem) == 'n.toml:3: server.prot: bad (did you mean "port"?)'


def test_a_problem_leaves_out_what_it_does_not_know() -> None:
    """Without line, key and nearest name only the source and the message are left."""
    assert str(Problem(source="n.toml", message="cannot be read")) == "n.toml: cannot be read"


def test_an_error_lists_its_problems_in_the_order_of_lines() -> None:
    """Several problems stand one a line under a heading, first line first."""
    late = Problem(source="n.toml", line=10, key="b", message="bad")
    early = Problem(source="n.toml", line=9, key="a", message="bad")
    assert str(ConfigError([late, early])) == (
        "the configuration has 2 problems:\n  n.toml:9: a: bad\n  n.toml:10: b: bad"
    )


def test_one_problem_needs_no_heading() -> None:
    """A single problem is the whole text."""
    assert str(ConfigError([Problem(source="f", message="m")])) == "f: m"


def test_a_key_is_reported_once() -> None:
    """The first thing that is wrong with a key is told, what follows from it is not."""
    found = ProblemList(lambda path: ("f", 1))
    found.report(("a",), "first")
    found.report(("a",), "second")
    assert [problem.message for problem in found.problems] == ["first"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("prot", "port"), ("PORT", "port"), ("max-body", "max_body"), ("zzz", None), ("", None)],
)
def test_the_nearest_name_is_what_a_person_meant(name: str, nearest: str | None) -> None:
    """Slips, case and dashes lead to the name; what resembles nothing leads nowhere."""
    assert nearest_name(name, ["host", "port", "max_body", ""]) == nearest
