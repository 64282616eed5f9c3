"""The measurements, in their order: by case, then by round, then by proxy, so that whatever the
machine does besides meets all proxies alike."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from benchmarks.macro.accounting import Meter, rss_mb
from benchmarks.macro.load import Expected, Void, measure_plain, measure_streams
from benchmarks.macro.openloop import measure_latency
from benchmarks.macro.processes import CannotRun, Processes
from benchmarks.macro.servers import Upstream, start_engine
from benchmarks.macro.wire import (
    ANSWER,
    ANSWER_TEXT,
    BIG_ANSWER,
    image_body,
    long_body,
    plain_request,
    short_body,
    stream_request,
)
from benchmarks.peers.proxies import Recipe, Started, most_streams
from benchmarks.peers.results import Added, Memory, Plain, Results, Streams, middle
from benchmarks.peers.startup import measure_starts

__all__ = ["PARTS", "PLAIN_CASES", "STREAM_CASES", "Runner"]

_T = TypeVar("_T")
_CONNECTIONS = 32
_LOG_WAIT_S = 5.0


class _Tier(msgspec.Struct, frozen=True):
    """So many streams: events per second of each (0: too many for a proxy that is slow), how many
    are opened per second, and in how many rounds at most: opening them takes its time."""

    events_per_s: float
    opens_per_s: float
    slow_events_per_s: float = 0.0
    slow_opens_per_s: float = 10.0
    rounds_max: int = 100


_TIERS = {
    1: _Tier(50.0, 10.0, 50.0),
    100: _Tier(50.0, 100.0, 2.0),
    1000: _Tier(10.0, 500.0),
    10000: _Tier(1.0, 1000.0, rounds_max=2),
}


class _Case(msgspec.Struct, frozen=True):
    body: Callable[[], bytes]
    big_answer: bool = False


PLAIN_CASES = {
    "0.3 kB → 0.5 kB": _Case(short_body),
    "8 kB → 0.5 kB": _Case(long_body),
    "1 MB → 0.5 kB": _Case(image_body),
    "0.3 kB → 100 kB": _Case(short_body, big_answer=True),
}
STREAM_CASES = tuple(str(count) for count in _TIERS)


class _Running(msgspec.Struct):
    """A proxy under test."""

    recipe: Recipe
    started: Started
    meter: Meter
    lines: _Lines | None


class Runner:
    """Fills ``results`` with what it measures; ``cores`` are the proxies' and the load's."""

    def __init__(
        self,
        results: Results,
        recipes: list[Recipe],
        directory: Path,
        cores: tuple[int, int],
        *,
        inside: bool,
    ) -> None:
        self._results = results
        self._recipes = recipes
        self._directory = directory
        self._core, self._load_core = cores
        self._inside = inside

    def plain(self) -> None:
        """Plain calls: saturation, then latency."""
        with Processes(self._directory) as processes:
            upstream = Upstream(processes, self._load_core)
            running = self._start(processes, upstream.port, 1000, plain_request)
            for name, case in PLAIN_CASES.items():
                upstream.answer_with(big=case.big_answer)
                self._plain_case(name, case, running, upstream.port)
            for one in running:
                self._memory(one).loaded_mb = rss_mb(one.started.process.pid)

    def streams(self) -> None:
        """Streams: more and more of them."""
        with Processes(self._directory) as processes:
            engine = start_engine(processes, self._load_core)
            running = self._start(
                processes, engine, most_streams(10000), lambda port: stream_request(port, 1, 50.0)
            )
            for one in running:
                self._memory(one).before_streams_mb = rss_mb(one.started.process.pid)
            for case in STREAM_CASES:
                self._stream_case(case, running, engine)

    def starts(self) -> None:
        """How long ``nexus serve`` takes to its first answer."""
        with Processes(self._directory) as processes:
            upstream = Upstream(processes, self._load_core)
            self._results.start_s, notes = measure_starts(
                processes, self._core, upstream.port, inside=self._inside
            )
            self._results.notes += notes

    def _start(
        self,
        processes: Processes,
        upstream: int,
        calls: int,
        request: Callable[[int], bytes],
    ) -> list[_Running]:
        """All proxies; one that does not start is left out, with the reason."""
        running = []
        for recipe in self._recipes:
            _say(f"starting {recipe.name}")
            started = recipe.start(processes, self._core, upstream, calls)
            try:
                processes.await_ready(
                    recipe.name,
                    started.process,
                    started.port,
                    request(started.port),
                    recipe.ready_s,
                )
            except CannotRun as error:
                self._results.left_out[recipe.name] = str(error)
                _say(f"left out: {error}")
                continue
            lines = None if started.access_log is None else _Lines(started.access_log)
            meter = Meter(started.process.pid, self._core)
            running.append(_Running(recipe, started, meter, lines))
        time.sleep(1.0)
        for one in running:
            memory = self._memory(one)
            memory.idle_mb = memory.idle_mb or rss_mb(one.started.process.pid)
        return running

    def _memory(self, one: _Running) -> Memory:
        return self._results.memory.setdefault(one.recipe.name, Memory())

    def _plain_case(self, name: str, case: _Case, running: list[_Running], upstream: int) -> None:
        kept = self._results.plain[name] = {one.recipe.name: Plain() for one in running}
        body = case.body()
        answer = BIG_ANSWER if case.big_answer else ANSWER
        expected = {
            one.recipe.name: Expected(answer, ANSWER_TEXT.encode(), one.recipe.exact)
            for one in running
        }
        for number in range(self._results.rounds):
            for one in running:
                self._saturated(name, number, one, kept, body, expected[one.recipe.name])
        own = {
            proxy: rate
            for proxy, series in kept.items()
            if (rate := middle([figure.per_s for figure in series.saturated])) is not None
        }
        slow = {one.recipe.name for one in running if one.recipe.slow}
        common = min((rate for proxy, rate in own.items() if proxy not in slow), default=0.0)
        for number in range(self._results.rounds):
            for one in running:
                proxy = one.recipe.name
                if proxy not in own:
                    continue
                series = kept[proxy]
                rates = [(series.half, own[proxy] / 2)]
                if proxy not in slow:
                    rates.append((series.same, common / 2))
                for found, rate in rates:
                    self._latency(
                        f"{name}  round {number + 1}  {proxy:<14}",
                        (upstream, one.started.port, rate, self._seconds(one)),
                        (found, series.void),
                        body,
                        expected[proxy],
                    )

    def _seconds(self, one: _Running) -> float:
        """A slow proxy gets longer, to answer enough."""
        return self._results.seconds * (3.0 if one.recipe.slow else 1.0)

    def _saturated(
        self,
        case: str,
        number: int,
        one: _Running,
        kept: dict[str, Plain],
        body: bytes,
        expected: Expected,
    ) -> None:
        name = one.recipe.name
        figure = _unless_void(
            kept[name].void,
            f"{case}, saturation, {name}",
            lambda: _logged(
                one.lines,
                lambda: measure_plain(
                    one.started.port,
                    _CONNECTIONS,
                    self._seconds(one),
                    one.meter,
                    body,
                    expected,
                ),
            ),
        )
        if figure is not None:
            kept[name].saturated.append(figure)
            _say(
                f"{case}  round {number + 1}  {name:<14}{figure.cpu_us:9.1f} µs "
                f"{figure.per_s:9,.0f}/s {figure.core_share:4.0%} of a core, "
                f"others {figure.others_share:.0%}"
            )

    def _latency(
        self,
        what: str,
        load: tuple[int, int, float, float],
        found: tuple[list[Added], list[str]],
        body: bytes,
        expected: Expected,
    ) -> None:
        upstream, port, rate, seconds = load
        pair = _unless_void(
            found[1],
            f"{what} latency at {rate:,.0f}/s",
            lambda: Added(
                direct=measure_latency(
                    upstream, rate, seconds, body, expected._replace(exact=True)
                ),
                proxied=measure_latency(port, rate, seconds, body, expected),
            ),
        )
        if pair is not None:
            found[0].append(pair)
            _say(
                f"{what}{rate:8,.0f}/s adds p50 {pair.ms('p50_ms'):.2f}, p99 "
                f"{pair.ms('p99_ms'):.2f} ms (direct {pair.direct.p50_ms:.2f}, "
                f"{pair.direct.p99_ms:.2f}; late by {pair.proxied.late_p99_ms:.2f})"
            )

    def _stream_case(self, case: str, running: list[_Running], engine: int) -> None:
        tier = _TIERS[int(case)]
        self._results.streams[case] = {}
        for number in range(min(self._results.rounds, tier.rounds_max)):
            for one in (None, *running):
                self._stream_round(case, tier, number, one, engine)

    def _stream_round(
        self, case: str, tier: _Tier, number: int, one: _Running | None, engine: int
    ) -> None:
        """One proxy's turn; ``None`` is the engine without one."""
        name, slow, exact = "direct", False, True
        port, meter = engine, Meter(os.getpid(), self._core)
        if one is not None:
            name, slow, exact = one.recipe.name, one.recipe.slow, one.recipe.exact
            port, meter = one.started.port, one.meter
        events_per_s = tier.slow_events_per_s if slow else tier.events_per_s
        if not events_per_s:
            return
        count = most_streams(int(case))
        series = self._results.streams[case].setdefault(
            name, Streams(streams=count, events_per_s=events_per_s)
        )
        figure = _unless_void(
            series.void,
            f"{case} streams, {name}",
            lambda: measure_streams(
                port,
                count,
                events_per_s,
                self._results.seconds,
                meter,
                opens_per_s=tier.slow_opens_per_s if slow else tier.opens_per_s,
                exact=exact,
                during=lambda: 0.0 if one is None else rss_mb(one.started.process.pid),
            ),
        )
        if figure is not None:
            series.figures.append(figure)
            _say(
                f"{count} streams  round {number + 1}  {name:<14}{figure.cpu_us:8.1f} "
                f"µs/event, delay p99 {figure.delay_p99_ms:.2f} ms, first p50 "
                f"{figure.first_p50_ms:.2f} ms, {figure.rss_mb:.0f} MB, "
                f"others {figure.others_share:.0%}"
            )


class _Lines:
    """Counts the lines of an access log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def more(self) -> int:
        """Lines of calls since the last time; an unfinished one counts the next time."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return sum(b"/v1/chat/completions" in line for line in whole.splitlines())


def _logged(lines: _Lines | None, measure: Callable[[], _T]) -> _T:
    """A measurement in which each call has left its line in the access log: one that is not
    written, or dropped, is work not done."""
    if lines is None:
        return measure()
    lines.more()
    figure = measure()
    expected = getattr(figure, "total", 0)
    end_s = time.monotonic() + _LOG_WAIT_S
    found = lines.more()
    while found < expected and time.monotonic() < end_s:
        time.sleep(0.05)
        found += lines.more()
    if found != expected:
        raise Void(f"{found} lines in the access log for {expected} calls")
    return figure


def _unless_void(void: list[str], what: str, measure: Callable[[], _T]) -> _T | None:
    try:
        return measure()
    except (Void, OSError) as error:
        void.append(f"{what}: {error}"[:500])
        _say(f"void: {what}: {error}"[:500])
        return None
    finally:
        gc.collect()


def _say(what: str) -> None:
    sys.stderr.write(f"{what}\n")


PARTS: dict[str, Callable[[Runner], None]] = {
    "plain": Runner.plain,
    "streams": Runner.streams,
    "starts": Runner.starts,
}
"""What can be measured."""
