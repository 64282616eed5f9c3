"""A gateway and its engines, each a process of its own: to be killed, stopped, restarted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Self

import httpx

from tests.chaos.load import Load
from tests.harness import eventually
from tests.processes import Process, clean_environment

__all__ = ["Engine", "Gateway", "Launch", "Phases", "gateway_toml", "launch_here", "stage"]

_ROOT = Path(__file__).parents[2]
RECOVERY_S = 15.0
"""Behaviour § 4: who is back serves again within this time."""

Launch = Callable[[Path, Sequence[str]], Process]
"""Starts ``python ARGUMENTS`` with its output in a file."""


def launch_here(log: Path, arguments: Sequence[str]) -> Process:
    """On this machine."""
    paths = [str(_ROOT), str(_ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = clean_environment(log.parent, PYTHONPATH=os.pathsep.join(paths))
    return Process([sys.executable, *arguments], log, environment)


class Engine:
    """A fake engine as a process; it keeps its port from start to start."""

    def __init__(
        self,
        name: str,
        home: Path,
        *options: str,
        launch: Launch = launch_here,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.name = name
        self._home = home
        self._options = options
        self._launch = launch
        self._starts = 0
        self.host = host
        self.port = port
        self.start()

    def start(self) -> None:
        """Starts it; returns when it listens."""
        self._starts += 1
        command = ["-m", "nexus", "demo-engine", "--type", "vllm", "--name", self.name]
        command += ["--host", self.host, "--port", str(self.port), *self._options]
        self.process = self._launch(self._home / f"{self.name}-{self._starts}.log", command)
        with self.process.ended_unless_ready():
            self.port = int(self.process.says(rf"http://{self.host}:(\d+)"))

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.host}:{self.port}"

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def stop(self) -> None:
        """SIGSTOP: it answers nothing, the kernel goes on to accept for it."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        os.kill(self.process.pid, signal.SIGCONT)

    async def speed(self, **speed: float) -> None:
        """How fast it answers from now on: fields of ``Speed``."""
        await self._control("POST", "speed", speed)

    async def fault(self, mode: str, **order: Any) -> None:
        """How it fails from now on: fields of ``FaultOrder``."""
        await self._control("POST", "fault", {"mode": mode, **order})

    async def _control(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=20.0) as client:
            answer = await client.request(method, f"{self.url}/_demo/{path}", json=body)
            assert answer.status_code == 200, answer.text


def gateway_toml(
    backends: Mapping[str, str],
    *,
    server: str = "port = 0",
    health: str = "",
    backend: str = 'type = "vllm"',
    discovery: str = "enabled = false",
) -> str:
    """A configuration, without discovery unless told otherwise."""
    tables = [f"[server]\n{server}", f"[health_check]\n{health}", f"[discovery]\n{discovery}"]
    tables += [
        f'[[backends]]\nname = "{name}"\nurl = "{url}"\n{backend}' for name, url in backends.items()
    ]
    return "\n".join([*tables, '[logging]\nformat = "json"\n'])


class Gateway:
    """``nexus serve`` as a process. ``descriptors`` is its limit of open files, soft and hard."""

    def __init__(
        self, home: Path, config: str, *, launch: Launch = launch_here, descriptors: int = 0
    ) -> None:
        self.config = home / "nexus.toml"
        self.config.write_text(config)
        # Standard output has a line for each call; standard error is what operators read.
        command = ["-m", "nexus", "serve", "--config", str(self.config)]
        if descriptors:
            command = ["-m", "tests.chaos.limited", str(descriptors), *command[2:]]
        self.process = launch(home / "gateway.log", command)
        with self.process.ended_unless_ready():
            where = self.process.says(r'"url":\s*"([^"]+)"')
        self.address: int | str = (
            where.removeprefix("unix:")
            if where.startswith("unix:")
            else int(where.rpartition(":")[2])
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.process.ended:
            self.process.kill()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert isinstance(self.address, int)
        return self.address

    @property
    def client(self) -> httpx.AsyncClient:
        """A client for its pages; to be closed."""
        unix = self.address if isinstance(self.address, str) else None
        return httpx.AsyncClient(
            base_url="http://localhost" if unix else f"http://127.0.0.1:{self.address}",
            transport=httpx.AsyncHTTPTransport(uds=unix),
            timeout=20.0,
        )

    async def get(self, path: str) -> Any:
        """The JSON at ``path``."""
        async with self.client as client:
            return (await client.get(path)).json()

    async def healthy(self, count: int, timeout_s: float = 20.0) -> None:
        """Waits until so many backends are healthy."""
        end_s = monotonic() + timeout_s
        while (await self.get("/health"))["backends"]["healthy"] != count:
            assert monotonic() < end_s, f"not {count} backends healthy within {timeout_s:g} s"
            await asyncio.sleep(0.05)

    async def at_rest(self, timeout_s: float = 20.0) -> None:
        """Waits until no call is in flight, at any backend."""
        end_s = monotonic() + timeout_s
        while True:
            in_flight = (await self.get("/admin/v1/stats"))["requests"]["in_flight"]
            backends = (await self.get("/admin/v1/backends"))["data"]
            at_backends = {one["name"]: one["in_flight"] for one in backends}
            if in_flight == 0 and not any(at_backends.values()):
                return
            assert monotonic() < end_s, f"in flight: {in_flight}, at backends {at_backends}"
            await asyncio.sleep(0.05)

    def descriptors(self) -> int:
        """How many files it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208 - half the cost


@contextlib.asynccontextmanager
async def stage(
    home: Path, *names: str, engine: Sequence[str] = (), **config: Any
) -> AsyncIterator[tuple[Gateway, list[Engine]]]:
    """A gateway in front of fake engines, all of them healthy. ``engine`` has options of
    ``nexus demo-engine``; at the end nothing may be in flight any more."""
    engines: list[Engine] = []
    try:
        for name in names:
            engines.append(await asyncio.to_thread(Engine, name, home, *engine))
        toml = gateway_toml({one.name: one.url for one in engines}, **config)
        with await asyncio.to_thread(Gateway, home, toml) as gateway:
            await gateway.healthy(len(engines))
            yield gateway, engines
            await gateway.at_rest()
            assert '"internal_error"' not in gateway.process.output
            assert '"loop_error"' not in gateway.process.output
    finally:
        for one in engines:
            one.process.kill()


class Phases:
    """The phases of a run, and what became of calls in each: a table for people."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._marks: list[tuple[str, float]] = []
        self.notes: dict[str, str] = {}

    def begin(self, name: str) -> float:
        """A phase begins; returns when, monotonic seconds."""
        now_s = monotonic()
        self._marks.append((name, now_s))
        return now_s

    async def last(self, seconds: float) -> None:
        """Lets the phase go on for some time."""
        await asyncio.sleep(seconds)

    async def serving(self, name: str, since_s: float, timeout_s: float = RECOVERY_S) -> float:
        """Waits until ``name`` has answered a call that began after ``since_s``; the seconds it
        took."""
        calls = self._load.calls
        seen = len(calls)

        def served() -> bool:
            nonlocal seen
            fresh, seen = calls[seen:], len(calls)
            return any(
                call.backend == name and call.outcome == "ok" and call.began_s > since_s
                for call in fresh
            )

        await eventually(served, f"{name} serves again", timeout_s)
        return monotonic() - since_s

    def table(self) -> str:
        """One line per phase: its length, calls ended, each outcome, the slowest answer."""
        ends_s = [at_s for _, at_s in self._marks[1:]] + [float("inf")]
        lines = []
        for (name, from_s), until_s in zip(self._marks, ends_s, strict=True):
            ended = [one for one in self._load.calls if from_s <= one.ended_s < until_s]
            outcomes: dict[str, int] = {}
            for one in ended:
                outcomes[one.outcome] = outcomes.get(one.outcome, 0) + 1
            slowest_s = max((one.took_s for one in ended), default=0.0)
            told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
            line = f"{name:32} {len(ended):6} calls: {told}; slowest {slowest_s:.2f} s"
            note = self.notes.get(name)
            lines.append(f"{line}; {note}" if note else line)
        return "\n".join(["", *lines])
