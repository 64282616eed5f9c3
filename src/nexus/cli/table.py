"""Tables and JSON on standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from nexus.telemetry.text import printable

__all__ = ["STATUS_COLORS", "echo_json", "echo_table", "stdout_is_terminal"]

STATUS_COLORS = {
    "healthy": "green",
    "degraded": "yellow",
    "unknown": "yellow",
    "pending": "yellow",
    "draining": "yellow",
    "unhealthy": "red",
    "open": "red",
    "half_open": "yellow",
}


def echo_json(value: Any) -> None:
    """Prints what the gateway answered, indented."""
    click.echo(json.dumps(value, indent=2))


def echo_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints columns, two blanks apart. ``None`` shows as ``-``; what backends said is made
    printable. Coloured on a terminal unless ``NO_COLOR`` is set."""
    texts = [[_text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *texts, strict=True)]
    colored = stdout_is_terminal() and not os.environ.get("NO_COLOR")
    for number, row in enumerate([list(headings), *texts]):
        cells = []
        for text, width in zip(row, widths, strict=True):
            cell = text.ljust(width)
            if colored and number == 0:
                cell = click.style(cell, bold=True)
            elif colored and text in STATUS_COLORS:
                cell = click.style(cell, fg=STATUS_COLORS[text])
            cells.append(cell)
        click.echo("  ".join(cells).rstrip())


def stdout_is_terminal() -> bool:
    """Whether a person is looking."""
    return sys.stdout.isatty()


def _text(cell: object) -> str:
    if cell is None or cell == "":
        return "-"
    if isinstance(cell, float):
        return f"{cell:.0f}" if cell >= 100 else f"{cell:.1f}"
    return printable(str(cell))
