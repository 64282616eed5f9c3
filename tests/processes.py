"""Processes that tests start: their output in a file, every wait with a deadline, ended by pid."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["Process", "children_of", "clean_environment", "until"]

START_S = 20.0
"""How long a process may take to say that it is ready, on a loaded machine."""


def until(condition: Callable[[], object], what: str, timeout_s: float = 10.0) -> float:
    """Waits until ``condition()`` is true; returns the seconds it took. Fails saying ``what``."""
    begin_s = time.monotonic()
    while not condition():
        if time.monotonic() - begin_s > timeout_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.01)
    return time.monotonic() - begin_s


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment with ``home`` for a home, without settings of engines, gateways
    and proxies."""
    foreign = ("NEXUS_", "OLLAMA_", "LLAMA_", "XDG_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) and not name.lower().endswith("_proxy")
    }
    return {**kept, "HOME": str(home), **more}


def children_of(pid: int) -> list[int]:
    """The processes that ``pid`` started and that still run."""
    told = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, timeout=10, check=True
    ).stdout
    pairs = [line.split() for line in told.splitlines()]
    return [int(child) for child, parent in pairs if int(parent) == pid]


class Process:
    """A started process. ``log`` gets its standard output and error."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        with log.open("wb") as out:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(environment),
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def says(self, pattern: str, timeout_s: float = START_S) -> str:
        """Waits until its output matches ``pattern``; returns the first group. Fails with the end
        of its output when it ends or takes too long."""
        end_s = time.monotonic() + timeout_s
        while True:
            ended = self._popen.poll()
            match = re.search(pattern, self.output)
            if match:
                return match[1]
            if ended is not None or time.monotonic() > end_s:
                why = f"ended with {ended}" if ended is not None else f"silent for {timeout_s:g} s"
                raise AssertionError(f"{pattern!r} not said, {why}:\n{self.output[-3000:]}")
            time.sleep(0.01)

    @contextlib.contextmanager
    def ended_unless_ready(self) -> Iterator[None]:
        """Ends it when it does not become ready: what failed to start has no owner."""
        try:
            yield
        except BaseException:
            self.kill()
            raise

    def tell(self, line: str) -> None:
        """Writes a line to its standard input."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(line.encode() + b"\n")
        self._popen.stdin.flush()

    def close_stdin(self) -> None:
        """Ends its standard input."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._popen.poll() is not None

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self._popen.terminate()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._popen.kill()
        self._gone()

    def end(self, timeout_s: float = 10.0) -> int:
        """SIGTERM, after ``timeout_s`` SIGKILL; returns its exit code. May be called again."""
        self._popen.terminate()
        try:
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()
        return self._gone()

    def _gone(self) -> int:
        code = self._popen.wait(10)
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        return code
