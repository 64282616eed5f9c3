"""``nexus top``: figures and frames."""

from __future__ import annotations

import io
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from nexus.cli.main import main
from nexus.cli.top_data import Board, pace
from nexus.cli.top_frame import frame
from tests.unit.cli.conftest import StandIn

HEALTH = {
    "status": "degraded",
    "uptime_seconds": 61,
    "backends": {"total": 2, "healthy": 1},
    "models": 3,
}


def backend(name: str, **more: Any) -> dict[str, Any]:
    """A backend as the admin API tells it."""
    return {
        "name": name,
        "engine": "vllm",
        "status": "healthy",
        "breaker": "closed",
        "in_flight": 1,
        "capacity": 4,
        "load": {"waiting": 2},
        "ttft_ms": 80.0,
        "models": [{"id": "llama"}],
        **more,
    }


def call(number: int, **more: Any) -> dict[str, Any]:
    """A call as the history tells it: 41 tokens in 2 s after the first."""
    return {
        "at": 0.0,
        "model": "llama",
        "served_model": "llama",
        "backend": "gpu",
        "attempts": [{"backend": "old"}, {"backend": "gpu"}],
        "outcome": "ok",
        "ttft_ms": 100.0,
        "duration_ms": 2100.0,
        "tokens": {"completion": 41},
        "reason": f"reason-{number}",
        **more,
    }


def board() -> Board:
    """Figures of a small fleet."""
    made = Board()
    made.health = HEALTH
    made.backends = [backend("gpu"), backend("old", status="unhealthy", models=[])]
    made.totals = {"requests": {"total": 9, "in_flight": 1}}
    made.recent = {
        "backends": [{"name": "gpu", "requests": 7, "errors": 1}],
        "models": [{"name": "llama", "requests": 7, "ttft_ms": {"p50": 90.0}}],
    }
    made.calls = [call(number) for number in range(30)]
    return made


def drawn(made: Board, width: int, height: int | None = None) -> list[str]:
    """The lines of a frame."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None)
    console.print(frame(made, width=width, height=height))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_frame() -> None:
    """Summary, backends, models and last calls with their figures."""
    lines = [" ".join(line.split()) for line in drawn(board(), 120)]
    assert lines[0].startswith("nexus degraded up 1 min 1 s 1/2 backends 3 models 1 in flight")
    assert "gpu vllm healthy 1/4 2 80 ms 20 7 1 1" in lines
    assert "old vllm unhealthy 1/4 2 80 ms - 0 0 0" in lines
    assert "llama gpu 7 90 ms 20 - -" in lines
    assert sum("old > gpu ok 100 ms 20 2100 ms reason-" in line for line in lines) == 10


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_frame_fits_the_width(width: int) -> None:
    """No line is longer than the terminal is wide; names and states are left at any width."""
    lines = drawn(board(), width)
    assert max(map(len, lines)) <= width
    assert any("unhealthy" in line for line in lines)


@pytest.mark.parametrize("height", [12, 16, 24, 50])
def test_a_frame_fits_the_height(height: int) -> None:
    """The rows that matter least are left out; each table keeps at least one."""
    lines = drawn(board(), 120, height)
    assert len(lines) <= height
    for text in ("gpu  ", "llama  ", "reason-0"):
        assert any(text in line for line in lines)


def test_an_open_breaker_shows() -> None:
    """A healthy backend whose breaker is open is shown as such."""
    made = board()
    made.backends = [backend("gpu", breaker="open")]
    assert any(" open " in line for line in drawn(made, 120))


def test_an_empty_fleet_says_what_to_do() -> None:
    """Without a backend the frame tells how to add one."""
    made = Board()
    made.health = HEALTH
    assert any("nexus backends add URL" in line for line in drawn(made, 80))


def test_nothing_a_backend_says_steers_the_terminal() -> None:
    """Names from outside are escaped."""
    made = board()
    made.backends = [backend("g\x1b[2Jpu", models=[{"id": "a\nb"}])]
    made.calls = [call(1, model="[red]x[/red]\x07")]
    text = "\n".join(drawn(made, 120))
    assert "g\\x1b[2Jpu" in text
    assert "a\\nb" in text
    assert "[red]x[/red]\\x07" in text


@pytest.mark.parametrize(
    ("more", "tokens_per_s"),
    [
        ({}, 20.0),
        ({"ttft_ms": None, "duration_ms": 2000.0}, 20.0),
        ({"tokens": {"completion": None, "estimated": 41}}, 20.0),
        ({"tokens": None}, None),
        ({"tokens": {"completion": 1}}, None),
        ({"duration_ms": 100.0}, None),
        ({"duration_ms": None}, None),
    ],
)
def test_the_pace_of_a_call(more: dict[str, Any], tokens_per_s: float | None) -> None:
    """Tokens after the first by the time after the first; unknown stays unknown."""
    assert pace(call(0, **more)) == tokens_per_s


def test_rates_are_of_the_last_seconds() -> None:
    """Counts between looks make rates; a gateway that began anew makes none below zero."""
    made = Board()

    def look(at_s: float, requests: int, tokens: int) -> tuple[float | None, float | None]:
        made.totals = {"requests": {"total": requests}, "tokens": {"completion": tokens}}
        made._count(at_s)
        return made.requests_per_s, made.tokens_per_s

    assert look(0.0, 10, 100) == (None, None)
    assert look(2.0, 20, 300) == (5.0, 100.0)
    for at_s in range(3, 20):
        rates = look(float(at_s), 20, 300)
    assert rates == (0.0, 0.0)
    assert look(21.0, 1, 5) == (0.0, 0.0)
    assert look(22.0, 3, 5) == (2.0, 0.0)


def test_once_prints_a_plain_frame(
    runner: CliRunner, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--once, and any output that is no terminal: one frame without an escape; exit 0."""
    monkeypatch.setenv("NEXUS_GATEWAY", stand_in.url)
    stats = {"requests": {"in_flight": 3}}
    stand_in.answers = {
        "/health": (200, HEALTH),
        "/admin/v1/backends": (200, {"data": [backend("gpu")]}),
        "/admin/v1/stats": (200, stats),
        "/admin/v1/stats?window=1m": (200, stats),
        "/admin/v1/history?limit=100": (200, {"data": [call(0)]}),
    }
    for arguments in (["top", "--once"], ["top"]):
        result = runner.invoke(main, arguments)
        assert result.exit_code == 0
        assert "3 in flight" in result.stdout
        assert "old > gpu" in result.stdout
        assert "\x1b" not in result.stdout
