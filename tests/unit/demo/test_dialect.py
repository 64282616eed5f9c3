"""What each dialect answers, against what the real engines were seen to answer."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from nexus.demo.engine import DialectName, FakeEngine
from nexus.demo.faults import Fault
from nexus.demo.table import DIALECTS
from tests.unit.demo.wire import CHAT, STREAM, RawClient, events, fetch

CHAT_PATH = "/v1/chat/completions"
EVERY: tuple[DialectName, ...] = tuple(DIALECTS)
NO_EXO = tuple(dialect for dialect in EVERY if dialect != "exo")
"""Its streams are of another shape, and it has neither completions nor embeddings."""
TOOLS: dict[str, Any] = {
    "tools": [{"type": "function", "function": {"name": "get_time", "parameters": {}}}],
    "tool_choice": "required",
}


async def ask(engine: FakeEngine, path: str, body: Any = None) -> tuple[int, Any]:
    status, _, answer = await fetch(engine, path, body)
    return status, json.loads(answer)


@pytest.mark.parametrize("dialect", EVERY)
async def test_a_plain_answer_has_words_and_usage(dialect: DialectName) -> None:
    """Every dialect gives OpenAI's shape, with the tokens it counted."""
    async with FakeEngine(dialect=dialect) as engine:
        _, answer = await ask(engine, CHAT_PATH, CHAT)
        assert answer["object"] == "chat.completion"
        assert answer["model"] == "demo-model"
        (choice,) = answer["choices"]
        assert choice["message"]["content"] == " the fleet answers every question"
        assert choice["finish_reason"] == "stop"
        assert answer["usage"]["prompt_tokens"] == 10
        assert answer["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize("dialect", NO_EXO)
async def test_a_stream_says_the_same_and_ends_with_done(dialect: DialectName) -> None:
    """Chunks of one id; one finish reason; usage only when asked for; ``[DONE]`` last."""
    async with FakeEngine(dialect=dialect) as engine:
        for options in ({}, {"stream_options": {"include_usage": True}}):
            found = events((await fetch(engine, CHAT_PATH, {**STREAM, **options}))[2])
            assert found.pop() == "[DONE]"
            assert {chunk["object"] for chunk in found} == {"chat.completion.chunk"}
            assert len({chunk["id"] for chunk in found}) == 1
            usages = [chunk["usage"] for chunk in found if chunk.get("usage")]
            assert len(usages) == bool(options)
            choices = [choice for chunk in found for choice in chunk["choices"]]
            assert choices[0]["delta"]["role"] == "assistant"
            text = "".join(choice["delta"].get("content") or "" for choice in choices)
            assert text == " the fleet answers every question"
            finishes = [c["finish_reason"] for c in choices if c["finish_reason"]]
            assert finishes == ["stop"]


async def test_the_role_and_the_finish_come_where_each_engine_puts_them() -> None:
    """llama.cpp: null content, own finish; vLLM: empty content, finish on text; Ollama: role with
    text."""
    firsts, lasts = {}, {}
    dialects: tuple[DialectName, ...] = ("openai", "ollama", "llamacpp", "vllm")
    for dialect in dialects:
        async with FakeEngine(dialect=dialect) as engine:
            found = events((await fetch(engine, CHAT_PATH, STREAM))[2])
            firsts[dialect] = found[0]["choices"][0]["delta"]["content"]
            lasts[dialect] = found[-2]["choices"][0]["delta"]
    assert firsts == {"openai": "", "vllm": "", "llamacpp": None, "ollama": " the"}
    assert lasts == {"openai": {}, "llamacpp": {}, "ollama": {}, "vllm": {"content": " question"}}


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("dialect", EVERY)
async def test_the_length_asked_for(dialect: DialectName, field: str) -> None:
    """All heed both fields, but Ollama and exo drop ``max_completion_tokens``."""
    async with FakeEngine(dialect=dialect) as engine:
        _, answer = await ask(engine, CHAT_PATH, {**CHAT, field: 3})
        ignored = dialect in ("ollama", "exo") and field == "max_completion_tokens"
        assert answer["usage"]["completion_tokens"] == (5 if ignored else 3)
        assert answer["choices"][0]["finish_reason"] == ("stop" if ignored else "length")


@pytest.mark.parametrize("dialect", EVERY)
async def test_a_required_tool_is_called(dialect: DialectName) -> None:
    """Plain and streamed, with arguments that are JSON."""
    async with FakeEngine(dialect=dialect) as engine:
        _, answer = await ask(engine, CHAT_PATH, {**CHAT, **TOOLS})
        (call,) = answer["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] == "get_time"
        assert answer["choices"][0]["finish_reason"] == "tool_calls"
        found = events((await fetch(engine, CHAT_PATH, {**STREAM, **TOOLS}))[2])[:-1]
        deltas = [chunk["choices"][0]["delta"] for chunk in found]
        calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
        assert calls[0]["function"]["name"] == "get_time"
        assert json.loads("".join(c["function"]["arguments"] for c in calls)) == {"city": "Paris"}
        assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_json_and_fixed_answers() -> None:
    """JSON mode gives ``{"ok":true}``; ``answer`` and ``usage`` replace the made-up ones."""
    async with FakeEngine(answer="data: [DONE] says\nnothing ", usage=(10, 20)) as engine:
        body = {**CHAT, "response_format": {"type": "json_object"}}
        _, answer = await ask(engine, CHAT_PATH, body)
        assert answer["choices"][0]["message"]["content"] == '{"ok":true}'
        _, answer = await ask(engine, CHAT_PATH, CHAT)
        assert answer["choices"][0]["message"]["content"] == "data: [DONE] says\nnothing "
        assert answer["usage"] == {
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "total_tokens": 30,
        }
        found = events((await fetch(engine, CHAT_PATH, STREAM))[2])[:-1]
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in found)
        assert text == "data: [DONE] says\nnothing "


@pytest.mark.parametrize(
    ("dialect", "status", "error"),
    [
        ("vllm", 404, {"type": "NotFoundError", "param": "model", "code": 404}),
        ("ollama", 404, {"type": "not_found_error", "message": "model 'nope' not found"}),
        ("openai", 404, {"code": "model_not_found"}),
        ("llamacpp", 200, None),
    ],
)
async def test_an_unknown_model(
    dialect: DialectName, status: int, error: dict[str, Any] | None
) -> None:
    """404 in each one's words; llama-server answers all the same, under its own name."""
    async with FakeEngine(dialect=dialect) as engine:
        got, answer = await ask(engine, CHAT_PATH, {**CHAT, "model": "nope"})
        assert got == status
        if error is None:
            assert answer["model"] == "demo-model"
        else:
            assert error.items() <= answer["error"].items()


@pytest.mark.parametrize(
    ("dialect", "status"), [("vllm", 400), ("ollama", 400), ("openai", 400), ("llamacpp", 500)]
)
async def test_a_body_that_is_not_json(dialect: DialectName, status: int) -> None:
    """Refused with an error object, never a broken connection."""
    async with FakeEngine(dialect=dialect) as engine:
        for body in (b"not json", b"", b"[1]", b'{"max_tokens":"x"}', b"\xff\xfe"):
            got, answer = await ask(engine, CHAT_PATH, body)
            assert got == status
            assert answer["error"]["message"]


@pytest.mark.parametrize(
    ("dialect", "error"),
    [
        ("vllm", "Unauthorized"),
        ("llamacpp", {"message": "Invalid API Key", "type": "authentication_error", "code": 401}),
    ],
)
async def test_the_key(dialect: DialectName, error: object) -> None:
    """The listing needs it, /health does not, and with it all is well."""
    async with FakeEngine(dialect=dialect, api_key="secret") as engine:
        assert await ask(engine, "/v1/models") == (401, {"error": error})
        assert (await fetch(engine, "/health"))[0] == 200
        client = await RawClient.to(engine)
        client.writer.write(
            b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\r\n"
        )
        assert (await client.answer())[0] == 200
        await client.close()


async def test_vllm_pages() -> None:
    """Listing, version, empty health, 404 and 405 as captured."""
    async with FakeEngine(dialect="vllm", context_length=2048) as engine:
        _, listing = await ask(engine, "/v1/models")
        entry = listing["data"][0]
        assert (entry["owned_by"], entry["max_model_len"]) == ("vllm", 2048)
        status, headers, body = await fetch(engine, "/health")
        assert (status, body, headers["server"]) == (200, b"", "uvicorn")
        assert await ask(engine, "/version") == (200, {"version": "0.32.0"})
        assert await ask(engine, "/nope") == (404, {"detail": "Not Found"})
        assert await ask(engine, "/api/tags") == (404, {"detail": "Not Found"})
        assert await ask(engine, CHAT_PATH) == (405, {"detail": "Method Not Allowed"})


async def test_llamacpp_pages() -> None:
    """Listing with its twin, props, slots, metrics, and errors that close."""
    async with FakeEngine(dialect="llamacpp", context_length=2048, slots=2, vision=True) as engine:
        status, headers, body = await fetch(engine, "/v1/models")
        listing = json.loads(body)
        assert headers["server"] == "llama.cpp"
        assert headers["keep-alive"] == "timeout=5, max=100"
        assert listing["data"][0]["meta"]["n_ctx"] == 2048
        assert listing["data"][0]["owned_by"] == "llamacpp"
        assert listing["models"][0]["capabilities"] == ["completion", "multimodal"]
        _, props = await ask(engine, "/props")
        assert props["default_generation_settings"]["n_ctx"] == 2048
        assert (props["total_slots"], props["modalities"]["vision"]) == (2, True)
        engine.faults.set(Fault.STALL)
        client = await RawClient.to(engine)
        client.send(CHAT_PATH, STREAM)
        while engine.in_flight == 0:
            await fetch(engine, "/health")
        _, slots = await ask(engine, "/slots")
        assert [slot["is_processing"] for slot in slots] == [True, False]
        assert b"llamacpp:requests_processing 1\n" in (await fetch(engine, "/metrics"))[2]
        await client.close()
        status, headers, _ = await fetch(engine, "/nope")
        assert (status, headers["connection"]) == (404, "close")


async def test_ollama_pages() -> None:
    """Version, tags, ps, show and the text pages as captured."""
    models = ("demo-llama", "demo-vision", "nomic-embed:v1")
    async with FakeEngine(dialect="ollama", models=models, context_length=4096) as engine:
        status, headers, body = await fetch(engine, "/")
        assert (status, body) == (200, b"Ollama is running")
        assert headers["content-type"] == "text/plain; charset=utf-8"
        assert (await ask(engine, "/api/version"))[1] == {"version": "0.33.0"}
        tags = (await ask(engine, "/api/tags"))[1]["models"]
        assert {tag["name"]: tag["capabilities"] for tag in tags} == {
            "demo-llama:latest": ["completion", "tools"],
            "demo-vision:latest": ["completion", "tools", "vision"],
            "nomic-embed:v1": ["embedding"],
        }
        assert all(len(tag["digest"]) == 64 for tag in tags)
        (resident,) = (await ask(engine, "/api/ps"))[1]["models"]
        assert (resident["name"], resident["context_length"]) == ("demo-llama:latest", 4096)
        _, shown = await ask(engine, "/api/show", {"model": "Demo-Llama"})
        assert shown["parameters"].split() == ["num_ctx", "4096"]
        assert shown["model_info"]["llama.context_length"] == 16384
        status, answer = await ask(engine, "/api/show", {"model": "no"})
        assert (status, answer) == (404, {"error": "model 'no:latest' not found"})
        assert (await fetch(engine, "/nope"))[2] == b"404 page not found"
        assert engine.calls == []


async def test_ollama_head() -> None:
    """HEAD tells the length and sends nothing."""
    async with FakeEngine(dialect="ollama") as engine:
        client = await RawClient.to(engine)
        client.send("/", method="HEAD", close=True)
        data, _ = await client.rest()
        assert b"Content-Length: 17\r\n" in data
        assert data.endswith(b"\r\n\r\n")
        await client.close()


async def test_ollama_native_chat() -> None:
    """Lines by default, one object with ``stream: false``, errors as bare sentences."""
    async with FakeEngine(dialect="ollama") as engine:
        _, headers, body = await fetch(engine, "/api/chat", CHAT)
        assert headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in body.splitlines()]
        assert "".join(line["message"]["content"] for line in lines) == (
            " the fleet answers every question"
        )
        assert lines[-1]["done_reason"] == "stop"
        assert (lines[-1]["prompt_eval_count"], lines[-1]["eval_count"]) == (10, 5)
        short = {**CHAT, "stream": False, "options": {"num_predict": 2}}
        _, answer = await ask(engine, "/api/chat", short)
        assert answer["message"]["content"] == " the fleet"
        assert answer["done_reason"] == "length"
        status, answer = await ask(engine, "/api/chat", {**CHAT, "model": "nope"})
        assert (status, answer) == (404, {"error": "model 'nope' not found"})
        _, answer = await ask(
            engine, "/api/chat", {**CHAT, "stream": False, "tools": TOOLS["tools"]}
        )
        (call,) = answer["message"]["tool_calls"]
        assert call["function"]["arguments"] == {"city": "Paris"}


async def test_ollama_generate_loads_and_unloads() -> None:
    """Text in ``response``; an empty prompt loads, with ``keep_alive: 0`` it unloads."""
    async with FakeEngine(dialect="ollama") as engine:
        body = {"model": "demo-model", "prompt": "x", "stream": False}
        _, answer = await ask(engine, "/api/generate", body)
        assert answer["response"] == " the fleet answers every question"
        _, answer = await ask(engine, "/api/generate", {"model": "demo-model", "keep_alive": 0})
        assert answer["done_reason"] == "unload"
        assert (await ask(engine, "/api/ps"))[1] == {"models": []}
        _, answer = await ask(engine, "/api/generate", {"model": "demo-model"})
        assert answer["done_reason"] == "load"
        assert len((await ask(engine, "/api/ps"))[1]["models"]) == 1


@pytest.mark.parametrize("dialect", NO_EXO)
async def test_completions(dialect: DialectName) -> None:
    """The older endpoint, plain and streamed."""
    async with FakeEngine(dialect=dialect) as engine:
        body = {"model": "demo-model", "prompt": "x"}
        _, answer = await ask(engine, "/v1/completions", body)
        assert answer["object"] == "text_completion"
        text = answer["choices"][0]["text"]
        found = events((await fetch(engine, "/v1/completions", {**body, "stream": True}))[2])
        assert found.pop() == "[DONE]"
        assert "".join(chunk["choices"][0]["text"] for chunk in found) == text
        assert found[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("dialect", NO_EXO)
async def test_embeddings(dialect: DialectName) -> None:
    """One vector an input, base64 when asked for; refused by an engine without."""
    async with FakeEngine(dialect=dialect) as engine:
        body = {"model": "demo-model", "input": ["a", "b"]}
        _, answer = await ask(engine, "/v1/embeddings", body)
        assert [len(item["embedding"]) for item in answer["data"]] == [8, 8]
        _, answer = await ask(engine, "/v1/embeddings", {**body, "encoding_format": "base64"})
        assert len(base64.b64decode(answer["data"][0]["embedding"])) == 32
        engine.profile.embeddings = False
        status = (await ask(engine, "/v1/embeddings", body))[0]
        assert status == {"vllm": 404, "sglang": 400}.get(dialect, 501)


async def test_responses() -> None:
    """Typed events with running numbers, ``response.completed`` last; no ``[DONE]``."""
    async with FakeEngine() as engine:
        body = {"model": "demo-model", "input": "x"}
        _, answer = await ask(engine, "/v1/responses", body)
        assert (answer["object"], answer["status"]) == ("response", "completed")
        raw = (await fetch(engine, "/v1/responses", {**body, "stream": True}))[2]
        found = events(raw)
        assert [event["sequence_number"] for event in found] == list(range(len(found)))
        assert found[-1]["type"] == "response.completed"
        text = "".join(e["delta"] for e in found if e["type"] == "response.output_text.delta")
        assert text == answer["output"][0]["content"][0]["text"]
        names = [line[7:] for line in raw.decode().splitlines() if line.startswith("event: ")]
        assert names == [event["type"] for event in found]
        found = events(
            (
                await fetch(
                    engine, "/v1/responses", {**body, "stream": True, "max_output_tokens": 2}
                )
            )[2]
        )
        assert found[-1]["type"] == "response.incomplete"


@pytest.mark.parametrize(
    ("dialect", "mark"),
    [
        ("vllm", "maximum context length"),
        ("llamacpp", "exceed_context_size_error"),
        ("ollama", "exceed_context_size_error"),
        ("openai", "context_length_exceeded"),
    ],
)
async def test_a_prompt_over_the_window(dialect: DialectName, mark: str) -> None:
    """With ``enforces_context`` it is a 400 that each engine words in its way."""
    async with FakeEngine(dialect=dialect, context_length=100, enforces_context=True) as engine:
        body = {**CHAT, "messages": [{"role": "user", "content": "x" * 1000}]}
        status, _, answer = await fetch(engine, CHAT_PATH, body)
        assert status == 400
        assert mark in answer.decode()


@pytest.mark.parametrize(
    ("dialect", "status"), [("vllm", 400), ("llamacpp", 500), ("ollama", 500), ("openai", 400)]
)
async def test_an_image_for_a_model_that_does_not_see(dialect: DialectName, status: int) -> None:
    """Refused, unless the engine sees."""
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    body = {**CHAT, "messages": [{"role": "user", "content": [part]}]}
    async with FakeEngine(dialect=dialect) as engine:
        assert (await fetch(engine, CHAT_PATH, body))[0] == status
        engine.profile.vision = True
        assert (await fetch(engine, CHAT_PATH, body))[0] == 200


async def test_a_lone_surrogate_is_answered() -> None:
    """Node's clients send them, and real engines take them."""
    async with FakeEngine() as engine:
        body = rb'{"model":"demo-model","messages":[{"role":"user","content":"\ud83d"}]}'
        assert (await fetch(engine, CHAT_PATH, body))[0] == 200
