"""Every request of the table, as the first on its connection, cut into pieces, and behind its
well-formed twin: sent after it was answered (its head is known then), in the same write, and while
it is still being answered."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness import Raw, eventually, raw
from tests.integration.scripted import plain
from tests.torture.cases import Answered, Case, Refused
from tests.torture.requests import CASES
from tests.torture.stage import NONCE, Play, Stage, answer, post, slowly

MODES = (
    "first",
    "in two pieces",
    "byte by byte",
    "behind its twin",
    "behind its twin twice",
    "in one write with its twin",
    "while its twin is answered",
    "followed by another",
)
_BYTES_MAX = 1500
"""A case longer than this is not sent byte by byte."""


def _named(data: bytes, nonce: bytes) -> bytes:
    return data.replace(NONCE, nonce)


async def _twin(stage: Stage, client: Raw, case: Case) -> None:
    nonce = stage.nonce()
    client.send(_named(case.twin, nonce))
    await _twin_answered(stage, client, case, nonce)


async def _twin_answered(stage: Stage, client: Raw, case: Case, nonce: bytes) -> None:
    if case.twin.startswith(b"POST "):
        await stage.expect_answer(client, nonce)
    else:
        assert (await client.response())[0] == 200


async def _send(stage: Stage, client: Raw, case: Case, data: bytes, mode: str) -> None:
    """Sends the case so that its outcome is what comes next."""
    if mode == "in two pieces":
        await slowly(client, (data[: len(data) // 2], data[len(data) // 2 :]))
    elif mode == "byte by byte":
        await slowly(client, [data[at : at + 1] for at in range(len(data))])
    elif mode == "in one write with its twin":
        nonce = stage.nonce()
        client.send(_named(case.twin, nonce) + data)
        await _twin_answered(stage, client, case, nonce)
    elif mode == "while its twin is answered":
        nonce = stage.nonce()
        free = asyncio.Event()
        stage.play(nonce, Play(pieces=(plain(answer(nonce)),), waits_for=free))
        client.send(_named(case.twin, nonce))
        if case.twin.startswith(b"POST "):
            await eventually(lambda: stage.heard_of(nonce), "the twin is at a backend")
        client.send(data)
        await client.writer.drain()
        await asyncio.sleep(0)
        free.set()
        await _twin_answered(stage, client, case, nonce)
    else:
        if mode.startswith("behind its twin"):
            await _twin(stage, client, case)
        if mode.endswith("twice"):
            await _twin(stage, client, case)
        client.send(data)


async def _answered(stage: Stage, client: Raw, expected: Answered, nonce: bytes) -> None:
    # A client that sends its body unasked may be told to go ahead or not (RFC 9110 § 10.1.1).
    start = await client.until(b"\r\n\r\n")
    told = 0
    while start.startswith(b"HTTP/1.1 100 "):
        told += 1
        start = await client.until(b"\r\n\r\n")
    assert told <= expected.continues
    status, length, closes = _read_head(start)
    assert status == expected.status, start
    assert closes == expected.closes, start
    body = b"" if expected.headless else await client.reader.readexactly(length)
    heard = stage.heard_of(nonce)
    if expected.body is None:
        assert heard == []
    else:
        assert body == answer(nonce)
        assert [one.body for one in heard] == [_named(expected.body, nonce)]
    if expected.closes:
        rest = await client.rest()
        assert rest == b"", rest
    else:
        await stage.ask(client)


def _read_head(raw: bytes) -> tuple[int, int, bool]:
    """Status, length, and whether the connection closes."""
    line, *fields = raw.lower().split(b"\r\n")
    found = dict(field.split(b": ", 1) for field in fields if field)
    assert b"transfer-encoding" not in found
    status = int(line.split(b" ")[1])
    return status, int(found[b"content-length"]), found.get(b"connection") == b"close"


@pytest.mark.parametrize("name", CASES)
async def test_a_request_has_one_outcome(stage: Stage, name: str) -> None:
    """However it comes, the outcome is the table's, and the connection is at the next request or
    closed."""
    case = CASES[name]
    for mode in MODES:
        if mode == "byte by byte" and len(case.data) > _BYTES_MAX:
            continue
        if mode == "followed by another" and isinstance(case.outcome, Answered):
            continue  # whoever is answered is followed by another in each mode
        nonce = stage.nonce()
        data = _named(case.data, nonce)
        if mode == "followed by another":
            next_nonce = stage.nonce()
            data += _named(post(), next_nonce)
        try:
            async with raw(stage.port) as client:
                await _send(stage, client, case, data, mode)
                if isinstance(case.outcome, Refused):
                    await stage.expect_refusal(client, case.outcome.status)
                    assert stage.heard_of(nonce) == []
                    if mode == "followed by another":
                        assert stage.heard_of(next_nonce) == []
                else:
                    await _answered(stage, client, case.outcome, nonce)
        except (AssertionError, TimeoutError, asyncio.IncompleteReadError) as error:
            error.add_note(f"{mode}: {case.rule}")
            raise


async def test_the_twins_head_is_known(stage: Stage) -> None:
    """Else the modes behind a twin would test nothing: its second time goes past the parser."""
    async with raw(stage.port) as client:
        for _ in range(3):
            await stage.ask(client)
        own = client.writer.get_extra_info("sockname")
        [parsed] = [
            one._serial
            for one in stage.run.gateway.server.connections
            if one._transport is not None and one._transport.get_extra_info("peername") == own
        ]
        assert parsed == 1
