"""Requests behind requests, some of them hidden in others, from many clients at once."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from random import Random

import pytest

from nexus.core.live import BreakerState
from tests.harness import Raw, raw
from tests.torture.answers import ANSWERS
from tests.torture.cases import CHUNKED, LENGTH, SECRET
from tests.torture.recorder import NONCE, Play, answer
from tests.torture.stage import BODY, POST, SMUGGLED, Stage, chunked, get, head, post, slowly
from tests.torture.test_streams import ASKED, EVENTS, START

H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ")


async def test_a_hidden_request_is_its_senders_own(stage: Stage) -> None:
    """Bytes behind a body are the same client's next request, answered to it and nobody else."""
    for known in (False, True):
        async with raw(stage.port) as client:
            if known:
                await stage.ask(client)
            nonce = stage.nonce()
            client.send(post(BODY.replace(NONCE, nonce)) + SECRET)
            await stage.expect_answer(client, nonce)
            assert (await client.response())[0] == 404
            await stage.ask(client)


async def test_a_prefix_that_would_swallow_the_next_request(stage: Stage) -> None:
    """A request left open behind a whole one swallows its sender's next bytes only: the two Hosts
    are refused, another client on the way to the same backend sees nothing of it."""
    for known in (False, True):
        async with raw(stage.port) as client, raw(stage.port) as other:
            if known:
                await stage.ask(client)
            nonce, next_nonce = stage.nonce(), stage.nonce()
            prefix = head(b"GET /smuggled HTTP/1.1")[:-2] + b"X-Ignore: "
            client.send(post(BODY.replace(NONCE, nonce)) + prefix)
            await stage.expect_answer(client, nonce)
            await stage.ask(other)
            client.send(post(BODY.replace(NONCE, next_nonce)))
            await stage.expect_refusal(client, 400)
            assert stage.heard_of(next_nonce) == []
            await stage.ask(other)


async def test_requests_in_a_body_are_its_content(stage: Stage) -> None:
    """Whole requests inside a body, plain or in chunks that end where they begin, go on as the
    bytes that they are."""
    inner = b'{"model":"torture","user":"' + NONCE + b'","messages":[],"x":"'
    inner += SECRET.replace(b"\r\n", b"\\r\\n") + b'"}'
    async with raw(stage.port) as client:
        for known in range(3):
            for data in (post(inner), head(POST, CHUNKED) + chunked(inner, 3 + known)):
                nonce = stage.nonce()
                client.send(data.replace(NONCE, nonce))
                await stage.expect_answer(client, nonce, inner)


def _pipeline(stage: Stage, random: Random) -> tuple[bytes, list[bytes | int]]:
    """Requests of any kind, and what each is answered with: a nonce or a status."""
    data: list[bytes] = []
    expected: list[bytes | int] = []
    for _ in range(random.randint(1, 12)):
        nonce = stage.nonce()
        body = BODY.replace(NONCE, nonce)
        kind = random.choice(
            ("plain", "plain", "plain", "chunked", "h2c", "page", "path", "json", "long", "expect")
        )
        expected.append(nonce)
        if kind == "plain":
            data.append(post(body))
        elif kind == "long":
            data.append(post(body + b" " * random.randint(0, 20_000)))
        elif kind == "chunked":
            size = random.randint(1, 90)
            data.append(head(POST, CHUNKED) + chunked(body, size, trailers=b"X: 1\r\n"))
        elif kind == "h2c":
            data.append(post(body, *H2C))
        elif kind == "expect":
            data.append(head(POST, LENGTH, b"Expect: 100-continue") + body)
        else:
            expected[-1] = {"page": 200, "path": 404, "json": 400}[kind]
            data.append({"page": get(), "path": get(b"/nowhere"), "json": post(b"not json")}[kind])
    return b"".join(data), expected


async def _final(client: Raw) -> tuple[int, bytes]:
    while True:
        status, _, body = await client.response()
        if status != 100:
            return status, body


@pytest.mark.parametrize("seed", range(4))
async def test_pipelines_of_many_clients(stage: Stage, seed: int) -> None:
    """However requests of all kinds follow one another, however they are cut, every client gets
    its own answers, all of them, in the order of asking."""

    async def one(number: int) -> None:
        random = Random(seed * 1000 + number)
        async with raw(stage.port) as client:
            for _ in range(3):
                data, expected = _pipeline(stage, random)
                cuts = sorted(random.sample(range(len(data)), min(len(data), 5)))
                edges = [0, *cuts, len(data)]
                await slowly(client, [data[a:b] for a, b in pairwise(edges)])
                for one_expected in expected:
                    status, body = await _final(client)
                    if isinstance(one_expected, bytes):
                        assert (status, body) == (200, answer(one_expected)), (number, expected)
                    else:
                        assert status == one_expected, (number, expected)

    await asyncio.gather(*(one(number) for number in range(40)))


RACY = {"a second answer right behind"}
"""What comes in a write of its own behind a whole answer may meet the next call (test_moments)."""


@pytest.mark.parametrize("seed", range(3))
async def test_many_clients_and_every_bad_answer(stage: Stage, seed: int) -> None:
    """Forty clients at once, backends that answer by the whole table at random: each call ends with
    an answer to itself or an error of ours; nobody ever sees another's, or a smuggled one."""
    table = [
        told.play
        for name, told in ANSWERS.items()
        if name not in RACY and sum(map(len, told.play.pieces)) < 100_000
    ]
    good = bad = 0

    async def one(number: int) -> None:
        nonlocal good, bad
        random = Random(seed * 1000 + number)
        async with raw(stage.port) as client:
            for _ in range(12):
                nonce = stage.nonce()
                streamed = random.random() < 0.3
                plays = [random.choice(table) for _ in range(3)]
                if streamed:
                    plays.append(Play(pieces=(START + chunked(EVENTS),)))
                if random.random() < 0.7:
                    stage.play(nonce, *plays)
                for backend in stage.backends:  # no breaker spares a backend
                    live = stage.run.gateway.store.live(backend.name)
                    live.breaker = BreakerState.CLOSED
                    live.consecutive_failures = live.window_calls = live.window_failures = 0
                asked = ASKED if streamed else BODY
                client.send(post(asked.replace(NONCE, nonce)))
                status, _, body = await client.response()
                assert SMUGGLED not in body
                if status == 200:
                    good += 1
                    assert nonce in body
                    assert body.count(b"n0000") == body.count(nonce)
                else:
                    bad += 1
                    assert status in (502, 503), (status, body)
                    assert set(json.loads(body)) == {"error"}

    await asyncio.gather(*(one(number) for number in range(40)))
    assert good > 100
    assert bad > 10
