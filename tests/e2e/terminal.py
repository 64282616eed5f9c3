"""A terminal for commands: what a person would see and type."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["Terminal", "terminal"]

DEADLINE_S = 20.0
# Makes its standard input the terminal that it belongs to, so that Ctrl-C reaches it.
_OWN_TERMINAL = (
    "import fcntl, os, sys, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """A command on a terminal; ``screen`` has all it wrote, escapes included."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.screen = ""
        self._process = process
        self._master = master
        self._seen = 0

    def shows(self, pattern: str) -> str:
        """Waits until what it wrote since the last look matches; returns that."""
        end_s = time.monotonic() + DEADLINE_S
        while True:
            found = re.compile(pattern).search(self.screen, self._seen)
            if found is not None:
                begin, self._seen = self._seen, found.end()
                return self.screen[begin : found.end()]
            if not self._read(end_s):
                raise AssertionError(f"{pattern!r} is not in {self.screen[self._seen :]!r}")

    def types(self, text: str) -> None:
        """Presses keys; ``\\x03`` is Ctrl-C, ``\\x04`` Ctrl-D."""
        os.write(self._master, text.encode())

    def kill(self, number: signal.Signals) -> None:
        """Sends a signal to the command."""
        self._process.send_signal(number)

    def ends(self) -> int:
        """Waits until the command has ended; its exit code."""
        end_s = time.monotonic() + DEADLINE_S
        while self._read(end_s):
            pass
        return self._process.wait(max(end_s - time.monotonic(), 0.1))

    def _read(self, end_s: float) -> bool:
        """Reads more; false at the end, or when ``end_s`` has passed."""
        ready, _, _ = select.select([self._master], [], [], max(end_s - time.monotonic(), 0))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux: everyone has closed the other side
            return False
        self.screen += data.decode(errors="replace")
        return bool(data)


@contextlib.contextmanager
def terminal(
    *command: str, environment: Mapping[str, str], cwd: Path, width: int = 100, height: int = 30
) -> Iterator[Terminal]:
    """Runs a command on a terminal of that size; it ends with the block."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", _OWN_TERMINAL, *command],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=dict(environment),
        cwd=cwd,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(DEADLINE_S)
        os.close(master)
