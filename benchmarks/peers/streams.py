"""Streams: CPU time per event, delays, memory, with more and more of them."""

from __future__ import annotations

import os

import msgspec
from benchmarks.macro.accounting import Meter, rss_mb
from benchmarks.macro.load import measure_streams
from benchmarks.peers.proxies import most_streams
from benchmarks.peers.results import Results, Streams
from benchmarks.peers.running import Running, say, unless_void

__all__ = ["TIERS", "StreamCase", "Tier"]


_PERIODS_MIN = 2


class Tier(msgspec.Struct, frozen=True):
    """So many streams: events per second of each (0: too many for a proxy that is slow), how many
    are opened per second, and in how many rounds at most: opening them takes its time."""

    events_per_s: float
    opens_per_s: float
    slow_events_per_s: float = 0.0
    slow_opens_per_s: float = 10.0
    rounds_max: int = 100


TIERS = {
    1: Tier(50.0, 10.0, 50.0),
    100: Tier(50.0, 100.0, 2.0),
    1000: Tier(10.0, 500.0),
    10000: Tier(1.0, 1000.0, rounds_max=2),
}


class StreamCase:
    """So many streams, through all proxies; fills ``results``."""

    def __init__(
        self,
        results: Results,
        count: int,
        tier: Tier,
        running: list[Running],
        engine: int,
        core: int,
    ) -> None:
        self._rounds = min(results.rounds, tier.rounds_max)
        self._seconds = results.seconds
        self._count = most_streams(count)
        if self._count < count:
            results.notes.append(
                f"{count:,} streams: with the open files that this machine allows a process, "
                f"{self._count:,} were measured"
            )
        self._tier = tier
        self._running = running
        self._engine = engine
        self._core = core
        self._kept: dict[str, Streams] = {}
        results.streams[str(count)] = self._kept

    def measure(self) -> None:
        """All rounds; first without a proxy."""
        for number in range(self._rounds):
            for one in (None, *self._running):
                self._measure(number, one)

    def _measure(self, number: int, one: Running | None) -> None:
        """One proxy's turn; ``None`` is the engine without one."""
        tier = self._tier
        name, slow, exact = "direct", False, True
        port, meter = self._engine, Meter(os.getpid(), self._core)
        if one is not None:
            name, slow, exact = one.name, one.recipe.slow, one.recipe.exact
            port, meter = one.started.port, one.meter
        events_per_s = tier.slow_events_per_s if slow else tier.events_per_s
        if not events_per_s:
            return
        series = self._kept.setdefault(
            name, Streams(streams=self._count, events_per_s=events_per_s)
        )
        figure = unless_void(
            series.void,
            f"{self._count:,} streams, {name}",
            lambda: measure_streams(
                port,
                self._count,
                events_per_s,
                max(self._seconds, _PERIODS_MIN / events_per_s),
                meter,
                opens_per_s=tier.slow_opens_per_s if slow else tier.opens_per_s,
                exact=exact,
                during=lambda: 0.0 if one is None else rss_mb(one.started.process.pid),
            ),
        )
        if figure is not None:
            series.figures.append(figure)
            say(
                f"{self._count} streams  round {number + 1}  {name:<14}{figure.cpu_us:8.1f} "
                f"µs/event, delay p99 {figure.delay_p99_ms:.2f} ms, first p50 "
                f"{figure.first_p50_ms:.2f} ms, {figure.rss_mb:.0f} MB, "
                f"others {figure.others_share:.0%}"
            )
