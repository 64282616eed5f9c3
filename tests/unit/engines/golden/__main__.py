"""Writes the golden files anew: ``python -m tests.unit.engines.golden``, then read the diff."""

from __future__ import annotations

import sys

from tests.unit.engines.golden import CASES, write_case

for one in CASES:
    if write_case(one):
        sys.stdout.write(f"changed: {one}\n")
