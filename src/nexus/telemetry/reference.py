"""The tables of metrics in ``docs/observability.md``, generated from ``telemetry/names.py``.

``python -m nexus.telemetry.reference --check`` fails when they are stale, ``--write`` rewrites
them. Everything outside of the two marks is written by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

from nexus.telemetry.names import METRICS, Kind, Metric

__all__ = ["main", "metrics_markdown", "with_metrics"]

_FILE = "docs/observability.md"
_BEGIN = "<!-- metrics: python -m nexus.telemetry.reference --write -->\n"
_END = "<!-- end of metrics -->\n"


def metrics_markdown() -> str:
    """A row per metric, the histograms' buckets, the OpenTelemetry names."""
    rows = ["| Metric | Type | Labels | Meaning |\n", "|---|---|---|---|\n"]
    rows += [
        f"| `{one.name}` | {one.kind.value} | {_names(one.labels)} | {one.help} |\n"
        for one in METRICS.values()
    ]
    rows += ["\n| Histogram | Upper bounds of its buckets, seconds |\n", "|---|---|\n"]
    rows += [f"| `{one.name}` | {_bounds(one)} |\n" for one in METRICS.values() if one.buckets]
    rows += ["\n| Metric | Nearest OpenTelemetry instrument |\n", "|---|---|\n"]
    rows += [f"| `{one.name}` | {_instruments(one)} |\n" for one in METRICS.values() if one.otel]
    return "".join(rows)


def with_metrics(page: str) -> str:
    """``page`` with what is between its marks made anew. Raises ``ValueError`` when a mark is
    missing."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{_FILE} has lost a mark: {_BEGIN.strip()} or {_END.strip()}")
    return f"{before}{begin}\n{metrics_markdown()}\n{end}{after}"


def _names(labels: tuple[str, ...]) -> str:
    return ", ".join(f"`{label}`" for label in labels) or "-"


def _bounds(metric: Metric) -> str:
    assert metric.kind is Kind.HISTOGRAM
    return ", ".join(f"{bound:g}" for bound in metric.buckets)


def _instruments(metric: Metric) -> str:
    name, bracket, rest = metric.otel.partition(" (")
    return ", ".join(f"`{one}`" for one in name.split(", ")) + bracket + rest


def main(arguments: list[str], *, root: Path | None = None) -> int:
    """``--write`` the page under ``root`` (default: this checkout), or ``--check`` it. Returns the
    exit status."""
    if arguments not in (["--check"], ["--write"]):
        sys.stderr.write("usage: python -m nexus.telemetry.reference --check|--write\n")
        return 2
    base = Path(__file__).resolve().parents[3] if root is None else root
    path = base / _FILE
    page = path.read_text(encoding="utf-8")
    made = with_metrics(page)
    if arguments == ["--write"]:
        path.write_text(made, encoding="utf-8")
    elif made != page:
        sys.stderr.write(f"{_FILE} is stale: python -m nexus.telemetry.reference --write\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
