"""The soak itself: what it counts as drift, what it draws, and a short one."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.soak.chart import sparkline, svg
from tests.soak.run import Limits, drift, soak


def test_drift_leaves_the_warm_up_out() -> None:
    """Growth counts from the first fifth after the warm-up to the last fifth."""
    assert drift([1.0, 50.0] + [100.0] * 8, 0.2) == 0.0
    assert drift([0.0] * 20 + [100.0] * 40 + [110.0] * 40, 0.2) == pytest.approx(0.1)
    assert drift([5.0], 0.2) == 0.0


def test_pictures() -> None:
    """A line of blocks from least to most; an SVG with one panel for each series."""
    assert sparkline([0.0, 1.0, 2.0, 3.0], 4) == "▁▃▆█"
    assert sparkline([7.0, 7.0]) == "▁▁"
    root = ET.fromstring(svg("a < b", {"one": [1.0, 2.0], "none": [0.0]}, 2.0))  # noqa: S314 - our own
    assert len(root.findall("{*}polyline")) == 2
    assert next(text.text for text in root.findall("{*}text")) == "a < b"


@pytest.mark.slow
async def test_a_minute_of_it_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A minute of traffic, faults and reloads: no call fails, and descriptors, tasks, timers and
    calls in flight are what they were. (Memory takes longer to settle: `make soak`.)"""
    outcome = await soak(tmp_path, 1.0, limits=Limits(rss_drift=0.2))
    with capsys.disabled():
        print(f"\n{outcome.text}")  # noqa: T201 - the figures are what this test is for
    assert outcome.broken == []
