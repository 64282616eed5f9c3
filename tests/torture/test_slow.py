"""Who says half of something and then nothing, or next to nothing: told so in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.harness import Raw, raw
from tests.integration.scripted import head as answer_head
from tests.torture.cases import CHUNKED, LENGTH
from tests.torture.recorder import NONCE, Play
from tests.torture.stage import BODY, POST, Stage, get, head, post, staged
from tests.torture.told import CODED, GOOD, JSON

QUICK = {
    "client_head_timeout_seconds": 0.3,
    "client_body_timeout_seconds": 0.3,
    "keep_alive_seconds": 60,
    "request_timeout_seconds": 1,
}


@pytest.fixture(scope="module")
async def whole_stage() -> AsyncIterator[Stage]:
    """A gateway of little patience."""
    async with staged(server=QUICK, routing={"max_retries": 0}) as stage:
        yield stage


HALVES = {
    "a letter": b"P",
    "half a method": b"PO",
    "half a target": b"POST /v1/ch",
    "half a version": POST[:-4],
    "a request line": POST,
    "its CR": POST + b"\r",
    "its CR LF": POST + b"\r\n",
    "half a name": head(POST)[:-2] + b"Conte",
    "a colon": head(POST)[:-2] + b"Content-Length:",
    "half a length": head(POST)[:-2] + b"Content-Length: 8",
    "no blank line": head(POST, LENGTH)[:-2],
    "half a blank line": head(POST, LENGTH)[:-1],
    "a head": head(POST, LENGTH),
    "half a body": post()[:-20],
    "all but a byte": post()[:-1],
    "a chunked head": head(POST, CHUNKED),
    "half a size": head(POST, CHUNKED) + b"5",
    "a size": head(POST, CHUNKED) + b"5\r\n",
    "half a chunk": head(POST, CHUNKED) + b"5\r\nhel",
    "half an extension": head(POST, CHUNKED) + b"5;a",
    "no last chunk": head(POST, CHUNKED) + b"5\r\nhello\r\n",
    "half a last chunk": head(POST, CHUNKED) + b"5\r\nhello\r\n0\r\n",
    "half a trailer": head(POST, CHUNKED) + b"5\r\nhello\r\n0\r\nX: a",
    "half an upgrade": head(POST, LENGTH, b"Connection: Upgrade", b"Upgrade: h2c") + BODY[:5],
    "half a GET": get()[:-10],
}
BEFORE = ("nothing", "its twin", "its twin in one write")


async def _drip(client: Raw, byte: bytes) -> None:
    while not client.writer.is_closing():
        client.send(byte)
        await asyncio.sleep(0.06)


@pytest.mark.parametrize("before", BEFORE)
async def test_half_a_request(stage: Stage, before: str) -> None:
    """408 in time and closed, for each way to stop in the middle; no backend hears of it."""

    async def one(name: str) -> None:
        data = HALVES[name]
        nonce = stage.nonce()
        async with raw(stage.port) as client:
            if before == "its twin":
                await stage.ask(client)
            if before == "its twin in one write":
                twin = stage.nonce()
                client.send(post(BODY.replace(NONCE, twin)) + data.replace(NONCE, nonce))
                await stage.expect_answer(client, twin)
            else:
                client.send(data.replace(NONCE, nonce))
            try:
                await stage.expect_refusal(client, 408)
            except AssertionError as error:
                error.add_note(name)
                raise
        assert stage.heard_of(nonce) == []

    await asyncio.gather(*(one(name) for name in HALVES))


DRIPS = {
    "a target": (b"GET /", b"a"),
    "a name": (head(POST)[:-2], b"a"),
    "a value": (head(POST)[:-2] + b"X: ", b"a"),
    "a body": (head(POST, b"Content-Length: 5000"), b" "),
    "a size": (head(POST, CHUNKED), b"0"),
    "an extension": (head(POST, CHUNKED) + b"5;", b"a"),
    "chunks": (head(POST, CHUNKED), b"1\r\n \r\n"),
    "trailers": (head(POST, CHUNKED) + b"0\r\n", b"x: a\r\n"),
}


@pytest.mark.parametrize("known", [False, True], ids=["fresh", "known"])
async def test_a_request_that_drips(stage: Stage, known: bool) -> None:
    """A byte now and then is no progress."""

    async def one(name: str) -> None:
        start, byte = DRIPS[name]
        async with raw(stage.port) as client:
            if known:
                await stage.ask(client)
            client.send(start)
            dripping = asyncio.create_task(_drip(client, byte))
            try:
                await stage.expect_refusal(client, 408)
            except AssertionError as error:
                error.add_note(name)
                raise
            finally:
                dripping.cancel()

    await asyncio.gather(*(one(name) for name in DRIPS))


STALLS = {
    "nothing": b"",
    "a letter": b"H",
    "half a head": GOOD[:40],
    "an interim answer": answer_head(status="100 Continue"),
    "half a body": GOOD[:-5],
    "a chunked head": answer_head(JSON, CODED),
    "half a chunk": answer_head(JSON, CODED) + b"5\r\nhel",
    "no last chunk": answer_head(JSON, CODED) + b"5\r\n12345\r\n",
    "half a trailer": answer_head(JSON, CODED) + b"5\r\n12345\r\n0\r\nx: ",
    "a length of 2**63": answer_head(JSON, f"content-length: {2**63}") + b"{",
}


@pytest.mark.parametrize("known", [False, True], ids=["fresh", "known"])
async def test_half_an_answer(stage: Stage, known: bool) -> None:
    """504 in time; the client's connection and the backend serve on."""

    async def one(name: str) -> None:
        async with raw(stage.port) as client:
            if known:
                await stage.ask(client)
            nonce = stage.nonce()
            stage.play(nonce, Play(pieces=(STALLS[name],)))
            client.send(post(BODY.replace(NONCE, nonce)))
            status, _, body = await client.response()
            assert status == 504, (name, body)
            stage.forget_failures()
            await stage.ask(client)

    await asyncio.gather(*(one(name) for name in STALLS))
