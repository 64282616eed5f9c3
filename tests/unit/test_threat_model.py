"""The threat model names tests and fuzz targets: they exist."""

from __future__ import annotations

import re
from pathlib import Path

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/threat-model.md").read_text("utf-8")


def test_every_test_that_is_named_exists() -> None:
    """A promise whose test was renamed or removed is found here."""
    files = list((ROOT / "tests").rglob("test_*.py"))
    sources = "\n".join(file.read_text("utf-8") for file in files)
    there = {file.name for file in files} | set(re.findall(r"def (test_\w+)\(", sources))
    named = set(re.findall(r"`(test_\w+(?:\.py)?)`", PAGE))
    assert len(named) > 50
    assert named - there == set()


def test_every_fuzz_target_that_is_named_exists() -> None:
    """Likewise."""
    cells = re.findall(r"fuzz targets? ((?:`\w+`(?:, )?)+)", PAGE)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert len(named) > 8
    assert named <= set(TARGETS)
