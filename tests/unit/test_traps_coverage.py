"""The page of traps names tests and cases: they exist."""

from __future__ import annotations

import re
from pathlib import Path

from tests.torture.answers import ANSWERS
from tests.torture.requests import CASES
from tests.torture.test_streams import STREAMS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/traps-coverage.md").read_text("utf-8")
TABLES = {"requests": set(CASES), "answers": set(ANSWERS), "streams": set(STREAMS)}


def test_every_test_that_is_named_exists() -> None:
    """A trap whose test was renamed or removed is found here."""
    sources = "\n".join(file.read_text("utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 50
    assert named - set(re.findall(r"def (test_\w+)\(", sources)) == set()


def test_every_case_that_is_named_exists() -> None:
    """Likewise."""
    named = re.findall(r"`(requests|answers|streams): ([^`…]+)`", PAGE)
    assert len(named) > 50
    assert [one for one in named if one[1] not in TABLES[one[0]]] == []


def test_every_row_names_what_holds_it() -> None:
    """No row without a test or a case."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    held = [line for line in rows if re.search(r"`(?:test_|requests: |answers: |streams: )", line)]
    heads = [line for line in rows if line.endswith("| Held by |")]
    assert len(held) + len(heads) == len(rows)
