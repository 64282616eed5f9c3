"""What one routing decision costs: ``python benchmarks/micro/routing.py``.

Prints microseconds per decision, the best of several rounds, for fleets of different sizes.
"""

from __future__ import annotations

from collections import deque
from random import Random
from time import perf_counter

from nexus.core.backend import (
    Backend,
    BackendSpec,
    BackendStatus,
    EngineKind,
    EngineTraits,
    parse_backend_url,
)
from nexus.core.call import RequestProfile
from nexus.core.live import BackendLive
from nexus.core.model import Model
from nexus.core.snapshot import Candidate, Snapshot
from nexus.routing.router import Router, RoutingSettings
from nexus.routing.strategies import Strategy

PLAIN = RequestProfile(endpoint="/v1/chat/completions", model="m", text_bytes=800)
RICH = RequestProfile(
    endpoint="/v1/chat/completions",
    model="m",
    needs_tools=True,
    needs_json=True,
    text_bytes=8000,
    max_output_tokens=1000,
    fields=frozenset({"tools", "n", "response_format"}),
)


def fleet(size: int, models: int = 1) -> Snapshot:
    """``size`` backends that serve the same models (``m``, ``m1``, ...), each with its own load and
    speed."""
    rng = Random(size)
    names = ["m", *(f"m{number}" for number in range(1, models))]
    served = tuple(Model(id=name, engine_name=name, context_length=32768) for name in names)
    backends, lives = {}, {}
    for number in range(size):
        url = f"http://10.0.{number // 250}.{number % 250 + 1}:8000"
        backend = Backend(
            spec=BackendSpec(name=f"b{number:04}", url=url),
            address=parse_backend_url(url),
            engine=EngineKind.VLLM,
            traits=EngineTraits(ignored_fields=frozenset({"logit_bias"})),
            status=BackendStatus.HEALTHY,
            models=served,
        )
        live = BackendLive()
        live.in_flight = rng.randrange(20)
        live.polled(rng.randrange(20), 0)
        live.probe_s = rng.random()
        backends[backend.name], lives[backend.name] = backend, live
    candidates = {
        model.id: tuple(Candidate(one, model, lives[one.name]) for one in backends.values())
        for model in served
    }
    return Snapshot(backends=backends, live=lives, candidates=candidates, listed=tuple(names))


def measure(
    router: Router, snapshot: Snapshot, profile: RequestProfile, size: int, *, all_change: bool
) -> float:
    """Microseconds per decision, the best of seven rounds.

    Between two decisions the backend that was chosen begins a call and ends the one of eight
    decisions ago, as in a gateway with eight calls under way; with ``all_change`` every backend's
    figures change each time, which no fleet does.
    """
    rng = Random(1)
    calls = max(20_000 // size, 20)
    best = float("inf")
    lives = list(snapshot.live.values())
    for _ in range(7):
        spent = 0.0
        running: deque[BackendLive] = deque()
        for _ in range(calls):
            if all_change:
                for live in lives:
                    live.version += 1
            began = perf_counter()
            plan = router.route(snapshot, profile, now_s=1.0, rng=rng)
            spent += perf_counter() - began
            chosen = plan.candidates[0].candidate.live
            chosen.begin()
            running.append(chosen)
            if len(running) > 8:
                running.popleft().end()
        for live in running:
            live.end()
        best = min(best, spent / calls)
    return best * 1e6


def main() -> None:
    sizes = (1, 2, 10, 100, 1000)
    print("µs per decision, backends".ljust(30), *(f"{size:>8}" for size in sizes))
    for strategy in Strategy:
        for label, profile, all_change in (
            ("plain", PLAIN, False),
            ("rich", RICH, False),
            ("plain, all figures new", PLAIN, True),
        ):
            router = Router(RoutingSettings(strategy=strategy))
            cells = [
                f"{measure(router, fleet(s), profile, s, all_change=all_change):8.1f}"
                for s in sizes
            ]
            print(f"{strategy} {label}".ljust(30), *cells)


if __name__ == "__main__":
    main()
