"""From a configured backend to what the rest of the gateway knows of one."""

from __future__ import annotations

from nexus.config.schema import BackendConfig
from nexus.core.backend import BackendSpec, EngineKind, Source

__all__ = ["backend_config", "backend_spec"]


def backend_spec(
    backend: BackendConfig, *, api_key: str = "", source: Source = Source.STATIC
) -> BackendSpec:
    """The same backend in the gateway's words. ``api_key`` is the resolved secret."""
    return BackendSpec(
        name=backend.name,
        url=backend.url,
        engine=EngineKind(backend.type) if backend.type else None,
        source=source,
        priority=backend.priority,
        max_concurrency=backend.max_concurrency,
        api_key=api_key,
        headers=backend.headers,
        query=backend.query,
        zone=backend.zone,
        tier=backend.tier,
        models=backend.models,
        model_names=backend.model_names,
        connect_timeout_s=backend.connect_timeout_seconds,
        first_byte_timeout_s=backend.first_byte_timeout_seconds,
        request_timeout_s=backend.request_timeout_seconds,
        stream_idle_timeout_s=backend.stream_idle_timeout_seconds,
        tls_ca=backend.tls_ca,
        tls_verify=backend.tls_verify,
        forward_authorization=backend.forward_authorization,
    )


def backend_config(spec: BackendSpec) -> BackendConfig:
    """The other way round, for a backend that no file names. Where its key came from is not known
    any more: the caller keeps the key."""
    return BackendConfig(
        name=spec.name,
        url=spec.url,
        type=spec.engine.value if spec.engine else "",
        priority=spec.priority,
        max_concurrency=spec.max_concurrency,
        headers=spec.headers,
        query=spec.query,
        zone=spec.zone,
        tier=spec.tier,
        models=spec.models,
        model_names=spec.model_names,
        connect_timeout_seconds=spec.connect_timeout_s,
        first_byte_timeout_seconds=spec.first_byte_timeout_s,
        request_timeout_seconds=spec.request_timeout_s,
        stream_idle_timeout_seconds=spec.stream_idle_timeout_s,
        forward_authorization=spec.forward_authorization,
        tls_ca=spec.tls_ca,
        tls_verify=spec.tls_verify,
    )
