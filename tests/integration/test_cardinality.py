"""Names that clients make up cost no memory and make no series."""

from __future__ import annotations

import json
from random import Random

from nexus.core.call import Outcome
from nexus.demo.engine import FakeEngine
from nexus.telemetry.record import CallRecord
from tests.harness import Running, chat, raw, running

CHAT = "/v1/chat/completions"


async def _series(run: Running) -> int:
    text = (await run.client.get("/metrics")).text
    return sum(not line.startswith("#") for line in text.splitlines())


async def test_three_thousand_model_names_from_clients_make_no_series() -> None:
    """Through the front door: unknown models, hostile ones included, are one label."""
    rng = Random(7)
    async with FakeEngine() as engine, running(engine) as run:
        await run.client.post(CHAT, json=chat())
        await run.client.post(CHAT, json=chat("nobody"))
        before = await _series(run)
        async with raw(run.port) as client:
            for n in range(3_000):
                name = f"m{n}-{rng.getrandbits(64):x}" + rng.choice(
                    ("", '"\n', "é\ud800", "x" * 99)
                )
                body = json.dumps(chat(name)).encode()
                client.send(
                    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                    b"X-Request-Id: r%d\r\nContent-Length: %d\r\n\r\n%b" % (n, len(body), body)
                )
                assert (await client.response())[0] in (400, 404)
        assert await _series(run) == before
        assert len(run.gateway.stats.view(0.0)["models"]) == 2


async def test_a_hundred_thousand_model_names_make_no_series() -> None:
    """At full size, behind the parser: series and statistics stay as they are."""
    async with FakeEngine() as engine, running(engine) as run:
        await run.client.post(CHAT, json=chat())
        await run.client.post(CHAT, json=chat("nobody"))
        before = await _series(run)
        for n in range(100_000):
            run.gateway.record(
                CallRecord(
                    request_id=f"r{n}",
                    at_s=1.0,
                    endpoint=CHAT,
                    outcome=Outcome.CLIENT_ERROR,
                    status=404,
                    model=f"made-up-{n}",
                )
            )
        assert await _series(run) == before
        assert len(run.gateway.stats.view(0.0)["models"]) == 2
        assert len(run.gateway.history) == 1_000
        text = (await run.client.get("/metrics")).text
        assert f'endpoint="{CHAT}",model="unknown",outcome="client_error"}} 100001.0' in text
