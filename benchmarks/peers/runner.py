"""The measurements, in their order: by case, then by round, then by proxy, so that whatever the
machine does besides meets all proxies alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.macro.accounting import Meter, rss_mb
from benchmarks.macro.processes import CannotRun, Processes
from benchmarks.macro.servers import Upstream, start_engine
from benchmarks.macro.wire import plain_request, stream_request
from benchmarks.peers.plain import CASES, PlainCase
from benchmarks.peers.proxies import Recipe, most_streams
from benchmarks.peers.results import Memory, Results
from benchmarks.peers.running import Lines, Running, say
from benchmarks.peers.startup import measure_starts
from benchmarks.peers.streams import TIERS, StreamCase

__all__ = ["Runner"]

_PLAIN_CALLS = 1000


class Runner:
    """Fills ``results`` with what it measures; ``cores`` are the proxies' and the load's."""

    def __init__(
        self, results: Results, recipes: list[Recipe], directory: Path, cores: tuple[int, int]
    ) -> None:
        self._results = results
        self._recipes = recipes
        self._directory = directory
        self._core, self._load_core = cores

    def plain(self) -> None:
        """Plain calls of all sizes."""
        with Processes(self._directory) as processes:
            upstream = Upstream(processes, self._load_core)
            running = self._start(processes, upstream.port, _PLAIN_CALLS, plain_request)
            for one in running:
                self._memory(one).idle_mb = rss_mb(one.started.process.pid)
            for name, case in CASES.items():
                upstream.answer_with(big=case.big_answer)
                PlainCase(self._results, name, case, running, upstream.port).measure()
            for one in running:
                self._memory(one).loaded_mb = rss_mb(one.started.process.pid)

    def streams(self, most: int) -> None:
        """Streams: more and more of them, up to ``most`` at once."""
        with Processes(self._directory) as processes:
            engine = start_engine(processes, self._load_core)
            running = self._start(
                processes, engine, most_streams(most), lambda port: stream_request(port, 1, 50.0)
            )
            for one in running:
                self._memory(one).before_streams_mb = rss_mb(one.started.process.pid)
            for count, tier in TIERS.items():
                if count <= most:
                    StreamCase(self._results, count, tier, running, engine, self._core).measure()

    def starts(self, *, inside: bool) -> None:
        """How long ``nexus serve`` takes to its first answer; ``inside`` a network of its own."""
        with Processes(self._directory) as processes:
            upstream = Upstream(processes, self._load_core)
            self._results.starts, notes = measure_starts(
                processes, self._core, upstream.port, inside=inside
            )
            self._results.notes += notes

    def _start(
        self,
        processes: Processes,
        upstream: int,
        calls: int,
        request: Callable[[int], bytes],
    ) -> list[Running]:
        """All proxies; one that does not start is left out, with the reason."""
        running = []
        for recipe in self._recipes:
            say(f"starting {recipe.name}")
            try:
                started = recipe.start(processes, self._core, upstream, calls)
                processes.await_ready(
                    recipe.name,
                    started.process,
                    started.port,
                    request(started.port),
                    recipe.ready_s,
                )
            except (CannotRun, OSError) as error:
                self._results.left_out[recipe.name] = str(error)
                say(f"left out: {error}")
                continue
            lines = None if started.access_log is None else Lines(started.access_log)
            meter = Meter(started.process.pid, self._core)
            running.append(Running(recipe, started, meter, lines))
        time.sleep(1.0)
        return running

    def _memory(self, one: Running) -> Memory:
        return self._results.memory.setdefault(one.name, Memory())
