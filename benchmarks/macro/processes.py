"""The processes of a benchmark: started on the core they belong to, waited for, ended."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["ROOT", "CannotRun", "Processes", "free_port"]

ROOT = Path(__file__).resolve().parents[2]
_END_S = 10.0
_READY_S = 20.0


class CannotRun(Exception):  # noqa: N818 - what it says
    """Something is missing; the message says what and how to get it."""


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Processes:
    """A context manager that ends all that was started in it. ``directory`` holds what they write:
    ``NAME-stdout.log`` and ``NAME-stderr.log``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def spawn(
        self,
        name: str,
        command: Sequence[str],
        core: int,
        *,
        piped: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Starts a command on one core; ``piped`` when its standard output is to be read here."""
        with self.stdout(name).open("wb") as output, self._stderr(name).open("wb") as errors:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else output,
                stderr=errors,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
            )
        self._running.append(process)
        # Before it has threads or children, which inherit it.
        os.sched_setaffinity(process.pid, {core})
        return process

    def stdout(self, name: str) -> Path:
        """Where a process writes its standard output."""
        return self.directory / f"{name}-stdout.log"

    def _stderr(self, name: str) -> Path:
        return self.directory / f"{name}-stderr.log"

    def await_ready(
        self,
        name: str,
        process: subprocess.Popen[bytes],
        port: int,
        request: bytes,
        ready_s: float = _READY_S,
    ) -> None:
        """Asks until the answer is 200. Raises :class:`CannotRun`."""
        body = request.partition(b"\r\n\r\n")[2]
        headers = {"Content-Type": "application/json", "Authorization": "Bearer sk-bench"}
        end_s = time.monotonic() + ready_s
        said = "nothing"
        while time.monotonic() < end_s and process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ready_s)
            try:
                connection.request("POST", "/v1/chat/completions", body, headers)
                answer = connection.getresponse()
                said = f"{answer.status} {answer.read()[:200]!r}"
                if answer.status == 200:
                    return
            except (OSError, http.client.HTTPException) as error:
                said = str(error)
            finally:
                connection.close()
            time.sleep(0.1)
        raise CannotRun(f"{name} does not answer: {said}. {self._last_words(name)}")

    def _last_words(self, name: str) -> str:
        texts = []
        for log in (self.stdout(name), self._stderr(name)):
            if log.exists():
                texts.append(log.read_text(errors="replace").strip()[-500:])
        return " | ".join(text for text in texts if text)

    def end(self) -> None:
        """Ends every process, politely first."""
        for process in reversed(self._running):
            process.terminate()
        for process in self._running:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._running.clear()
