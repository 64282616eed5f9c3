"""LM Studio, SGLang, exo and llama.cpp's router: what each does unlike the others."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from nexus.demo.engine import FakeEngine
from nexus.demo.exo import NOT_PLACED
from nexus.demo.profile import Speed
from tests.unit.demo.wire import CHAT, STREAM, RawClient, events, exchange, fetch

CHAT_PATH = "/v1/chat/completions"


async def ask(engine: FakeEngine, path: str, body: Any = None, method: str = "") -> tuple[int, Any]:
    status, _, answer = await fetch(engine, path, body, method=method)
    return status, json.loads(answer)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/health"), ("GET", "/api/tags"), ("POST", "/nope"), ("PUT", "/x")]
)
async def test_lm_studio_knows_every_path(method: str, path: str) -> None:
    """200 and a sentence, whatever is asked for."""
    async with FakeEngine(dialect="lmstudio") as engine:
        status, answer = await ask(engine, path, method=method)
        assert status == 200
        assert answer == {"error": f"Unexpected endpoint or method. ({method} {path})"}


async def test_lm_studio_loads_and_unloads() -> None:
    """By its own endpoints, and by being asked: a request loads its model just in time."""
    async with FakeEngine(dialect="lmstudio", models=("a", "b")) as engine:

        async def loaded() -> list[str]:
            models = (await ask(engine, "/api/v1/models"))[1]["models"]
            return [model["key"] for model in models if model["loaded_instances"]]

        assert await loaded() == ["a"]
        _, answer = await ask(engine, "/api/v1/models/load", {"model": "b"})
        assert answer["status"] == "loaded"
        assert await loaded() == ["a", "b"]
        for name in ("a", "b"):
            await ask(engine, "/api/v1/models/unload", {"instance_id": name})
        assert await loaded() == []
        assert (await ask(engine, CHAT_PATH, {**CHAT, "model": "b"}))[0] == 200
        assert await loaded() == ["b"]
        assert len(engine.calls) == 1, "loading is no inference"
        assert (await ask(engine, "/api/v1/models/load", {"model": "c"}))[0] == 404


async def test_lm_studio_refuses_json_objects() -> None:
    """``json_object`` is a 400 whose error is a bare sentence."""
    async with FakeEngine(dialect="lmstudio") as engine:
        body = {**CHAT, "response_format": {"type": "json_object"}}
        status, answer = await ask(engine, CHAT_PATH, body)
        assert status == 400
        assert "json_schema" in answer["error"]


async def test_sglang_errors_are_flat() -> None:
    """No ``error`` around them; within a stream there is one."""
    async with FakeEngine(dialect="sglang", enforces_context=True, context_length=8) as engine:
        status, answer = await ask(engine, CHAT_PATH, CHAT)
        assert (status, answer["object"], answer["code"]) == (400, "error", 400)
        assert "longer than the model's context length (8 tokens)" in answer["message"]
        engine.profile.enforces_context = False
        assert (await ask(engine, CHAT_PATH, {**CHAT, "model": "whatever"}))[1]["model"]
        status, answer = await ask(engine, CHAT_PATH, {**CHAT, "model": "qwen:8b"})
        assert status == 400, "a colon stands before a LoRA"
        assert "8b" in answer["message"]


async def test_sglangs_health_costs_a_token() -> None:
    """``/health`` takes as long as an answer does, a minute here; ``/ready`` does not."""
    async with FakeEngine(dialect="sglang", settings=Speed(delay_s=60.0)) as engine:
        client = await RawClient.to(engine)
        client.send("/health")
        assert (await ask(engine, "/model_info"))[0] == 200
        assert (await fetch(engine, "/ready"))[0] == 200
        assert engine.requests_seen == 3
        assert engine.in_flight == 0, "asked for by nobody as a call"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.answer(), 0.05)
        await client.close()


async def test_exo_streams_its_own_way() -> None:
    """A comment at once, the role in every delta, no null keys, usage unasked for, and the end of
    the connection."""
    async with FakeEngine(dialect="exo", settings=Speed(ttft_s=0.05)) as engine:
        raw, reset = await exchange(engine, STREAM)
        assert not reset
        head, _, body = raw.partition(b"\r\n\r\n")
        assert b"connection: close" in head
        assert body.split(b"\r\n")[1].startswith(b": keep-alive")
        *chunks, done = events(body)
        assert done == "[DONE]"
        assert {chunk["object"] for chunk in chunks} == {"chat.completion"}
        choices = [chunk["choices"][0] for chunk in chunks]
        assert {choice["delta"]["role"] for choice in choices} == {"assistant"}
        assert ["finish_reason" in choice for choice in choices] == [False] * 5 + [True]
        assert ["usage" in chunk for chunk in chunks] == [False] * 5 + [True]


async def test_exo_lists_more_than_it_runs() -> None:
    """The card of a model without instance is listed, and a call for it is a 404; placed, it is
    served; its instance deleted, no longer."""
    async with FakeEngine(dialect="exo") as engine:
        listed = [card["id"] for card in (await ask(engine, "/v1/models"))[1]["data"]]
        assert listed == ["demo-model", NOT_PLACED]
        wanted = {**CHAT, "model": NOT_PLACED}
        status, answer = await ask(engine, CHAT_PATH, wanted)
        assert (status, answer["error"]["code"]) == (404, 404)
        assert "No instance found" in answer["error"]["message"]
        await ask(engine, "/place_instance", {"model_id": NOT_PLACED})
        assert (await ask(engine, CHAT_PATH, wanted))[0] == 200
        assert (await ask(engine, "/instance/instance-1", method="DELETE"))[0] == 200
        assert (await ask(engine, CHAT_PATH, wanted))[0] == 404
        assert (await ask(engine, "/instance/instance-7", method="DELETE"))[0] == 405


async def test_exo_refuses_as_fastapi_does() -> None:
    """422 with a list of what is wrong."""
    async with FakeEngine(dialect="exo") as engine:
        cases = ((b"nope", ["body", 0]), ({"model": "demo-model"}, ["body", "messages"]))
        for body, where in cases:
            status, answer = await ask(engine, CHAT_PATH, body)
            assert (status, answer["detail"][0]["loc"]) == (422, where)


async def test_the_router_loads_what_is_asked_for() -> None:
    """Unloaded models are listed without ``meta``; a request loads one, and so does its own
    endpoint; a page about one model wants its name."""
    async with FakeEngine(dialect="llamacpp-router", models=("a", "b")) as engine:

        async def states() -> dict[str, str]:
            entries = (await ask(engine, "/v1/models"))[1]["data"]
            assert all(("meta" in e) == (e["status"]["value"] == "loaded") for e in entries)
            return {entry["id"]: entry["status"]["value"] for entry in entries}

        assert await states() == {"a": "loaded", "b": "unloaded"}
        assert (await ask(engine, "/models/unload", {"model": "a"}))[1] == {"success": True}
        assert (await ask(engine, "/models/load", {"model": "b"}))[1] == {"success": True}
        assert await states() == {"a": "unloaded", "b": "loaded"}
        assert (await ask(engine, CHAT_PATH, {**CHAT, "model": "a"}))[1]["model"] == "a"
        assert await states() == {"a": "loaded", "b": "loaded"}
        status, answer = await ask(engine, CHAT_PATH, {**CHAT, "model": "c"})
        assert (status, answer["error"]["message"]) == (400, "model 'c' not found")
        assert (await ask(engine, "/slots"))[0] == 400
        assert len((await ask(engine, "/slots?model=a"))[1]) == 4
        assert (await ask(engine, "/props?model=a"))[1]["model_alias"] == "a"
        await ask(engine, "/models/unload", {"model": "a"})
        status, answer = await ask(engine, "/props?model=a&autoload=false")
        assert (status, answer["error"]["message"]) == (400, "model is not loaded")
