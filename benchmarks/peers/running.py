"""A proxy under test, and what makes a measurement of it void."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from benchmarks.macro.accounting import Meter
from benchmarks.macro.load import Figure, Void
from benchmarks.peers.proxies import Recipe, Started

__all__ = ["Lines", "Running", "logged", "say", "unless_void"]

_T = TypeVar("_T")
_LOG_WAIT_S = 5.0


class Lines:
    """Counts the lines of an access log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def more(self) -> int:
        """Lines of calls since the last time; an unfinished one counts the next time."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return sum(b"/v1/chat/completions" in line for line in whole.splitlines())


class Running(msgspec.Struct):
    """A proxy under test."""

    recipe: Recipe
    started: Started
    meter: Meter
    lines: Lines | None

    @property
    def name(self) -> str:
        """Its name."""
        return self.recipe.name


def logged(lines: Lines | None, measure: Callable[[], Figure]) -> Figure:
    """A measurement in which each call has left its line in the access log: one that is not
    written, or dropped, is work not done."""
    if lines is None:
        return measure()
    lines.more()
    figure = measure()
    end_s = time.monotonic() + _LOG_WAIT_S
    found = lines.more()
    while found < figure.total and time.monotonic() < end_s:
        time.sleep(0.05)
        found += lines.more()
    if found != figure.total:
        raise Void(f"{found} lines in the access log for {figure.total} calls")
    return figure


def unless_void(void: list[str], what: str, measure: Callable[[], _T]) -> _T | None:
    try:
        return measure()
    except (Void, OSError) as error:
        void.append(f"{what}: {error}"[:500])
        say(f"void: {what}: {error}"[:500])
        return None
    finally:
        gc.collect()


def say(what: str) -> None:
    sys.stderr.write(f"{what}\n")
