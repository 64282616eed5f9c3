"""A configured backend in the gateway's words."""

from __future__ import annotations

from nexus.config.schema import BackendConfig
from nexus.config.specs import backend_spec
from nexus.core.backend import BackendSpec, EngineKind, Source


def test_every_key_of_a_backend_arrives() -> None:
    """Nothing that can be configured for a backend is lost on the way."""
    config = BackendConfig(
        name="a",
        url="http://h",
        type="vllm",
        priority=1,
        max_concurrency=2,
        headers={"X": "1"},
        query={"q": "1"},
        zone="z",
        tier=3,
        models=("m",),
        model_names={"m": "n"},
        connect_timeout_seconds=1.0,
        first_byte_timeout_seconds=2.0,
        request_timeout_seconds=3.0,
        stream_idle_timeout_seconds=4.0,
        forward_authorization=False,
        tls_ca="ca",
        tls_verify=False,
    )
    assert backend_spec(config, api_key="k") == BackendSpec(
        name="a",
        url="http://h",
        engine=EngineKind.VLLM,
        source=Source.STATIC,
        priority=1,
        max_concurrency=2,
        api_key="k",
        headers={"X": "1"},
        query={"q": "1"},
        zone="z",
        tier=3,
        models=("m",),
        model_names={"m": "n"},
        connect_timeout_s=1.0,
        first_byte_timeout_s=2.0,
        request_timeout_s=3.0,
        stream_idle_timeout_s=4.0,
        tls_ca="ca",
        tls_verify=False,
        forward_authorization=False,
    )


def test_an_empty_type_is_an_engine_to_find_out() -> None:
    """What is left out stays unknown, and the server-wide deadlines hold."""
    spec = backend_spec(BackendConfig(name="a", url="http://h"), source=Source.MANUAL)
    assert spec == BackendSpec(name="a", url="http://h", source=Source.MANUAL)
