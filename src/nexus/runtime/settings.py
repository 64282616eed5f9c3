"""From the configuration to the settings that each room knows: pure, one function per room."""

from __future__ import annotations

from nexus.config.schema import Config, HealthCheckConfig, RoutingConfig, ServerConfig
from nexus.health.state import HealthSettings
from nexus.http1.server import ServerLimits
from nexus.proxy.limits import PlaneLimits
from nexus.routing.router import RoutingSettings
from nexus.routing.scorers import Weights
from nexus.routing.strategies import Strategy

__all__ = ["health_settings", "plane_limits", "routing_settings", "server_limits"]

_DESCRIPTORS_SPARE = 512


def routing_settings(routing: RoutingConfig) -> RoutingSettings:
    """For the router."""
    return RoutingSettings(
        strategy=Strategy(routing.strategy),
        weights=Weights(
            priority=routing.weights.priority,
            load=routing.weights.load,
            latency=routing.weights.latency,
        ),
        aliases=routing.aliases,
        fallbacks=routing.fallbacks,
        strict_parameters=routing.strict_parameters,
        candidates_max=routing.max_retries + 4,
    )


def plane_limits(config: Config) -> PlaneLimits:
    """For the data plane."""
    server = config.server
    return PlaneLimits(
        request_timeout_s=server.request_timeout_seconds,
        connect_timeout_s=server.connect_timeout_seconds,
        first_byte_timeout_s=server.first_byte_timeout_seconds,
        stream_idle_timeout_s=server.stream_idle_timeout_seconds,
        stream_keepalive_s=server.stream_keepalive_seconds,
        max_concurrent_requests=server.max_concurrent_requests,
        max_body_bytes=server.max_body_bytes,
        max_held_response_bytes=server.max_held_response_bytes,
        max_retries=config.routing.max_retries,
        pool_idle_per_backend=server.pool_idle_per_backend,
    )


def server_limits(server: ServerConfig, descriptors: int) -> ServerLimits:
    """For the HTTP server. ``descriptors``: how many files this process may have open. Each call
    needs one more for its backend, and checks, logs and idle backend connections some."""
    others = min(descriptors // 2, server.max_concurrent_requests + _DESCRIPTORS_SPARE)
    return ServerLimits(
        head_bytes=server.max_header_bytes,
        target_bytes=server.max_target_bytes,
        body_bytes=server.max_body_bytes,
        head_s=server.client_head_timeout_seconds,
        body_s=server.client_body_timeout_seconds,
        idle_s=server.keep_alive_seconds,
        connections=descriptors - others,
    )


def health_settings(health: HealthCheckConfig) -> HealthSettings:
    """For the health checker."""
    return HealthSettings(
        enabled=health.enabled,
        interval_s=health.interval_seconds,
        timeout_s=health.timeout_seconds,
        failure_threshold=health.failure_threshold,
        recovery_threshold=health.recovery_threshold,
        load_interval_s=health.load_interval_seconds,
    )
