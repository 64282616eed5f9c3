"""How long a person waits for the command line: ``python benchmarks/micro/cli.py``.

``nexus --help`` imports little more than click, ``nexus health`` also reads the configuration and
asks a running gateway. Each is run as a process of its own, the installed command, 10 times after 2
warm-ups: the median and the least of the time that passes, and the median of the CPU time, which
other programs on the machine change less. Exit code 1 when even the least is over the limit: what
else the machine does only adds to a run.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

NEXUS = str(Path(sys.executable).with_name("nexus"))
RUNS, WARM_UPS = 10, 2
START_S = 20.0
LIMITS_MS = {"--version": 150.0, "--help": 150.0, "health": 250.0, "backends list": 250.0}


def main() -> int:
    """Measures; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="nexus-bench-") as directory:
        home = Path(directory)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("NEXUS_")}
        environment |= {"HOME": directory, "NEXUS_DISCOVERY__ENABLED": "false"}
        log = home / "gateway.log"
        with log.open("wb") as out:
            gateway = subprocess.Popen(
                [NEXUS, "serve", "--port", "0"],
                stdout=out,
                stderr=out,
                cwd=home,
                env=environment,
            )
        try:
            environment["NEXUS_GATEWAY"] = _url(log)
            return _measure(home, environment)
        finally:
            gateway.terminate()
            gateway.wait(START_S)


def _measure(home: Path, environment: dict[str, str]) -> int:
    worst = 0
    print(f"{'Command':<22} {'median':>8} {'least':>8} {'CPU':>8} {'limit':>8}")
    for command, limit_ms in LIMITS_MS.items():
        spent_ms, cpu_ms = [], []
        for number in range(WARM_UPS + RUNS):
            begin_s, begin_cpu_s = time.perf_counter(), _cpu_s()
            subprocess.run(
                [NEXUS, *command.split()],
                stdout=subprocess.DEVNULL,
                cwd=home,
                env=environment,
                check=True,
            )
            if number >= WARM_UPS:
                spent_ms.append((time.perf_counter() - begin_s) * 1000)
                cpu_ms.append((_cpu_s() - begin_cpu_s) * 1000)
        middle_ms = median(spent_ms)
        over = min(spent_ms) > limit_ms
        worst |= over
        verdict = "  OVER THE LIMIT" if over else "  (busy?)" if middle_ms > limit_ms else ""
        print(
            f"nexus {command:<16} {middle_ms:>5.0f} ms {min(spent_ms):>5.0f} ms "
            f"{median(cpu_ms):>5.0f} ms {limit_ms:>5.0f} ms{verdict}"
        )
    return int(worst)


def _cpu_s() -> float:
    """CPU time of children that have ended; the gateway has not."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _url(log: Path) -> str:
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s:
        found = re.search(r'"url":\s*"(http://[^"]+)"', log.read_text(errors="replace"))
        if found:
            return found[1]
        time.sleep(0.02)
    raise SystemExit(f"the gateway did not start:\n{log.read_text(errors='replace')[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
