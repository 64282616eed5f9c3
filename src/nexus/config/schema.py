"""The settings: every section and key of ``nexus.toml``, with its type, bounds and default.

This is the only list of them. Parsing, environment names, the example file and the reference page
are all derived from the annotations here, so a new setting is one line. A description must be
true for a reader who sees nothing else: it becomes the comment above the key.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = [
    "BackendConfig",
    "Config",
    "DiscoveryConfig",
    "HealthCheckConfig",
    "LogLevel",
    "LoggingConfig",
    "ModelOverride",
    "RoutingConfig",
    "ServerConfig",
    "TelemetryConfig",
    "Weights",
]

# A year: more is a mistake, and infinity would overflow the timers.
_SECONDS_MAX = 31_536_000

Text = Annotated[str, Meta(min_length=1)]
Flag = bool
# Zero has a meaning of its own ("off", "at once"), told in the description.
Seconds = Annotated[float, Meta(ge=0, le=_SECONDS_MAX)]
PositiveSeconds = Annotated[float, Meta(gt=0, le=_SECONDS_MAX)]
Count = Annotated[int, Meta(ge=0)]
PositiveCount = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Weight = Annotated[float, Meta(ge=0, le=1_000_000)]
LogLevel = Literal["debug", "info", "warning", "error"]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A TOML table with a closed set of keys."""


class ServerConfig(_Section, frozen=True, kw_only=True):
    """Where Nexus listens, its limits and deadlines, and who may come in."""

    host: Annotated[Text, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    ] = 8000
    unix: Annotated[
        str,
        Meta(
            description="Path of a Unix socket to listen on instead of host and port.",
            examples=["/run/nexus.sock"],
        ),
    ] = ""
    request_timeout_seconds: Annotated[
        Seconds,
        Meta(
            description="Time for a whole answer, all attempts together; for a stream, for its "
            "first event. 0 = off."
        ),
    ] = 300.0
    connect_timeout_seconds: Annotated[
        Seconds, Meta(description="Time to connect to a backend. 0 = off.")
    ] = 5.0
    first_byte_timeout_seconds: Annotated[
        Seconds,
        Meta(
            description="Time for one attempt's first data, after which the next backend is "
            "tried; cold models load slowly. 0 = off."
        ),
    ] = 0.0
    stream_idle_timeout_seconds: Annotated[
        Seconds,
        Meta(description="Silence in the middle of a stream after which it is broken. 0 = off."),
    ] = 120.0
    stream_keepalive_seconds: Annotated[
        Seconds,
        Meta(
            description="A stream that has nothing to say yet sends a comment each such period, "
            "so that proxies in front do not cut it. 0 = never."
        ),
    ] = 15.0
    max_concurrent_requests: Annotated[
        PositiveCount, Meta(description="Calls served at once; more are answered 503.")
    ] = 1000
    max_body_bytes: Annotated[
        PositiveCount, Meta(description="Largest request body, decoded; more is answered 413.")
    ] = 10_485_760
    max_held_response_bytes: Annotated[
        PositiveCount,
        Meta(
            description="A JSON answer is held until it is whole, so that a broken one can be "
            "retried, up to this size; a bigger one is passed on as it comes."
        ),
    ] = 4_194_304
    max_buffered_bytes: Annotated[
        PositiveCount,
        Meta(description="Request bodies and held answers kept in memory, all calls together."),
    ] = 268_435_456
    max_header_bytes: Annotated[
        int, Meta(ge=1024, description="Largest request head; more is answered 431.")
    ] = 65_536
    max_target_bytes: Annotated[
        int, Meta(ge=256, description="Longest request target (path and query); more is 414.")
    ] = 16_384
    client_head_timeout_seconds: Annotated[
        PositiveSeconds, Meta(description="Time for a client to send a request's head.")
    ] = 10.0
    client_body_timeout_seconds: Annotated[
        PositiveSeconds, Meta(description="Time for a client to send a request's body.")
    ] = 60.0
    keep_alive_seconds: Annotated[
        Seconds, Meta(description="How long an idle client connection is kept.")
    ] = 75.0
    drain_timeout_seconds: Annotated[
        Seconds, Meta(description="At shutdown, time for running calls to finish.")
    ] = 30.0
    drain_delay_seconds: Annotated[
        Seconds,
        Meta(
            description="At shutdown, how long only /readyz says so, for a load balancer to look "
            "away first."
        ),
    ] = 0.0
    pool_idle_per_backend: Annotated[
        Count, Meta(description="Idle connections kept to each backend.")
    ] = 64
    admin_key_env: Annotated[
        str,
        Meta(
            description="Name of the environment variable that holds the admin key. With one, "
            "the admin API answers from everywhere, to that key; without, this machine only.",
            examples=["NEXUS_ADMIN_KEY"],
        ),
    ] = ""
    metrics_access: Annotated[
        Literal["public", "admin"],
        Meta(description="Who reads /metrics: whoever reaches the port, or as the admin API."),
    ] = "public"
    cors_origins: Annotated[
        tuple[Text, ...],
        Meta(description="Origins of web pages that may call /v1; * stands for any port."),
    ] = ("http://localhost:*", "http://127.0.0.1:*")
    allowed_hosts: Annotated[
        tuple[Text, ...],
        Meta(
            description="Further Host names for the admin API and dashboard, besides IP "
            "addresses, localhost and this machine's name.",
            examples=[["nexus.example.org"]],
        ),
    ] = ()
    tls_cert: Annotated[
        str,
        Meta(
            description="Certificate chain (PEM) to serve https with; needs tls_key.",
            examples=["cert.pem"],
        ),
    ] = ""
    tls_key: Annotated[
        str, Meta(description="Private key (PEM) of tls_cert.", examples=["key.pem"])
    ] = ""


class DiscoveryConfig(_Section, frozen=True, kw_only=True):
    """How backends that nobody named are found and trusted."""

    enabled: Annotated[Flag, Meta(description="Look for backends.")] = True
    mdns: Annotated[Flag, Meta(description="Browse the local network by mDNS.")] = True
    scan: Annotated[Flag, Meta(description="Try well-known ports of this machine.")] = True
    scan_ports: Annotated[
        tuple[Port, ...], Meta(description="The ports to try; never its own.")
    ] = (11434, 8080, 8000, 8001, 8002, 1234, 52415, 30000, 4000, 5000)
    service_types: Annotated[
        tuple[Text, ...], Meta(description="mDNS service types to browse.")
    ] = ("_ollama._tcp.local", "_llm._tcp.local")
    grace_period_seconds: Annotated[
        Seconds,
        Meta(description="How long a found backend may be gone before it is forgotten."),
    ] = 60.0
    auto_approve: Annotated[
        Literal["loopback", "private", "never"],
        Meta(
            description="Which found backends are used at once: this machine's, private and "
            "link-local addresses too, or none. Others wait for approval."
        ),
    ] = "private"
    announce: Annotated[
        Flag, Meta(description="Announce this gateway by mDNS when bound beyond loopback.")
    ] = True
    forward_authorization: Annotated[
        Flag, Meta(description="Send clients' own credentials to found backends.")
    ] = False


class HealthCheckConfig(_Section, frozen=True, kw_only=True):
    """How backends are probed."""

    enabled: Annotated[
        Flag, Meta(description="Probe regularly; otherwise once, when a backend is added.")
    ] = True
    interval_seconds: Annotated[
        PositiveSeconds, Meta(description="Time between two probes of a healthy backend.")
    ] = 30.0
    timeout_seconds: Annotated[PositiveSeconds, Meta(description="Time for one probe.")] = 5.0
    failure_threshold: Annotated[
        PositiveCount, Meta(description="Failed probes in a row until a backend is unhealthy.")
    ] = 3
    recovery_threshold: Annotated[
        PositiveCount, Meta(description="Good probes in a row until it is healthy again.")
    ] = 2
    load_interval_seconds: Annotated[
        PositiveSeconds, Meta(description="Time between two looks at an engine's live load.")
    ] = 2.0


class Weights(_Section, frozen=True, kw_only=True):
    """What counts how much for the ``smart`` strategy; only the proportion matters."""

    priority: Annotated[Weight, Meta(description="The backend's configured priority.")] = 50.0
    load: Annotated[Weight, Meta(description="How busy it is.")] = 30.0
    latency: Annotated[Weight, Meta(description="Its time to first token.")] = 20.0


class RoutingConfig(_Section, frozen=True, kw_only=True):
    """Which backend serves a call."""

    strategy: Annotated[
        Literal["smart", "round_robin", "priority_only", "random", "least_load"],
        Meta(description="How candidates that can do what is asked are ordered."),
    ] = "smart"
    max_retries: Annotated[
        Count, Meta(description="Further attempts after a failed one, each on the next backend.")
    ] = 2
    strict_parameters: Annotated[
        Flag,
        Meta(
            description="Refuse backends whose engine ignores a field of the request, instead of "
            "only ranking them last."
        ),
    ] = False
    weights: Annotated[
        Weights, Meta(description="What counts how much for the smart strategy.")
    ] = Weights()
    aliases: Annotated[
        dict[Text, Text],
        Meta(
            description="Further names for models; a name may lead to another, at most 3 times.",
            examples=[{"gpt-4": "llama3:70b"}],
        ),
    ] = {}
    fallbacks: Annotated[
        dict[Text, tuple[Text, ...]],
        Meta(
            description="Models to serve, in order, when no backend can serve the one asked for.",
            examples=[{"llama3:70b": ["qwen2:72b"]}],
        ),
    ] = {}


class BackendConfig(_Section, frozen=True, kw_only=True):
    """A backend named by the operator. Only ``name`` and ``url`` are required."""

    name: Annotated[
        Text, Meta(max_length=128, description="Unique name, shown everywhere.", examples=["gpu"])
    ]
    url: Annotated[
        Text,
        Meta(
            description="Base URL, with or without /v1.",
            examples=["http://192.168.1.20:8000"],
        ),
    ]
    type: Annotated[
        Literal["", "ollama", "vllm", "llamacpp", "exo", "lmstudio", "sglang", "openai", "generic"],
        Meta(description="The engine; empty to find out by asking it.", examples=["vllm"]),
    ] = ""
    priority: Annotated[Count, Meta(description="Lower is preferred.")] = 50
    max_concurrency: Annotated[Count, Meta(description="Calls at once; 0 = no limit.")] = 0
    api_key_env: Annotated[
        str,
        Meta(
            description="Name of the environment variable that holds the backend's key.",
            examples=["GPU_API_KEY"],
        ),
    ] = ""
    api_key_file: Annotated[
        str,
        Meta(
            description="File that holds the backend's key, instead.",
            examples=["/run/secrets/gpu_key"],
        ),
    ] = ""
    headers: Annotated[
        dict[Text, str],
        Meta(description="Headers to add to each request.", examples=[{"X-Team": "research"}]),
    ] = {}
    query: Annotated[
        dict[Text, str],
        Meta(
            description="Query parameters to add to each request.",
            examples=[{"api-version": "2024-10-21"}],
        ),
    ] = {}
    zone: Annotated[
        str, Meta(description="Where it stands; shown only, so far.", examples=["office"])
    ] = ""
    tier: Annotated[Count, Meta(description="Its quality class; shown only, so far.")] = 0
    models: Annotated[
        tuple[Text, ...],
        Meta(
            description="Models that it serves even if it does not list them.",
            examples=[["llama3:70b"]],
        ),
    ] = ()
    model_names: Annotated[
        dict[Text, Text],
        Meta(
            description="Names as served, each with the engine's own name for it.",
            examples=[{"llama3:70b": "meta-llama/Llama-3-70b"}],
        ),
    ] = {}
    connect_timeout_seconds: Annotated[
        Seconds | None,
        Meta(description="As [server], for this backend.", examples=[5]),
    ] = None
    first_byte_timeout_seconds: Annotated[
        Seconds | None,
        Meta(description="As [server], for this backend.", examples=[60]),
    ] = None
    request_timeout_seconds: Annotated[
        Seconds | None,
        Meta(description="As [server], for this backend.", examples=[300]),
    ] = None
    stream_idle_timeout_seconds: Annotated[
        Seconds | None,
        Meta(description="As [server], for this backend.", examples=[120]),
    ] = None
    forward_authorization: Annotated[
        Flag | None,
        Meta(
            description="Whether clients' own credentials go there; unset, they do. Never where "
            "the backend has a key of its own.",
            examples=[False],
        ),
    ] = None
    tls_ca: Annotated[
        str,
        Meta(
            description="Certificate authority (PEM) to trust instead of the system's. Read again "
            "when it changes.",
            examples=["ca.pem"],
        ),
    ] = ""
    tls_verify: Annotated[Flag, Meta(description="Check the backend's certificate.")] = True


class ModelOverride(_Section, frozen=True, kw_only=True):
    """Facts about a model that stand above what engines say of it."""

    context_length: Annotated[
        PositiveCount | None, Meta(description="Window in tokens.", examples=[32768])
    ] = None
    vision: Annotated[Flag | None, Meta(description="Takes images.", examples=[True])] = None
    tools: Annotated[Flag | None, Meta(description="Calls tools.", examples=[True])] = None
    json_mode: Annotated[
        Flag | None, Meta(description="Answers in JSON on demand.", examples=[True])
    ] = None
    embeddings: Annotated[Flag | None, Meta(description="Makes embeddings.", examples=[False])] = (
        None
    )
    reasoning: Annotated[
        Flag | None, Meta(description="Thinks before it answers.", examples=[False])
    ] = None


class LoggingConfig(_Section, frozen=True, kw_only=True):
    """What is logged, and how."""

    level: Annotated[LogLevel, Meta(description="Least level that is logged.")] = "info"
    format: Annotated[
        Literal["auto", "pretty", "json"],
        Meta(description="auto is pretty on a terminal and json elsewhere."),
    ] = "auto"
    component_levels: Annotated[
        dict[Text, LogLevel],
        Meta(description="Levels of single components.", examples=[{"discovery": "debug"}]),
    ] = {}
    content: Annotated[
        Flag,
        Meta(
            description="Log what clients ask and models answer, up to 16 KiB of each: everything "
            "that people type then stands in the log."
        ),
    ] = False


class TelemetryConfig(_Section, frozen=True, kw_only=True):
    """What is remembered of past calls."""

    history_size: Annotated[
        Annotated[int, Meta(ge=0, le=100_000)],
        Meta(description="Finished calls kept in memory for the admin API's history; 0 = none."),
    ] = 1000


class Config(_Section, frozen=True, kw_only=True):
    """Everything that can be configured."""

    server: ServerConfig = ServerConfig()
    discovery: DiscoveryConfig = DiscoveryConfig()
    health_check: HealthCheckConfig = HealthCheckConfig()
    routing: RoutingConfig = RoutingConfig()
    backends: tuple[BackendConfig, ...] = ()
    models: dict[Text, ModelOverride] = {}
    logging: LoggingConfig = LoggingConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
