"""``python -m tests.simulation --runs N --seed S``: many runs, the first broken one in words."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import get_context
from typing import NamedTuple

from tests.simulation.clock import simulated_time
from tests.simulation.trace import told
from tests.simulation.world import Run, simulate

_BATCH = 50


class Summary(NamedTuple):
    """What is worth telling of a run."""

    seed: int
    broken: list[str]
    calls: int
    outcomes: dict[str, int]
    events: int
    lasted_s: float


def batch(first: int, count: int) -> list[Summary]:
    """Runs ``count`` seeds from ``first`` on."""
    # Nothing is collected within a run: when a cycle goes must not depend on the runs before.
    gc.collect()
    gc.disable()
    try:
        with simulated_time():
            return [_summary(simulate(seed)) for seed in range(first, first + count)]
    finally:
        gc.enable()


def _summary(run: Run) -> Summary:
    return Summary(run.seed, run.broken, run.calls, run.outcomes, len(run.trace), run.lasted_s)


def _batches(first: int, runs: int) -> Iterator[tuple[int, int]]:
    for at in range(0, runs, _BATCH):
        yield first + at, min(_BATCH, runs - at)


def _batch(args: tuple[int, int]) -> list[Summary]:
    return batch(*args)


def main() -> int:
    """Exit code 0: no invariant broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1, help="the first seed; the others follow it")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--seconds", type=float, default=0.0, help="begin no batch after so long")
    parser.add_argument("--trace", action="store_true", help="print the run of --seed and no other")
    parser.add_argument("--keep-going", action="store_true", help="do not end at a broken run")
    options = parser.parse_args()
    if options.trace:
        with simulated_time():
            traced = simulate(options.seed)
        _say(told(traced))
        return bool(traced.broken)
    began_s = time.monotonic()
    runs = calls = events = broken = 0
    virtual_s = 0.0
    outcomes: Counter[str] = Counter()
    with get_context("fork").Pool(options.workers) as pool:
        for results in pool.imap(_batch, _batches(options.seed, options.runs)):
            for run in results:
                runs += 1
                calls += run.calls
                events += run.events
                virtual_s += run.lasted_s
                outcomes.update(run.outcomes)
                if run.broken:
                    broken += 1
                    _say(f"seed {run.seed}: {run.broken[0]}")
                    if not options.keep_going:
                        with simulated_time():
                            _say(told(simulate(run.seed)))
                        return 1
            if runs % 5000 == 0:
                _say(f"... {runs} runs, {calls} calls, {broken} broken")
            if options.seconds and time.monotonic() - began_s > options.seconds:
                pool.terminate()
                break
    took_s = time.monotonic() - began_s
    counts = ", ".join(f"{name} {count}" for name, count in outcomes.most_common())
    _say(
        f"{runs} runs (seeds {options.seed} to {options.seed + runs - 1}), {broken} broken; "
        f"{calls} calls ({counts}), {events} events, {virtual_s / 3600:.0f} simulated hours "
        f"in {took_s:.0f} s"
    )
    return bool(broken)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
