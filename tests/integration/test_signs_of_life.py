"""What a running gateway's calls tell of a backend, and what a check makes of it."""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic

import pytest

from nexus.core.backend import Backend
from nexus.demo.engine import FakeEngine
from nexus.engines.adapter import Answer, Ask
from nexus.health.signs import Signs
from tests.harness import chat, eventually, running, spec_of
from tests.integration.scripted import Scripted, Talk, chunked, head, plain

PATH = "/v1/chat/completions"
UNREACHED = Answer(status=0, error="no connection", unreached=True)
SILENT = Answer(status=0, error="no answer")


async def test_calls_leave_signs_of_life() -> None:
    """Connections made are counted, answers have their time; of a stranger nothing is known."""
    async with FakeEngine(name="a") as engine, running(spec_of(engine)) as run:
        plane = run.gateway.plane
        assert plane.signs("nobody") == plane.signs("a") == Signs(connects=0, heard_s=-inf)
        before_s = monotonic()
        await run.client.post(PATH, json=chat())
        first = plane.signs("a")
        assert first.connects == 1
        assert before_s <= first.heard_s <= monotonic()
        await run.client.post(PATH, json=chat())
        second = plane.signs("a")
        assert second.connects == 1
        assert second.heard_s >= first.heard_s


async def test_a_stream_is_heard_before_it_ends() -> None:
    """Each read of an answer that is still coming is a sign of life."""
    event = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    more = asyncio.Event()

    async def slowly(talk: Talk) -> None:
        await talk.write(head("content-type: text/event-stream", "transfer-encoding: chunked"))
        await talk.write(b"%x\r\n%b\r\n" % (len(event), event))
        await more.wait()
        finish = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
        await talk.write(chunked(event, finish + b"data: [DONE]\n\n"))

    async with Scripted(slowly) as backend, running(backend.spec()) as run:
        plane, name = run.gateway.plane, backend.spec().name
        body = chat(stream=True)
        async with run.client.stream("POST", PATH, json=body) as answer:
            chunks = answer.aiter_bytes()
            await anext(chunks)
            heard_s = plane.signs(name).heard_s
            assert heard_s <= monotonic()
            assert run.gateway.store.live(name).answered_s == -inf
            more.set()
            assert b"[DONE]" in b"".join([chunk async for chunk in chunks])
        assert plane.signs(name).heard_s >= heard_s > -inf


@pytest.mark.parametrize("found", [UNREACHED, SILENT])
async def test_a_verdict_waits_for_a_second_look_when_a_call_has_connected(found: Answer) -> None:
    """The only backend's check found no way, a call has connected since: the second look finds it
    well, and the call is answered there. Who merely accepts connections is lost at once."""
    answer_now, began, fail = asyncio.Event(), asyncio.Event(), asyncio.Event()
    looks = 0

    async def script(talk: Talk) -> None:
        await answer_now.wait()
        await talk.write(plain({"choices": []}))

    async with (
        Scripted(script) as backend,
        running(backend.spec(), health={"failure_threshold": 1}) as run,
    ):
        gateway = run.gateway

        async def fetch(asked: Backend, ask: Ask, timeout_s: float) -> Answer:
            nonlocal looks
            looks += 1
            if looks > 1:
                return await gateway._ask(asked, ask, timeout_s)
            began.set()
            await fail.wait()
            return found

        gateway.checker._fetch = fetch
        gateway.checker.suspect(backend.name)
        await began.wait()
        call = asyncio.ensure_future(run.client.post(PATH, json=chat()))
        await eventually(lambda: backend.talks, "the call is at the backend")
        checked_s = gateway.store.snapshot.backends[backend.name].last_check_at_s
        fail.set()
        await eventually(
            lambda: gateway.store.snapshot.backends[backend.name].last_check_at_s != checked_s,
            "the check is told",
        )
        answer_now.set()
        answer = await call
        attempts = [one.outcome for one in run.records[-1].attempts]
        if found is UNREACHED:
            assert (answer.status_code, attempts, looks) == (200, ["ok"], 2)
        else:
            assert (answer.status_code, attempts) == (502, ["backend_lost"])
