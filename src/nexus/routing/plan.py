"""What the router decided, and why: the plan that the exchange walks and people read."""

from __future__ import annotations

from enum import IntFlag, StrEnum

import msgspec

from nexus.core.call import RequestProfile, RouteReason
from nexus.core.errors import ApiError
from nexus.core.snapshot import Candidate

__all__ = ["Behind", "DropReason", "Dropped", "Plan", "ScoreParts", "Scored", "explain_view"]


class DropReason(StrEnum):
    """The first filter that a backend did not pass."""

    PIN = "pin"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    ENDPOINT = "endpoint"
    VISION = "vision"
    TOOLS = "tools"
    JSON = "json"
    CONTEXT = "context"
    OUTPUT = "output"
    IGNORED_FIELDS = "ignored-fields"
    MAX_CONCURRENCY = "max-concurrency"
    PARKED = "parked"
    BREAKER = "breaker"


class Behind(IntFlag):
    """Why a candidate stands behind others whatever its score, the heaviest reason highest.

    Unknown capabilities are counted in steps of ``UNKNOWN``, so two weigh more than one; guessed
    ones likewise, all of them together weigh less than one that is unknown.
    """

    TRIPPED = 1
    """Its breaker's time has come, but another one that waits longer is tried first."""
    FULL = 2
    """It runs as many requests as it is known to run at once (learned, soft)."""
    OUTPUT = 4
    """Input and requested output together exceed its window."""
    IGNORED = 8
    """It drops fields of this request without a word."""
    GUESSED = 16
    """Only the model's name suggests that it can do what is asked."""
    UNKNOWN = 128
    """It is not known whether it can do what is asked."""


class ScoreParts(msgspec.Struct, frozen=True, gc=False):
    """A score's parts, each within [0, 1], higher better."""

    priority: float
    load: float
    latency: float


class Scored(msgspec.Struct, frozen=True, gc=False):
    """A candidate that may be tried. ``score`` is 1 where it was the only one and none was made.

    ``ignored`` are the request's fields that its engine drops, sorted. ``rank`` is a sum of
    :class:`Behind` weights: lower ranks are tried first, the strategy orders within a rank.
    ``parts`` of the score are worked out only when an explanation was asked for.
    """

    candidate: Candidate
    score: float
    ignored: tuple[str, ...] = ()
    rank: int = 0
    parts: ScoreParts | None = None


class Dropped(msgspec.Struct, frozen=True):
    """A backend that serves the model and is no candidate; ``detail`` is for people."""

    backend: str
    reason: DropReason
    detail: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The decision for one request.

    ``model`` is the name to serve, after aliases and fallback; ``alias_chain`` the names passed on
    the way from ``requested_model``, both ends included, empty without an alias. ``candidates``
    are in the order of attempt: as many as may be tried, or all of them when an explanation was
    asked for. Only then ``dropped`` is filled, and so is ``refusal``: the error that the request
    would have got instead of a plan.
    """

    requested_model: str
    model: str
    profile: RequestProfile
    candidates: tuple[Scored, ...]
    reason: RouteReason
    estimated_tokens: int
    alias_chain: tuple[str, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    fallback_model: str | None = None
    refusal: ApiError | None = None


def explain_view(plan: Plan, *, decision_us: float | None = None) -> dict[str, object]:
    """``plan`` as ``POST /admin/v1/routes/explain`` shows it (behaviour § 13): plain JSON values.

    ``decision_us`` is what the caller measured, microseconds.
    """
    profile = msgspec.to_builtins(plan.profile)
    profile["fields"] = sorted(plan.profile.fields)
    profile["estimated_tokens"] = plan.estimated_tokens
    refusal = plan.refusal
    return {
        "requested_model": plan.requested_model,
        "model": plan.model,
        "alias_chain": list(plan.alias_chain),
        "profile": profile,
        "chosen": plan.candidates[0].candidate.backend.name if plan.candidates else None,
        "reason": plan.reason.value if plan.candidates else None,
        "candidates": [_candidate_view(scored) for scored in plan.candidates],
        "dropped": [msgspec.to_builtins(dropped) for dropped in plan.dropped],
        "fallback_model": plan.fallback_model,
        "error": None
        if refusal is None
        else {"status": refusal.status, "code": refusal.code, "message": refusal.message},
        "decision_us": decision_us,
    }


def _candidate_view(scored: Scored) -> dict[str, object]:
    single = (Behind.TRIPPED, Behind.FULL, Behind.OUTPUT, Behind.IGNORED)
    behind = [flag.name.lower() for flag in single if scored.rank & flag and flag.name]
    if scored.rank % Behind.UNKNOWN >= Behind.GUESSED:
        behind.append("guessed")
    if scored.rank >= Behind.UNKNOWN:
        behind.append("unknown")
    return {
        "backend": scored.candidate.backend.name,
        "score": scored.score,
        "parts": msgspec.to_builtins(scored.parts),
        "ignored": list(scored.ignored),
        "behind": behind,
    }
