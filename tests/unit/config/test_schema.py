"""The schema is what behaviour § 8 says."""

from __future__ import annotations

import msgspec
import pytest

from nexus.config.fields import fields_of
from nexus.config.schema import (
    BackendConfig,
    Config,
    DiscoveryConfig,
    HealthCheckConfig,
    LoggingConfig,
    ModelOverride,
    RoutingConfig,
    ServerConfig,
    TelemetryConfig,
    Weights,
)
from nexus.core.backend import BackendSpec, EngineKind

TABLES: list[type[msgspec.Struct]] = [
    ServerConfig,
    DiscoveryConfig,
    HealthCheckConfig,
    RoutingConfig,
    Weights,
    BackendConfig,
    ModelOverride,
    LoggingConfig,
    TelemetryConfig,
]


def test_the_defaults_are_those_of_the_document() -> None:
    """Without a file, every value is the one that behaviour § 8 shows."""
    assert msgspec.json.decode(msgspec.json.encode(Config())) == {
        "server": {
            "host": "127.0.0.1",
            "port": 8000,
            "unix": "",
            "request_timeout_seconds": 300,
            "connect_timeout_seconds": 5,
            "first_byte_timeout_seconds": 0,
            "stream_idle_timeout_seconds": 120,
            "stream_keepalive_seconds": 15,
            "max_concurrent_requests": 1000,
            "max_body_bytes": 10485760,
            "max_held_response_bytes": 4194304,
            "max_buffered_bytes": 268435456,
            "max_header_bytes": 65536,
            "max_target_bytes": 16384,
            "client_head_timeout_seconds": 10,
            "client_body_timeout_seconds": 60,
            "keep_alive_seconds": 75,
            "drain_timeout_seconds": 30,
            "drain_delay_seconds": 0,
            "pool_idle_per_backend": 64,
            "admin_key_env": "",
            "metrics_access": "public",
            "cors_origins": ["http://localhost:*", "http://127.0.0.1:*"],
            "allowed_hosts": [],
            "tls_cert": "",
            "tls_key": "",
        },
        "discovery": {
            "enabled": True,
            "mdns": True,
            "scan": True,
            "scan_ports": [11434, 8080, 8000, 8001, 8002, 1234, 52415, 30000, 4000, 5000],
            "service_types": ["_ollama._tcp.local", "_llm._tcp.local"],
            "grace_period_seconds": 60,
            "auto_approve": "private",
            "announce": True,
            "forward_authorization": False,
        },
        "health_check": {
            "enabled": True,
            "interval_seconds": 30,
            "timeout_seconds": 5,
            "failure_threshold": 3,
            "recovery_threshold": 2,
            "load_interval_seconds": 2,
        },
        "routing": {
            "strategy": "smart",
            "max_retries": 2,
            "strict_parameters": False,
            "weights": {"priority": 50, "load": 30, "latency": 20},
            "aliases": {},
            "fallbacks": {},
        },
        "backends": [],
        "models": {},
        "logging": {"level": "info", "format": "auto", "component_levels": {}, "content": False},
        "telemetry": {"history_size": 1000},
    }


@pytest.mark.parametrize("table", TABLES)
def test_every_key_is_described(table: type[msgspec.Struct]) -> None:
    """Every key has a description that ends as a sentence, and every table a summary."""
    assert table.__doc__
    for field in fields_of(table).values():
        assert field.description.endswith("."), field.name


def test_a_backend_can_be_of_every_engine() -> None:
    """The engine types in files are the engine kinds, and empty for "find out"."""
    assert fields_of(BackendConfig)["type"].shape.choices == ("", *EngineKind)


def test_backend_defaults_agree_with_the_vocabulary() -> None:
    """A backend with only a name and a URL means the same in a file and in the gateway."""
    config, spec = BackendConfig(name="a", url="http://a"), BackendSpec(name="a", url="http://a")
    for name in ("priority", "max_concurrency", "zone", "tier", "models", "tls_verify"):
        assert getattr(config, name) == getattr(spec, name), name
