"""``python -m benchmarks.peers`` (``make bench-peers``): see ``docs/performance.md``."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec
from benchmarks.macro.awake import awake
from benchmarks.macro.processes import ROOT, CannotRun
from benchmarks.macro.report import machine, now
from benchmarks.peers.documents import write_documents
from benchmarks.peers.proxies import PROXIES, Recipe, raise_open_files
from benchmarks.peers.results import Results
from benchmarks.peers.runner import Runner
from benchmarks.peers.tables import markdown

_PARTS = ("plain", "streams", "starts")
_KEPT = ROOT / "benchmarks" / "results"


def _arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description="Nexus beside nginx, HAProxy, vllm-router, smg and LiteLLM: CPU time, "
        "throughput, latency, memory; plain calls and streams.",
    )
    names = ",".join(recipe.name for recipe in PROXIES)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind")
    parser.add_argument(
        "--streams", type=int, default=10000, help="only as many at once: 1, 100, 1000 or 10000"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a first look: 1 round of 1 s, up to 1,000 streams"
    )
    parser.add_argument(
        "--let-sleep", action="store_true", help="let idle cores sleep: who wakes them pays for it"
    )
    parser.add_argument("--only", default=names, help=f"proxies, of {names}")
    parser.add_argument("--parts", default=",".join(_PARTS), help=f"of {','.join(_PARTS)}")
    parser.add_argument("--write-docs", action="store_true", help="renew docs/performance.md")
    parser.add_argument("--show", type=Path, metavar="JSON", help="an earlier run, no new one")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--left-out", default="{}", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.quick:
        arguments.seconds, arguments.rounds = 1.0, 1
        arguments.streams = min(arguments.streams, 1000)
    for given, known in (
        (arguments.only, [recipe.name for recipe in PROXIES]),
        (arguments.parts, _PARTS),
    ):
        for name in given.split(","):
            if name not in known:
                parser.error(f"there is no {name!r}: choose from {', '.join(known)}")
    return arguments


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    arguments = _arguments()
    if arguments.show is not None:
        results = msgspec.json.decode(arguments.show.read_bytes(), type=Results)
    else:
        left_out = msgspec.json.decode(arguments.left_out, type=dict[str, str])
        versions = _prepare(arguments.only.split(","), left_out)
        if not arguments.inside and _own_network_works():
            _go_into_own_network(left_out)
        signal.signal(signal.SIGTERM, _end)  # with all that was started
        try:
            results = _run(arguments, versions, left_out)
        except CannotRun as error:
            sys.stderr.write(f"benchmark: {error}\n")
            return 1
        _KEPT.mkdir(exist_ok=True)
        stem = "peers-" + results.at[:16].replace(" ", "-").replace(":", "")
        kept = msgspec.json.format(msgspec.json.encode(results), indent=1)
        (_KEPT / f"{stem}.json").write_bytes(kept)
        (_KEPT / f"{stem}.md").write_text(markdown(results))
    print(markdown(results))
    if arguments.write_docs:
        write_documents(results)
    return 0


def _prepare(names: Sequence[str], left_out: dict[str, str]) -> dict[str, str]:
    """The versions of what can be measured; ``left_out`` gets the reasons of the rest."""
    versions = {}
    for recipe in PROXIES:
        if recipe.name not in names or recipe.name in left_out:
            continue
        try:
            versions[recipe.name] = recipe.prepare()
        except (CannotRun, OSError, subprocess.CalledProcessError) as error:
            left_out[recipe.name] = str(error)
            sys.stderr.write(f"left out: {error}\n")
    return versions


_NAMESPACE = "ip link set lo up && "


def _unshare() -> tuple[str, ...]:
    return ("unshare", "-n" if os.geteuid() == 0 else "-rn", "sh", "-c")


def _own_network_works() -> bool:
    """Whether a network namespace can be had: nothing that is measured reaches anything else."""
    try:
        command = (*_unshare(), f"{_NAMESPACE}true")
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _go_into_own_network(left_out: dict[str, str]) -> NoReturn:
    """Becomes this program again, with a network of its own."""
    reasons = msgspec.json.encode(left_out).decode()
    words = ["-m", "benchmarks.peers", *sys.argv[1:], "--inside", "--left-out", reasons]
    again = (*_unshare(), _NAMESPACE + 'exec "$0" "$@"', sys.executable, *words)
    os.chdir(ROOT)
    os.execvp(again[0], again)  # noqa: S606


def _end(*_: object) -> NoReturn:
    raise SystemExit(1)


def _run(
    arguments: argparse.Namespace, versions: dict[str, str], left_out: dict[str, str]
) -> Results:
    if not hasattr(os, "sched_getaffinity"):
        raise CannotRun("CPU time is read as Linux tells it: run this on Linux")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise CannotRun("two cores are needed: one for the proxy, one for the load")
    raise_open_files(arguments.streams)
    results = Results(
        at=now(),
        machine=machine(),
        versions=versions,
        left_out=left_out,
        seconds=arguments.seconds,
        rounds=arguments.rounds,
        load_1m=os.getloadavg()[0],
    )
    recipes = [recipe for recipe in PROXIES if recipe.name in versions]
    os.sched_setaffinity(0, {cores[1]})
    gc.disable()  # a collection of ours is not a delay of theirs
    with awake(not arguments.let_sleep) as idle_cores:
        results.machine["idle cores"] = idle_cores
        _measure(arguments, results, recipes, (cores[0], cores[1]))
    return results


def _measure(
    arguments: argparse.Namespace,
    results: Results,
    recipes: list[Recipe],
    cores: tuple[int, int],
) -> None:
    for part in arguments.parts.split(","):
        with tempfile.TemporaryDirectory(prefix="nexus-peers-") as directory:
            runner = Runner(results, recipes, Path(directory), cores)
            if part == "plain":
                runner.plain()
            elif part == "streams":
                runner.streams(arguments.streams)
            else:
                runner.starts(inside=arguments.inside)


if __name__ == "__main__":
    sys.exit(main())
