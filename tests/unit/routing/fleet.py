"""Builders of small fleets: say what matters in a test, the rest is a plain healthy backend."""

from __future__ import annotations

from random import Random
from typing import Any

from nexus.core.backend import (
    Backend,
    BackendSpec,
    BackendStatus,
    EngineKind,
    EngineTraits,
    parse_backend_url,
)
from nexus.core.call import RequestProfile
from nexus.core.live import BackendLive, BreakerState
from nexus.core.model import GUESSED, Capabilities, Model, ModelKind
from nexus.core.snapshot import Candidate, Snapshot
from nexus.routing.plan import Plan
from nexus.routing.router import Router, RoutingSettings

NOW_S = 1000.0
CHAT = "/v1/chat/completions"


def live(
    *,
    in_flight: int = 0,
    ttft_s: float | None = None,
    parked_for_s: float | None = None,
    breaker: BreakerState = BreakerState.CLOSED,
    open_for_s: float = 0.0,
    trial: bool = False,
) -> BackendLive:
    """Live figures; times count from ``NOW_S``."""
    figures = BackendLive()
    figures.in_flight = in_flight
    figures.probe_s = ttft_s
    if parked_for_s is not None:
        figures.parked_until_s = NOW_S + parked_for_s
    figures.breaker = breaker
    if breaker is not BreakerState.CLOSED:
        figures.open_until_s = NOW_S + open_for_s
    figures.trial_in_flight = trial
    return figures


def candidate(
    name: str,
    model: str = "m",
    *,
    status: BackendStatus = BackendStatus.HEALTHY,
    reason: str = "",
    engine: EngineKind = EngineKind.VLLM,
    priority: int = 50,
    max_concurrency: int = 0,
    capacity: int | None = None,
    context: int | None = None,
    kind: ModelKind = ModelKind.CHAT,
    vision: bool | None = None,
    tools: bool | None = None,
    json: bool | None = None,
    embeddings: bool | None = None,
    paths: frozenset[str] = frozenset(),
    ignores: frozenset[str] = frozenset(),
    refuses_long_output: bool = False,
    refuses_output_over_window: bool = False,
    guessed: tuple[str, ...] = (),
    figures: BackendLive | None = None,
) -> Candidate:
    """One backend ``name`` that serves ``model``."""
    url = f"http://{name}:8000"
    served = Model(
        id=model,
        engine_name=model,
        kind=kind,
        context_length=context,
        capabilities=Capabilities(
            vision=vision, tools=tools, json_mode=json, embeddings=embeddings
        ),
        evidence=dict.fromkeys(guessed, GUESSED),
    )
    backend = Backend(
        spec=BackendSpec(name=name, url=url, priority=priority, max_concurrency=max_concurrency),
        address=parse_backend_url(url),
        engine=engine,
        traits=EngineTraits(
            paths=paths,
            ignored_fields=ignores,
            refuses_long_output=refuses_long_output,
            refuses_output_over_window=refuses_output_over_window,
        ),
        status=status,
        reason=reason,
        models=(served,),
        capacity=capacity,
    )
    return Candidate(backend, served, figures or live())


def fleet(*candidates: Candidate) -> Snapshot:
    """A snapshot of ``candidates``, each a backend of its own."""
    by_model: dict[str, tuple[Candidate, ...]] = {}
    ordered = sorted(candidates, key=lambda one: (one.backend.spec.priority, one.backend.name))
    for one in ordered:
        by_model[one.model.id] = (*by_model.get(one.model.id, ()), one)
    return Snapshot(
        backends={one.backend.name: one.backend for one in ordered},
        live={one.backend.name: one.live for one in ordered},
        candidates=by_model,
        listed=tuple(sorted({one.model.id for one in ordered if one.backend.routable})),
    )


def ask(model: str = "m", **said: Any) -> RequestProfile:
    """A chat request's profile; ``said`` are further fields of :class:`RequestProfile`."""
    fields: dict[str, Any] = {"endpoint": CHAT, "model": model, "text_bytes": 40, **said}
    return RequestProfile(**fields)


def route(
    snapshot: Snapshot,
    profile: RequestProfile | None = None,
    *,
    router: Router | None = None,
    seed: int = 1,
    explain: bool = False,
    **settings: Any,
) -> Plan:
    """What a router with ``settings`` makes of it at ``NOW_S``."""
    router = router or Router(RoutingSettings(**settings))
    return router.route(snapshot, profile or ask(), now_s=NOW_S, rng=Random(seed), explain=explain)


def order(plan: Plan) -> list[str]:
    """The names of a plan's candidates in the order of attempt."""
    return [scored.candidate.backend.name for scored in plan.candidates]


def drops(plan: Plan) -> dict[str, str]:
    """Backend → reason of what an explained plan dropped."""
    return {dropped.backend: dropped.reason.value for dropped in plan.dropped}
