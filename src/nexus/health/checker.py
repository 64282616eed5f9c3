"""The health checker: one task per backend that checks it when its time has come.

Control plane. It knows nothing of HTTP (requests go out through an injected *fetch*) and changes
nothing itself: each check ends in a :class:`~nexus.health.report.CheckReport` for the registry.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from random import Random

from nexus.core.backend import Backend, BackendStatus, EngineKind
from nexus.core.live import BackendLive
from nexus.core.model import Model
from nexus.engines.adapter import Adapter, CheckResult, Health
from nexus.engines.fingerprint import Fingerprinting
from nexus.health.probe import FetchAsk, Probe, poll_load, probe
from nexus.health.report import CheckReport
from nexus.health.signs import Signs, contradicted
from nexus.health.state import HealthSettings, HealthState, Transition

__all__ = ["HealthChecker"]

_SUSPECT_GAP_S = 0.2
"""Least time between the beginnings of two checks that suspicion asks for."""
_HINDERED_DELAY_S = 1.0
"""Until a check is made again for which we lacked a descriptor or a port."""
_TICK_S = 2.0
_CLOCK_JUMP_S = 30.0
"""Wall time beyond the expected that tells that the machine (or the process) slept."""


class _Watched:
    """One backend under watch: what its checks need to remember between them."""

    __slots__ = (
        "backend",
        "began_s",
        "due_s",
        "engine",
        "known",
        "lock",
        "state",
        "tasks",
        "wake",
    )

    def __init__(self, backend: Backend, now_s: float) -> None:
        self.backend = backend
        self.engine: EngineKind | None = backend.spec.engine
        self.known: tuple[Model, ...] = ()
        self.state = HealthState()
        self.began_s = -inf
        self.due_s = now_s
        self.wake = asyncio.Event()
        self.lock = asyncio.Lock()
        self.tasks: tuple[asyncio.Task[None], ...] = ()


class HealthChecker:
    """Checks every watched backend, each on its own, and reports.

    ``fetch`` makes one request and never raises; ``report`` takes each check's outcome;
    ``on_error`` every exception that is a fault of our own, with the backend's name. ``clock`` is
    monotonic, ``wall_clock`` Unix time, both in seconds; ``live_of`` finds a backend's live figures
    (``KeyError``: gone), ``connects_of`` how often calls have connected to it and ``signs_of`` all
    that they have seen of it; ``on_wake`` is called when the machine slept.
    """

    def __init__(
        self,
        *,
        settings: HealthSettings,
        fetch: FetchAsk,
        report: Callable[[CheckReport], None],
        adapters: Callable[[EngineKind], Adapter],
        fingerprint: Callable[[], Fingerprinting],
        on_error: Callable[[str, Exception], None],
        rng: Random,
        live_of: Callable[[str], BackendLive] | None = None,
        connects_of: Callable[[str], int] = lambda _: 0,
        signs_of: Callable[[str], Signs] = lambda _: Signs(),
        on_wake: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._fetch = fetch
        self._report = report
        self._adapters = adapters
        self._fingerprint = fingerprint
        self._on_error = on_error
        self._rng = rng
        self._live_of = live_of
        self._connects_of = connects_of
        self._signs_of = signs_of
        self._on_wake = on_wake
        self._clock = clock
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._watched: dict[str, _Watched] = {}
        self._group: asyncio.TaskGroup | None = None
        self._running = False
        self._closing = asyncio.Event()
        self._ended = asyncio.Event()

    def watch(self, backend: Backend) -> None:
        """Begins to check ``backend``, at once. Called again when its spec changed: what was known
        of its health stays, unless it is another server now."""
        self._watch(backend, self._watched.get(backend.name))

    def rewatch(self, moves: Sequence[tuple[str | None, Backend]]) -> None:
        """Begins to check several at once, each with the name under which it was watched before,
        ``None`` for a new one; names may be exchanged."""
        befores = [self._watched.pop(was, None) if was is not None else None for was, _ in moves]
        for (_, backend), before in zip(moves, befores, strict=True):
            self.forget(backend.name)
            self._watch(backend, before)

    def _watch(self, backend: Backend, before: _Watched | None) -> None:
        watched = _Watched(backend, self._clock())
        if before is not None:
            self._stop(before)
            same_engine = backend.spec.engine in (None, before.backend.spec.engine, before.engine)
            if before.backend.address == backend.address and same_engine:
                watched.engine = backend.spec.engine or before.engine
                watched.known = before.known
                watched.state = before.state
        self._watched[backend.name] = watched
        if self._group is not None:
            self._start(watched, self._group)

    def forget(self, name: str) -> None:
        """Checks ``name`` no longer; unknown names are ignored."""
        watched = self._watched.pop(name, None)
        if watched is not None:
            self._stop(watched)

    def suspect(self, name: str) -> None:
        """Traffic saw ``name`` fail, or fall silent: it is checked at once, but never twice at the
        same time nor more than five times a second. Unknown names are ignored."""
        watched = self._watched.get(name)
        if watched is None or not self._settings.enabled:
            return
        # A check under way may have asked before the failure: another one follows it.
        self._hasten(watched, max(self._clock(), watched.began_s + _SUSPECT_GAP_S))

    async def probe_now(self, name: str) -> None:
        """Checks ``name`` now and returns when it is reported; ``KeyError`` when not watched."""
        await self._check(self._watched[name])

    def check_all(self) -> None:
        """Makes every backend due now."""
        for watched in self._watched.values():
            self._hasten(watched, self._clock())

    def configure(self, settings: HealthSettings) -> None:
        """Takes new settings; every backend is checked at once under them."""
        self._settings = settings
        self.check_all()

    async def run(self) -> None:
        """Checks until :meth:`aclose`. To be run once."""
        self._running = True
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for watched in self._watched.values():
                    self._start(watched, group)
                clock_task = group.create_task(self._mind_the_clock())
                try:
                    await self._closing.wait()
                finally:
                    self._group = None
                clock_task.cancel()
                for watched in self._watched.values():
                    self._stop(watched)
        finally:
            self._ended.set()

    async def aclose(self) -> None:
        """Ends :meth:`run` and every check under way; returns when they have ended."""
        self._closing.set()
        if self._running:
            await self._ended.wait()

    def _start(self, watched: _Watched, group: asyncio.TaskGroup) -> None:
        watched.tasks = (
            group.create_task(self._attend(watched)),
            group.create_task(self._attend_load(watched)),
        )

    def _stop(self, watched: _Watched) -> None:
        for task in watched.tasks:
            task.cancel()
        watched.tasks = ()

    def _hasten(self, watched: _Watched, due_s: float) -> None:
        watched.due_s = min(watched.due_s, due_s)
        watched.wake.set()

    async def _attend(self, watched: _Watched) -> None:
        """One backend's checks, one after the other, for as long as it is watched."""
        while True:
            watched.wake.clear()
            wait_s = watched.due_s - self._clock()
            if wait_s > 0:
                await self._pause(watched.wake, wait_s)
                continue
            try:
                await self._check(watched)
            except Exception as error:
                self._on_error(watched.backend.name, error)
                watched.due_s = self._clock() + self._settings.interval_s

    async def _pause(self, wake: asyncio.Event, wait_s: float) -> None:
        if wait_s == inf:
            await wake.wait()
            return
        sleeper = asyncio.ensure_future(self._sleep(wait_s))

        def rested(_: asyncio.Future[None]) -> None:
            wake.set()

        sleeper.add_done_callback(rested)
        try:
            await wake.wait()
        finally:
            # Its end must not wake the next pause: who was woken early would spin until due.
            sleeper.remove_done_callback(rested)
            sleeper.cancel()

    async def _check(self, watched: _Watched) -> None:
        async with watched.lock:
            settings = self._settings
            try:
                done, transition = await self._look_twice(watched, settings)
            except asyncio.CancelledError:
                # Whoever asked for this check is gone; the backend still needs one.
                self._hasten(watched, self._clock())
                raise
            now_s = self._clock()
            if transition is None:
                self._hasten(watched, now_s + _HINDERED_DELAY_S)
                return
            watched.state = transition.state
            watched.engine = self._remembered(watched, done.engine)
            if done.result.models is not None:
                watched.known = done.result.models
            # Earlier than that if somebody asked for another check while this one was under way.
            self._hasten(watched, now_s + transition.delay_s)
            if self._watched.get(watched.backend.name) is watched:
                self._tell(watched, done, now_s)

    async def _look_twice(
        self, watched: _Watched, settings: HealthSettings
    ) -> tuple[Probe, Transition | None]:
        """A check and what it leads to (``None``: to nothing, it was hindered). One that would cost
        the backend its calls although they have seen signs of life since it began is made again;
        the second one decides."""
        name = watched.backend.name
        connects = self._connects_of(name)
        done, transition = await self._look(watched, settings)
        lost = (
            transition is not None
            and watched.state.status is BackendStatus.HEALTHY
            and transition.state.status is BackendStatus.UNHEALTHY
        )
        if lost and contradicted(done, watched.began_s, connects, self._signs_of(name)):
            return await self._look(watched, settings)
        return done, transition

    async def _look(
        self, watched: _Watched, settings: HealthSettings
    ) -> tuple[Probe, Transition | None]:
        watched.began_s = self._clock()
        watched.due_s = inf  # whoever asked for a check by now has this one
        done = await self._probe(watched, settings)
        if done.hindered:
            return done, None
        return done, watched.state.apply(done.result, self._clock(), settings, self._rng)

    def _remembered(self, watched: _Watched, found: EngineKind | None) -> EngineKind | None:
        """The engine that the next check need not find out again: not while another server may come
        back there, nor when no more was seen than that it lists models (it may have been slow)."""
        if watched.state.status is BackendStatus.UNHEALTHY or found is EngineKind.GENERIC:
            return watched.backend.spec.engine
        return found

    def _tell(self, watched: _Watched, done: Probe, now_s: float) -> None:
        report = CheckReport(
            name=watched.backend.name,
            status=watched.state.status,
            reason=watched.state.reason,
            result=done.result,
            engine=done.engine,
            duration_ms=done.duration_s * 1000,
            at_s=self._wall_clock(),
            now_s=now_s,
            round_trip_s=done.round_trip_s,
        )
        try:
            self._report(report)
        except Exception as error:
            self._on_error(watched.backend.name, error)

    async def _probe(self, watched: _Watched, settings: HealthSettings) -> Probe:
        try:
            return await probe(
                watched.backend,
                engine=watched.engine,
                known=watched.known,
                adapters=self._adapters,
                fingerprint=self._fingerprint,
                fetch=self._fetch,
                timeout_s=settings.timeout_s,
                clock=self._clock,
            )
        except Exception as error:
            self._on_error(watched.backend.name, error)
            return Probe(
                engine=watched.engine,
                result=CheckResult(
                    health=Health.FAILED, reason=f"the check itself failed: {error!r}"
                ),
                duration_s=self._clock() - watched.began_s,
            )

    async def _attend_load(self, watched: _Watched) -> None:
        """Asks the engine for its load while calls are under way there."""
        while True:
            await self._sleep(self._settings.load_interval_s)
            try:
                await self._poll_load(watched)
            except Exception as error:
                self._on_error(watched.backend.name, error)

    async def _poll_load(self, watched: _Watched) -> None:
        settings = self._settings
        if self._live_of is None or watched.engine is None or not settings.enabled:
            return
        try:
            live = self._live_of(watched.backend.name)
        except KeyError:
            return
        if live.in_flight <= 0:
            return
        told = await poll_load(
            watched.backend,
            self._adapters(watched.engine),
            fetch=self._fetch,
            timeout_s=min(settings.timeout_s, settings.load_interval_s),
            clock=self._clock,
        )
        if told is not None:
            # An engine that stopped telling is no better known by its old figures.
            live.polled(told.running, told.waiting, told.kv_usage)

    async def _mind_the_clock(self) -> None:
        """Notices that the machine slept: wall time went on, our timers did not."""
        while True:
            before_s = self._wall_clock()
            await self._sleep(_TICK_S)
            if self._wall_clock() - before_s <= _TICK_S + _CLOCK_JUMP_S:
                continue
            self.check_all()
            if self._on_wake is not None:
                try:
                    self._on_wake()
                except Exception as error:
                    self._on_error("", error)
