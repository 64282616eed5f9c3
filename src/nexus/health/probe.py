"""Drives one check of one backend: asks what the adapter wants asked, within bounds.

Also what ``nexus backends probe`` and ``POST /admin/v1/probe`` run, without a checker around it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import TypeVar

import msgspec

from nexus.core.backend import Backend, BackendSpec, EngineKind
from nexus.core.model import Model
from nexus.engines.adapter import Adapter, Answer, Ask, CheckResult, Health
from nexus.engines.fingerprint import Fingerprint, Fingerprinting

__all__ = [
    "FetchAsk",
    "Probe",
    "ProbeOverrunError",
    "Steps",
    "drive",
    "identify",
    "poll_load",
    "probe",
]

T = TypeVar("T")

FetchAsk = Callable[[Backend, Ask, float], Awaitable[Answer]]
"""Makes one request of a check within so many seconds. Never raises: what goes wrong is told by an
:class:`Answer` of status 0."""

Steps = Generator[tuple[Ask, ...], tuple[Answer, ...], T]
"""Rounds of requests to make at the same time, and a result at the end."""

_ROUNDS_MAX = 20
_AT_ONCE_MAX = 8
"""Requests of one check under way at the same time: a check must not crowd out real calls."""
_TOTAL_TIMEOUTS = 2
"""A whole check may take this many round timeouts, all rounds together."""
_GRACE_S = 1.0
"""A fetch that overstays its own timeout by this much is cut: a check must end."""


class ProbeOverrunError(Exception):
    """A check asked for more rounds than any check needs: a fault of its adapter."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What one check came to. ``engine`` is ``None`` when unknown, ``label`` what a fingerprint
    calls the program and ``found`` all that it found (``None``: not asked for); ``duration_s`` is
    of the whole check, ``round_trip_s`` of its first round if that had an HTTP answer.
    ``hindered``: we lacked the means to ask, so it says nothing of the backend. ``unanswered``:
    none of its requests had an HTTP answer; ``unreached``: none had a connection either."""

    engine: EngineKind | None
    result: CheckResult
    duration_s: float
    label: str = ""
    round_trip_s: float | None = None
    found: Fingerprint | None = None
    hindered: bool = False
    unanswered: bool = False
    unreached: bool = False


class _Line:
    """The line to one backend during one check: keeps the time and remembers the first answers."""

    __slots__ = (
        "_backend",
        "_clock",
        "_end_s",
        "_fetch",
        "_timeout_s",
        "answered",
        "answers",
        "asked",
        "hindered",
        "reached",
        "round_trip_s",
    )

    def __init__(
        self, backend: Backend, fetch: FetchAsk, timeout_s: float, clock: Callable[[], float]
    ) -> None:
        self._backend = backend
        self._fetch = fetch
        self._timeout_s = timeout_s
        self._clock = clock
        self._end_s = clock() + _TOTAL_TIMEOUTS * timeout_s
        self.answers: tuple[Answer, ...] = ()
        self.round_trip_s: float | None = None
        self.hindered = False
        self.asked = self.answered = self.reached = False

    async def ask(self, asks: tuple[Ask, ...]) -> tuple[Answer, ...]:
        """Answers to ``asks`` in their order, all within one timeout."""
        began_s = self._clock()
        end_s = min(began_s + self._timeout_s, self._end_s)
        if len(asks) == 1:
            answers: tuple[Answer, ...] = (await self._ask_one(asks[0], end_s),)
        else:
            places = asyncio.Semaphore(_AT_ONCE_MAX)

            async def ask_in_turn(ask: Ask) -> Answer:
                async with places:
                    return await self._ask_one(ask, end_s)

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask_in_turn(ask)) for ask in asks]
            answers = tuple(task.result() for task in tasks)
        if not self.answers:
            self.answers = answers
            if any(answer.status for answer in answers):
                self.round_trip_s = self._clock() - began_s
        return answers

    async def _ask_one(self, ask: Ask, end_s: float) -> Answer:
        timeout_s = end_s - self._clock()
        if timeout_s <= 0:
            return Answer(status=0, error=f"no time left to ask for {ask.path}")
        self.asked = True
        try:
            async with asyncio.timeout(timeout_s + _GRACE_S):
                answer = await self._fetch(self._backend, ask, timeout_s)
                self.hindered = self.hindered or answer.ours
                self.answered = self.answered or answer.status != 0
                self.reached = self.reached or not answer.unreached
                return answer
        except TimeoutError:
            self.reached = True  # for all that is known
            return Answer(status=0, error=f"no answer within {self._timeout_s:g} s")


async def drive(
    steps: Steps[T], ask: Callable[[tuple[Ask, ...]], Awaitable[tuple[Answer, ...]]]
) -> T:
    """Runs ``steps`` to their end. Raises :class:`ProbeOverrunError` after too many rounds, and
    whatever the steps or ``ask`` raise."""
    try:
        asks = next(steps)
        for _ in range(_ROUNDS_MAX):
            asks = steps.send(await ask(asks))
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()
    raise ProbeOverrunError(f"more than {_ROUNDS_MAX} rounds")


async def probe(
    backend: Backend,
    *,
    engine: EngineKind | None,
    known: tuple[Model, ...],
    adapters: Callable[[EngineKind], Adapter],
    fingerprint: Callable[[], Fingerprinting],
    fetch: FetchAsk,
    timeout_s: float,
    clock: Callable[[], float],
) -> Probe:
    """Checks ``backend`` once: finds out its ``engine`` if that is ``None``, then asks it as its
    adapter says. ``known`` is what the last check found. ``timeout_s`` bounds each round of
    requests; ``clock`` tells monotonic seconds. Raises only on a fault of our own.
    """
    began_s = clock()
    line = _Line(backend, fetch, timeout_s, clock)
    found: Fingerprint | None = None
    judged: EngineKind | CheckResult | None = engine
    if judged is None:
        found = await drive(fingerprint(), line.ask)
        judged = _judge(found, backend.spec, line.answers)
    if isinstance(judged, CheckResult):
        engine, result = None, judged
    else:
        engine = judged
        result = await drive(adapters(engine).check(backend.spec, known), line.ask)
    return Probe(
        engine=engine,
        result=result,
        label=found.label if found is not None else "",
        found=found,
        duration_s=clock() - began_s,
        round_trip_s=line.round_trip_s,
        hindered=line.hindered,
        unanswered=line.asked and not line.answered,
        unreached=line.asked and not line.reached,
    )


async def identify(
    backend: Backend,
    *,
    fingerprint: Callable[[], Fingerprinting],
    fetch: FetchAsk,
    timeout_s: float,
    clock: Callable[[], float],
) -> Fingerprint:
    """Only which program answers there: at most three GETs, within ``timeout_s`` a round."""
    return await drive(fingerprint(), _Line(backend, fetch, timeout_s, clock).ask)


async def poll_load(
    backend: Backend,
    adapter: Adapter,
    *,
    fetch: FetchAsk,
    timeout_s: float,
    clock: Callable[[], float],
) -> CheckResult | None:
    """The engine's live load, or ``None`` where it has no cheap way to tell."""
    steps = adapter.load()
    if steps is None:
        return None
    return await drive(steps, _Line(backend, fetch, timeout_s, clock).ask)


def _judge(
    found: Fingerprint, spec: BackendSpec, answers: tuple[Answer, ...]
) -> EngineKind | CheckResult:
    """The engine whose adapter is to go on, or the result that ends the check here."""
    if found.loading:
        # What it is can be told for sure only when it has loaded.
        return CheckResult(health=Health.LOADING, reason=found.reason)
    if found.engine is not None:
        return found.engine
    answered = any(answer.status for answer in answers)
    # What the operator named may be what discovery must not take: another Nexus, or a server that
    # lists nothing and whose models the configuration names.
    if spec.source.named_by_operator and (found.nexus or (answered and spec.models)):
        return EngineKind.GENERIC
    if answered:
        return CheckResult(health=Health.FAILED, reason=f"{found.label}: {found.reason}")
    refused = any(answer.refused for answer in answers)
    return CheckResult(health=Health.LOST if refused else Health.FAILED, reason=found.reason)
