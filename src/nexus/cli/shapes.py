"""What the gateway answered, taken apart without trust: a part that is missing or of another
shape reads as empty."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["completion_tokens", "names", "part", "read_json", "rows"]

_DIGITS_MAX = 30


def read_json(text: bytes | str) -> Any:
    """``text`` decoded; numbers that no figure of a gateway can be read as unknown. Raises
    ``ValueError`` and ``RecursionError``."""
    return json.loads(text, parse_int=_int, parse_float=_float, parse_constant=_unknown)


def _int(digits: str) -> int | None:
    return int(digits) if len(digits) <= _DIGITS_MAX else None


def _float(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) and abs(value) < 10.0**_DIGITS_MAX else None


def _unknown(_constant: str) -> None:
    """NaN and Infinity are no JSON."""


def part(answer: dict[str, Any], key: str) -> dict[str, Any]:
    """The object at ``key``."""
    found = answer.get(key)
    return found if isinstance(found, dict) else {}


def rows(answer: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects of the list at ``key``."""
    found = answer.get(key)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def names(entries: object) -> list[str]:
    """Names out of a list of names, or of objects that have a ``name`` or ``id``."""
    if not isinstance(entries, list):
        return []
    return [
        str(entry.get("name") or entry.get("id")) if isinstance(entry, dict) else str(entry)
        for entry in entries
    ]


def completion_tokens(call: dict[str, Any]) -> tuple[int | None, bool]:
    """How long the answer of a call in the history was, and whether that is an estimate."""
    tokens = part(call, "tokens")
    told, estimated = tokens.get("completion"), tokens.get("estimated")
    if isinstance(told, int):
        return told, False
    return (estimated, True) if isinstance(estimated, int) else (None, False)
