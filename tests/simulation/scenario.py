"""What happens in a run, drawn from its seed before it begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from nexus.config.schema import HealthCheckConfig, RoutingConfig, ServerConfig
from nexus.core.backend import BackendSpec, EngineKind
from tests.simulation.client import Habits, Sent, make_request
from tests.simulation.mishaps import MISHAPS

__all__ = ["Scenario", "draw"]

BUSY_S = 40.0
"""Clients come and engines fail within these first seconds."""

_PAIRS = (
    ("dies", "starts", 4),
    ("dies", "starts, loading", 2),
    ("stops", "goes on", 2),
    ("is cut off", "is reachable", 2),
    ("unloads m", "loads m", 2),
    ("resets at accept", "accepts", 1),
    ("is drained", "is resumed", 2),
    ("is removed", "is added", 2),
    ("is respecified", "is respecified", 2),
)
_SINGLE = ("limits change", "machine sleeps", "runs out of descriptors")


@dataclass
class Scenario:
    """One run's settings and timetable; times are seconds from its beginning."""

    engines: list[str] = field(default_factory=list)
    specs: list[BackendSpec] = field(default_factory=list)
    backends: list[BackendSpec] = field(default_factory=list)
    saints: frozenset[str] = frozenset()
    """Engines that never do anything wrong, and stay."""
    latency_s: float = 0.001
    splits: float = 0.0
    engine_idle_s: float = 20.0
    retry_budget: tuple[float, float] = (100.0, 10.0)
    moods: dict[str, tuple[float, str | None]] = field(default_factory=dict)
    events: list[tuple[float, str, str]] = field(default_factory=list)
    clients: list[tuple[float, Habits, list[Sent]]] = field(default_factory=list)
    lasts_s: float = BUSY_S
    heals: bool = True
    cut_after_s: float = 0.0
    server: ServerConfig = field(default_factory=ServerConfig)
    routing: RoutingConfig = field(default_factory=RoutingConfig)
    health: HealthCheckConfig = field(default_factory=HealthCheckConfig)


def draw(rng: Random) -> Scenario:
    """A run."""
    scenario = Scenario()
    _draw_settings(scenario, rng)
    count = rng.choice((1, 2, 2, 3, 3, 4))
    spare = rng.randint(0, 1)
    scenario.engines = [f"b{number}" for number in range(1, count + spare + 1)]
    scenario.specs = [_spec(name, rng) for name in scenario.engines]
    scenario.backends = scenario.specs[:count]
    if rng.random() < 0.5:
        scenario.saints = frozenset({"b1"})
    _draw_events(scenario, rng)
    _draw_clients(scenario, rng)
    scenario.events.sort()
    if rng.random() < 0.3:
        scenario.lasts_s = rng.uniform(1.0, BUSY_S)
        scenario.heals = False
        scenario.cut_after_s = rng.choice((0.0, 0.0, 0.5))
    return scenario


def _draw_settings(scenario: Scenario, rng: Random) -> None:
    scenario.latency_s = rng.choice((0.0001, 0.001, 0.02, 0.15))
    scenario.splits = rng.choice((0.0, 0.1, 0.5))
    scenario.engine_idle_s = rng.choice((0.5, 2.0, 5.0, 20.0))
    scenario.retry_budget = rng.choice(((100.0, 10.0), (100.0, 10.0), (2.0, 0.05)))
    scenario.server = ServerConfig(
        request_timeout_seconds=rng.choice((8.0, 20.0, 40.0)),
        connect_timeout_seconds=rng.choice((1.0, 5.0)),
        first_byte_timeout_seconds=rng.choice((0.0, 0.0, 0.0, 3.0, 10.0)),
        stream_idle_timeout_seconds=rng.choice((4.0, 20.0)),
        stream_keepalive_seconds=rng.choice((0.0, 2.0, 15.0)),
        max_concurrent_requests=rng.choice((1000, 1000, 3)),
        max_held_response_bytes=rng.choice((4_194_304, 400)),
        max_buffered_bytes=rng.choice((268_435_456, 268_435_456, 6000)),
        client_head_timeout_seconds=10.0,
        client_body_timeout_seconds=rng.choice((5.0, 20.0)),
        keep_alive_seconds=rng.choice((3.0, 75.0)),
        drain_timeout_seconds=rng.choice((1.0, 5.0, 30.0)),
        drain_delay_seconds=rng.choice((0.0, 0.0, 1.0)),
        pool_idle_per_backend=rng.choice((0, 1, 64)),
    )
    scenario.routing = RoutingConfig(
        max_retries=rng.choice((0, 1, 2, 2, 2, 3)),
        strategy=rng.choice(("smart", "smart", "round_robin", "random", "least_load")),
        aliases={"gpt": "m"},
        fallbacks={"old": ("m",)},
    )
    scenario.health = HealthCheckConfig(
        interval_seconds=rng.choice((10.0, 30.0)), timeout_seconds=rng.choice((2.0, 5.0))
    )


def _spec(name: str, rng: Random) -> BackendSpec:
    generic, vllm = EngineKind.GENERIC, EngineKind.VLLM
    return BackendSpec(
        name=name,
        url=f"http://10.0.0.{name[1:]}:8000",
        engine=rng.choice((generic, generic, vllm, None)),
        priority=rng.choice((50, 50, 10)),
        max_concurrency=rng.choice((0, 0, 0, 1, 2)),
    )


def _draw_events(scenario: Scenario, rng: Random) -> None:
    events = scenario.events
    sinners = [name for name in scenario.engines if name not in scenario.saints]
    for name in sinners:
        for number in range(rng.choice((0, 1, 1, 2))):
            label = f"mood {number} of {name}"
            only = None if rng.random() < 0.7 else rng.choice(list(MISHAPS))
            scenario.moods[label] = (rng.choice((0.1, 0.5, 1.0)), only)
            begins_s = rng.uniform(0.0, BUSY_S) if number else 0.0
            events.append((begins_s, label, name))
            scenario.moods[f"mood {number} over"] = (0.0, None)
            events.append((begins_s + rng.uniform(3.0, 30.0), f"mood {number} over", name))
        for _ in range(rng.choice((0, 0, 1, 2))):
            first, then, _ = rng.choices(_PAIRS, [weight for *_, weight in _PAIRS])[0]
            at_s = rng.uniform(0.0, BUSY_S)
            # A flapping one comes and goes quickly.
            for _ in range(rng.choice((1, 1, 1, 4))):
                back_s = at_s + rng.choice((0.05, 0.7, 3.0, 12.0))
                events.append((at_s, first, name))
                events.append((back_s, then, name))
                if "loading" in then:
                    events.append((back_s + rng.uniform(0.5, 6.0), "has loaded", name))
                at_s = back_s + rng.choice((0.3, 2.0))
    for spec in scenario.specs[len(scenario.backends) :]:
        events.append((rng.uniform(0.0, BUSY_S), "is added", spec.name))
    if rng.random() < 0.2:
        what = rng.choice(_SINGLE)
        at_s = rng.uniform(0.0, BUSY_S)
        events.append((at_s, what, "gateway"))
        if what == "runs out of descriptors":
            events.append((at_s + rng.choice((0.5, 6.0, 15.0)), "has descriptors again", "gateway"))


def _draw_clients(scenario: Scenario, rng: Random) -> None:
    models = ("m",) * 16 + ("gpt", "old", "nobody's")
    pins = tuple(scenario.engines)
    patient = rng.random() < 0.4
    begin_s, length_s, clients = 0.0, BUSY_S, rng.choice((2, 4, 6, 9))
    if rng.random() < 0.25:  # a rush: all at once, most often while something goes wrong
        begin_s, length_s, clients = rng.uniform(0.0, 20.0), rng.choice((0.2, 3.0)), 14
    for client in range(clients):
        count = rng.choice((1, 1, 2, 3))
        requests = [
            make_request(f"c{client}-{number}", rng, models, pins) for number in range(count)
        ]
        habits = Habits()
        if not patient:
            habits = Habits(
                requests=count,
                pipelines=rng.random() < 0.25,
                pause_s=rng.choice((0.0, 0.0, 0.5, 6.0)),
                stops_reading_s=rng.choice((0.0, 0.0, 0.0, 0.01, 1.0)),
                reads_again_s=rng.choice((0.0, 1.0, 8.0)),
                leaves_s=rng.choice((0.0, 0.0, 0.0, 0.02, 0.3, 4.0, 20.0)),
                leaves_after_bytes=rng.choice((0, 0, 0, 0, 10, 700)),
                rudely=rng.random() < 0.5,
                in_pieces=rng.random() < 0.2,
            )
        scenario.clients.append((begin_s + rng.uniform(0.0, length_s), habits, requests))
