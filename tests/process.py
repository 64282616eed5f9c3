"""Nexus as processes of their own: what tests of start, signals, speed and memory stand on."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["NexusProcess", "resident_bytes"]

DEADLINE_S = 20.0
"""How long a process may take to say or do something on a loaded machine before the test fails."""


class NexusProcess:
    """``nexus ARGUMENTS`` as a context manager; whatever happens inside, the process ends with it.

    Its log (standard error, JSON lines) is read all the time and kept in ``log``. ``environment``
    has further variables. Discovery is off unless they say otherwise: it would find what else runs
    on this machine.
    """

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._arguments = arguments
        self._environment = {"NEXUS_DISCOVERY__ENABLED": "false", **(environment or {})}
        self.log: list[dict[str, Any]] = []
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("NEXUS_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nexus", *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**inherited, **self._environment},
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        assert self._process.stderr is not None
        self._process.stderr.close()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def said(self, event: str, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        """Blocks until the log line ``event`` came and returns it; each line is given once."""
        while True:
            try:
                line = self._events.get(timeout=timeout_s)
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"the process never said {event!r}, but: {self.log}")
            if line.get("event") == event:
                return line

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def exit_code(self, timeout_s: float = DEADLINE_S) -> int:
        """Blocks until the process has ended by itself; ``TimeoutExpired`` if it does not."""
        return self._process.wait(timeout_s)

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            try:
                line = json.loads(raw)
            except ValueError:
                line = {"event": None, "text": raw.decode("utf-8", "replace").rstrip()}
            self.log.append(line)
            self._events.put(line)
        self._events.put(None)


def resident_bytes(pid: int) -> int:
    """The resident memory of a process: ``VmRSS`` of proc(5), or what ps(1) says."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        told = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=True)
        return int(told.stdout) * 1024
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024
