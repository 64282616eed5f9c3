"""A real engine is killed in the middle of a run of requests: who has got nothing yet loses
nothing, and the engine serves again soon after it is back."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.harness import eventually
from tests.real.conftest import StartLlamaCpp, StartNexus
from tests.real.servers import LlamaCpp, Nexus
from tests.real.tiny_model import TINY_NAME

_log = logging.getLogger(__name__)

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "tell me of the fleet"}]
REQUESTS = 240
CLIENTS = 8
KILL_AFTER = 60
RECOVERY_S = 15.0
"""Behaviour § 4: a backend that is back serves again within this time."""


@dataclass
class Run:
    """What became of a run of requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    next_number: Iterator[int] = field(default_factory=lambda: iter(range(REQUESTS)))

    @property
    def done(self) -> int:
        """Requests that have ended."""
        return self.outcomes.total()


@pytest.fixture
def engines(llamacpp_server: StartLlamaCpp) -> Iterator[list[LlamaCpp]]:
    """Two instances that may be killed."""
    both = [llamacpp_server("mortal"), llamacpp_server("steady")]
    yield both
    for engine in both:
        engine.end()


@pytest.fixture
def nexus(engines: list[LlamaCpp], nexus_server: StartNexus) -> Iterator[Nexus]:
    """A gateway of its own in front of them."""
    server = nexus_server({engine.name: engine.url for engine in engines})
    yield server
    server.end()


async def test_no_request_fails_when_an_engine_is_killed(
    nexus: Nexus, engines: list[LlamaCpp]
) -> None:
    """Of 240 requests, streamed and plain, eight at a time, none fails without having got a byte
    when one of two engines is killed by SIGKILL; restarted, it serves again within 15 s."""
    mortal = engines[0]
    run = Run()
    async with openai.AsyncOpenAI(
        base_url=f"{nexus.url}/v1", api_key="none", max_retries=0, timeout=30.0
    ) as client:
        clients = [asyncio.create_task(_ask_in_turn(client, run)) for _ in range(CLIENTS)]
        await eventually(lambda: run.done >= KILL_AFTER, f"{KILL_AFTER} requests done", 30.0)
        assert run.served["mortal"] > 0, "it had its share before"
        mortal.process.kill()
        async with asyncio.timeout(60.0):
            await asyncio.gather(*clients)
        assert run.errors == []
        assert run.done == REQUESTS
        assert run.outcomes["ok"] + run.outcomes["cut"] == REQUESTS
        # No more can be under way in the one killed than there are clients.
        assert run.outcomes["cut"] <= CLIENTS
        recovery_s = await _recovery_s(client, mortal)
    # Shown by pytest --log-cli-level=info.
    _log.info("outcomes %s, served %s, back after %.1f s", run.outcomes, run.served, recovery_s)
    assert recovery_s < RECOVERY_S
    told = nexus.get("/admin/v1/stats")["requests"]
    assert told["upstream_error"] == run.outcomes["cut"]
    assert told["in_flight"] == 0


async def _ask_in_turn(client: openai.AsyncOpenAI, run: Run) -> None:
    for number in run.next_number:
        if number % 2:
            await _ask_plain(client, run)
        else:
            await _ask_streamed(client, run)


async def _ask_plain(client: openai.AsyncOpenAI, run: Run) -> None:
    try:
        raw = await client.chat.completions.with_raw_response.create(
            model=TINY_NAME, messages=QUESTION, max_tokens=32, temperature=0
        )
        assert raw.parse().choices[0].message.content
    except (openai.OpenAIError, AssertionError) as error:
        run.errors.append(repr(error))
        run.outcomes["failed"] += 1
        return
    run.served[raw.headers["x-nexus-backend"]] += 1
    run.outcomes["ok"] += 1


async def _ask_streamed(client: openai.AsyncOpenAI, run: Run) -> None:
    pieces, reason = 0, None
    try:
        stream = await client.chat.completions.create(
            model=TINY_NAME, messages=QUESTION, max_tokens=120, temperature=0, stream=True
        )
        run.served[stream.response.headers["x-nexus-backend"]] += 1
        async for chunk in stream:
            pieces += 1
            reason = chunk.choices[0].finish_reason or reason
    except openai.OpenAIError as error:
        if pieces and type(error) is openai.APIError:
            run.outcomes["cut"] += 1  # told by an error event, after data
            return
        run.errors.append(repr(error))
        run.outcomes["failed"] += 1
        return
    if reason != "length":
        run.errors.append(f"ended without a word after {pieces} pieces")
    run.outcomes["ok" if reason == "length" else "failed"] += 1


async def _recovery_s(client: openai.AsyncOpenAI, engine: LlamaCpp) -> float:
    """Restarts ``engine`` on its port; the seconds from its being up to its next answer."""
    await asyncio.to_thread(engine.start)
    begin_s = time.monotonic()
    while time.monotonic() - begin_s < RECOVERY_S:
        run = Run()
        await asyncio.gather(*(_ask_plain(client, run) for _ in range(4)))
        assert run.errors == []
        if run.served[engine.name]:
            return time.monotonic() - begin_s
    raise AssertionError(f"not used again within {RECOVERY_S:g} s")


async def test_a_stream_cut_by_a_kill_is_told(nexus: Nexus, engines: list[LlamaCpp]) -> None:
    """A stream whose engine is killed delivers what came, whole events only, then an error event
    and ``[DONE]``, with the same status and a clean end."""
    body = {
        "model": TINY_NAME,
        "messages": QUESTION,
        "temperature": 0,
        "max_tokens": 1900,
        "stream": True,
    }
    async with (
        httpx.AsyncClient(timeout=30.0, trust_env=False) as http,
        http.stream("POST", f"{nexus.url}/v1/chat/completions", json=body) as answer,
    ):
        assert answer.status_code == 200
        serving = answer.headers["x-nexus-backend"]
        parts = answer.aiter_bytes()
        text = await anext(parts)
        (engine,) = [engine for engine in engines if engine.name == serving]
        engine.process.kill()
        async for part in parts:
            text += part
    *events, last = text.decode().removesuffix("\n\n").split("\n\n")
    assert last == "data: [DONE]"
    *data, error = [json.loads(event.removeprefix("data: ")) for event in events]
    assert error["error"]["type"] == "server_error"
    assert data
    assert all(event["object"] == "chat.completion.chunk" for event in data)
    await eventually(lambda: nexus.health() == 1, "the killed one is unhealthy", 10.0)
