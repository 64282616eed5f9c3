"""``python -m benchmarks.micro``: what the steps of a call cost, in units of a reference loop.

Microseconds differ between machines and hours; the ratio to a loop that is timed in between, in the
same process, differs much less. ``ratios.json`` keeps the ratios by version of Python: ``--check``
fails when one of them grew by more than 60 %, ``--write`` renews them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import msgspec
from benchmarks.micro.steps import Step, reference, steps

_KEPT = Path(__file__).with_name("ratios.json")
_GROWTH_MAX = 1.6
_ROUND_S = 0.002
_ROUNDS = 25
_ROUNDS_AGAIN = 150
_ROUTE_MAX_US = {
    "route, 100 backends, 1 models": 50.0,
    "route, 100 backends, 100 models": 50.0,
    "route, 1000 backends, 1 models": 300.0,
    "route, 1000 backends, 100 models": 300.0,
}
_PYTHON = ".".join(map(str, sys.version_info[:2]))


class Found(msgspec.Struct, frozen=True):
    """A step: microseconds, and how often that is what the reference takes."""

    us: float
    ratio: float


def main() -> int:
    """Measures; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro", description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when a step became dearer")
    parser.add_argument("--write", action="store_true", help="keep what is measured")
    arguments = parser.parse_args()
    kept: dict[str, dict[str, float]] = msgspec.json.decode(_KEPT.read_bytes())
    before = kept.get(_PYTHON, {})
    gc.collect()
    gc.freeze()
    gc.disable()
    found, dearer = asyncio.run(_measure(before if arguments.check else {}))
    print(f"Python {sys.version.split()[0]}{'step':>37} {'µs':>10} {'ratio':>9} {'kept':>9}")
    for name, one in found.items():
        was = f"{before[name]:9.2f}" if name in before else "        -"
        verdict = "  DEARER" if name in dearer else ""
        print(f"{name:<50} {one.us:>10.2f} {one.ratio:>9.2f} {was}{verdict}")
    for name, most_us in _ROUTE_MAX_US.items():
        if found[name].us > most_us:
            print(f"aim missed: {name}: {found[name].us:.0f} µs, at most {most_us:g}")
    if arguments.write:
        kept[_PYTHON] = {name: round(one.ratio, 3) for name, one in found.items()}
        _KEPT.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")
    if arguments.check:
        if not before:
            print(f"no ratios are kept for Python {_PYTHON}: run it with --write")
        for name in set(before) - set(found):
            print(f"{name!r} is kept and was not measured: run it with --write")
            return 1
    return int(bool(dearer))


async def _measure(limits: dict[str, float]) -> tuple[dict[str, Found], list[str]]:
    """Each step, and the names of those that grew. One that seems to have grown is measured again
    for longer: only what stays is told."""
    found, dearer = {}, []
    for name, step in steps():
        one = _timed(step, _ROUNDS)
        limit = limits.get(name)
        if limit is not None and one.ratio > limit * _GROWTH_MAX:
            again = _timed(step, _ROUNDS_AGAIN)
            one = min(one, again, key=_ratio)
            if one.ratio > limit * _GROWTH_MAX:
                dearer.append(name)
        found[name] = one
    return found, dearer


def _ratio(found: Found) -> float:
    return found.ratio


def _timed(step: Step, rounds: int) -> Found:
    """The least of many short rounds: what else the machine does only ever adds to one. The
    reference takes turns with the step, so that both meet the same machine."""
    calls, calls_reference = _calls(step), _calls(reference)
    least = least_reference = float("inf")
    for _ in range(rounds):
        least_reference = min(least_reference, _round(reference, calls_reference))
        least = min(least, _round(step, calls))
    return Found(us=least * 1e6, ratio=least / least_reference)


def _calls(step: Callable[[], object]) -> int:
    """How many fit into a round."""
    step()
    calls = 1
    while (took_s := _round(step, calls) * calls) < _ROUND_S / 4:
        calls *= 2
    return max(1, round(calls * _ROUND_S / took_s))


def _round(step: Callable[[], object], calls: int) -> float:
    """Seconds per call."""
    began = perf_counter()
    for _ in range(calls):
        step()
    return (perf_counter() - began) / calls


if __name__ == "__main__":
    sys.exit(main())
