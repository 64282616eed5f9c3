"""One simulated run: a whole gateway, engines, clients and their mishaps, out of one seed."""

from __future__ import annotations

import asyncio
import hashlib
import marshal
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, cast

from msgspec.structs import replace

from nexus.config.loader import Loaded
from nexus.config.schema import Config, DiscoveryConfig
from nexus.core.backend import BackendSpec
from nexus.core.limits import TokenBucket
from nexus.core.live import BackendLive
from nexus.runtime.gateway import Gateway
from tests.simulation import clock
from tests.simulation.aftermath import judge_clients, judge_rest
from tests.simulation.client import Client, Habits, Sent
from tests.simulation.end import WINDOW_BYTES
from tests.simulation.engine import Engine
from tests.simulation.judge import Truth
from tests.simulation.loop import Livelock, SimLoop
from tests.simulation.network import Network
from tests.simulation.scenario import Scenario, draw

__all__ = ["Run", "simulate"]

RECOVERY_S = 15.0
"""So soon a backend that is back serves again (behaviour § 4)."""
_END_S = 600.0
"""No run takes longer than this after its last event: every call has a deadline."""


class Run:
    """What came of one run: ``broken`` is what it broke, in words; empty if all is well."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.broken: list[str] = []
        self.trace: list[tuple[Any, ...]] = []
        self.digest = ""
        self.calls = 0
        self.outcomes: dict[str, int] = {}
        self.lasted_s = 0.0


def simulate(seed: int) -> Run:
    """Plays the run of ``seed``. The clock must be simulated (``clock.simulated_time``)."""
    clock.begin_run()
    run = Run(seed)
    loop = SimLoop(seed)
    with loop.running():
        world = World(seed, loop)
        try:
            world.play()
        except Livelock as error:
            world.truth.complain(str(error))
        run.broken = list(world.truth.complaints)
        run.trace = world.network.trace
        run.calls = len(world.truth.records)
        for record in world.truth.records:
            run.outcomes[record.outcome.value] = run.outcomes.get(record.outcome.value, 0) + 1
        run.lasted_s = loop.now_s - 1000.0
        if run.broken:
            with suppress(Livelock):
                loop.abandon()
    # Version 2 of the format knows no references, which depend on who else holds an object.
    run.digest = hashlib.blake2b(marshal.dumps(run.trace, 2), digest_size=16).hexdigest()
    return run


class _Bucket(TokenBucket):
    """The retry budget, telling when it said no."""

    __slots__ = ("denied_at_s",)

    def __init__(self, size: float, per_s: float) -> None:
        super().__init__(size, per_s)
        self.denied_at_s = -1.0

    def take(self, now_s: float) -> bool:
        taken = super().take(now_s)
        if not taken:
            self.denied_at_s = now_s
        return taken


class World:
    """Everything of one run."""

    def __init__(self, seed: int, loop: SimLoop) -> None:
        self.loop = loop
        self.rng = rng = Random(seed)
        self.scenario: Scenario = draw(rng)
        scenario = self.scenario
        self.network = Network(
            loop,
            Random(rng.getrandbits(64)),
            latency_s=scenario.latency_s,
            splits=scenario.splits,
        )
        self.truth = Truth(self)
        self.engines: dict[str, Engine] = {}
        self.clients: list[Client] = []
        self.lives: dict[str, list[BackendLive]] = {}
        self.drain_began_s: float | None = None
        for name in scenario.engines:
            engine = Engine(name, self.network, self.truth, Random(rng.getrandbits(64)))
            engine.idle_s = scenario.engine_idle_s
            if name in scenario.saints:
                engine.slow = 0.0
            self.engines[name] = engine
        self.gateway = self._gateway(rng)
        loop.create_connection = self._dial

    def _gateway(self, rng: Random) -> Gateway:
        scenario = self.scenario
        config = Config(
            server=scenario.server,
            routing=scenario.routing,
            health_check=scenario.health,
            discovery=DiscoveryConfig(enabled=False),
        )
        loaded = Loaded(config=config, path=None, origins={}, backends=(), admin_key="")
        gateway = Gateway(loaded, rng=Random(rng.getrandbits(64)))
        gateway._log = cast(Any, _Silent())
        gateway._recorder.add(self.truth.take)
        self.bucket = _Bucket(*scenario.retry_budget)
        gateway.plane.retry_budget = self.bucket
        gateway.store.subscribe(self.truth.look_at_saints)
        unexpected = gateway.unexpected

        def told(error: BaseException, request_id: str) -> None:
            self.truth.complain(f"a fault of our own in {request_id or 'no call'}: {error!r}")
            unexpected(error, request_id)

        gateway.unexpected = told  # type: ignore[method-assign]
        gateway.checker._on_error = lambda name, error: told(error, f"check of {name}")
        return gateway

    async def _dial(
        self, make: Callable[[], asyncio.BaseProtocol], host: str, port: int, **_: Any
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        return await self.network.dial(make, f"b{host.rpartition('.')[2]}")

    # --- what happens -------------------------------------------------------------------------

    def play(self) -> None:
        """The run from its beginning to its end."""
        loop, scenario, truth = self.loop, self.scenario, self.truth
        start_s = loop.now_s
        for spec in scenario.backends:
            self.add(spec)
        starting = loop.create_task(self._start())
        loop.run(start_s + 1.0, starting.done)
        for at_s, habits, requests in scenario.clients:
            loop.call_at(start_s + at_s, self._come, habits, requests)
        to_come = [
            loop.call_at(start_s + at_s, self.happen, what, name)
            for at_s, what, name in scenario.events
        ]
        loop.run(start_s + scenario.lasts_s)
        if scenario.heals:
            for event in to_come:
                event.cancel()
            self._heal()
        ending = loop.create_task(self._end())
        if not loop.run(loop.now_s + _END_S, ending.done):
            truth.complain("the gateway does not come to its end")
            return
        ending.result()
        for event in to_come:
            event.cancel()
        for client in self.clients:
            if not client.over:
                client.leave()
        loop.run(loop.now_s + 60.0, lambda: loop.empty)
        judge_rest(self)
        judge_clients(self)

    async def _start(self) -> None:
        self.gateway._checking = self.loop.create_task(self.gateway.checker.run())

    async def _end(self) -> None:
        """The drain, then the stop, as SIGTERM does it."""
        self.network.note("gateway", "drain")
        self.drain_began_s = self.loop.now_s
        cut_now = asyncio.Event()
        if self.scenario.cut_after_s:
            self.loop.call_later(self.scenario.cut_after_s, cut_now.set)
        await self.gateway.drain(cut_now)
        self.network.note("gateway", "stop")
        await self.gateway.stop()
        self.network.note("gateway", "stopped")

    def _come(self, habits: Habits, requests: list[Sent]) -> None:
        if self.drain_began_s is not None and self.gateway.server.draining:
            return
        name = f"client{len(self.clients)}"
        client = Client(name, self.network, self.truth, habits, requests)
        self.clients.append(client)
        # Who stops reading has little room: its answers must wait in the gateway, or further back.
        ours, theirs = self.network.pair(name, 1024 if habits.stops_reading_s else WINDOW_BYTES)
        self.network.to_clients.append(ours)
        ours.protocol = self.gateway.server.protocol()
        theirs.protocol = client
        ours.protocol.connection_made(ours)
        client.begin(theirs)

    def add(self, spec: BackendSpec) -> None:
        """A backend is added."""
        if spec.name in self.gateway.store.snapshot.backends:
            return
        self.gateway.add_backend(spec)
        self.lives.setdefault(spec.name, []).append(self.gateway.store.live(spec.name))

    def happen(self, what: str, name: str) -> None:
        """One event of the scenario."""
        self.network.note(name, what)
        gateway, engine = self.gateway, self.engines.get(name)
        known = name in gateway.store.snapshot.backends
        match what:
            case "is removed" if known:
                gateway.forget_backend(name)
            case "is added":
                self.add(next(spec for spec in self.scenario.specs if spec.name == name))
            case "is respecified" if known:
                spec = gateway.store.snapshot.backends[name].spec
                limit = 0 if spec.max_concurrency else 1
                changed = replace(spec, max_concurrency=limit, headers={"x-limit": str(limit)})
                gateway.change_backend(changed)
            case "is drained" if known:
                gateway.store.drain(name)
            case "is resumed" if known:
                gateway.store.resume(name)
            case "limits change":
                gateway.plane.change_limits(gateway.plane.limits)
            case "machine sleeps":
                clock.sleep_machine(100.0)
            case "runs out of descriptors":
                self.network.shortage = 1.0
            case "has descriptors again":
                self.network.shortage = 0.0
        if engine is None:
            return
        match what:
            case "dies":
                engine.die()
            case "starts":
                engine.start()
            case "starts, loading":
                engine.start(loading=True)
            case "has loaded":
                engine.loading = False
            case "stops":
                engine.stop()
            case "goes on":
                engine.go_on()
            case "is cut off":
                engine.cut_off = True
            case "is reachable":
                self.network.mend(engine)
            case "unloads m":
                engine.models = [one for one in engine.models if one != "m"]
            case "loads m":
                engine.models = sorted({*engine.models, "m"})
            case "resets at accept":
                engine.resets_at_accept = 0.7
            case "accepts":
                engine.resets_at_accept = 0.0
            case _ if what.startswith("mood "):
                engine.mood, engine.only = self.scenario.moods[what]

    # --- the end ------------------------------------------------------------------------------

    def _heal(self) -> None:
        """All faults are over: every backend must serve again in time, and a call must succeed."""
        loop, store = self.loop, self.gateway.store
        self.network.note("all", "heal")
        self.network.shortage = 0.0
        for engine in self.engines.values():
            engine.heal()
        for name, backend in list(store.snapshot.backends.items()):
            if backend.status.value == "draining":
                store.resume(name)
        names = list(store.snapshot.backends)
        limit_s = RECOVERY_S + self.scenario.health.timeout_seconds

        def recovered() -> bool:
            return all(store.snapshot.backends[name].routable for name in names)

        if not loop.run(loop.now_s + limit_s, recovered):
            lost = [name for name in names if not store.snapshot.backends[name].routable]
            self.truth.complain(f"{', '.join(lost)} not healthy {limit_s:g} s after all healed")
        if not names:
            return
        interval_s = 1.2 * self.scenario.health.interval_seconds
        if not loop.run(loop.now_s + interval_s, lambda: "m" in store.snapshot.listed):
            self.truth.complain("m is not listed although everybody has it")
        # Until nobody is parked any more, and nobody is left to fill a limited backend.
        plane, clients = self.gateway.plane, self.clients
        end_s = loop.now_s + 240.0
        while loop.now_s < end_s and (
            plane.in_flight
            or not all(one.idle for one in clients)
            or any(store.live(name).parked_until_s > loop.now_s for name in names)
        ):
            loop.run(loop.now_s + 0.25)
        last = Sent("last-0", "/v1/chat/completions", b"", stream=False, model="m")
        last.body = b'{"model":"m","user":"last-0","messages":[]}'
        self._come(Habits(), [last])
        loop.run(loop.now_s + 30.0, lambda: self.clients[-1].reader.answers)
        answers = self.clients[-1].reader.answers
        if not answers or answers[0].status != 200:
            self.truth.complain(f"a call after all healed was answered {answers[:1]}")


class _Silent:
    """A logger that says nothing."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_, **__: None
