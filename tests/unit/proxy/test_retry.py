"""What an engine's error makes of an attempt: the adapter's verdict counts before the status."""

from __future__ import annotations

import pytest

from nexus.core.backend import EngineKind
from nexus.core.errors import FailureKind
from nexus.engines.adapter import ErrorMeaning, UpstreamError
from nexus.engines.table import adapter_for
from nexus.proxy.retry import failure_of_status
from tests.captures import captured


@pytest.mark.parametrize(
    ("engine", "name", "kind", "against_backend"),
    [
        ("ollama", "chat_image_url", FailureKind.CANNOT, False),
        ("ollama", "embeddings", FailureKind.CANNOT, False),
        ("ollama", "err_context_oversized", FailureKind.PROMPT_TOO_LONG, False),
        ("ollama", "err_unknown_model", FailureKind.MODEL_NOT_HERE, False),
        ("ollama", "v1_busy_503", FailureKind.OVERLOADED, True),
        ("ollama", "runner_killed_v1_plain", FailureKind.STATUS, False),
        ("ollama", "foreign_origin", FailureKind.STATUS, False),
        ("llamacpp", "llama-server/chat_image_url", FailureKind.CANNOT, False),
        ("llamacpp", "llama-server/embeddings", FailureKind.CANNOT, False),
        ("llamacpp", "llama-server/err_bad_json", FailureKind.STATUS, False),
        ("llamacpp", "llama-server-router/chat_unknown", FailureKind.MODEL_NOT_HERE, False),
        ("llamacpp", "llama-server-lifecycle/loading_chat", FailureKind.LOADING, True),
        ("vllm", "vllm-cpu/chat_image_url", FailureKind.CANNOT, False),
        ("vllm", "vllm-cpu-lifecycle/chat_engine_dead_1", FailureKind.STATUS, False),
        ("vllm", "vllm-cpu-lifecycle/apikey_chat_without", FailureKind.CREDENTIALS, False),
    ],
)
def test_a_real_error_is_a_failed_attempt(
    engine: EngineKind, name: str, kind: FailureKind, against_backend: bool
) -> None:
    """Another candidate may do better; only what speaks of its health speaks against it."""
    answer = captured(name if "/" in name else f"ollama/{name}")
    read = adapter_for(EngineKind(engine)).read_error(answer.status, answer.body)
    for credential in (False, True):
        failure = failure_of_status(
            answer.status, read, answer.body, None, client_credential=credential
        )
        if kind is FailureKind.CREDENTIALS and credential:
            assert failure is None  # the client's own key was refused: that is its answer
            continue
        assert failure is not None
        assert (failure.kind, failure.against_backend) == (kind, against_backend)
        assert failure.elsewhere


def test_an_unsigned_cloud_model_is_no_refused_key() -> None:
    """Ollama's 401 with a sign-in page: the next candidate, and no doubt about the backend."""
    body = b'{"error":"unauthorized","signin_url":"https://ollama.com/connect"}'
    read = adapter_for(EngineKind.OLLAMA).read_error(401, body)
    failure = failure_of_status(401, read, body, None, client_credential=True)
    assert failure is not None
    assert (failure.kind, failure.against_backend) == (FailureKind.CANNOT, False)


@pytest.mark.parametrize("name", ["vllm-cpu/err_temperature", "ollama/err_no_model"])
def test_a_clients_mistake_is_relayed(name: str) -> None:
    """No other backend is troubled with it."""
    answer = captured(name)
    read = adapter_for(EngineKind.GENERIC).read_error(answer.status, answer.body)
    status, body = answer.status, answer.body
    assert failure_of_status(status, read, body, None, client_credential=False) is None


@pytest.mark.parametrize("status", [300, 302, 307, 308])
@pytest.mark.parametrize("meaning", list(ErrorMeaning))
def test_a_redirect_is_never_relayed(status: int, meaning: ErrorMeaning) -> None:
    """Whatever its body says, also to the client's own credential: a client that followed it would
    take prompt and key elsewhere."""
    read = UpstreamError(meaning, "x")
    failure = failure_of_status(status, read, b"{}", None, client_credential=True)
    assert failure is not None
    assert failure.kind is FailureKind.INVALID
