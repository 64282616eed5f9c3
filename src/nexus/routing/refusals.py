"""Refusals: what a client is told when no candidate is left (behaviour § 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from nexus.core.errors import ApiError
from nexus.core.snapshot import Candidate, Snapshot
from nexus.routing.filters import Ask, ignored_fields
from nexus.routing.plan import Dropped, DropReason

__all__ = ["no_candidate", "not_on_pinned", "unknown_model"]

_NAMES_MAX = 10
_OFFERED_MAX = 1000
_COMPARED_MAX = 20
_COMPARED_CHARS = 64
_UNHEALTHY_RETRY_S = 5.0
_FULL_RETRY_S = 1.0

_NOT_ROUTABLE = frozenset({DropReason.UNHEALTHY, DropReason.DRAINING})
_NOT_NOW = frozenset({DropReason.MAX_CONCURRENCY, DropReason.PARKED})

_PARAMS = {
    DropReason.VISION: "messages",
    DropReason.TOOLS: "tools",
    DropReason.JSON: "response_format",
}


def unknown_model(requested: str, snapshot: Snapshot) -> ApiError:
    """404: no backend has ever shown this model. Names the nearest ones."""
    return ApiError.model_not_found(requested, _nearest(requested, snapshot.listed))


def not_on_pinned(model: str, pin: str, snapshot: Snapshot) -> ApiError:
    """404: the model is served, but not by the backend that the client insists on."""
    names = _nearest(model, sorted(one.id for one in snapshot.backends[pin].models))
    hint = f"It has: {', '.join(names)}" if names else "It has no models"
    return ApiError(
        404,
        "invalid_request_error",
        "model_not_found",
        f"Model '{model}' is not on backend '{pin}' (from x-nexus-pin). {hint}",
        param="model",
    )


def no_candidate(
    model: str,
    candidates: Sequence[Candidate],
    dropped: Sequence[Dropped],
    ask: Ask,
    now_s: float,
) -> ApiError:
    """Why ``model``, which is known, cannot be served: nobody healthy (503), nobody able (400), or
    nobody free just now (429, 503). ``dropped`` has one entry per candidate, in their order; those
    dropped for a pin do not count."""
    pairs = [
        (candidate, why)
        for candidate, why in zip(candidates, dropped, strict=True)
        if why.reason is not DropReason.PIN
    ]
    if all(why.reason in _NOT_ROUTABLE for _, why in pairs):
        message = f"No healthy backend for model '{model}'"
        if ask.pin is not None:
            message += f" on '{ask.pin}' (from x-nexus-pin)"
        return ApiError.service_unavailable(message, retry_after_s=_UNHEALTHY_RETRY_S)
    waiting = [(candidate, why) for candidate, why in pairs if why.reason in _NOT_NOW]
    if not waiting:
        return _unable(model, pairs, ask)
    parked = [c for c, why in waiting if why.reason is DropReason.PARKED]
    if not parked:
        return ApiError.service_unavailable(
            f"Every backend for model '{model}' is at its configured limit",
            retry_after_s=_FULL_RETRY_S,
        )
    if len(parked) < len(waiting):
        return ApiError.service_unavailable(
            f"Every backend for model '{model}' is at its limit or asks for patience",
            retry_after_s=_FULL_RETRY_S,
        )
    soonest_s = min(candidate.live.parked_until_s for candidate in parked)
    return ApiError.too_many_requests(
        f"Every backend for model '{model}' asks for patience",
        retry_after_s=float(max(ceil(soonest_s - now_s), 1)),
    )


def _unable(model: str, pairs: Sequence[tuple[Candidate, Dropped]], ask: Ask) -> ApiError:
    reasons = dict.fromkeys(why.reason for _, why in pairs if why.reason not in _NOT_ROUTABLE)
    wanted = " and ".join(dict.fromkeys(_wanted(reason, pairs, ask) for reason in reasons))
    shown = ", ".join(f"{why.backend} ({why.detail})" for _, why in pairs[:_NAMES_MAX])
    if len(pairs) > _NAMES_MAX:
        shown += f" and {len(pairs) - _NAMES_MAX} more"
    return ApiError.unsupported_capability(
        f"No backend serves model '{model}' with {wanted}. Backends: {shown}.",
        param=_PARAMS.get(next(iter(reasons))) if len(reasons) == 1 else None,
    )


def _wanted(reason: DropReason, pairs: Sequence[tuple[Candidate, Dropped]], ask: Ask) -> str:
    """What was asked for, in the words of the client's own request."""
    match reason:
        case DropReason.VISION:
            return "vision (images)"
        case DropReason.TOOLS:
            return "tools"
        case DropReason.JSON:
            return "JSON output (response_format)"
        case DropReason.CONTEXT:
            return f"a context of {ask.input_tokens} tokens (estimated input)"
        case DropReason.OUTPUT:
            return f"a context of {ask.total_tokens} tokens (estimated input and requested output)"
        case DropReason.IGNORED_FIELDS:
            names = sorted({name for c, _ in pairs for name in ignored_fields(c, ask)})
            return f"the fields {', '.join(names)} (routing.strict_parameters)"
        case _:
            return f"endpoint {ask.endpoint}"


def _nearest(name: str, offered: Sequence[str]) -> list[str]:
    """At most ten of ``offered``, those most like ``name`` first.

    Anybody may ask for anything, and difflib takes up to half a millisecond for two long names: it
    is shown only the few that have most pairs of letters in common with ``name``.
    """
    from difflib import get_close_matches  # only ever needed to refuse

    wanted = name[:_COMPARED_CHARS].casefold()
    pairs = _letter_pairs(wanted)

    def likeness(one: str) -> tuple[bool, int]:
        folded = one[:_COMPARED_CHARS].casefold()
        # Names that hold what was typed come first: "qwen2" means "qwen2:72b".
        return wanted in folded, len(pairs & _letter_pairs(folded))

    pool = sorted(offered[:_OFFERED_MAX], key=likeness, reverse=True)[:_COMPARED_MAX]
    by_folded = {one[:_COMPARED_CHARS].casefold(): one for one in reversed(pool)}
    near = get_close_matches(wanted, list(by_folded), n=_NAMES_MAX, cutoff=0.3)
    ordered = dict.fromkeys(by_folded[key] for key in near)
    ordered.update(dict.fromkeys(pool))
    return list(ordered)[:_NAMES_MAX]


def _letter_pairs(text: str) -> set[str]:
    return {text[at : at + 2] for at in range(len(text) - 1)}
