"""CPU time and memory of a process and its children, as Linux accounts for them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

__all__ = ["Meter", "Reading", "rss_mb"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SCHEDULED = 2


def _tree(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = (task / "children").read_text()
        except (FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            continue
        for child in children.split():
            found += _tree(int(child))
    return found


def _cpu_s(pid: int) -> float:
    """User and system time of the process tree so far, seconds: every thread, living or ended.

    Read from the clock of each process (``clock_getcpuclockid(3)``, whose arithmetic this is): the
    times in ``/proc/PID/stat`` move in steps of 10 ms.
    """
    clocks = ((~member << 3) | _SCHEDULED for member in _tree(pid))
    return sum(time.clock_gettime_ns(clock) for clock in clocks) / 1e9


def _core_busy_s(core: int) -> float:
    """How long the core has worked so far, for whomever, seconds."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S
    raise ValueError(f"no core {core} in /proc/stat")


class Reading(NamedTuple):
    """CPU seconds so far: of the proxy, and of its core, whoever worked on it."""

    proxy_s: float
    core_s: float


class Meter:
    """Reads the CPU time of one proxy and of the core it is pinned to."""

    def __init__(self, pid: int, core: int) -> None:
        self._pid = pid
        self._core = core

    def __call__(self) -> Reading:
        """The state of both at this moment."""
        return Reading(_cpu_s(self._pid), _core_busy_s(self._core))


def rss_mb(pid: int) -> float:
    """Resident memory of the process tree, MB; pages that two of them share count twice."""
    total_kb = 0
    for member in _tree(pid):
        for line in Path(f"/proc/{member}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total_kb += int(line.split()[1])
    return total_kb / 1024.0
