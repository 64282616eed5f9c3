"""How the registry shows itself: ``/v1/models``, ``/health``, and the admin API's shapes.

Plain JSON-able values made from a snapshot, apart from the internals so that these may change.
No secret is ever in them: keys and headers are left out, a URL's query values masked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias
from urllib.parse import quote, urlsplit

from msgspec.structs import asdict

from nexus.core.backend import Backend, BackendStatus, EngineKind
from nexus.core.live import BackendLive
from nexus.core.model import Capabilities, Model
from nexus.core.snapshot import Candidate, Snapshot
from nexus.engines.adapter import CheckResult, Health
from nexus.health import breaker
from nexus.routing.aliases import resolve_alias

__all__ = [
    "backend_view",
    "backends_view",
    "health_view",
    "model_entry",
    "model_list",
    "model_view",
    "models_view",
    "probe_view",
]

Json: TypeAlias = dict[str, Any]

_OWNER = "nexus"
"""``owned_by`` of every entry: how another gateway recognises this one."""
_FLAGS = Capabilities.__struct_fields__


def model_list(snapshot: Snapshot, aliases: Mapping[str, str]) -> Json:
    """``GET /v1/models`` (OpenAI API reference, "List models"; behaviour § 2.4): one entry per id
    over the routable backends, and the configured ``aliases`` that lead to one, sorted by id."""
    names = {*snapshot.listed, *aliases}
    entries = [_listed_entry(snapshot, name, aliases) for name in sorted(names)]
    return {"object": "list", "data": [entry for entry in entries if entry is not None]}


def model_entry(snapshot: Snapshot, name: str, aliases: Mapping[str, str]) -> Json | None:
    """``GET /v1/models/{id}``: the entry of a model or alias (an engine's own aliases too), or
    ``None`` when no routable backend serves it."""
    entry = _listed_entry(snapshot, name, aliases)
    if entry is not None:
        return entry
    candidates = _routable(snapshot, name)
    if not candidates:
        return None
    return _entry(name, candidates, created_from=candidates, alias_of=candidates[0].model.id)


def health_view(snapshot: Snapshot, *, version: str, uptime_s: float) -> Json:
    """``GET /health`` (behaviour § 2.5). Pending backends are not counted."""
    counted = [b for b in snapshot.backends.values() if b.status is not BackendStatus.PENDING]
    healthy = sum(backend.routable for backend in counted)
    status = "degraded" if healthy else "unhealthy"
    if counted and healthy == len(counted):
        status = "healthy"
    return {
        "status": status,
        "version": version,
        "uptime_seconds": int(uptime_s),
        "backends": {
            "total": len(counted),
            "healthy": healthy,
            "unhealthy": len(counted) - healthy,
        },
        "models": len(snapshot.listed),
    }


def backends_view(snapshot: Snapshot, now_s: float) -> Json:
    """``GET /admin/v1/backends`` (behaviour § 13). ``now_s``: monotonic seconds, for breakers."""
    data = [
        backend_view(backend, snapshot.live[name], now_s)
        for name, backend in sorted(snapshot.backends.items())
    ]
    return {"data": data}


def backend_view(backend: Backend, live: BackendLive, now_s: float) -> Json:
    """The admin API's Backend. ``last_check.at`` is Unix time, seconds."""
    spec = backend.spec
    ttfts = [average.value for average in live.ttft.values() if average.value is not None]
    ttft_s = sum(ttfts) / len(ttfts) if ttfts else live.probe_s
    return {
        "name": spec.name,
        "url": _masked(spec.url),
        "engine": backend.engine.value,
        "engine_version": backend.engine_version,
        "source": spec.source.value,
        "priority": spec.priority,
        "status": backend.status.value,
        "reason": backend.reason,
        "breaker": breaker.state(live, now_s).value,
        "max_concurrency": spec.max_concurrency,
        "capacity": backend.capacity,
        "in_flight": live.in_flight,
        "load": {
            "running": live.running,
            "waiting": live.waiting,
            "kv_usage": live.kv_usage,
        },
        "ttft_ms": None if ttft_s is None else round(ttft_s * 1000, 3),
        "last_check": {
            "at": backend.last_check_at_s,
            "ms": None if backend.last_check_ms is None else round(backend.last_check_ms, 3),
            "error": backend.last_check_error,
        },
        "zone": spec.zone,
        "tier": spec.tier,
        "models": [model_view(model) for model in backend.models],
    }


def model_view(model: Model) -> Json:
    """The admin API's Model. Flags are true, false or null for unknown."""
    return {
        "id": model.id,
        "context_length": model.context_length,
        "capabilities": asdict(model.capabilities),
        "kind": model.kind.value,
        "loaded": model.loaded,
        "size_bytes": model.size_bytes,
        "quantization": model.quantization,
        "family": model.family,
        "evidence": dict(model.evidence),
    }


def models_view(snapshot: Snapshot) -> Json:
    """``GET /admin/v1/models``: every model known, whatever the status of its backends, and per
    backend the Model as that one serves it."""
    data: dict[str, list[Json]] = {}
    for backend in snapshot.backends.values():
        for model in backend.models:
            row = {"name": backend.name, "status": backend.status.value, **model_view(model)}
            data.setdefault(model.id, []).append(row)
    return {"data": [{"id": name, "backends": rows} for name, rows in sorted(data.items())]}


def probe_view(
    url: str, engine: EngineKind | None, result: CheckResult, *, label: str = ""
) -> Json:
    """``POST /admin/v1/probe``: what answers at ``url``. ``reachable`` means that a server which
    Nexus could use answered, be it loading or in want of a key. ``label`` is what people call the
    program, ``evidence`` tells per field which answer it was read from."""
    return {
        "url": _masked(url),
        "engine": None if engine is None else engine.value,
        "label": label,
        "engine_version": result.engine_version,
        "reachable": result.health not in (Health.LOST, Health.FAILED),
        "reason": result.reason or result.health.value,
        "capacity": result.capacity,
        "load": {
            "running": result.running,
            "waiting": result.waiting,
            "kv_usage": result.kv_usage,
        },
        "models": [model_view(model) for model in result.models or ()],
        "evidence": dict(result.evidence),
    }


def _routable(snapshot: Snapshot, name: str) -> list[Candidate]:
    return [c for c in snapshot.candidates.get(name, ()) if c.backend.routable]


def _listed_entry(snapshot: Snapshot, name: str, aliases: Mapping[str, str]) -> Json | None:
    """The entry of a name that ``/v1/models`` lists. A real model wins over an alias."""
    target, chain = resolve_alias(name, aliases, snapshot.candidates)
    known = snapshot.candidates.get(target, ())
    candidates = [c for c in known if c.backend.routable]
    if not chain:
        # Backends that know the name only as their own alias of another model show in that entry.
        candidates = [c for c in candidates if c.model.id == name]
        known = tuple(c for c in known if c.model.id == name)
    if not candidates:
        return None
    alias_of = target if chain else None
    return _entry(name, candidates, created_from=known, alias_of=alias_of)


def _entry(
    name: str,
    candidates: list[Candidate],
    *,
    created_from: tuple[Candidate, ...] | list[Candidate],
    alias_of: str | None,
) -> Json:
    """One entry: what some backend can do (behaviour § 2.4), and in ``nexus`` which ones serve it.

    ``created`` is the earliest any backend tells, unhealthy ones too (``created_from``), so that it
    does not change as they come and go.
    """
    models = [candidate.model for candidate in candidates]
    windows = [model.context_length for model in models if model.context_length is not None]
    times = [candidate.model.created for candidate in created_from if candidate.model.created > 0]
    nexus: Json = {} if alias_of is None else {"alias_of": alias_of}
    nexus["backends"] = [
        {
            "name": candidate.backend.name,
            "engine": candidate.backend.engine.value,
            "context_length": candidate.model.context_length,
            "loaded": candidate.model.loaded,
        }
        for candidate in candidates
    ]
    return {
        "id": name,
        "object": "model",
        "created": min(times, default=0),
        "owned_by": _OWNER,
        "context_length": max(windows, default=None),
        "capabilities": {
            flag: _some([getattr(model.capabilities, flag) for model in models]) for flag in _FLAGS
        },
        "nexus": nexus,
    }


def _some(values: list[bool | None]) -> bool | None:
    """Yes if anyone says yes, no only if all say no, else unknown."""
    if True in values:
        return True
    return None if None in values else False


def _masked(url: str) -> str:
    """``url`` without the values of its query, where some services want their key."""
    parts = urlsplit(url)
    if not parts.query:
        return url
    names = [pair.partition("=")[0] for pair in parts.query.split("&")]
    query = "&".join(f"{quote(name, safe='%')}=***" for name in names)
    return parts._replace(query=query).geturl()
