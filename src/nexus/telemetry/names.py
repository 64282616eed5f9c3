"""Every metric of ``GET /metrics``: its name, kind, labels and meaning. The only list of them.

``docs/observability.md``, the Grafana dashboard and the alert rules are checked against it. Base
units (seconds, bytes), counters end in ``_total`` (Prometheus: "Metric and label naming").
``otel`` is the nearest instrument of OpenTelemetry's semantic conventions (GenAI, HTTP), for
whoever maps one to the other; its attributes are ``gen_ai.operation.name`` for ``endpoint``,
``gen_ai.request.model`` for ``model``, ``server.address`` for ``backend``, ``error.type`` for an
``outcome`` other than ``ok`` and ``gen_ai.token.type`` for ``direction``.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ["METRICS", "PROCESS_METRICS", "Kind", "Metric"]


class Kind(StrEnum):
    """A metric's type, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(msgspec.Struct, frozen=True):
    """One metric family. ``buckets`` are a histogram's upper bounds."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    otel: str = ""
    buckets: tuple[float, ...] = ()


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_CALL = ("endpoint", "model", "backend")

# What calls to language models take: from an embedding's milliseconds to ten minutes of text.
_DURATION_S = (
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
    *(5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
# From a warm cache to a cold model that is loaded first.
_TTFT_S = (
    *(0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75),
    *(1.0, 1.5, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0),
)
# 1000 to 1 tokens a second.
_TPOT_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04),
    *(0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0),
)
_CONNECT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_ROUTING_S = (5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 1e-2)

_TABLE = (
    # --- calls
    Metric(
        "nexus_requests_total",
        _C,
        "Calls to inference endpoints, each counted once when it is over. outcome: ok, "
        "client_error, upstream_error, timeout, cancelled, refused. backend is empty when none "
        "was chosen, model is 'unknown' when nobody knows the name.",
        (*_CALL, "outcome"),
        "gen_ai.server.request.duration (its count)",
    ),
    Metric(
        "nexus_request_duration_seconds",
        _H,
        "Time from a call's beginning to the end of its answer, whatever its outcome.",
        _CALL,
        "gen_ai.server.request.duration",
        _DURATION_S,
    ),
    Metric(
        "nexus_time_to_first_token_seconds",
        _H,
        "Time from a call's beginning to the first data event of its stream. Streams only.",
        _CALL,
        "gen_ai.server.time_to_first_token",
        _TTFT_S,
    ),
    Metric(
        "nexus_time_per_output_token_seconds",
        _H,
        "Time per token after the first one. Streams only; estimated tokens where the engine "
        "told none.",
        _CALL,
        "gen_ai.server.time_per_output_token",
        _TPOT_S,
    ),
    Metric(
        "nexus_tokens_total",
        _C,
        "Tokens. direction: input, output. source: reported by the engine, or estimated from the "
        "content events of streams that told no usage (output only).",
        ("direction", "source"),
        "gen_ai.client.token.usage",
    ),
    Metric(
        "nexus_backend_tokens_total",
        _C,
        "The same tokens by model and backend.",
        ("model", "backend", "direction", "source"),
        "gen_ai.client.token.usage",
    ),
    Metric(
        "nexus_body_bytes_total",
        _C,
        "Bytes of request bodies (in) and answer bodies (out), of calls.",
        ("direction",),
        "http.server.request.body.size, http.server.response.body.size (their sums)",
    ),
    Metric(
        "nexus_requests_cancelled_total",
        _C,
        "Calls whose client left before the answer was whole.",
    ),
    Metric(
        "nexus_http_errors_total",
        _C,
        "Requests answered with an error that were no call: unknown paths, wrong methods, "
        "malformed HTTP.",
        ("status",),
    ),
    Metric(
        "nexus_internal_errors_total",
        _C,
        "Faults of Nexus itself, each of them logged with its traceback.",
    ),
    Metric(
        "nexus_prompts_truncated_total",
        _C,
        "Calls whose prompt the engine seems to have cut without a word; the log names the model.",
    ),
    # --- attempts
    Metric(
        "nexus_attempts_total",
        _C,
        "Attempts at backends. outcome: ok, relayed (the backend's own error was the answer), "
        "cancelled, abandoned, or why it failed.",
        ("backend", "outcome"),
    ),
    Metric(
        "nexus_failovers_total",
        _C,
        "Attempts that followed a failed one at another backend.",
    ),
    Metric(
        "nexus_retries_total",
        _C,
        "Attempts that followed a failed one at the same backend.",
    ),
    Metric(
        "nexus_routing_decision_seconds",
        _H,
        "Time to decide where a call goes.",
        (),
        "",
        _ROUTING_S,
    ),
    # --- load
    Metric(
        "nexus_in_flight_requests",
        _G,
        "Calls under way. backend is empty for those that are at none.",
        ("backend",),
        "http.server.active_requests",
    ),
    Metric(
        "nexus_saturation_ratio",
        _G,
        "Calls under way over server.max_concurrent_requests; at 1 further ones are refused.",
    ),
    Metric(
        "nexus_buffered_bytes",
        _G,
        "Request bodies and held answers in memory (server.max_buffered_bytes bounds them).",
    ),
    Metric(
        "nexus_client_connections",
        _G,
        "Connections of clients, idle ones included.",
        (),
        "http.server.open_connections",
    ),
    # --- backends
    Metric(
        "nexus_backend_up",
        _G,
        "1 when calls are routed there, else 0.",
        ("backend", "engine"),
    ),
    Metric(
        "nexus_backend_state",
        _G,
        "1 for the state it is in, 0 for the others: pending, unknown, healthy, unhealthy, "
        "draining.",
        ("backend", "state"),
    ),
    Metric(
        "nexus_backend_saturation_ratio",
        _G,
        "Requests at work or waiting there over what it takes at once (max_concurrency, else the "
        "learned capacity); absent where neither is known.",
        ("backend",),
    ),
    Metric(
        "nexus_backend_busy_requests",
        _G,
        "Requests at work or waiting there: ours, or more where the engine says so.",
        ("backend",),
    ),
    Metric(
        "nexus_backend_waiting_requests",
        _G,
        "Requests waiting in the engine's own queue, as it last said; absent where it does not.",
        ("backend",),
    ),
    Metric(
        "nexus_backend_breaker_open",
        _G,
        "1 while its circuit breaker is open or half open.",
        ("backend",),
    ),
    Metric(
        "nexus_backend_check_seconds",
        _G,
        "How long its last health check took.",
        ("backend",),
    ),
    Metric(
        "nexus_backends",
        _G,
        "Known backends by how they became known (static, manual, scan, mdns) and by status.",
        ("source", "status"),
    ),
    Metric("nexus_models", _G, "Models that /v1/models lists, aliases apart."),
    # --- connections to backends
    Metric(
        "nexus_upstream_connections",
        _G,
        "Connections to a backend. state: active, idle.",
        ("backend", "state"),
        "http.client.open_connections",
    ),
    Metric(
        "nexus_upstream_connect_seconds",
        _H,
        "Time to connect: name, TCP and TLS together. Its count is the connections ever made.",
        ("backend",),
        "http.client.connection.duration",
        _CONNECT_S,
    ),
    Metric(
        "nexus_upstream_connect_failures_total",
        _C,
        "Connections to a backend that could not be made.",
        ("backend",),
    ),
    # --- the gateway itself
    Metric(
        "nexus_config_reloads_total",
        _C,
        "Reloads of the configuration. outcome: applied, rejected.",
        ("outcome",),
    ),
    Metric(
        "nexus_access_log_dropped_total",
        _C,
        "Access log lines lost because whoever reads them stalled.",
    ),
    Metric("nexus_event_listeners", _G, "Who listens to /admin/v1/events."),
    Metric("nexus_build_info", _G, "1; the labels tell the versions.", ("version", "python")),
)

METRICS = {metric.name: metric for metric in _TABLE}
"""Name → metric, in the order in which they are shown."""

PROCESS_METRICS = (
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
)
"""What ``prometheus_client`` tells of the process, on Linux."""
