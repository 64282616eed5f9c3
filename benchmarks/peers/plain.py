"""Plain calls: CPU time and throughput at saturation, then latency."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from benchmarks.macro.load import Expected, measure_plain
from benchmarks.macro.openloop import Latency, measure_latency
from benchmarks.macro.wire import (
    ANSWER,
    ANSWER_TEXT,
    BIG_ANSWER,
    image_body,
    long_body,
    short_body,
)
from benchmarks.peers.results import Added, Plain, Results, middle
from benchmarks.peers.running import Running, logged, say, unless_void

__all__ = ["CASES", "Case", "PlainCase"]

_CONNECTIONS = 32
_SLOW_LONGER = 3.0


class Case(msgspec.Struct, frozen=True):
    """A size of requests and of answers."""

    body: Callable[[], bytes]
    big_answer: bool = False


CASES = {
    "0.3 kB → 0.5 kB": Case(short_body),
    "8 kB → 0.5 kB": Case(long_body),
    "1 MB → 0.5 kB": Case(image_body),
    "0.3 kB → 100 kB": Case(short_body, big_answer=True),
}


class PlainCase:
    """One size, on all proxies; fills ``results``."""

    def __init__(
        self, results: Results, name: str, case: Case, running: list[Running], upstream: int
    ) -> None:
        self._name = name
        self._rounds = results.rounds
        self._seconds = results.seconds
        self._running = running
        self._upstream = upstream
        self._body = case.body()
        self._answer = BIG_ANSWER if case.big_answer else ANSWER
        self._kept = results.plain[name] = {one.name: Plain() for one in running}

    def measure(self) -> None:
        """Saturation in all rounds, from which the rates follow; then latency in all rounds."""
        for number in range(self._rounds):
            for one in self._running:
                self._saturate(number, one)
        rates = {
            one.name: rate
            for one in self._running
            if (rate := middle([each.per_s for each in self._kept[one.name].saturated]))
        }
        fast = [one for one in self._running if one.name in rates and not one.recipe.slow]
        same = min((rates[one.name] for one in fast), default=0.0) / 2
        for number in range(self._rounds):
            # At the rate that is the same for all, one look at the upstream serves all.
            void = [] if not fast else self._kept[fast[0].name].void
            direct = self._look(void, None, same) if fast else None
            for one in self._running:
                kept = self._kept[one.name]
                if one.name in rates:
                    half = rates[one.name] / 2
                    upstream = self._look(kept.void, None, half, slow=one.recipe.slow)
                    self._add(number, one, kept.half, upstream)
                if one in fast:
                    self._add(number, one, kept.same, direct)

    def _saturate(self, number: int, one: Running) -> None:
        kept = self._kept[one.name]
        figure = unless_void(
            kept.void,
            f"{self._name}, saturation, {one.name}",
            lambda: logged(
                one.lines,
                lambda: measure_plain(
                    one.started.port,
                    _CONNECTIONS,
                    self._long(slow=one.recipe.slow),
                    one.meter,
                    self._body,
                    self._expected(one),
                ),
            ),
        )
        if figure is not None:
            kept.saturated.append(figure)
            say(
                f"{self._name}  round {number + 1}  {one.name:<14}{figure.cpu_us:9.1f} µs "
                f"{figure.per_s:9,.0f}/s {figure.core_share:4.0%} of a core, "
                f"others {figure.others_share:.0%}"
            )

    def _add(self, number: int, one: Running, found: list[Added], direct: Latency | None) -> None:
        """The same load as ``direct`` saw, through the proxy."""
        if direct is None:
            return
        kept = self._kept[one.name]
        proxied = self._look(kept.void, one, direct.rate, slow=one.recipe.slow)
        if proxied is None:
            return
        pair = Added(direct=direct, proxied=proxied)
        found.append(pair)
        say(
            f"{self._name}  round {number + 1}  {one.name:<14}{direct.rate:8,.0f}/s adds p50 "
            f"{pair.ms('p50_ms'):.2f}, p99 {pair.ms('p99_ms'):.2f} ms (direct {direct.p50_ms:.2f}, "
            f"{direct.p99_ms:.2f}; late by {proxied.late_p99_ms:.2f})"
        )

    def _look(
        self, void: list[str], one: Running | None, rate: float, *, slow: bool = False
    ) -> Latency | None:
        """Latency at a rate, through a proxy or straight to the upstream."""
        port = self._upstream if one is None else one.started.port
        name = "the upstream itself" if one is None else one.name
        return unless_void(
            void,
            f"{self._name}, latency at {rate:,.0f}/s, {name}",
            lambda: measure_latency(
                port, rate, self._long(slow=slow), self._body, self._expected(one)
            ),
        )

    def _long(self, *, slow: bool) -> float:
        """Seconds of a measurement; a slow proxy gets longer, to answer enough."""
        return self._seconds * (_SLOW_LONGER if slow else 1.0)

    def _expected(self, one: Running | None) -> Expected:
        return Expected(self._answer, ANSWER_TEXT.encode(), one is None or one.recipe.exact)
