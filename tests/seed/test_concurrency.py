"""Seed T12: many calls at once, few connections."""

from __future__ import annotations

import asyncio

from nexus.demo.engine import FakeEngine
from nexus.demo.profile import Speed
from tests.harness import eventually, running
from tests.seed.fleet import COMPLETIONS, data_lines, events_of, request, text_of

CALLS = 100
ANSWER = "all is well"


async def test_concurrent_100_requests() -> None:
    """A hundred calls at once: all 200, many of them at the backend at the same time."""
    engine = FakeEngine(models=["test"], answer=ANSWER, settings=Speed(delay_s=0.2))
    async with engine, running(engine) as run:
        calls = [
            asyncio.ensure_future(run.client.post(COMPLETIONS, json=request()))
            for _ in range(CALLS)
        ]
        await eventually(lambda: engine.in_flight > 1, "calls at the backend at the same time")
        answers = await asyncio.gather(*calls)
        assert [answer.status_code for answer in answers] == [200] * CALLS
        assert {answer.json()["choices"][0]["message"]["content"] for answer in answers} == {ANSWER}
        assert engine.completed == CALLS


async def test_concurrent_mixed_streaming() -> None:
    """Fifty streams and fifty plain calls at once: every answer is whole."""
    engine = FakeEngine(models=["test"], answer=ANSWER)
    async with engine, running(engine) as run:
        answers = await asyncio.gather(
            *(
                run.client.post(COMPLETIONS, json=request(stream=number % 2 == 0))
                for number in range(CALLS)
            )
        )
        assert [answer.status_code for answer in answers] == [200] * CALLS
        for number, answer in enumerate(answers):
            if number % 2 == 0:
                assert text_of(events_of(answer.text)) == ANSWER
                assert data_lines(answer.text)[-1] == "[DONE]"
            else:
                assert answer.json()["choices"][0]["message"]["content"] == ANSWER
        assert engine.completed == CALLS


async def test_connection_pooling() -> None:
    """A hundred calls one after the other share the connections to the backend: one serves all."""
    engine = FakeEngine(name="pooled", models=["test"])
    async with engine, running(engine) as run:
        for _ in range(CALLS):
            assert (await run.client.post(COMPLETIONS, json=request())).status_code == 200
        assert engine.connections_opened < CALLS
        assert len({seen.connection_id for seen in engine.calls}) == 1
        assert run.gateway.plane.pooled("pooled") == (1, 1, 1)
