"""How long ``nexus serve`` takes from the start of its process to its first proxied answer."""

from __future__ import annotations

import socket
import sys
from statistics import median
from time import perf_counter, sleep

from benchmarks.macro.accounting import Meter
from benchmarks.macro.processes import CannotRun, Processes, free_port
from benchmarks.macro.wire import plain_request
from benchmarks.peers.results import Start

__all__ = ["START_MAX_S", "measure_starts"]

START_MAX_S = 0.6
_RUNS = 7
_LONGEST_S = 20.0
_LOOK_S = 0.002
_CONFIG = """\
[server]
port = {port}

[discovery]
enabled = {discovery}

[[backends]]
name = "upstream"
url = "http://127.0.0.1:{upstream}"
type = "openai"
"""


def measure_starts(
    processes: Processes, core: int, upstream: int, *, inside: bool
) -> tuple[dict[str, list[Start]], list[str]]:
    """By whether discovery is on, and what is to be said of them. With it, only ``inside``
    a network of its own: it looks around. Raises :class:`CannotRun`."""
    found: dict[str, list[Start]] = {}
    notes = []
    for label, discovery in (("discovery off", False), ("discovery on", True)):
        if discovery and not inside:
            notes.append("no network namespace to be had: the start with discovery not measured")
            continue
        # The first compiles the program, and reads it from the disk.
        runs = [_start(processes, core, upstream, discovery) for _ in range(1 + _RUNS)][1:]
        found[label] = runs
        sys.stderr.write(f"start, {label}: {median(one.took_s for one in runs):.3f} s\n")
    return found, notes


def _start(processes: Processes, core: int, upstream: int, discovery: bool) -> Start:
    port = free_port()
    config = processes.directory / f"start-{port}.toml"
    config.write_text(
        _CONFIG.format(port=port, upstream=upstream, discovery=str(discovery).lower())
    )
    command = [sys.executable, "-m", "nexus", "serve", "--config", str(config)]
    request = plain_request(port)
    began_s = perf_counter()
    # Compiled once, by the first run, as an installed program is; whatever is set around here.
    compiled = str(processes.directory / "pycache")
    environment = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": compiled}
    process = processes.spawn("start", command, core, environment=environment)
    said = b""
    while perf_counter() - began_s < _LONGEST_S and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=_LONGEST_S) as client:
                client.sendall(request)
                said = client.recv(65536)
        except OSError:
            said = b""
        took_s = perf_counter() - began_s
        if said.startswith(b"HTTP/1.1 200 "):
            cpu_s = Meter(process.pid, core)().proxy_s
            process.terminate()
            process.wait(_LONGEST_S)
            return Start(took_s=took_s, cpu_s=cpu_s)
        sleep(_LOOK_S)
    raise CannotRun(f"nexus serve did not answer within {_LONGEST_S:g} s: {said[:200]!r}")
