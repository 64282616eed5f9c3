"""Bars in SVG, drawn by hand: readable on light and dark pages, and without a script."""

from __future__ import annotations

from xml.sax.saxutils import escape

from benchmarks.peers.results import Results, middle
from benchmarks.peers.tables import TITLES

__all__ = ["bars", "plots"]

_WIDTH = 720
_LEFT = 200
_BAR = 20
_STEP = 30
_TOP = 48
_ROOM = 110
_CUT = 6.0
_SMALL = "0.3 kB → 0.5 kB"


def bars(title: str, unit: str, values: dict[str, float]) -> str:
    """A bar for each proxy. One that is more than six times the next longest is cut, and marked."""
    ordered = sorted(values.values(), reverse=True)
    longest = ordered[0] if ordered else 1.0
    if len(ordered) > 1 and longest > _CUT * ordered[1]:
        longest = ordered[1] * 1.3
    room = _WIDTH - _LEFT - _ROOM
    height = _TOP + _STEP * len(values) + 12
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            f'width="{_WIDTH}" height="{height}" role="img" aria-label="{escape(title)}" '
            'font-family="system-ui, sans-serif" font-size="14">'
        ),
        (
            "<style>text{fill:#24292f}.own{font-weight:600}rect{fill:#8c959f}rect.own{fill:#0969da}"
            "line{stroke:#fff;stroke-width:5}@media (prefers-color-scheme:dark)"
            "{text{fill:#e6edf3}rect{fill:#6e7681}rect.own{fill:#2f81f7}line{stroke:#0d1117}}</style>"
        ),
        f'<text x="12" y="26" font-size="16" font-weight="600">{escape(title)}</text>',
    ]
    for number, (name, value) in enumerate(values.items()):
        top = _TOP + number * _STEP
        middle_y = top + _BAR * 0.75
        long = max(1.0, room * min(value / longest, 1.0))
        own = ' class="own"' if name == "nexus" else ""
        label = escape(TITLES[name].strip("*"))
        lines += [
            f'<text x="{_LEFT - 10}" y="{middle_y}" text-anchor="end"{own}>{label}</text>',
            f'<rect x="{_LEFT}" y="{top}" width="{long:.1f}" height="{_BAR}" rx="2"{own}/>',
            f'<text x="{_LEFT + long + 8:.1f}" y="{middle_y}"{own}>{_told(value)} {unit}</text>',
        ]
        if value > longest:
            at = _LEFT + room * 0.9
            lines.append(f'<line x1="{at}" y1="{top + _BAR + 2}" x2="{at + 8}" y2="{top - 2}"/>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _told(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def plots(results: Results) -> dict[str, tuple[str, str]]:
    """Names of the plots that can be drawn, each with its title and drawing."""
    found: dict[str, tuple[str, str]] = {}

    def draw(name: str, title: str, unit: str, values: dict[str, float | None]) -> None:
        known = {key: value for key, value in values.items() if value is not None}
        if known:
            found[name] = (title, bars(title, unit, known))

    plain = results.plain.get(_SMALL, {})
    draw(
        "cpu-per-request",
        "CPU time per request, 0.3 kB in, 0.5 kB out (less is better)",
        "µs",
        {name: middle([f.cpu_us for f in one.saturated]) for name, one in plain.items()},
    )
    draw(
        "requests-per-second",
        "Requests per second on one core (more is better)",
        "/s",
        {name: middle([f.per_s for f in one.saturated]) for name, one in plain.items()},
    )
    for field in ("p50", "p99"):
        draw(
            f"latency-{field}",
            f"Added latency at half of its own saturation, {field} (less is better)",
            "ms",
            {
                name: middle([max(0.0, pair.ms(f"{field}_ms")) for pair in one.half])
                for name, one in plain.items()
            },
        )
    for case in ("100", "10000"):
        streams = results.streams.get(case, {})
        count = next((one.streams for one in streams.values()), 0)
        draw(
            f"cpu-per-event-{case}",
            f"CPU time per streamed event, {count:,} streams (less is better)",
            "µs",
            {
                name: middle([f.cpu_us for f in one.figures])
                for name, one in streams.items()
                if name != "direct"
            },
        )
    many = results.streams.get("10000", {})
    draw(
        "memory",
        f"Memory with {next((one.streams for one in many.values()), 0):,} open streams",
        "MB",
        {
            name: middle([f.rss_mb for f in one.figures])
            for name, one in many.items()
            if name != "direct"
        },
    )
    return found
