"""What the runs amount to: medians, ratios, a table."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import msgspec
from benchmarks.macro.load import Figure

__all__ = ["Report", "Series", "machine", "table"]

REQUEST_RATIO_MAX = 3.2
EVENT_RATIO_MAX = 1.35
_OTHERS_SHARE_MAX = 0.05


class Series(msgspec.Struct, kw_only=True):
    """One proxy's measurements, a figure per round, and its memory in MB."""

    requests: list[Figure] = []
    events: list[Figure] = []
    rss_idle_mb: float = 0.0
    rss_after_mb: float = 0.0


class Report(msgspec.Struct, kw_only=True):
    """A whole run."""

    at: str
    machine: dict[str, str]
    seconds: float
    rounds: int
    connections: int
    streams: int
    events_per_s: float
    series: dict[str, Series]


def machine() -> dict[str, str]:
    """What was measured on."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def nginx_version(program: str) -> str:
    """As nginx says it."""
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr
    return said.strip().rpartition("/")[2]


def now() -> str:
    """The present, for the report's head."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _row(name: str, values: list[str]) -> str:
    return "| " + " | ".join([name.ljust(8), *(value.rjust(16) for value in values)]) + " |"


def _median(figures: list[Figure], field: str) -> float:
    return float(median(getattr(figure, field) for figure in figures))


def _least(figures: list[Figure], field: str) -> float:
    return float(min(getattr(figure, field) for figure in figures))


def table(report: Report) -> str:
    """Medians and least figures as a Markdown table, and whether the targets are met.

    The verdict is by the least: what else a shared machine does, other guests of its host included,
    only ever adds to a round, so the least of the rounds is nearest to the cost itself.
    """
    titles = ["CPU µs/request", "requests/s", "CPU µs/event", "core share", "RSS idle→after MB"]
    lines = [_row("proxy", titles), _row("---", ["---:"] * len(titles))]
    for name, series in report.series.items():
        lines.append(
            _row(
                name,
                [
                    _both(series.requests),
                    f"{_median(series.requests, 'per_s'):,.0f}",
                    _both(series.events),
                    f"{_median(series.events, 'core_share'):.0%}",
                    f"{series.rss_idle_mb:.0f} → {series.rss_after_mb:.0f}",
                ],
            )
        )
    nginx, nexus = report.series["nginx"], report.series["nexus"]
    request_ratio = _least(nexus.requests, "cpu_us") / _least(nginx.requests, "cpu_us")
    event_ratio = _least(nexus.events, "cpu_us") / _least(nginx.events, "cpu_us")
    requests_told, events_told = (
        f"{of_medians:.2f} ({of_least:.2f})"
        for of_medians, of_least in (
            (
                _median(nexus.requests, "cpu_us") / _median(nginx.requests, "cpu_us"),
                request_ratio,
            ),
            (_median(nexus.events, "cpu_us") / _median(nginx.events, "cpu_us"), event_ratio),
        )
    )
    lines.append(_row("ratio", [requests_told, "", events_told, "", ""]))
    lines.append("")
    lines.append("CPU: the median of the rounds, and in brackets the least.")
    for what, ratio, most in (
        ("request", request_ratio, REQUEST_RATIO_MAX),
        ("event", event_ratio, EVENT_RATIO_MAX),
    ):
        verdict = "met" if ratio <= most else "missed"
        lines.append(f"Target per {what}: at most {most:g} times nginx, {verdict} ({ratio:.2f}).")
    figures = [
        figure for series in report.series.values() for figure in series.requests + series.events
    ]
    others = _median(figures, "others_share")
    if others > _OTHERS_SHARE_MAX:
        lines.append(
            f"Other programs used {others:.0%} of the proxies' core meanwhile: they cool caches "
            "(dearer requests) and make reads come in batches (cheaper events). Do not rely on "
            "these figures."
        )
    return "\n".join(lines)


def _both(figures: list[Figure]) -> str:
    return f"{_median(figures, 'cpu_us'):.1f} ({_least(figures, 'cpu_us'):.1f})"


def markdown(report: Report) -> str:
    """The table with everything needed to repeat it."""
    about = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    return (
        f"# Nexus beside nginx, {report.at}\n\n{about}.\n\n"
        f"{report.rounds} rounds of {report.seconds:g} s, interleaved; "
        f"{report.connections} connections; {report.streams} streams at "
        f"{report.events_per_s:g} events/s. Medians.\n\n{table(report)}\n"
    )
