"""The official ``openai`` client, as it comes, against every dialect behind a gateway."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from nexus.demo.engine import DialectName, FakeEngine
from nexus.demo.faults import Fault
from tests.harness import Running, running

MODEL = "demo-model"
ANSWER = 'first line\n\n"data: [DONE]" naïve 日本 🙂 end'
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
DIALECTS: list[DialectName] = ["openai", "vllm", "llamacpp", "ollama"]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "count_nodes",
        "parameters": {"type": "object", "properties": {"live": {"type": "boolean"}}},
    },
}


class Setup:
    """An engine, a gateway in front of it and the client, with its own habit of two retries."""

    def __init__(self, engine: FakeEngine, run: Running, client: openai.AsyncOpenAI) -> None:
        self.engine = engine
        self.run = run
        self.client = client


@contextlib.asynccontextmanager
async def _setup(
    dialect: DialectName = "openai", models: tuple[str, ...] = (MODEL,), **settings: Any
) -> AsyncIterator[Setup]:
    async with (
        FakeEngine(dialect=dialect, models=models, answer=ANSWER) as engine,
        running(engine, **settings) as run,
        openai.AsyncOpenAI(base_url=f"{run.url}/v1", api_key="test-key", timeout=20.0) as client,
    ):
        yield Setup(engine, run, client)


@pytest.fixture(params=DIALECTS)
async def setup(request: pytest.FixtureRequest) -> AsyncIterator[Setup]:
    """Every dialect in turn."""
    async with _setup(request.param) as made:
        yield made


@pytest.fixture
async def plain_setup() -> AsyncIterator[Setup]:
    """OpenAI's own dialect only, where the dialect makes no difference."""
    async with _setup() as made:
        yield made


async def test_models_are_listed(setup: Setup) -> None:
    """``models.list`` has the engine's model, with what Nexus adds in reach."""
    (model,) = (await setup.client.models.list()).data
    assert model.id.removesuffix(":latest") == MODEL
    assert model.object == "model"
    assert model.created >= 0
    assert model.owned_by
    assert model.model_extra is not None
    assert set(model.model_extra) >= {"context_length", "capabilities"}


async def test_a_model_is_retrieved(setup: Setup) -> None:
    """``models.retrieve`` finds it by the name that was listed."""
    (listed,) = (await setup.client.models.list()).data
    assert (await setup.client.models.retrieve(listed.id)).id == listed.id


async def test_names_with_slashes_are_retrieved() -> None:
    """The client encodes a slash in a model's name; it is found all the same and listed as is."""
    name = "org/model-7b"
    async with _setup(models=(name,)) as made:
        assert (await made.client.models.retrieve(name)).id == name


async def test_chat_answers(setup: Setup) -> None:
    """A plain chat has the engine's text, a finish reason, usage and a request id."""
    answer = await setup.client.chat.completions.create(model=MODEL, messages=HELLO)
    (choice,) = answer.choices
    assert choice.message.content == ANSWER
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id
    assert answer._request_id == setup.run.records[0].request_id


async def test_chat_streams(setup: Setup) -> None:
    """A streamed chat is the same text in pieces, ended by one finish reason, without usage."""
    stream = await setup.client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == ANSWER
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert all(chunk.usage is None for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == 1


async def test_a_stream_tells_usage_when_asked(setup: Setup) -> None:
    """With ``include_usage`` the last chunk, and it only, has the usage."""
    stream = await setup.client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    usages = [chunk.usage async for chunk in stream]
    assert all(usage is None for usage in usages[:-1])
    assert usages[-1] is not None
    assert usages[-1].completion_tokens > 0


async def test_tools_are_called(setup: Setup) -> None:
    """The client's own accumulator makes a whole tool call of what is streamed."""
    asked: dict[str, Any] = {"model": MODEL, "messages": HELLO, "tools": [TOOL]}
    plain = await setup.client.chat.completions.create(**asked, tool_choice="required")
    assert plain.choices[0].finish_reason == "tool_calls"
    async with setup.client.chat.completions.stream(**asked, tool_choice="required") as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"
    calls = final.choices[0].message.tool_calls
    assert calls
    assert calls[0].function.name == "count_nodes"
    json.loads(calls[0].function.arguments)


async def test_completions_answer(setup: Setup) -> None:
    """The older completions endpoint answers plain and streamed."""
    answer = await setup.client.completions.create(model=MODEL, prompt="Hi")
    assert answer.choices[0].text == ANSWER
    stream = await setup.client.completions.create(model=MODEL, prompt="Hi", stream=True)
    text = "".join([choice.text async for chunk in stream for choice in chunk.choices])
    assert text == ANSWER


async def test_embeddings_are_the_engines(plain_setup: Setup) -> None:
    """Embeddings come as numbers, though the client asks for base64 behind one's back."""
    answer = await plain_setup.client.embeddings.create(model=MODEL, input=["one", "two"])
    assert [entry.index for entry in answer.data] == [0, 1]
    assert all(isinstance(number, float) for number in answer.data[0].embedding)
    assert json.loads(plain_setup.engine.calls[0].body)["encoding_format"] == "base64"


async def test_responses_answer(plain_setup: Setup) -> None:
    """The responses endpoint answers plain, and streamed to its terminal event."""
    answer = await plain_setup.client.responses.create(model=MODEL, input="Hi")
    assert answer.output_text == ANSWER
    stream = await plain_setup.client.responses.create(model=MODEL, input="Hi", stream=True)
    kinds, text = [], ""
    async for event in stream:
        kinds.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
    assert text == ANSWER
    assert kinds[-1] == "response.completed"


async def test_an_unknown_model_is_not_found(plain_setup: Setup) -> None:
    """An unknown model raises ``NotFoundError`` with OpenAI's code, parameter and a request id,
    for a call as for a look-up; the engine is not asked."""
    with pytest.raises(openai.NotFoundError, match=MODEL) as refused:
        await plain_setup.client.chat.completions.create(model="demo-modell", messages=HELLO)
    assert refused.value.code == "model_not_found"
    assert refused.value.param == "model"
    assert refused.value.type == "invalid_request_error"
    assert refused.value.request_id
    with pytest.raises(openai.NotFoundError) as looked_up:
        await plain_setup.client.models.retrieve("demo-modell")
    assert looked_up.value.code == "model_not_found"
    assert plain_setup.engine.calls == []


async def test_a_bad_request_is_told(plain_setup: Setup) -> None:
    """What Nexus itself refuses raises ``BadRequestError``, and is asked once only."""
    with pytest.raises(openai.BadRequestError) as refused:
        await plain_setup.client.chat.completions.create(
            model=MODEL,
            messages="Hi",  # type: ignore[arg-type]
        )
    assert refused.value.code == "invalid_request_error"
    assert len(plain_setup.run.records) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engines_refusal_is_told(setup: Setup, stream: bool) -> None:
    """An engine's own 400 raises ``BadRequestError`` with the engine's words, after one attempt."""
    body = b'{"error":{"message":"temperature too hot","type":"BadRequestError","code":400}}'
    setup.engine.faults.set(Fault.STATUS, status=400, body=body)
    with pytest.raises(openai.BadRequestError, match="temperature too hot"):
        await setup.client.chat.completions.create(
            model=MODEL, messages=HELLO, temperature=2, stream=stream
        )
    assert len(setup.engine.calls) == 1


async def test_failed_attempts_are_not_multiplied(plain_setup: Setup) -> None:
    """When the only engine fails the client raises ``InternalServerError`` for the 502, and does
    not repeat what Nexus has already tried: one call, its three attempts, not nine."""
    plain_setup.engine.faults.set(Fault.STATUS, status=500)
    with pytest.raises(openai.InternalServerError, match="failed") as failed:
        await plain_setup.client.chat.completions.create(model=MODEL, messages=HELLO)
    assert failed.value.status_code == 502
    assert failed.value.code == "bad_gateway"
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert failed.value.request_id
    assert len(plain_setup.run.records) == 1
    assert len(plain_setup.engine.calls) == 3


async def test_a_timeout_is_not_multiplied() -> None:
    """When the deadline passes the client raises ``InternalServerError`` for the 504, once."""
    async with _setup(server={"request_timeout_seconds": 0.2}) as made:
        made.engine.faults.set(Fault.STALL)
        with pytest.raises(openai.InternalServerError, match="timed out") as failed:
            await made.client.chat.completions.create(model=MODEL, messages=HELLO)
        assert failed.value.status_code == 504
        assert len(made.run.records) == 1
        assert len(made.engine.calls) == 1


async def test_a_busy_engine_is_told(plain_setup: Setup) -> None:
    """An engine's 429 reaches the client as ``RateLimitError`` with ``Retry-After``."""
    plain_setup.engine.faults.set(Fault.STATUS, status=429, retry_after_s=7)
    client = plain_setup.client.with_options(max_retries=0)
    with pytest.raises(openai.RateLimitError) as busy:
        await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert busy.value.response.headers["retry-after"] == "7"
    assert "x-should-retry" not in busy.value.response.headers


@pytest.mark.parametrize("fault", [Fault.RESET_AFTER_EVENTS, Fault.END_AFTER_EVENTS])
async def test_a_broken_stream_raises(setup: Setup, fault: Fault) -> None:
    """A stream that breaks in the middle gives what came, then raises ``APIError``."""
    setup.engine.faults.set(fault, after_events=3)
    stream = await setup.client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    pieces = []

    async def read() -> None:
        async for chunk in stream:
            pieces.append(chunk.choices[0].delta.content or "")

    with pytest.raises(openai.APIError) as broken:
        await read()
    text = "".join(pieces)
    assert text
    assert ANSWER.startswith(text)
    assert isinstance(broken.value.body, dict)
    assert broken.value.body["type"] == "server_error"
    assert len(setup.engine.calls) == 1


async def test_leaving_a_stream_cancels_it(plain_setup: Setup) -> None:
    """A client that closes its stream early leaves nothing running."""
    plain_setup.engine.faults.set(Fault.STALL_AFTER_EVENTS, after_events=2)
    stream = await plain_setup.client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True
    )
    await anext(aiter(stream))
    await stream.close()
    await plain_setup.run.settled()
    assert plain_setup.engine.cancelled == 1
    assert plain_setup.run.records[0].outcome == "cancelled"


async def test_raw_responses_name_the_backend(plain_setup: Setup) -> None:
    """``with_raw_response`` shows who served and why."""
    raw = await plain_setup.client.chat.completions.with_raw_response.create(
        model=MODEL, messages=HELLO
    )
    assert raw.headers["x-nexus-backend"] == plain_setup.engine.name
    assert raw.headers["x-nexus-attempts"] == "1"
    assert raw.request_id


async def test_the_clients_own_headers_reach_the_engine(plain_setup: Setup) -> None:
    """The key and the client's own headers reach an engine that the operator named."""
    await plain_setup.client.chat.completions.create(
        model=MODEL, messages=HELLO, extra_headers={"X-Team": "research"}
    )
    (seen,) = plain_setup.engine.calls
    assert seen.header(b"authorization") == b"Bearer test-key"
    assert seen.header(b"x-team") == b"research"
    assert seen.header(b"x-stainless-lang") == b"python"
