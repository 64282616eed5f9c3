"""Answers that come when nobody asked, or before the question was whole."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness import eventually, raw
from tests.integration.scripted import head, plain
from tests.torture.recorder import NONCE, Play, answer
from tests.torture.stage import BODY, Stage, post
from tests.torture.told import SECOND

PIN = b"x-nexus-pin: first"
BIG = BODY[:-1] + b',"x":"' + b"x" * 3_000_000 + b'"}'
ERROR = b'{"error":{"message":"enough"}}'

UNASKED = {
    "an answer": SECOND,
    "half an answer": SECOND[:30],
    "an interim answer": head(status="100 Continue"),
    "a time-out": head("connection: close", "content-length: 0", status="408 Request Timeout"),
    "a line end": b"\r\n",
    "a byte": b"H",
    "ten answers": SECOND * 10,
}


@pytest.mark.parametrize("name", UNASKED)
async def test_bytes_on_an_idle_connection(stage: Stage, name: str) -> None:
    """What comes on a connection that nobody asked on ends it: the next call has its own answer,
    on another connection."""
    plane = stage.run.gateway.plane
    async with raw(stage.port) as client:
        for _ in range(3):
            plane.drop_connections()
            await eventually(lambda: plane.pooled("first")[0] == 0, "no connection is left")
            await stage.ask(client, PIN)
            await stage.run.settled()
            assert plane.pooled("first")[:2] == (1, 1)
            [idle] = [one for one in stage.first.live if one.asked]
            idle.write(UNASKED[name])
            await eventually(lambda: plane.pooled("first")[0] == 0, "the connection is discarded")
            await stage.ask(client, PIN)


@pytest.mark.parametrize("name", UNASKED)
async def test_bytes_right_behind_an_answer(stage: Stage, name: str) -> None:
    """The same in a write of its own right behind an answer: they are there before the next call
    is, and it has its own answer.

    What HTTP/1.1 cannot tell is an answer that comes unasked in the very turn of the loop in which
    its connection is asked again: it looks like an early one."""
    pieces = (plain(answer(NONCE)), UNASKED[name])
    async with raw(stage.port) as client:
        for _ in range(10):
            nonce = stage.nonce()
            stage.play(nonce, *[Play(pieces=pieces)] * 2)
            client.send(post(BODY.replace(NONCE, nonce), PIN))
            await stage.expect_answer(client, nonce)
            await stage.ask(client, PIN)


@pytest.mark.parametrize("status", ["200 OK", "400 Bad", "413 Too Large", "401 No"])
@pytest.mark.parametrize("ends", ["kept", "closed"])
async def test_an_answer_before_the_request_is_whole(stage: Stage, status: str, ends: str) -> None:
    """A backend that answers while three megabytes are under way is heard, and the connection,
    whose request it may not have read, goes on only at the next request's beginning."""
    body = answer(NONCE) if status.startswith("200") else ERROR
    early = Play(
        pieces=(plain(body, status=status),),
        ends="kept" if ends == "kept" else "closed",
        early=True,
    )
    async with raw(stage.port) as client:
        for _ in range(3):
            nonce = stage.nonce()
            stage.play(nonce, early)
            client.send(post(BIG.replace(NONCE, nonce), PIN))
            seen, _, got = await client.response()
            if status.startswith("401"):
                assert seen == 502  # without a credential of the client's it is no news for it
            else:
                assert (seen, got) == (int(status[:3]), body.replace(NONCE, nonce))
            await stage.ask(client, PIN)
            stage.forget_failures()


async def test_an_interim_answer_before_the_request_is_whole(stage: Stage) -> None:
    """100 in the middle of a request that did not ask for it is passed over."""
    async with raw(stage.port) as client:
        nonce = stage.nonce()
        early = Play(pieces=(head(status="100 Continue"), plain(answer(NONCE))), early=True)
        stage.play(nonce, early)
        client.send(post(BIG.replace(NONCE, nonce), PIN))
        await stage.expect_answer(client, nonce, BIG)
        await stage.ask(client, PIN)


async def test_answers_in_the_wrong_order(stage: Stage) -> None:
    """A backend that holds one answer and gives two later loses the surplus one with its
    connection: calls at the same time get their own."""

    async def one(number: int) -> None:
        async with raw(stage.port) as client:
            nonce = stage.nonce()
            pieces = (plain(answer(NONCE)) + plain(answer(b"n999999999")),)
            stage.play(nonce, *[Play(pieces=pieces)] * 2)
            client.send(post(BODY.replace(NONCE, nonce), PIN))
            status, _, body = await client.response()
            assert (status, body) == (200, answer(nonce)), number
            await stage.ask(client, PIN)

    await asyncio.gather(*(one(number) for number in range(50)))
