"""Filters: which backends cannot take a request, which only stand behind others, and why.

What a backend *can do* is always asked before how busy or how fast it is (behaviour § 5.1).
Unknown is not "no": an unknown capability keeps a candidate, behind those that are known to have
it. The reasons are said in words only when somebody will read them.
"""

from __future__ import annotations

from nexus.core.backend import BackendStatus
from nexus.core.call import RequestProfile
from nexus.core.live import BackendLive, BreakerState
from nexus.core.model import GUESSED, Model, ModelKind
from nexus.core.snapshot import Candidate
from nexus.routing.plan import Behind, DropReason

__all__ = [
    "FULL",
    "TRIPPED",
    "Ask",
    "detail",
    "ignored_fields",
    "lasting_rank",
    "lets_through",
    "obstacle",
    "unfit",
    "unready",
]

_HEALTHY = BackendStatus.HEALTHY
TRIPPED = int(Behind.TRIPPED)
FULL = int(Behind.FULL)
_OUTPUT = int(Behind.OUTPUT)
_IGNORED = int(Behind.IGNORED)
_GUESSED = int(Behind.GUESSED)
_UNKNOWN = int(Behind.UNKNOWN)

_GENERATING = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses"})
_EMBEDDING = "/v1/embeddings"
_NO_FIELDS: frozenset[str] = frozenset()


class Ask:
    """What a request asks of a backend, worked out once for all candidates.

    ``input_tokens`` is the estimate; ``output_tokens`` what was asked for and ``total_tokens`` both
    together, 0 when nothing was said. ``special`` tells that a capability is asked for.
    """

    __slots__ = (
        "embeds",
        "endpoint",
        "fields",
        "generates",
        "input_tokens",
        "json",
        "output_tokens",
        "pin",
        "special",
        "strict",
        "tools",
        "total_tokens",
        "vision",
    )

    def __init__(self, profile: RequestProfile, input_tokens: int, strict: bool) -> None:
        self.endpoint = profile.endpoint
        self.generates = self.endpoint in _GENERATING
        self.embeds = self.endpoint == _EMBEDDING
        self.vision = profile.needs_vision
        self.tools = profile.needs_tools
        self.json = profile.needs_json
        self.special = self.vision or self.tools or self.json or self.embeds
        self.input_tokens = input_tokens
        output = self.output_tokens = profile.max_output_tokens or 0
        self.total_tokens = input_tokens + output if output else 0
        # What engines ignore are fields of text generation: "n" of an image call is honoured.
        self.fields = profile.fields if self.generates else _NO_FIELDS
        self.strict = strict
        self.pin = profile.pin


def obstacle(candidate: Candidate, ask: Ask, now_s: float) -> DropReason | None:
    """The first filter that ``candidate`` does not pass, ``None`` when it may be tried."""
    return unfit(candidate, ask) or unready(candidate, now_s)


def unfit(candidate: Candidate, ask: Ask) -> DropReason | None:
    """Why ``candidate`` cannot serve this, as long as the snapshot stands."""
    backend = candidate.backend
    spec = backend.spec
    if ask.pin is not None and spec.name != ask.pin:
        return DropReason.PIN
    if backend.status is not _HEALTHY:
        if backend.status is BackendStatus.DRAINING:
            return DropReason.DRAINING
        return DropReason.UNHEALTHY
    model = candidate.model
    traits = backend.traits
    if traits.paths and ask.endpoint not in traits.paths:
        return DropReason.ENDPOINT
    if ask.generates and model.kind is ModelKind.EMBEDDING:
        return DropReason.ENDPOINT
    if ask.special:
        can = model.capabilities
        if ask.embeds and can.embeddings is False:
            return DropReason.ENDPOINT
        if ask.vision and can.vision is False:
            return DropReason.VISION
        if ask.tools and can.tools is False:
            return DropReason.TOOLS
        if ask.json and can.json_mode is False:
            return DropReason.JSON
    window = model.context_length
    if window is not None:
        if ask.input_tokens > window:
            return DropReason.CONTEXT
        if ask.total_tokens > window and traits.refuses_long_output:
            return DropReason.OUTPUT
        if ask.output_tokens > window and traits.refuses_output_over_window:
            return DropReason.OUTPUT
    if ask.strict and ask.fields and not ask.fields.isdisjoint(traits.ignored_fields):
        return DropReason.IGNORED_FIELDS
    return None


def unready(candidate: Candidate, now_s: float) -> DropReason | None:
    """Why ``candidate`` cannot serve just now."""
    live = candidate.live
    limit = candidate.backend.spec.max_concurrency
    if limit and live.in_flight >= limit:
        return DropReason.MAX_CONCURRENCY
    if live.parked_until_s > now_s:
        return DropReason.PARKED
    if live.breaker is not BreakerState.CLOSED and not lets_through(live, now_s):
        return DropReason.BREAKER
    return None


def lets_through(live: BackendLive, now_s: float) -> bool:
    """Whether a breaker that is not closed would take a trial now."""
    if live.trial_in_flight:
        return False
    return live.breaker is BreakerState.HALF_OPEN or live.open_until_s <= now_s


def lasting_rank(candidate: Candidate, ask: Ask) -> int:
    """How far ``candidate`` stands behind others as long as the snapshot stands, as a sum of
    :class:`Behind`; ``FULL`` and ``TRIPPED`` come and go and are not in it."""
    behind = 0
    backend = candidate.backend
    if ask.total_tokens:
        window = candidate.model.context_length
        if window is not None and ask.total_tokens > window:
            behind += _OUTPUT
    if ask.fields and not ask.fields.isdisjoint(backend.traits.ignored_fields):
        behind += _IGNORED
    if ask.special:
        behind += _UNKNOWN * _unknown(candidate.model, ask)
        behind += _GUESSED * _guessed(candidate.model, ask)
    return behind


def _unknown(model: Model, ask: Ask) -> int:
    """How many of the capabilities asked for ``model`` is not known to have."""
    can = model.capabilities
    return (
        (ask.vision and can.vision is None)
        + (ask.tools and can.tools is None)
        + (ask.json and can.json_mode is None)
        + (ask.embeds and can.embeddings is None and model.kind is not ModelKind.EMBEDDING)
    )


def _guessed(model: Model, ask: Ask) -> int:
    """How many of them only its name suggests."""
    source = model.evidence
    return (
        (ask.vision and source.get("vision") == GUESSED)
        + (ask.tools and source.get("tools") == GUESSED)
        + (ask.json and source.get("json_mode") == GUESSED)
        + (ask.embeds and source.get("embeddings") == GUESSED)
    )


def ignored_fields(candidate: Candidate, ask: Ask) -> tuple[str, ...]:
    """The fields of the request that the candidate's engine drops, sorted."""
    dropped = candidate.backend.traits.ignored_fields
    return tuple(sorted(ask.fields & dropped)) if dropped else ()


def detail(reason: DropReason, candidate: Candidate, ask: Ask, now_s: float) -> str:
    """Why ``candidate`` was dropped, for people."""
    backend, model, live = candidate.backend, candidate.model, candidate.live
    match reason:
        case DropReason.PIN:
            return f"not the backend asked for (x-nexus-pin: {ask.pin})"
        case DropReason.DRAINING:
            return "draining"
        case DropReason.UNHEALTHY:
            return f"{backend.status.value}: {backend.reason}"
        case DropReason.ENDPOINT:
            if backend.traits.paths and ask.endpoint not in backend.traits.paths:
                return f"{backend.engine.value} does not serve {ask.endpoint}"
            if ask.embeds:
                return "no embeddings"
            return f"an embedding model does not serve {ask.endpoint}"
        case DropReason.VISION:
            return "no vision"
        case DropReason.TOOLS:
            return "no tools"
        case DropReason.JSON:
            return "no JSON mode"
        case DropReason.CONTEXT:
            return f"context {model.context_length} < estimated {ask.input_tokens} tokens"
        case DropReason.OUTPUT:
            return (
                f"context {model.context_length} < estimated {ask.total_tokens} tokens "
                "with the requested output"
            )
        case DropReason.IGNORED_FIELDS:
            return f"{backend.engine.value} ignores {', '.join(ignored_fields(candidate, ask))}"
        case DropReason.MAX_CONCURRENCY:
            return f"{live.in_flight} calls of at most {backend.spec.max_concurrency}"
        case DropReason.PARKED:
            return f"asked for patience, {live.parked_until_s - now_s:.1f} s more"
        case DropReason.BREAKER:
            if live.trial_in_flight:
                return "circuit breaker half-open, a trial is under way"
            return f"circuit breaker open, {max(live.open_until_s - now_s, 0.0):.1f} s more"
