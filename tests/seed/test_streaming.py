"""Seed T09: ``POST /v1/chat/completions``, streamed."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.demo.profile import Speed
from tests.harness import Running, eventually, running
from tests.seed.fleet import COMPLETIONS, data_lines, events_of, request, text_of

pytestmark = pytest.mark.streaming

STREAMED = request(stream=True)
ROUNDS = 3
"""Times are taken so often and the best counts: other processes share the machine."""


async def test_streaming_returns_sse() -> None:
    """The content type is exactly ``text/event-stream``, though the engine adds a charset."""
    engine = FakeEngine(models=["test"], settings=Speed(tokens=3))
    async with engine, running(engine) as run:
        response = await run.client.post(COMPLETIONS, json=STREAMED)
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"


async def test_streaming_sends_chunks() -> None:
    """Five chunks of the backend are at least five lines of data, one for each."""
    engine = FakeEngine(models=["test"], settings=Speed(tokens=5))
    async with engine, running(engine) as run:
        body = (await run.client.post(COMPLETIONS, json=STREAMED)).text
        assert len(data_lines(body)) >= 5
        spoken = [event for event in events_of(body) if text_of([event])]
        assert len(spoken) == 5


async def test_streaming_done_message() -> None:
    """The stream ends with ``[DONE]``."""
    engine = FakeEngine(models=["test"])
    async with engine, running(engine) as run:
        body = (await run.client.post(COMPLETIONS, json=STREAMED)).text
        assert body.endswith("data: [DONE]\n\n")
        assert body.count("data: [DONE]") == 1


async def test_streaming_chunk_format() -> None:
    """Every other line of data is a ``chat.completion.chunk``."""
    engine = FakeEngine(models=["test"], settings=Speed(tokens=1))
    async with engine, running(engine) as run:
        events = events_of((await run.client.post(COMPLETIONS, json=STREAMED)).text)
        assert events
        for event in events:
            assert event["object"] == "chat.completion.chunk"
            assert event["model"] == "test"
            assert "delta" in event["choices"][0]


async def test_streaming_forwards_immediately() -> None:
    """The answer begins within 100 ms though its chunks come 50 ms apart, and the first chunk is
    there while the backend still speaks."""
    engine = FakeEngine(models=["test"], settings=Speed(tokens=5, tokens_per_s=20))
    async with engine, running(engine) as run:
        await run.client.get("/health")
        starts_s = [await first_data_s(run, engine) for _ in range(ROUNDS)]
        assert min(starts_s) < 0.1


async def first_data_s(run: Running, engine: FakeEngine) -> float:
    """Seconds until the first line of data; the backend must not be done by then."""
    done_before = engine.completed
    began_s = monotonic()
    async with run.client.stream("POST", COMPLETIONS, json=STREAMED) as response:
        assert response.status_code == 200
        lines = response.aiter_lines()
        assert (await anext(lines)).startswith("data: ")
        took_s = monotonic() - began_s
        assert engine.in_flight == 1
        assert engine.completed == done_before
        assert [line async for line in lines if line][-1] == "data: [DONE]"
    return took_s


async def test_streaming_backend_error_mid_stream() -> None:
    """What came before a failure reaches the client, and then the failure is told."""
    engine = FakeEngine(models=["test"])
    async with engine, running(engine) as run:
        engine.faults.set(Fault.RESET_AFTER_EVENTS, after_events=2)
        response = await run.client.post(COMPLETIONS, json=STREAMED)
        assert response.status_code == 200
        *chunks, failure = events_of(response.text)
        assert [chunk["object"] for chunk in chunks] == ["chat.completion.chunk"] * 2
        assert failure["error"]["code"] == "bad_gateway"
        assert data_lines(response.text)[-1] == "[DONE]"


async def test_streaming_model_not_found() -> None:
    """An unknown model is told before any stream begins."""
    async with running() as run:
        response = await run.client.post(COMPLETIONS, json=request("nonexistent", stream=True))
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/json"
        assert response.json()["error"]["code"] == "model_not_found"


async def test_streaming_client_disconnect() -> None:
    """A client that leaves 50 ms into a stream is counted within 100 ms, and the backend's request
    is cancelled."""
    engine = FakeEngine(models=["test"], settings=Speed(tokens=1000, tokens_per_s=50))
    async with engine, running(engine) as run:
        took_s = [await leave(run, engine, times) for times in range(1, ROUNDS + 1)]
        assert min(took_s) < 0.1
        assert engine.completed == 0
        requests = (await run.client.get("/admin/v1/stats")).json()["requests"]
        assert requests["cancelled"] == ROUNDS


async def leave(run: Running, engine: FakeEngine, times: int) -> float:
    """Leaves in the middle of a stream; seconds until both sides counted it, ``times`` in all."""
    call = asyncio.ensure_future(run.client.post(COMPLETIONS, json=STREAMED))
    await eventually(lambda: engine.in_flight == 1, "the call at the backend")
    await asyncio.sleep(0.05)
    assert not call.done()
    call.cancel()
    left_s = monotonic()
    await asyncio.wait([call])
    await eventually(
        lambda: len(run.records) == times and engine.cancelled == times, "the departure counted"
    )
    return monotonic() - left_s
