"""Tolerant reading of JSON that strangers wrote: nothing here raises, whatever the bytes.

An engine's answer is evidence, not a contract: fields go missing, change type, turn null. Each
reader returns ``None`` (or an empty container) for what is not there in the expected shape, so
that "missing" stays "unknown" and never becomes a guessed 0. Lists and names are bounded: a server
that lists 100,000 models must not hold up the loop that everybody shares.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice

import msgspec

__all__ = [
    "ENTRIES_MAX",
    "Object",
    "entries",
    "flag",
    "metric_sum",
    "metric_values",
    "name",
    "obj",
    "parse",
    "positive",
    "share",
    "text",
    "texts",
    "whole",
    "word",
]

Object = dict[str, object]

ENTRIES_MAX = 4096
"""So many objects of an array are read; the rest is left out."""
_TEXTS_MAX = 256
_NAME_CHARS_MAX = 4096
_WORD_CHARS_MAX = 100
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
    """The objects in a JSON array, the first ``ENTRIES_MAX``; what is not an object is left out."""
    if not isinstance(value, list):
        return []
    return list(islice((item for item in value if isinstance(item, dict)), ENTRIES_MAX))


def text(value: object) -> str | None:
    """``value`` when it is a string with something in it that can be sent on as UTF-8."""
    if not isinstance(value, str) or not value:
        return None
    return value.encode("utf-8", "replace").decode("utf-8")


def name(value: object) -> str | None:
    """A text that can be a model's name: one that is longer than any name is is none."""
    return text(value) if isinstance(value, str) and len(value) <= _NAME_CHARS_MAX else None


def word(value: object) -> str | None:
    """A text to be shown in a table (a version, a family), cut to 100 characters."""
    return text(value[:_WORD_CHARS_MAX]) if isinstance(value, str) else None


def texts(value: object) -> tuple[str, ...]:
    """The non-empty strings in a JSON array, of its first 256 items."""
    items: Iterator[str | None] = (
        map(text, value[:_TEXTS_MAX]) if isinstance(value, list) else iter(())
    )
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


def share(value: object) -> float | None:
    """A number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= 1 else None


def flag(value: object) -> bool | None:
    """A JSON boolean."""
    return value if isinstance(value, bool) else None


def metric_values(exposition: bytes, name: str, label: str = "") -> list[float]:
    """The values of the series of metric ``name`` whose labels contain ``label`` as it is written
    (``state="awake"``).

    Text format 0.0.4 of Prometheus: ``name{labels} value [timestamp]`` per line.
    """
    within = rb"[^\n]*" + re.escape(label.encode()) + rb"[^\n]*"
    labels = rb"\{" + within + rb"\}" if label else rb"(?:\{[^\n]*\})?"
    pattern = rb"^" + re.escape(name.encode()) + labels + rb"[ \t]+([0-9][0-9.eE+-]*)"
    values = []
    for found in re.finditer(pattern, exposition, re.MULTILINE):
        try:
            values.append(float(found[1]))
        except ValueError:
            continue
    return values


def metric_sum(exposition: bytes, name: str) -> int | None:
    """The sum of all series of metric ``name``, ``None`` when there is none: one series per engine
    rank, so the sum is the server's figure."""
    values = metric_values(exposition, name)
    return whole(sum(values)) if values else None
