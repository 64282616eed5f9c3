"""One soak: a gateway, three engines, load, odd clients, disturbances; then what it kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

import msgspec

from tests.chaos.load import Load
from tests.chaos.stage import Engine, Gateway, gateway_toml, launch_here
from tests.processes import Process
from tests.soak.chart import sparkline, svg
from tests.soak.observed import Sample
from tests.soak.traffic import Disturbances, OddClients

__all__ = ["Limits", "Outcome", "drift", "soak"]

_SERIES: tuple[tuple[str, Callable[[Sample], float]], ...] = (
    ("resident MB", lambda one: one.rss_bytes / 1e6),
    ("descriptors", lambda one: one.descriptors),
    ("tasks", lambda one: one.tasks),
    ("timers", lambda one: one.timers),
    ("in flight", lambda one: one.in_flight),
    ("client connections", lambda one: one.connections),
    ("buffered kB", lambda one: one.buffered_bytes / 1e3),
)


class Limits(msgspec.Struct, frozen=True):
    """What may be kept: growth of memory from the first fifth after the warm-up to the last, as a
    share; descriptors and tasks more than before the load. The warm-up is half of a short run: the
    statistics of the last five minutes fill in that time."""

    rss_drift: float = 0.03
    descriptors: int = 4
    tasks: int = 2
    warm_up_s: float = 300.0


class Outcome(msgspec.Struct, kw_only=True):
    """What a soak came to: ``broken`` is empty when all limits held."""

    broken: list[str]
    text: str
    picture: str


def drift(values: Sequence[float], warm_up: float) -> float:
    """Growth from the first fifth after ``warm_up`` (a share of all) to the last, as a share."""
    kept = values[int(len(values) * warm_up) :]
    fifth = max(len(kept) // 5, 1)
    first, last = kept[:fifth], kept[-fifth:]
    return (sum(last) / len(last)) / (sum(first) / len(first)) - 1.0


async def soak(
    home: Path, minutes: float, *, rate_per_s: float = 100.0, limits: Limits | None = None
) -> Outcome:
    """Runs one; ``home`` gets logs, samples and the picture."""
    limits = limits or Limits()
    samples_file = home / "samples.jsonl"
    pace = ("--ttft", "0.02", "--tokens", "12", "--tokens-per-second", "200")
    engines = [await asyncio.to_thread(Engine, name, home, *pace) for name in "abc"]
    try:
        config = gateway_toml(
            {one.name: one.url for one in engines},
            server="port = 0\nstream_idle_timeout_seconds = 5\nkeep_alive_seconds = 5",
            health="interval_seconds = 2\ntimeout_seconds = 0.5",
        )

        def launch(log: Path, arguments: Sequence[str]) -> Process:
            rest = [one for one in arguments if one not in ("-m", "nexus")]
            return launch_here(log, ["-m", "tests.soak.observed", str(samples_file), *rest])

        with await asyncio.to_thread(Gateway, home, config, launch=launch) as gateway:
            await gateway.healthy(3)
            await asyncio.sleep(7.0)  # connections of checks and of ours are gone
            before = _read(samples_file)[-1]
            load, odd, disturbances = await _traffic(gateway, engines, minutes, rate_per_s)
            during = [one for one in _read(samples_file) if one.at_s > before.at_s]
            await gateway.healthy(3, 30.0)
            after = await _settled(samples_file, before, limits)
            log = gateway.process.output
            gateway.process.terminate()
            code = await asyncio.to_thread(gateway.process.end, 20.0)
    finally:
        for one in engines:
            with contextlib.suppress(ProcessLookupError):
                one.go_on()
            one.kill()
    warm_up = min(limits.warm_up_s / (60.0 * minutes), 0.5)
    rss_drift = drift([one.rss_bytes for one in during], warm_up)
    faults_told = [line for line in ("internal_error", "loop_error", "Traceback") if line in log]
    checks = {
        f"outcomes {dict(load.outcomes)}": set(load.outcomes) <= {"ok", "told", "left"},
        f"odd clients wrong: {odd.wrong[:5]}": not odd.wrong,
        f"in the log: {faults_told}": not faults_told,
        f"exit code {code}": code == 0,
        f"resident memory drifts by {rss_drift:+.2%}": rss_drift < limits.rss_drift,
        f"descriptors {before.descriptors} before, {after.descriptors} after": after.descriptors
        <= before.descriptors + limits.descriptors,
        f"tasks {before.tasks} before, {after.tasks} after": after.tasks
        <= before.tasks + limits.tasks,
        f"after: in flight {after.in_flight}, at backends {after.at_backends}, timers "
        f"{after.timers}, buffered {after.buffered_bytes}": _quiet(after),
    }
    broken = [text for text, held in checks.items() if not held]
    counted = [one.objects for one in during if one.objects is not None]
    lines = [
        f"{minutes:g} minutes at {rate_per_s:g} calls/s; disturbances {dict(disturbances.done)}",
        f"kept connections found closed, calls made anew: {load.stale}",
        f"odd requests {dict(odd.asked)}",
        *(f"{'ok  ' if held else 'NOT '} {text}" for text, held in checks.items()),
        f"     objects {counted[:1]} at first, {counted[-1:]} at last",
    ]
    series = {name: [pick(one) for one in during] for name, pick in _SERIES}
    lines += [
        f"{name:20} {sparkline(values)} {min(values):.6g} to {max(values):.6g}"
        for name, values in series.items()
    ]
    picture = svg(f"Soak of {minutes:g} minutes", series, during[-1].at_s - during[0].at_s)
    return Outcome(broken=broken, text="\n".join(lines), picture=picture)


async def _traffic(
    gateway: Gateway, engines: list[Engine], minutes: float, rate_per_s: float
) -> tuple[Load, OddClients, Disturbances]:
    odd, disturbances = OddClients(gateway), Disturbances(gateway, engines)
    async with Load(gateway.address, rate_per_s, leave_share=0.05) as load:
        others = [asyncio.create_task(one.run()) for one in (odd, disturbances)]
        end_s = monotonic() + 60.0 * minutes
        while monotonic() < end_s and not any(task.done() for task in others):
            await asyncio.sleep(0.5)
        for task in others:
            task.cancel()
        ended = await asyncio.gather(*others, return_exceptions=True)
        for error in (one for one in ended if isinstance(one, Exception)):
            raise error
    return load, odd, disturbances


def _read(file: Path) -> list[Sample]:
    return [msgspec.json.decode(line, type=Sample) for line in file.read_bytes().splitlines()]


def _quiet(sample: Sample) -> bool:
    return not (sample.in_flight or sample.at_backends or sample.timers or sample.buffered_bytes)


async def _settled(file: Path, before: Sample, limits: Limits) -> Sample:
    """The state some seconds after the load: idle connections time out first."""
    for _ in range(40):
        await asyncio.sleep(0.5)
        last = _read(file)[-1]
        if _quiet(last) and last.descriptors <= before.descriptors + limits.descriptors:
            break
    return last
