"""Time that passes only when a test says so, and a backend fleet that answers as told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from random import Random

from nexus.core.backend import (
    Backend,
    BackendSpec,
    BackendStatus,
    EngineKind,
    EngineTraits,
    Source,
    parse_backend_url,
)
from nexus.core.live import BackendLive
from nexus.core.model import Model
from nexus.engines.adapter import (
    Adapter,
    Answer,
    Ask,
    Check,
    CheckResult,
    ErrorMeaning,
    Health,
    UpstreamError,
)
from nexus.engines.fingerprint import Fingerprint, Fingerprinting
from nexus.health.checker import HealthChecker
from nexus.health.report import CheckReport
from nexus.health.signs import Signs
from nexus.health.state import HealthSettings

UNIX_S = 1_800_000_000.0
_SETTLING_TURNS = 50
"""More turns of the loop than any chain of callbacks between two virtual sleeps is long."""


class VirtualTime:
    """A clock and its sleep. ``slept_s`` is what the wall clock gained while we were suspended,
    ``slept_times`` how often somebody slept."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s = 0.0
        self.slept_times = 0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()

    def clock(self) -> float:
        return self.now_s

    def wall_clock(self) -> float:
        return UNIX_S + self.now_s + self.slept_s

    async def sleep(self, delay_s: float) -> None:
        self.slept_times += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self.now_s + delay_s, next(self._order), future))
        await future

    async def settle(self) -> None:
        """Lets everything run that can run now."""
        for _ in range(_SETTLING_TURNS):
            await asyncio.sleep(0)

    async def advance(self, by_s: float) -> None:
        """Lets ``by_s`` seconds pass, sleeper by sleeper."""
        end_s = self.now_s + by_s
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end_s:
            at_s, _, future = heappop(self._sleepers)
            if future.done():
                continue
            self.now_s = max(self.now_s, at_s)
            future.set_result(None)
            await self.settle()
        self.now_s = end_s


class FakeAdapter:
    """``GET /models`` says it all: 200 with names between commas, 503 loading, 401."""

    traits = EngineTraits()

    def __init__(self, kind: EngineKind, *, tells_load: bool = False) -> None:
        self.kind = kind
        self.tells_load = tells_load
        self.known: list[tuple[Model, ...]] = []

    def check(self, spec: BackendSpec, known: tuple[Model, ...]) -> Check:
        self.known.append(known)
        (answer,) = yield (Ask("/models"),)
        if answer.status == 200:
            ids = [name for name in answer.body.decode().split(",") if name]
            models = tuple(Model(id=name, engine_name=name) for name in ids)
            return CheckResult(health=Health.HEALTHY, models=models)
        if answer.status == 503:
            return CheckResult(health=Health.LOADING)
        if answer.status == 401:
            return CheckResult(health=Health.CREDENTIALS)
        health = Health.LOST if answer.refused else Health.FAILED
        return CheckResult(health=health, reason=answer.error or f"status {answer.status}")

    def load(self) -> Check | None:
        return self._load() if self.tells_load else None

    def _load(self) -> Check:
        (answer,) = yield (Ask("/load"),)
        running = int(answer.body) if answer.status == 200 else None
        return CheckResult(health=Health.HEALTHY, running=running, waiting=0)

    def read_error(self, status: int, body: bytes) -> UpstreamError:
        return UpstreamError(ErrorMeaning.SERVER, body.decode())


def fake_fingerprint() -> Fingerprinting:
    """Two questions at once; vLLM answers the second, strangers neither. 503 is loading, 299 a
    server that lists models and no more, 298 another Nexus."""
    first, second = yield (Ask("/who"), Ask("/version"))
    engines = {200: EngineKind.VLLM, 299: EngineKind.GENERIC, 503: EngineKind.GENERIC}
    return Fingerprint(
        engine=engines.get(second.status),
        label="not an LLM server" if second.status == 404 else "something",
        reason=first.error or f"answered {second.status}",
        loading=second.status == 503,
        nexus=second.status == 298,
    )


HEALTHY, UNHEALTHY, UNKNOWN = (
    BackendStatus.HEALTHY,
    BackendStatus.UNHEALTHY,
    BackendStatus.UNKNOWN,
)
REFUSED = Answer(status=0, error="connection refused", refused=True, unreached=True)
TIMEOUT = Answer(status=0, error="timeout")
UNREACHED = Answer(status=0, error="no connection", unreached=True)


def models_answer(*names: str) -> Answer:
    return Answer(status=200, body=",".join(names).encode())


GOOD = models_answer("m")


def backend(
    name: str = "b",
    *,
    engine: EngineKind | None = EngineKind.VLLM,
    source: Source = Source.STATIC,
    models: tuple[str, ...] = (),
) -> Backend:
    """A backend never checked."""
    spec = BackendSpec(
        name=name, url=f"http://{name}.test:8000", engine=engine, source=source, models=models
    )
    return Backend(
        spec=spec,
        address=parse_backend_url(spec.url),
        engine=engine or EngineKind.GENERIC,
        traits=EngineTraits(),
    )


class Fleet:
    """A checker over fake backends, and everything it did."""

    def __init__(self, settings: HealthSettings | None = None, *, tells_load: bool = False) -> None:
        self.time = VirtualTime()
        self.answers: dict[str, Callable[[Ask], Answer]] = {}
        self.delay_s: dict[str, float] = {}
        self.asked: list[tuple[float, str, str]] = []
        self.asking: dict[str, int] = {}
        self.asking_most = 0
        self.reports: list[CheckReport] = []
        self.errors: list[tuple[str, Exception]] = []
        self.woken = 0
        self.live: dict[str, BackendLive] = {}
        self.signs: dict[str, Callable[[], Signs]] = {}
        self.adapter = FakeAdapter(EngineKind.VLLM, tells_load=tells_load)
        self.checker = HealthChecker(
            settings=settings or HealthSettings(),
            fetch=self.fetch,
            report=self.take,
            adapters=self.adapter_for,
            fingerprint=fake_fingerprint,
            on_error=lambda name, error: self.errors.append((name, error)),
            rng=Random(7),
            live_of=self.live.__getitem__,
            connects_of=lambda name: self.signs.get(name, Signs)().connects,
            signs_of=lambda name: self.signs.get(name, Signs)(),
            on_wake=self.wake,
            clock=self.time.clock,
            wall_clock=self.time.wall_clock,
            sleep=self.time.sleep,
        )

    def adapter_for(self, kind: EngineKind) -> Adapter:
        return self.adapter

    def take(self, report: CheckReport) -> None:
        self.reports.append(report)

    def wake(self) -> None:
        self.woken += 1

    def answer(self, name: str, answer: Answer) -> None:
        self.answers[name] = lambda _: answer

    async def fetch(self, backend: Backend, ask: Ask, timeout_s: float) -> Answer:
        name = backend.name
        self.asked.append((self.time.now_s, name, ask.path))
        self.asking[name] = self.asking.get(name, 0) + 1
        self.asking_most = max(self.asking_most, self.asking[name])
        try:
            delay_s = self.delay_s.get(name, 0.0)
            if delay_s > timeout_s:
                await self.time.sleep(timeout_s)
                return TIMEOUT
            if delay_s:
                await self.time.sleep(delay_s)
            return self.answers[name](ask)
        finally:
            self.asking[name] -= 1

    def asked_at(self, name: str, path: str = "/models") -> list[float]:
        """When ``path`` was asked for, seconds since the beginning."""
        return [at_s - 1000.0 for at_s, who, what in self.asked if (who, what) == (name, path)]

    async def __aenter__(self) -> Fleet:
        self._task = asyncio.ensure_future(self.checker.run())
        await self.time.settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.checker.aclose()
        await self._task
