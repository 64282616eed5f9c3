"""docs/engines.md says what the code does: its tables against the adapters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nexus.core.backend import EngineKind, EngineTraits
from nexus.engines.table import ADAPTERS
from tests.unit.engines.golden import CASES, read_case

PAGE = Path(__file__).parents[3] / "docs" / "engines.md"
TRAITS = {kind: adapter.traits for kind, adapter in ADAPTERS.items()}


def table(heading: str) -> dict[str, list[str]]:
    """The table whose first line of headings begins so: first cell (without quotes) → the rest. A
    row for several engines counts for each."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith(f"| {heading}"))
    rows: dict[str, list[str]] = {}
    for line in lines[at + 2 :]:
        if not line.startswith("|"):
            break
        first, *rest = (cell.strip() for cell in line.strip("|").split("|"))
        for name in first.split(","):
            rows[name.strip(" `")] = rest
    return rows


def quoted(cell: str) -> set[str]:
    """What stands in backticks."""
    return set(re.findall(r"`([^`]+)`", cell))


IGNORED = table("Engine | Ignores")
HABITS = table("Engine | Cuts long prompts")
COSTS = table("Engine | Each check")


@pytest.mark.parametrize("kind", EngineKind)
def test_the_table_of_ignored_fields_is_the_codes(kind: EngineKind) -> None:
    """Fields, the edits made for them, and headers that stay here."""
    ignores, copies, headers = IGNORED[kind]
    traits = TRAITS[kind]
    assert quoted(ignores) == traits.ignored_fields
    pairs = {name for copy in traits.field_copies for name in (copy.target, copy.field)}
    assert quoted(copies) == pairs
    assert {name.encode() for name in quoted(headers)} == traits.dropped_headers


def continues(traits: EngineTraits) -> str:
    """How the page says it."""
    how = traits.continuation
    if how is None:
        return "no"
    fields = ", ".join(f"`{name}`" for name, _ in how.fields)
    text = fields or ("by template" if how.by_template else "yes")
    return f"{text}; may repeat it" if how.may_echo else text


@pytest.mark.parametrize("kind", EngineKind)
def test_the_table_of_habits_is_the_codes(kind: EngineKind) -> None:
    """Prompts, output, tool calls, continuation, stopping."""
    traits = TRAITS[kind]
    output = "no"
    if traits.refuses_long_output:
        output = "with the prompt"
    elif traits.refuses_output_over_window:
        output = "over the window by itself"
    assert HABITS[kind] == [
        "yes" if traits.truncates_prompts else "no",
        output,
        "yes" if traits.stop_for_tool_calls else "no",
        continues(traits),
        traits.stopping.value,
    ]


@pytest.mark.parametrize("name", CASES)
def test_the_table_of_costs_names_every_path(name: str) -> None:
    """What a check asks for, at first and again, stands in its row (older paths aside)."""
    case = read_case(name)
    if case.engine is None or "older" in name or name == "lmstudio-empty":
        return
    always, once, load = COSTS[case.engine]
    told = {path.partition("?")[0] for path in quoted(always) | quoted(once)}
    asked = {path.partition("?")[0] for path in case.expected["check"]["asked"]}
    assert asked <= told
    if name == case.engine:
        assert told == asked
    assert bool(quoted(load)) is (ADAPTERS[case.engine].load() is not None)


def test_every_fact_is_told_for_every_engine() -> None:
    """No empty cell: a source, or that there is none."""
    facts = table("Fact")
    assert len(facts) >= 15
    assert all(len(cells) == 7 and all(cells) for cells in facts.values())
