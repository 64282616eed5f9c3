"""The stage of end-to-end tests: engines, a gateway as a process, the installed command."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from nexus.demo.engine import FakeEngine
from tests.processes import Process, clean_environment, until

__all__ = ["NEXUS", "Done", "Stage", "engines_running", "gateway_running", "run_nexus"]

NEXUS = str(Path(sys.executable).with_name("nexus"))
"""The command as it was installed."""
COMMAND_S = 30.0
"""How long a command may take on a loaded machine."""


class Done:
    """What a command came to."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr

    def __repr__(self) -> str:
        """All of it, for a failing test."""
        return f"exit {self.code}\n{self.out}\n{self.err}"

    @property
    def json(self) -> Any:
        """Standard output as JSON; the command succeeded and said nothing else."""
        assert (self.code, self.err) == (0, ""), self
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """The lines of standard output as words; the command succeeded and said nothing else."""
        assert (self.code, self.err) == (0, ""), self
        return [line.split() for line in self.out.splitlines()]


class Stage:
    """A running gateway and where commands are typed: an empty directory, a clean environment."""

    def __init__(
        self, url: str, home: Path, engines: Mapping[str, FakeEngine], process: Process
    ) -> None:
        self.url = url
        self.home = home
        self.engines = engines
        self.process = process
        self.environment = clean_environment(home, NEXUS_GATEWAY=url)

    def nexus(self, *arguments: str, stdin: str = "", **variables: str) -> Done:
        """Runs ``nexus ARGUMENTS`` with further environment variables."""
        variables = {"NEXUS_GATEWAY": self.url, **variables}
        return run_nexus(self.home, *arguments, stdin=stdin, **variables)

    def admin(self, path: str) -> Any:
        """What the admin API answers to ``GET /admin/v1`` + ``path``, asked without the command."""
        answer = httpx.get(f"{self.url}/admin/v1{path}", timeout=10, trust_env=False)
        answer.raise_for_status()
        return answer.json()

    def healthy(self) -> int:
        """How many backends are."""
        answer = httpx.get(f"{self.url}/health", timeout=10, trust_env=False)
        return int(answer.json()["backends"]["healthy"])


def run_nexus(home: Path, *arguments: str, stdin: str = "", **variables: str) -> Done:
    """Runs ``nexus ARGUMENTS`` in ``home`` with further environment variables."""
    return Done(
        subprocess.run(
            [NEXUS, *arguments],
            input=stdin,
            env=clean_environment(home, **variables),
            cwd=home,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
    )


@contextlib.contextmanager
def engines_running(*engines: FakeEngine) -> Iterator[dict[str, FakeEngine]]:
    """Engines in a loop and thread of their own, so that tests may block; by name."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(20)

    started: list[FakeEngine] = []
    try:
        for engine in engines:
            run(engine.start())
            started.append(engine)
        yield {engine.name: engine for engine in engines}
    finally:
        for engine in started:
            run(engine.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def gateway_running(
    home: Path,
    engines: Mapping[str, FakeEngine],
    *,
    settings: str = "[server]\nport = 0\n",
    discovery: str = "enabled = false",
    **variables: str,
) -> Iterator[Stage]:
    """``nexus serve`` in front of ``engines``, ready when all are healthy; ends with exit code 0.

    ``settings`` begin its configuration file, ``discovery`` is that section of it; ``variables``
    are its environment's.
    """
    file = home / "gateway.toml"
    backends = "".join(
        f'[[backends]]\nname = "{name}"\nurl = "{engine.url}"\n' for name, engine in engines.items()
    )
    file.write_text(f"{settings}\n[discovery]\n{discovery}\n\n{backends}")
    process = Process(
        [NEXUS, "serve", "--config", str(file)],
        home / "gateway.log",
        clean_environment(home, **variables),
    )
    with process.ended_unless_ready():
        url = process.says(r'"event":"listening","url":"([^"]+)"')
        for name in engines:
            ready = rf'"backend":"{name}",[^\n]*"status":"(healthy)"'
            until(lambda ready=ready: process.says(ready), f"{name} healthy")  # type: ignore[misc]
    try:
        yield Stage(url, home, engines, process)
    finally:
        code = process.end()
    assert code == 0, process.output[-3000:]
