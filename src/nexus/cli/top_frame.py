"""One frame of ``nexus top``: a summary, backends, models, the last calls, as far as there is room.

On a narrow terminal the columns that matter least are left out, on a low one the last rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nexus.cli.history import way
from nexus.cli.shapes import names, part, rows
from nexus.cli.table import STATUS_COLORS
from nexus.cli.top_data import Board, pace
from nexus.cli.units import clock, milliseconds, uptime
from nexus.telemetry.text import printable

__all__ = ["frame"]

_NARROW, _MEDIUM, _WIDE = 0, 72, 100

Column = tuple[str, int, str]
"""Heading, the least width of the terminal to show it at, justification."""

_BACKENDS: tuple[Column, ...] = (
    ("BACKEND", _NARROW, "left"),
    ("ENGINE", _MEDIUM, "left"),
    ("STATUS", _NARROW, "left"),
    ("BUSY", _NARROW, "right"),
    ("WAITING", _WIDE, "right"),
    ("TTFT", _NARROW, "right"),
    ("TOK/S", _MEDIUM, "right"),
    ("CALLS 1M", _MEDIUM, "right"),
    ("ERRORS", _MEDIUM, "right"),
    ("MODELS", _WIDE, "right"),
)
_MODELS: tuple[Column, ...] = (
    ("MODEL", _NARROW, "left"),
    ("BACKENDS", _MEDIUM, "left"),
    ("CALLS 1M", _NARROW, "right"),
    ("TTFT", _NARROW, "right"),
    ("TOK/S", _NARROW, "right"),
    ("DURATION", _MEDIUM, "right"),
    ("P95", _WIDE, "right"),
)
_CALLS: tuple[Column, ...] = (
    ("TIME", _NARROW, "left"),
    ("MODEL", _NARROW, "left"),
    ("BACKEND", _NARROW, "left"),
    ("OUTCOME", _NARROW, "left"),
    ("TTFT", _MEDIUM, "right"),
    ("TOK/S", _MEDIUM, "right"),
    ("DURATION", _MEDIUM, "right"),
    ("REASON", _WIDE, "left"),
)


def frame(board: Board, *, width: int, height: int | None) -> RenderableType:
    """The picture of ``board``; ``height`` ``None`` for as many lines as it takes."""
    backends = [_backend(board, one) for one in board.backends]
    models = _models(board)
    calls = [_call(one) for one in board.calls]
    # What stands around the rows: a summary of one or two lines, three headings, a blank line
    # before each.
    room = None if height is None else max(height - 9, 3)
    counts = _shares([len(backends), len(models), len(calls)], room)
    if height is None:
        counts[2] = min(counts[2], 10)
    parts: list[RenderableType] = [_summary(board)]
    for columns, shown, count in zip(
        (_BACKENDS, _MODELS, _CALLS), (backends, models, calls), counts, strict=True
    ):
        if shown and count:
            parts += [Text(""), _table(columns, shown, count, width)]
    if not board.backends:
        parts += [Text(""), Text("no backends: add one with `nexus backends add URL`")]
    return Group(*parts)


def _shares(wanted: list[int], room: int | None) -> list[int]:
    """How many rows each table gets: in turns, one each, until all are served or none is left."""
    if room is None:
        return list(wanted)
    given = [0] * len(wanted)
    while room and given != wanted:
        for index, count in enumerate(wanted):
            if room and given[index] < count:
                given[index] += 1
                room -= 1
    return given


def _summary(board: Board) -> Text:
    backends = part(board.health, "backends")
    status = str(board.health.get("status"))
    in_flight = part(board.totals, "requests").get("in_flight")
    words = [
        f"up {uptime(board.health.get('uptime_seconds'))}",
        f"{backends.get('healthy')}/{backends.get('total')} backends",
        f"{board.health.get('models')} models",
        f"{in_flight} in flight",
        f"{_rate(board.requests_per_s)} calls/s",
        f"{_rate(board.tokens_per_s)} tokens/s",
    ]
    line = Text.assemble(("nexus", "bold"), " ", (printable(status), STATUS_COLORS.get(status, "")))
    line.append(printable("  " + "  ".join(words)))
    if board.failure:
        line.append(f"\n{board.failure}", style="red")
    return line


def _backend(board: Board, backend: dict[str, Any]) -> list[object]:
    name = backend.get("name")
    figures = _named(board.recent, "backends", name)
    limit = backend.get("max_concurrency") or backend.get("capacity")
    busy = f"{backend.get('in_flight')}/{limit}" if limit else backend.get("in_flight")
    status = str(backend.get("status"))
    if status == "healthy" and backend.get("breaker") not in (None, "closed"):
        status = str(backend.get("breaker"))
    return [
        name,
        backend.get("engine"),
        Text(printable(status), style=STATUS_COLORS.get(status, "")),
        busy,
        part(backend, "load").get("waiting"),
        milliseconds(backend.get("ttft_ms")),
        _rate(board.paces("backend").get(str(name))),
        figures.get("requests", 0),
        figures.get("errors", 0),
        len(rows(backend, "models")),
    ]


def _models(board: Board) -> list[list[object]]:
    """Those that were called in the last minute first, the most called on top."""
    places: dict[str, list[str]] = {}
    for backend in board.backends:
        for model in names(backend.get("models")):
            places.setdefault(model, []).append(str(backend.get("name")))
    called = {str(one.get("name")): one for one in rows(board.recent, "models")}
    paces = board.paces("served_model")
    shown = []
    for model in sorted(places, key=lambda one: (-_requests(called.get(one)), one)):
        figures = called.get(model, {})
        ttft_ms, duration_ms = part(figures, "ttft_ms"), part(figures, "duration_ms")
        shown.append(
            [
                model,
                ", ".join(places[model]),
                figures.get("requests", 0),
                milliseconds(ttft_ms.get("p50")),
                _rate(paces.get(model)),
                milliseconds(duration_ms.get("p50")),
                milliseconds(duration_ms.get("p95")),
            ]
        )
    return shown


def _call(call: dict[str, Any]) -> list[object]:
    outcome = str(call.get("outcome"))
    color = {"ok": "green", "cancelled": "yellow"}.get(outcome, "red")
    return [
        clock(call.get("at")),
        call.get("model"),
        way(call),
        Text(printable(outcome), style=color),
        milliseconds(call.get("ttft_ms")),
        _rate(pace(call)),
        milliseconds(call.get("duration_ms")),
        call.get("reason"),
    ]


def _table(columns: Sequence[Column], shown: list[list[object]], count: int, width: int) -> Table:
    kept = [index for index, (_, least, _) in enumerate(columns) if width >= least]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index in kept:
        heading, _, justify = columns[index]
        table.add_column(heading, justify="right" if justify == "right" else "left", no_wrap=True)
    for row in shown[:count]:
        table.add_row(*(_cell(row[index]) for index in kept))
    return table


def _cell(value: object) -> Text:
    if isinstance(value, Text):
        return value
    return Text("-" if value is None or value == "" else printable(str(value)))


def _named(answer: dict[str, Any], key: str, name: object) -> dict[str, Any]:
    return next((one for one in rows(answer, key) if one.get("name") == name), {})


def _requests(figures: dict[str, Any] | None) -> int:
    count = (figures or {}).get("requests")
    return count if isinstance(count, int) else 0


def _rate(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 10 or value == 0 else f"{value:.1f}"
