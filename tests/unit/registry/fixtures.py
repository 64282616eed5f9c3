"""Specs, reports and stores, short to write."""

from __future__ import annotations

from typing import Any

from nexus.core.backend import BackendSpec, BackendStatus, EngineKind, EngineTraits
from nexus.core.model import Capabilities, Model
from nexus.engines.adapter import CheckResult, Health
from nexus.health.report import CheckReport
from nexus.registry.store import Store

TRAITS = {kind: EngineTraits(idle_s=float(n)) for n, kind in enumerate(EngineKind)}


def store(**overrides: Any) -> Store:
    return Store(traits_of=TRAITS.__getitem__, overrides=overrides)


def spec(name: str = "b", **fields: Any) -> BackendSpec:
    return BackendSpec(**({"name": name, "url": f"http://{name}.test:8000"} | fields))


def model(name: str, *aliases: str, context: int | None = None, **fields: Any) -> Model:
    flags = {key: fields.pop(key) for key in Capabilities.__struct_fields__ if key in fields}
    return Model(
        id=name,
        engine_name=name,
        aliases=aliases,
        context_length=context,
        capabilities=Capabilities(**flags),
        **fields,
    )


def good(name: str = "b", *models: Model | str, **fields: Any) -> CheckReport:
    """A good check of ``name`` that lists ``models``."""
    listed = tuple(model(m) if isinstance(m, str) else m for m in models)
    return report(name, BackendStatus.HEALTHY, Health.HEALTHY, models=listed, **fields)


def bad(name: str = "b", status: BackendStatus = BackendStatus.UNHEALTHY) -> CheckReport:
    """A failed check, which lists nothing."""
    return report(name, status, Health.FAILED, reason="timeout")


def report(
    name: str,
    status: BackendStatus,
    health: Health,
    *,
    engine: EngineKind | None = None,
    at_s: float = 1_800_000_000.0,
    round_trip_s: float | None = 0.002,
    **result: Any,
) -> CheckReport:
    return CheckReport(
        name=name,
        status=status,
        reason=result.get("reason") or "answers",
        result=CheckResult(health=health, **result),
        engine=engine,
        duration_ms=12.5,
        at_s=at_s,
        now_s=100.0,
        round_trip_s=round_trip_s,
    )
