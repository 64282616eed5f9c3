"""The shapes of the admin API's answers and bodies: the source of its OpenAPI document.

Answers are made elsewhere, as plain data; tests hold every real answer against these shapes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nexus.config.schema import BackendConfig

__all__ = ["SHAPES"]

Milliseconds = Annotated[float, Meta(description="Milliseconds.")]
UnixTime = Annotated[float, Meta(description="Unix time, seconds.")]


class _Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An object with a closed set of members, all of them present."""


class Capabilities(_Shape, frozen=True, kw_only=True):
    """What a model can do; null where nobody knows."""

    vision: bool | None
    tools: bool | None
    json_mode: bool | None
    embeddings: bool | None
    reasoning: bool | None


class Model(_Shape, frozen=True, kw_only=True):
    """A model as one backend serves it."""

    id: str
    context_length: Annotated[int | None, Meta(description="Tokens.")]
    capabilities: Capabilities
    kind: Literal["chat", "embedding"]
    loaded: bool | None
    size_bytes: int | None
    quantization: str | None
    family: str | None
    evidence: Annotated[dict[str, str], Meta(description="Per fact, where it was read.")]


class ServedModel(Model, frozen=True, kw_only=True):
    """A model at one backend: ``name`` and ``status`` are the backend's."""

    name: str
    status: str


class ModelEntry(_Shape, frozen=True, kw_only=True):
    """A model with every backend that has it."""

    id: str
    backends: list[ServedModel]


class ModelList(_Shape, frozen=True, kw_only=True):
    """Every model."""

    data: list[ModelEntry]


class EngineLoad(_Shape, frozen=True, kw_only=True):
    """What the engine said of its load; null where it does not."""

    running: int | None
    waiting: int | None
    kv_usage: float | None


class LastCheck(_Shape, frozen=True, kw_only=True):
    """The last health check."""

    at: UnixTime | None
    ms: Milliseconds | None
    error: str | None


class Backend(_Shape, frozen=True, kw_only=True):
    """An inference server."""

    name: str
    url: Annotated[str, Meta(description="Values in its query are masked.")]
    engine: str
    engine_version: str | None
    source: Literal["static", "manual", "scan", "mdns"]
    priority: Annotated[int, Meta(description="Lower is preferred.")]
    status: Literal["pending", "unknown", "healthy", "unhealthy", "draining"]
    reason: Annotated[str, Meta(description="Why it has that status.")]
    breaker: Literal["closed", "open", "half_open"]
    max_concurrency: Annotated[int, Meta(description="As configured; 0 = no limit.")]
    capacity: Annotated[int | None, Meta(description="Learned: how many it runs at once.")]
    in_flight: Annotated[int, Meta(description="Our calls there now.")]
    load: EngineLoad
    ttft_ms: Milliseconds | None
    last_check: LastCheck
    zone: str
    tier: int
    models: list[Model]


class BackendList(_Shape, frozen=True, kw_only=True):
    """Every backend, by name."""

    data: list[Backend]


class Probe(_Shape, frozen=True, kw_only=True):
    """What answers at a URL."""

    url: str
    engine: str | None
    label: str
    engine_version: str | None
    reachable: Annotated[
        bool, Meta(description="A server that Nexus can use, be it loading or in want of a key.")
    ]
    reason: str
    capacity: int | None
    load: EngineLoad
    models: list[Model]
    evidence: dict[str, str]


class ProbeRequest(_Shape, frozen=True, kw_only=True):
    """Which server to ask."""

    url: str


class Profile(_Shape, frozen=True, kw_only=True):
    """What routing knows of a request."""

    endpoint: str
    model: str
    stream: bool
    needs_vision: bool
    needs_tools: bool
    needs_json: bool
    text_bytes: int
    images: int
    max_output_tokens: int | None
    fields: list[str]
    pin: str | None


class EstimatedProfile(Profile, frozen=True, kw_only=True):
    """The same with the input's estimated tokens."""

    estimated_tokens: int


class Parts(_Shape, frozen=True, kw_only=True):
    """A score's parts, each from 0 to 1, higher better."""

    priority: float
    load: float
    latency: float


class Candidate(_Shape, frozen=True, kw_only=True):
    """A backend that may be tried. ``behind`` tells what puts it behind others whatever its score,
    ``ignored`` the request's fields that its engine drops."""

    backend: str
    score: float
    parts: Parts
    ignored: list[str]
    behind: list[str]


class Dropped(_Shape, frozen=True, kw_only=True):
    """A backend that serves the model and may not be tried."""

    backend: str
    reason: str
    detail: str


class Refusal(_Shape, frozen=True, kw_only=True):
    """The error that the request would get."""

    status: int
    code: str
    message: str


class Explanation(_Shape, frozen=True, kw_only=True):
    """Where a request would go, and why."""

    requested_model: str
    model: Annotated[str, Meta(description="After aliases and fallback.")]
    alias_chain: list[str]
    profile: EstimatedProfile
    chosen: str | None
    reason: str | None
    candidates: Annotated[list[Candidate], Meta(description="In the order of attempt.")]
    dropped: list[Dropped]
    fallback_model: str | None
    error: Refusal | None
    decision_us: Annotated[float | None, Meta(description="The router's time, microseconds.")]


class CallBody(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it would go to the endpoint."""

    model: str
    messages: list[dict[str, Any]] = []


class SettingChange(_Shape, frozen=True, kw_only=True):
    """A setting that changed; null where it was not, or is not, set."""

    key: str
    before: Any
    after: Any


class BackendSettings(_Shape, frozen=True, kw_only=True):
    """A backend whose settings changed."""

    name: str
    changes: list[SettingChange]


class Reload(_Shape, frozen=True, kw_only=True):
    """What a configuration that was read again has changed."""

    outcome: Literal["applied", "unchanged"]
    added: list[str]
    removed: list[str]
    changed: list[BackendSettings]
    settings: list[SettingChange]
    needs_restart: list[SettingChange]


class Config(_Shape, frozen=True, kw_only=True):
    """The configuration as it runs. ``origins`` tells, by key path, where a value is from."""

    file: str | None
    config: dict[str, Any]
    origins: dict[str, str]
    needs_restart: list[SettingChange]


class Requests(_Shape, frozen=True, kw_only=True):
    """Calls since the start, by how they ended."""

    total: int
    ok: int
    client_error: int
    upstream_error: int
    timeout: int
    cancelled: int
    refused: int
    in_flight: int


class TokenCount(_Shape, frozen=True, kw_only=True):
    """Tokens since the start."""

    prompt: int
    completion: int


class Percentiles(_Shape, frozen=True, kw_only=True):
    """Milliseconds, null where there was no call."""

    p50: float | None
    p95: float | None


class Tally(_Shape, frozen=True, kw_only=True):
    """The calls of a backend or a model."""

    name: str
    requests: int
    errors: int
    ttft_ms: Percentiles
    duration_ms: Percentiles


class Stats(_Shape, frozen=True, kw_only=True):
    """Counts and percentiles of calls."""

    uptime_seconds: float
    requests: Requests
    tokens: TokenCount
    backends: list[Tally]
    models: list[Tally]


class Attempt(_Shape, frozen=True, kw_only=True):
    """One attempt at one backend: ``ok`` or what it failed of."""

    backend: str
    outcome: str
    status: int
    ms: Milliseconds


class CallTokens(_Shape, frozen=True, kw_only=True):
    """Tokens of a call; ``estimated`` where the engine told none."""

    prompt: int | None
    completion: int | None
    estimated: int | None


class CallBytes(_Shape, frozen=True, kw_only=True, rename={"in_": "in"}):
    """Body bytes of a call."""

    in_: int
    out: int


class Call(_Shape, frozen=True, kw_only=True):
    """A finished call."""

    request_id: str
    at: UnixTime
    endpoint: str
    model: str
    served_model: str
    backend: str
    reason: str
    stream: bool
    attempts: list[Attempt]
    status: Annotated[int, Meta(description="What the client was told; 0: it left before.")]
    outcome: Literal["ok", "client_error", "upstream_error", "timeout", "cancelled", "refused"]
    error: str
    ttft_ms: Milliseconds | None
    duration_ms: Milliseconds
    tokens: CallTokens
    bytes: CallBytes


class CallList(_Shape, frozen=True, kw_only=True):
    """Calls, newest first."""

    data: list[Call]


class Considered(_Shape, frozen=True, kw_only=True):
    """A candidate of the call's plan."""

    backend: str
    score: float


class CallDetail(Call, frozen=True, kw_only=True):
    """A call, with what routing knew of it."""

    events: int
    profile: Profile | None
    considered: list[Considered]


class Session(_Shape, frozen=True, kw_only=True):
    """Whether a key is needed, and whether this browser need not send it."""

    key_required: bool
    signed_in: bool


class SignIn(_Shape, frozen=True, kw_only=True):
    """The admin key."""

    key: str


class ErrorFields(_Shape, frozen=True, kw_only=True):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ConfigProblem(_Shape, frozen=True, kw_only=True):
    """One thing that is wrong: where, and the valid name that comes closest."""

    source: str
    message: str
    key: str
    line: int | None
    nearest: str | None


class Error(_Shape, frozen=True, kw_only=True):
    """An error; ``problems`` where there are several."""

    error: ErrorFields
    problems: list[ConfigProblem] | msgspec.UnsetType = msgspec.UNSET


class NewBackend(BackendConfig, frozen=True, kw_only=True):
    """The keys of ``[[backends]]``; without a name one is made up."""

    name: str | msgspec.UnsetType = msgspec.UNSET  # type: ignore[assignment]
    save: Annotated[bool, Meta(description="Also in the configuration file.")] = False
    force: Annotated[bool, Meta(description="Even if nobody answers there.")] = False


class BackendChange(BackendConfig, frozen=True, kw_only=True):
    """Some keys of ``[[backends]]``; null sets one back to its default."""

    name: str | msgspec.UnsetType = msgspec.UNSET  # type: ignore[assignment]
    url: str | msgspec.UnsetType = msgspec.UNSET  # type: ignore[assignment]
    save: Annotated[bool, Meta(description="Also in the configuration file.")] = False


SHAPES: dict[str, type[msgspec.Struct]] = {
    shape.__name__: shape
    for shape in (
        Backend,
        BackendChange,
        BackendList,
        CallBody,
        CallDetail,
        CallList,
        Config,
        Error,
        Explanation,
        ModelList,
        NewBackend,
        Probe,
        ProbeRequest,
        Reload,
        Session,
        SignIn,
        Stats,
    )
}
"""What routes name as their bodies and answers."""
