"""Tolerant reading of JSON that strangers wrote: nothing here raises, whatever the bytes.

An engine's answer is evidence, not a contract: fields go missing, change type, turn null. Each
reader returns ``None`` (or an empty container) for what is not there in the expected shape, so
that "missing" stays "unknown" and never becomes a guessed 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import msgspec

__all__ = [
    "Object",
    "entries",
    "flag",
    "metric_sum",
    "obj",
    "parse",
    "positive",
    "text",
    "texts",
    "whole",
]

Object = dict[str, object]

_NUMBER_MAX = 2**53
"""Beyond it a JSON number is no count of anything (RFC 8259 § 6)."""


def parse(body: bytes) -> object:
    """The JSON value in ``body``, ``None`` when it is not JSON.

    What msgspec refuses although most engines' own libraries write it (a lone surrogate, a byte
    order mark) is tried again with the standard library.
    """
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        pass
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value


def obj(value: object) -> Object:
    """``value`` when it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def entries(value: object) -> list[Object]:
    """The objects in a JSON array; what is not an object is left out."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text(value: object) -> str | None:
    """``value`` when it is a string with something in it that can be sent on as UTF-8."""
    if not isinstance(value, str) or not value:
        return None
    return value.encode("utf-8", "replace").decode("utf-8")


def texts(value: object) -> tuple[str, ...]:
    """The non-empty strings in a JSON array."""
    items: Iterator[str | None] = map(text, value) if isinstance(value, list) else iter(())
    return tuple(item for item in items if item is not None)


def whole(value: object) -> int | None:
    """A non-negative whole number; a float (transformers' ``created``) loses its fraction."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # The comparison also refuses NaN and infinity, which the standard library lets through.
    return int(value) if 0 <= value <= _NUMBER_MAX else None


def positive(value: object) -> int | None:
    """A whole number above 0: engines write 0 for "not known" (llama.cpp's router ``n_ctx``)."""
    return whole(value) or None


def flag(value: object) -> bool | None:
    """A JSON boolean."""
    return value if isinstance(value, bool) else None


def metric_sum(exposition: bytes, name: str) -> int | None:
    """The sum of all series of metric ``name`` in Prometheus text, ``None`` when there is none.

    Text format 0.0.4: ``name{labels} value [timestamp]`` per line; one series per engine rank, so
    the sum is the server's figure.
    """
    pattern = rb"^" + re.escape(name.encode()) + rb"(?:\{[^\n]*\})?[ \t]+([0-9][0-9.eE+]*)"
    total: float | None = None
    for found in re.finditer(pattern, exposition, re.MULTILINE):
        try:
            value = float(found[1])
        except ValueError:
            continue
        total = value if total is None else total + value
    return whole(total)
