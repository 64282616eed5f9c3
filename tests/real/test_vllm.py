"""A real vLLM on the CPU behind a real gateway."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.harness import eventually
from tests.processes import children_of, until
from tests.real.conftest import StartNexus
from tests.real.heavy_servers import Vllm
from tests.real.servers import Nexus
from tests.real.tiny_model import TINY_NAME, TOOL_CALL_BIAS

pytestmark = pytest.mark.heavy

CHAT = "/v1/chat/completions"
ASKED: dict[str, Any] = {
    "model": TINY_NAME,
    "messages": [{"role": "user", "content": "tell me of the fleet"}],
    "temperature": 0,
    "max_tokens": 40,
}


@pytest.fixture(scope="module")
def nexus(vllm_server: Vllm, nexus_server: StartNexus) -> Nexus:
    """The gateway in front of it; it claims one model more than there is."""
    claim = f'models = ["{TINY_NAME}", "nexus-ghost"]'
    settings = "[health_check]\ninterval_seconds = 2\nload_interval_seconds = 0.2"
    return nexus_server({"vllm": vllm_server.url}, {"vllm": claim}, settings)


@pytest.fixture
def client(nexus: Nexus) -> Iterator[openai.OpenAI]:
    """The official client."""
    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_what_is_read_is_what_the_engine_says(nexus: Nexus, vllm_server: Vllm) -> None:
    """Kind, version and the configured window are those of its own answers."""
    told = nexus.backend("vllm")
    assert told["engine"] == "vllm"
    assert told["engine_version"] == vllm_server.get("/version")["version"]
    (entry,) = vllm_server.get("/v1/models")["data"]
    model = nexus.models_of("vllm")[TINY_NAME]
    assert model["context_length"] == entry["max_model_len"] == 2048
    assert model["evidence"]["context_length"] == "/v1/models"
    assert model["capabilities"]["json_mode"] is True
    assert model["capabilities"]["vision"] is None


def test_plain_and_streamed_answers_are_the_engines_own(
    vllm_server: Vllm, client: openai.OpenAI
) -> None:
    """Text, finish reason and usage through Nexus are those of the engine asked directly."""
    direct = vllm_server.post(CHAT, ASKED).json()
    said = direct["choices"][0]["message"]["content"]
    plain = client.chat.completions.create(**ASKED)
    assert plain.choices[0].message.content == said
    assert plain.choices[0].finish_reason == direct["choices"][0]["finish_reason"] == "length"
    text, usage = "", None
    stream = client.chat.completions.create(
        **ASKED, stream=True, stream_options={"include_usage": True}
    )
    for chunk in stream:
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert text == said
    assert usage is not None
    assert usage.completion_tokens == direct["usage"]["completion_tokens"] == 40


def test_tools_are_called_and_a_schema_is_kept(client: openai.OpenAI) -> None:
    """A required tool call streams through; ``json_schema`` gives an answer of that shape."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    function = {"name": "count_nodes", "strict": True, "parameters": schema}
    asked: dict[str, Any] = {
        **ASKED,
        "max_tokens": 200,
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "required",
        "logit_bias": TOOL_CALL_BIAS,
    }
    stream = client.chat.completions.create(**asked, stream=True)
    names, reasons = "", []
    for chunk in stream:
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or []:
                names += (call.function.name or "") if call.function else ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
    assert "count_nodes" in names
    assert reasons == ["tool_calls"]
    answer = client.chat.completions.create(
        **ASKED,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "verdict", "strict": True, "schema": schema},
        },
    )
    assert isinstance(json.loads(answer.choices[0].message.content or "")["ok"], bool)


@pytest.mark.parametrize("stream", [False, True])
def test_its_refusals_are_understood(nexus: Nexus, stream: bool) -> None:
    """A prompt that only vLLM finds too long, an image for a model without vision and a model that
    it does not have are told as what they are; the backend stays in good standing."""
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    for change, status, code, word in (
        # A token a letter: by estimate a quarter of that.
        ({"messages": [{"role": "user", "content": "zxqj" * 700}]}, 400, None, "context"),
        (
            {"messages": [{"role": "user", "content": picture}]},
            400,
            "unsupported_capability",
            "multimodal",
        ),
        ({"model": "nexus-ghost"}, 404, "model_not_found", "nexus-ghost"),
    ):
        refused = nexus.post(CHAT, {**ASKED, **change, "stream": stream})
        assert refused.status_code == status
        error = refused.json()["error"]
        assert word in error["message"]
        assert code in (None, error["code"])
    told = nexus.backend("vllm")
    assert (told["status"], told["breaker"]) == ("healthy", "closed")


def test_embeddings_of_a_chat_model_are_refused_clearly(nexus: Nexus) -> None:
    """vLLM has no such path for a chat model (404): a 400 that names what is missing."""
    refused = nexus.post("/v1/embeddings", {"model": TINY_NAME, "input": "hello fleet"})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "unsupported_capability"
    assert nexus.backend("vllm")["breaker"] == "closed"


async def test_the_live_load_is_what_the_metrics_say(nexus: Nexus, vllm_server: Vllm) -> None:
    """Two streams past Nexus take both seats and one through it waits: the backend's load says two
    and one as ``/metrics`` does, in flight is one; when they are left the engine is quiet."""

    def load() -> tuple[int | None, int | None, int]:
        told = nexus.backend("vllm")
        return told["load"]["running"], told["load"]["waiting"], told["in_flight"]

    body = {**ASKED, "max_tokens": 1900, "stream": True}
    async with httpx.AsyncClient(timeout=60.0, trust_env=False) as http:
        async with (
            http.stream("POST", f"{vllm_server.url}{CHAT}", json=body) as first,
            http.stream("POST", f"{vllm_server.url}{CHAT}", json=body) as second,
        ):
            readers = [first.aiter_bytes(), second.aiter_bytes()]
            for reader in readers:
                await anext(reader)
            waiting = asyncio.create_task(http.post(f"{nexus.url}{CHAT}", json=body))
            try:
                await eventually(lambda: load() == (2, 1, 1), "two run, one waits")
                assert vllm_server.gauge("vllm:num_requests_running") == 2
                assert vllm_server.gauge("vllm:num_requests_waiting") == 1
            finally:
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
        await eventually(lambda: vllm_server.gauge("vllm:num_requests_running") == 0, "all quiet")
    assert vllm_server.gauge("vllm:num_requests_waiting") == 0


async def test_a_dead_engine_is_told_and_the_backend_lost(nexus: Nexus, vllm_server: Vllm) -> None:
    """vLLM's engine process is killed in the middle of a stream: the client gets an error event and
    ``[DONE]``, and the backend is known to be gone. The last test: it does not come back."""
    body = {**ASKED, "max_tokens": 1900, "stream": True}
    text = ""
    async with (
        httpx.AsyncClient(timeout=60.0, trust_env=False) as http,
        http.stream("POST", f"{nexus.url}{CHAT}", json=body) as answer,
    ):
        async for piece in answer.aiter_text():
            if not text:
                for engine in children_of(vllm_server.process.pid):
                    os.kill(engine, signal.SIGKILL)
            text += piece
    *_, broken, done = [line for line in text.split("\n") if line.startswith("data: ")]
    assert done == "data: [DONE]"
    assert json.loads(broken.removeprefix("data: "))["error"]["message"]
    until(lambda: nexus.backend("vllm")["status"] == "unhealthy", "it is known to be gone", 15.0)
