"""Seed T10: odd requests and odd backends."""

from __future__ import annotations

import json

import pytest

from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from tests.harness import running
from tests.seed.fleet import COMPLETIONS, data_lines, events_of, fleet, request, text_of

pytestmark = pytest.mark.edge_case

LIMIT_BYTES = 10 * 1024 * 1024


def sized(length: int) -> bytes:
    """A request body of exactly ``length`` bytes."""
    begin, end = b'{"model":"test","messages":[{"role":"user","content":"', b'"}]}'
    return begin + b"x" * (length - len(begin) - len(end)) + end


@pytest.mark.completions
async def test_completions_payload_too_large() -> None:
    """Content of more than 10 MiB is 413; a body of exactly 10 MiB is not."""
    async with fleet(1) as run:
        body = {"model": "test", "messages": [{"role": "user", "content": "x" * (LIMIT_BYTES + 1)}]}
        response = await run.client.post(COMPLETIONS, json=body)
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "payload_too_large"
        response = await run.client.post(COMPLETIONS, content=sized(LIMIT_BYTES + 1))
        assert response.status_code == 413
        response = await run.client.post(COMPLETIONS, content=sized(LIMIT_BYTES))
        assert response.status_code == 200


@pytest.mark.completions
async def test_completions_all_retries_fail() -> None:
    """When every backend answers 500 it is 502, and the message tells of both."""
    one, two = FakeEngine(name="one", models=["test"]), FakeEngine(name="two", models=["test"])
    async with one, two, running(one, two) as run:
        one.faults.set(Fault.STATUS, status=500)
        two.faults.set(Fault.STATUS, status=500)
        response = await run.client.post(COMPLETIONS, json=request())
        assert response.status_code == 502
        message = response.json()["error"]["message"]
        assert "failed" in message
        assert "one: answered 500" in message
        assert "two: answered 500" in message
        assert (len(one.calls), len(two.calls)) == (1, 1)


@pytest.mark.completions
async def test_completions_long_model_name() -> None:
    """A model name of a thousand letters works as any other."""
    name = "x" * 1000
    async with fleet(1, models=(name,)) as run:
        response = await run.client.post(COMPLETIONS, json=request(name))
        assert response.status_code == 200
        assert response.json()["model"] == name


@pytest.mark.completions
async def test_completions_backend_invalid_json() -> None:
    """A backend's 200 that is not JSON is 502."""
    engine = FakeEngine(models=["test"])
    async with engine, running(engine) as run:
        engine.faults.set(Fault.GARBAGE, body=b"not json")
        response = await run.client.post(COMPLETIONS, json=request())
        assert response.status_code == 502
        assert response.json()["error"]["message"].startswith("Invalid backend response")


@pytest.mark.streaming
async def test_streaming_backend_format_transform() -> None:
    """A stream in Ollama's own format, as lines or inside SSE, reaches the client as OpenAI
    chunks."""
    engine = FakeEngine(models=["test"], answer="one two three")
    async with engine, running(engine) as run:
        for form in (Fault.OLLAMA_FORMAT, Fault.OLLAMA_SSE):
            engine.faults.set(form)
            response = await run.client.post(COMPLETIONS, json=request(stream=True))
            assert response.headers["content-type"] == "text/event-stream"
            events = events_of(response.text)
            assert {event["object"] for event in events} == {"chat.completion.chunk"}
            assert text_of(events) == "one two three"
            assert events[-1]["choices"][0]["finish_reason"] == "stop"
            assert data_lines(response.text)[-1] == "[DONE]"


@pytest.mark.streaming
async def test_streaming_backend_invalid_sse() -> None:
    """Garbage instead of a stream is told as an error, not passed on."""
    engine = FakeEngine(models=["test"])
    async with engine, running(engine) as run:
        engine.faults.set(Fault.GARBAGE, body=b"\x00\xff garbage \n\n more of it")
        response = await run.client.post(COMPLETIONS, json=request(stream=True))
        assert response.status_code == 502
        assert json.loads(response.text)["error"]["code"] == "bad_gateway"
        assert "garbage" not in response.text
