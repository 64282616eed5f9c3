"""Two real llama.cpp servers behind a real gateway, through the official ``openai`` client."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.harness import eventually
from tests.processes import until
from tests.real.conftest import StartLlamaCpp, StartNexus
from tests.real.servers import LlamaCpp, Nexus
from tests.real.tiny_model import TINY_NAME, TOOL_CALL_BIAS

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "tell me of the fleet"}]
ASKED: dict[str, Any] = {"model": TINY_NAME, "messages": QUESTION, "seed": 7, "max_tokens": 300}
"""Sampled with a seed: real sentences, the same each time, ended by the model itself."""


@pytest.fixture(scope="module")
def engines(llamacpp_server: StartLlamaCpp) -> list[LlamaCpp]:
    """Two instances of the same model."""
    return [llamacpp_server("left"), llamacpp_server("right")]


@pytest.fixture(scope="module")
def nexus(engines: list[LlamaCpp], nexus_server: StartNexus) -> Nexus:
    """The gateway in front of both."""
    return nexus_server({engine.name: engine.url for engine in engines})


@pytest.fixture
def client(nexus: Nexus) -> Iterator[openai.OpenAI]:
    """The official client, which repeats nothing by itself here."""
    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_the_engine_is_found_out_by_asking_it(nexus: Nexus) -> None:
    """Without a ``type`` in the file both backends are known to be llama.cpp, with version."""
    for name in ("left", "right"):
        told = nexus.backend(name)
        assert told["engine"] == "llamacpp"
        assert told["engine_version"]
        assert told["capacity"] == 2


def test_the_model_is_listed_with_the_window_of_a_slot(
    nexus: Nexus, engines: list[LlamaCpp], client: openai.OpenAI
) -> None:
    """``/v1/models`` has the model once, its window that of one slot, what it can do as told."""
    (listed,) = client.models.list().data
    assert listed.id == TINY_NAME
    window = engines[0].get("/props")["default_generation_settings"]["n_ctx"]
    assert window == 2048, "4096 tokens shared among two slots"
    told = nexus.model()
    assert told["context_length"] == window
    capabilities = told["capabilities"]
    assert capabilities["tools"] is True
    assert capabilities["vision"] is False
    assert capabilities["json_mode"] is True
    assert client.models.retrieve(TINY_NAME).id == TINY_NAME


def test_a_plain_answer_is_the_engines_own(engines: list[LlamaCpp], client: openai.OpenAI) -> None:
    """What the client reads through Nexus is what the engine says when asked directly."""
    direct = engines[0].post("/v1/chat/completions", ASKED).json()
    answer = client.chat.completions.create(**ASKED)
    assert answer.choices[0].message.content == direct["choices"][0]["message"]["content"]
    assert answer.choices[0].finish_reason == direct["choices"][0]["finish_reason"] == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == direct["usage"]["completion_tokens"]


def test_a_streamed_answer_is_whole(engines: list[LlamaCpp], client: openai.OpenAI) -> None:
    """The pieces of a stream make up the engine's own text, with finish reason and usage."""
    direct = engines[1].post("/v1/chat/completions", ASKED).json()
    text, reasons, usage, pieces = "", [], None, 0
    stream = client.chat.completions.create(
        **ASKED, stream=True, stream_options={"include_usage": True}
    )
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            pieces += 1
            reasons += [choice.finish_reason] if choice.finish_reason else []
    assert text == direct["choices"][0]["message"]["content"]
    assert reasons == ["stop"]
    assert pieces > 10
    assert usage is not None
    assert usage.completion_tokens == direct["usage"]["completion_tokens"]


async def test_the_async_client_streams_the_same(
    nexus: Nexus, engines: list[LlamaCpp], client: openai.OpenAI
) -> None:
    """The asynchronous client reads the same text."""
    direct = engines[0].post("/v1/chat/completions", ASKED).json()
    async with openai.AsyncOpenAI(base_url=f"{nexus.url}/v1", api_key="none") as asynchronous:
        stream = await asynchronous.chat.completions.create(**ASKED, stream=True)
        text = "".join(
            [choice.delta.content or "" async for chunk in stream for choice in chunk.choices]
        )
    assert text == direct["choices"][0]["message"]["content"]


def test_a_streams_bytes_are_the_engines(nexus: Nexus, engines: list[LlamaCpp]) -> None:
    """But for ids, times and measurements, the bytes of a stream are those the engine sends."""
    streamed = {**ASKED, "stream": True}
    through = nexus.post("/v1/chat/completions", streamed)
    direct = engines[0].post("/v1/chat/completions", streamed)
    assert through.headers["content-type"] == "text/event-stream"
    assert _stable(through.text) == _stable(direct.text)
    assert through.text.endswith("data: [DONE]\n\n")


def _stable(stream: str) -> list[object]:
    """A stream's lines without what differs from answer to answer."""
    lines: list[object] = []
    for line in stream.split("\n"):
        if line.startswith("data: {"):
            event = json.loads(line.removeprefix("data: "))
            lines.append({k: v for k, v in event.items() if k not in ("id", "created", "timings")})
        else:
            lines.append(line)
    return lines


def test_tools_are_called(client: openai.OpenAI) -> None:
    """A required tool call streams as deltas that make up whole calls, ended by ``tool_calls``."""
    stream = client.chat.completions.create(
        model=TINY_NAME,
        messages=QUESTION,
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "count_nodes",
                    "strict": True,
                    "parameters": {
                        "type": "object",
                        "properties": {"live": {"type": "boolean"}},
                        "required": ["live"],
                        "additionalProperties": False,
                    },
                },
            }
        ],
        tool_choice="required",
        logit_bias=TOOL_CALL_BIAS,
        max_tokens=200,
        seed=7,  # random weights may go on for long by chance
        stream=True,
    )
    names: dict[int, str] = defaultdict(str)
    arguments: dict[int, str] = defaultdict(str)
    reasons, deltas = [], 0
    for chunk in stream:
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or []:
                assert call.function is not None
                deltas += 1
                names[call.index] += call.function.name or ""
                arguments[call.index] += call.function.arguments or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
    assert set(names.values()) == {"count_nodes"}
    assert all(isinstance(json.loads(text)["live"], bool) for text in arguments.values())
    assert deltas > len(names), "a call comes in pieces"
    assert reasons == ["tool_calls"]


def test_a_schema_is_kept(client: openai.OpenAI) -> None:
    """``response_format: json_schema`` gives an answer of that shape."""
    answer = client.chat.completions.create(
        model=TINY_NAME,
        messages=QUESTION,
        max_tokens=60,
        response_format={
            "type": "json_schema",
            "json_schema": {
                "name": "verdict",
                "strict": True,
                "schema": {
                    "type": "object",
                    "properties": {"ok": {"type": "boolean"}},
                    "required": ["ok"],
                    "additionalProperties": False,
                },
            },
        },
    )
    assert isinstance(json.loads(answer.choices[0].message.content or "")["ok"], bool)


def test_a_prompt_over_the_window_is_refused(nexus: Nexus, client: openai.OpenAI) -> None:
    """A prompt that no slot can hold is a 400 in OpenAI's shape, and no backend suffers."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model=TINY_NAME, messages=[{"role": "user", "content": "many words " * 4000}]
        )
    assert refused.value.code == "unsupported_capability"
    assert "context" in refused.value.message
    assert nexus.health() == 2


def test_a_prompt_that_only_the_engine_finds_too_long_is_refused(
    nexus: Nexus, client: openai.OpenAI
) -> None:
    """Where our estimate falls short the engine's own refusal comes back as a 400 that speaks of
    the context, streamed or not; no backend suffers."""
    # A token a letter is four times what the estimate takes.
    words: list[ChatCompletionMessageParam] = [{"role": "user", "content": "zxqj" * 1200}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="context") as refused:
            client.chat.completions.create(model=TINY_NAME, messages=words, stream=stream)
        assert isinstance(refused.value.body, dict)
        assert refused.value.body["message"]
    assert nexus.health() == 2
    assert all(nexus.backend(name)["breaker"] == "closed" for name in ("left", "right"))


async def test_a_client_that_leaves_frees_the_slot(nexus: Nexus, engines: list[LlamaCpp]) -> None:
    """When a client hangs up in the middle of a stream the engine stops working for it."""
    endless = {**ASKED, "temperature": 0, "max_tokens": 1900, "stream": True}
    made = {engine.name: engine.tokens_made() for engine in engines}
    async with httpx.AsyncClient(timeout=30.0, trust_env=False) as http:
        async with http.stream("POST", f"{nexus.url}/v1/chat/completions", json=endless) as answer:
            serving = answer.headers["x-nexus-backend"]
            await anext(answer.aiter_bytes())
        (engine,) = [engine for engine in engines if engine.name == serving]
        await eventually(lambda: engine.busy_slots() == 0, "the slot is free", 2.0)
    assert engine.tokens_made() - made[serving] < 1900
    until(lambda: nexus.get("/admin/v1/stats")["requests"]["cancelled"] == 1, "the leaving counted")
