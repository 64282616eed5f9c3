"""The table of hostile and odd requests, whole."""

from __future__ import annotations

from tests.torture.cases import Case
from tests.torture.chunk_cases import CHUNKS
from tests.torture.connection_cases import CONNECTIONS
from tests.torture.framing_cases import BOTH_FRAMINGS, CODINGS, LENGTHS
from tests.torture.head_cases import HEADS
from tests.torture.line_cases import LINES

__all__ = ["CASES"]

_GROUPS = (BOTH_FRAMINGS, LENGTHS, CODINGS, CHUNKS, HEADS, LINES, CONNECTIONS)
CASES: dict[str, Case] = {name: case for group in _GROUPS for name, case in group.items()}
assert len(CASES) == sum(len(group) for group in _GROUPS), "a name is there twice"
