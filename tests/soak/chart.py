"""Series as pictures: a line of text, and an SVG with a panel for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["sparkline", "svg"]

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT, _GAP, _LEFT = 900, 90, 34, 10


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """``values`` in ``width`` characters, each the mean of its share."""
    low, high = min(values), max(values)
    span = high - low or 1.0
    shares = [
        values[len(values) * place // width : max(len(values) * (place + 1) // width, 1)]
        for place in range(min(width, len(values)))
    ]
    means = [sum(share) / len(share) for share in shares if share]
    return "".join(_BLOCKS[min(7, int((mean - low) / span * 8))] for mean in means)


def svg(title: str, series: Mapping[str, Sequence[float]], seconds: float) -> str:
    """A panel for each of ``series``, all over the same ``seconds``, each from zero to its most."""
    height = 40 + len(series) * (_HEIGHT + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + 2 * _LEFT} {height}">',
        "<style>text { font: 12px sans-serif } rect { fill: #f4f4f6 }</style>",
        f'<text x="{_LEFT}" y="20">{escape(title)}</text>',
    ]
    for number, (name, values) in enumerate(series.items()):
        top = 40 + number * (_HEIGHT + _GAP)
        most = max(values) or 1.0
        step = _WIDTH / max(len(values) - 1, 1)
        points = " ".join(
            f"{_LEFT + place * step:.1f},{top + 14 + _HEIGHT * (1 - value / most):.1f}"
            for place, value in enumerate(values)
        )
        told = f"{name}: {min(values):,.6g} to {most:,.6g}, over {seconds:.0f} s"
        parts += [
            f'<text x="{_LEFT}" y="{top + 8}">{escape(told)}</text>',
            f'<rect x="{_LEFT}" y="{top + 14}" width="{_WIDTH}" height="{_HEIGHT}"/>',
            f'<polyline points="{points}" fill="none" stroke="#2457a6" stroke-width="1.3"/>',
        ]
    return "\n".join([*parts, "</svg>\n"])
