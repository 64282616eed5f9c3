"""Every answer of the table, on a connection of its own, in pieces, behind a good answer whose head
is known then, and with another backend to take over."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness import Raw, eventually, raw
from tests.torture.answers import ANSWERS
from tests.torture.recorder import NONCE, Play, answer
from tests.torture.stage import BODY, SMUGGLED, Stage, post
from tests.torture.told import Failed, Relayed, Told

PIN = b"x-nexus-pin: first"
_BYTES_MAX = 1500
MODES = (
    "alone",
    "in two pieces",
    "byte by byte",
    "behind its twin",
    "behind its twin twice",
    "another takes over",
)


def _cut(play: Play, mode: str) -> Play:
    data = b"".join(play.pieces)
    half = len(data) // 2
    # The nonce is put in piece by piece.
    at = data.find(NONCE) if NONCE in data else len(data)
    if mode == "in two pieces":
        if at <= half < at + len(NONCE):
            half = at
        pieces = tuple(part for part in (data[:half], data[half:]) if part)
    elif mode == "byte by byte":
        ends = range(len(data))
        pieces = tuple(
            data[one : one + 1] if not at <= one < at + len(NONCE) else data[at : at + len(NONCE)]
            for one in ends
            if not at < one < at + len(NONCE)
        )
    else:
        return play
    return Play(pieces=pieces, ends=play.ends)


async def _alone(stage: Stage) -> None:
    """No connection to a backend is left from before."""
    plane = stage.run.gateway.plane
    plane.drop_connections()
    await eventually(lambda: plane.pooled("first")[0] == 0, "no connection is left")


async def _pinned(stage: Stage, client: Raw) -> None:
    await stage.ask(client, PIN)


async def _play(stage: Stage, client: Raw, told: Told, mode: str) -> None:
    nonce = stage.nonce()
    if mode == "another takes over":
        stage.play(nonce, told.play)
        client.send(post(BODY.replace(NONCE, nonce)))
    else:
        stage.play(nonce, *[_cut(told.play, mode)] * 2)  # a stale connection is tried again
        client.send(post(BODY.replace(NONCE, nonce), PIN))
    status, headers, body = await client.response()
    assert SMUGGLED not in body
    assert SMUGGLED not in repr(headers).encode()
    expected = told.outcome
    if isinstance(expected, Relayed):
        assert (status, body) == (expected.status, expected.body.replace(NONCE, nonce))
        assert "connection" not in headers
        if mode == "another takes over":
            assert [one.body.count(nonce) for one in stage.heard_of(nonce)] == [1]
    elif mode == "another takes over":
        assert (status, body) == (200, answer(nonce))
        assert len(stage.heard_of(nonce)) == 2
    else:
        assert status == 502, (status, body)
        assert nonce not in body


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_has_one_outcome(stage: Stage, name: str) -> None:
    """However it comes, the outcome is the table's; the next call on the same client connection, at
    the same backend, gets its own answer, and the connection to the backend is kept or gone."""
    told = ANSWERS[name]
    size = sum(map(len, told.play.pieces))
    plane = stage.run.gateway.plane
    for mode in MODES:
        if mode == "byte by byte" and size > _BYTES_MAX:
            continue
        stage.forget_failures()
        try:
            async with raw(stage.port) as client:
                await _alone(stage)
                if mode.startswith("behind"):
                    await _pinned(stage, client)
                if mode.endswith("twice"):
                    await _pinned(stage, client)
                opened = plane.pooled("first")[2]
                await _play(stage, client, told, mode)
                await stage.run.settled()
                if mode != "another takes over":
                    if isinstance(told.outcome, Relayed) and told.outcome.kept:
                        assert plane.pooled("first")[:2] == (1, 1)
                        if mode.startswith("behind"):
                            assert plane.pooled("first")[2] == opened
                    else:
                        await eventually(
                            lambda: plane.pooled("first")[:2] == (0, 0), "the connection is gone"
                        )
                stage.forget_failures()
                await _pinned(stage, client)
        except (AssertionError, TimeoutError, asyncio.IncompleteReadError) as error:
            error.add_note(f"{mode}: {told.rule}")
            raise


def test_every_smuggling_is_there() -> None:
    """The table is not empty by a slip."""
    assert len(ANSWERS) > 150
    assert sum(isinstance(told.outcome, Failed) for told in ANSWERS.values()) > 100
