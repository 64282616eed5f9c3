"""What a health tick costs: ``python -m benchmarks.micro.tick`` (part of ``make bench``).

A real gateway in front of 50 fake engines with 40 models each, of five kinds, all in one other
process on another core. Half of the models are the same everywhere, half are each engine's own. A
tick is one check of every backend. Prints requests per tick and the gateway's CPU time per tick:
of the first one, in which everything is new, and of a later one, in which nothing is.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from benchmarks.macro.accounting import Meter

from nexus.demo.engine import FakeEngine
from nexus.demo.table import DialectName

_FLEET = {"ollama": 20, "vllm": 10, "llamacpp-router": 10, "lmstudio": 5, "exo": 5}
_MODELS = 40
_INTERVAL_S = 2.0
_READY_S = 30.0
_ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro.tick", description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of the later ticks")
    parser.add_argument("--engines", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.engines:
        asyncio.run(_engines())
        return 0
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="nexus-tick-") as directory, _fleet(cores[-1]) as fleet:
        home = Path(directory)
        with _gateway(home, [], cores[0]) as (_, meter):
            start_s = meter().proxy_s
        before = fleet.told()
        with _gateway(home, fleet.urls, cores[0]) as (port, meter):
            _until_healthy(port, len(fleet.urls))
            first_s = meter().proxy_s - start_s
            first = fleet.told()["requests"] - before["requests"]
            time.sleep(_INTERVAL_S)  # the backends spread out
            began, began_s = fleet.told(), meter().proxy_s
            time.sleep(arguments.seconds)
            ended, ended_s = fleet.told(), meter().proxy_s
    ticks = (ended["checks"] - began["checks"]) / len(fleet.urls)
    requests = (ended["requests"] - began["requests"]) / ticks
    kinds = ", ".join(f"{count} {kind}" for kind, count in _FLEET.items())
    print(f"{len(fleet.urls)} backends, {_MODELS} models each ({kinds})\n")
    print("| tick | requests | CPU ms |\n|---|---:|---:|")
    print(f"| first | {first} | {first_s * 1000:.0f} |")
    print(f"| later | {requests:.0f} | {(ended_s - began_s) / ticks * 1000:.0f} |")
    return 0


class _Fleet:
    """The process of the engines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.urls: list[str] = self._line()

    def told(self) -> dict[str, int]:
        """``requests`` answered so far, and ``checks`` begun (each lists models once)."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        counts: dict[str, int] = self._line()
        return counts

    def _line(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@contextmanager
def _fleet(core: int) -> Iterator[_Fleet]:
    command = [sys.executable, "-m", "benchmarks.micro.tick", "--engines"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=_ROOT) as process:
        os.sched_setaffinity(process.pid, {core})
        yield _Fleet(process)
        assert process.stdin is not None
        process.stdin.close()


@contextmanager
def _gateway(home: Path, urls: list[str], core: int) -> Iterator[tuple[int, Meter]]:
    """A gateway that listens; its port and what measures it."""
    lines = ["[server]", "port = 0", "[discovery]", "enabled = false"]
    lines += ["[health_check]", f"interval_seconds = {_INTERVAL_S}"]
    for number, url in enumerate(urls):
        lines += ["[[backends]]", f'name = "b{number:02}"', f'url = "{url}"']
    config = home / "nexus.toml"
    config.write_text("\n".join(lines))
    command = [sys.executable, "-m", "nexus", "serve", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=_ROOT) as process:
        os.sched_setaffinity(process.pid, {core})
        try:
            assert process.stderr is not None
            for line in process.stderr:
                address = json.loads(line).get("url", "") if line.startswith("{") else ""
                if address.startswith("http"):
                    break
            else:
                raise SystemExit("tick: the gateway did not start")
            yield int(address.rstrip("/").rpartition(":")[2]), Meter(process.pid, core)
        finally:
            process.terminate()


def _until_healthy(port: int, count: int) -> None:
    end_s = time.monotonic() + _READY_S
    while time.monotonic() < end_s:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
        connection.request("GET", "/health")
        told = json.loads(connection.getresponse().read())["backends"]
        connection.close()
        if told["healthy"] == count:
            return
        time.sleep(0.05)
    raise SystemExit(f"tick: not healthy within {_READY_S:g} s: {told}")


async def _engines() -> None:
    """Runs the engines, tells their addresses, and after each line read what they have seen."""
    shared = [f"shared-{number}" for number in range(_MODELS // 2)]
    engines = []
    for kind in get_args(DialectName):
        for _ in range(_FLEET.get(kind, 0)):
            own = [f"own-{len(engines)}-{number}" for number in range(_MODELS - len(shared))]
            engine = FakeEngine(dialect=kind, models=shared + own)
            # llama.cpp's router keeps four in memory; exo serves what has an instance.
            engine.profile.loaded.update(engine.models[: 4 if kind == "llamacpp-router" else None])
            await engine.start()
            engines.append(engine)
    print(json.dumps([engine.url for engine in engines]), flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        checks = sum(
            request.path == ("/api/tags" if engine.dialect == "ollama" else "/v1/models")
            for engine in engines
            for request in engine.requests
        )
        total = sum(engine.requests_seen for engine in engines)
        print(json.dumps({"requests": total, "checks": checks}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
