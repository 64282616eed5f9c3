"""Connections that end at every byte: of a request, its head known or not, and of an answer."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from tests.harness import Raw, eventually, raw
from tests.integration.scripted import head as answer_head
from tests.torture.cases import CHUNKED
from tests.torture.recorder import NONCE, Play, answer
from tests.torture.stage import BODY, POST, Stage, chunked, head, post
from tests.torture.test_streams import ASKED, DONE, EVENTS, START
from tests.torture.told import CODED, GOOD, JSON
from tests.torture.told import WHOLE as WHOLE_ANSWER

PIN = b"x-nexus-pin: first"
REQUESTS = {
    "plain": post(),
    "chunked": head(POST, CHUNKED) + chunked(BODY, 30, trailers=b"X-T: 1\r\n"),
    "expecting": head(POST, b"Content-Length: %d" % len(BODY), b"Expect: 100-continue") + BODY,
}
AT_ONCE = 60


async def _together(calls: Sequence[Coroutine[Any, Any, None]]) -> None:
    """So many at once as a machine has descriptors for."""
    for at in range(0, len(calls), AT_ONCE):
        await asyncio.gather(*calls[at : at + AT_ONCE])


def _leave(client: Raw, how: str) -> None:
    if how == "half":
        client.writer.write_eof()
        return
    if how == "rst":
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


@pytest.mark.parametrize("how", ["fin", "rst", "half"])
@pytest.mark.parametrize("known", [False, True], ids=["fresh", "known"])
@pytest.mark.parametrize("name", REQUESTS)
async def test_a_client_leaves_at_every_byte(
    stage: Stage, name: str, known: bool, how: str
) -> None:
    """Nothing that is not whole reaches a backend or gets an answer, and nothing of it stays."""
    data = REQUESTS[name]

    async def one(cut: int) -> None:
        async with raw(stage.port) as client:
            if known:
                await stage.ask(client)
            nonce = stage.nonce()
            client.send(data[:cut].replace(NONCE, nonce))
            await client.writer.drain()
            _leave(client, how)
            if how == "half":
                rest = await client.rest()
                assert rest in (b"", b"HTTP/1.1 100 Continue\r\n\r\n"), cut
            assert stage.heard_of(nonce) == []

    await _together([one(cut) for cut in range(1, len(data))])
    server = stage.run.gateway.server
    await eventually(lambda: len(server.connections) == 1, "only the neighbour is left")
    assert not len(server.head_timer) + len(server.body_timer)


@pytest.mark.parametrize("how", ["fin", "rst", "half"])
async def test_a_client_leaves_with_its_request_whole(stage: Stage, how: str) -> None:
    """Who leaves right behind a whole request cancels it, wherever it stands: no counter, timer or
    held byte stays, and no later call gets its answer."""

    async def one(_: int) -> None:
        async with raw(stage.port) as client:
            nonce = stage.nonce()
            client.send(post(BODY.replace(NONCE, nonce)))
            await client.writer.drain()
            _leave(client, how)
        async with raw(stage.port) as other:
            await stage.ask(other)

    await _together([one(number) for number in range(100)])


ANSWERS = {
    "plain": GOOD,
    "chunked": answer_head(JSON, CODED) + WHOLE_ANSWER,
}


@pytest.mark.parametrize("ends", ["closed", "reset"])
@pytest.mark.parametrize("known", [False, True], ids=["fresh", "known"])
@pytest.mark.parametrize("name", ANSWERS)
async def test_a_backend_leaves_at_every_byte(
    stage: Stage, name: str, known: bool, ends: str
) -> None:
    """Half an answer is none: 502, and the client's next call has its own."""
    data = ANSWERS[name]
    where = data.index(NONCE)
    cuts = [cut for cut in range(len(data)) if not where < cut < where + len(NONCE)]
    if ends == "reset":
        cuts = cuts[::5]  # each waits a little, or the reset would overtake the bytes
    async with raw(stage.port) as client:
        for cut in cuts:
            stage.forget_failures()
            if known:
                await stage.ask(client, PIN)
            nonce = stage.nonce()
            play = Play(pieces=(data[:cut],), ends="closed" if ends == "closed" else "reset")
            stage.play(nonce, play, play)
            client.send(post(BODY.replace(NONCE, nonce), PIN))
            status, _, body = await client.response()
            assert status == 502, (cut, body)
            assert answer(nonce) not in body
        stage.forget_failures()
        await stage.ask(client, PIN)


@pytest.mark.parametrize("ends", ["closed", "reset"])
async def test_a_backend_leaves_at_every_byte_of_a_stream(stage: Stage, ends: str) -> None:
    """502 as long as no event was whole; then whole events only, an error, and the end."""
    data = START + chunked(EVENTS, 40)
    places = [at for at in range(len(data)) if data.startswith(NONCE, at)]
    cuts = [
        cut for cut in range(len(data) - 5) if not any(at < cut < at + len(NONCE) for at in places)
    ]
    outcomes = set()
    async with raw(stage.port) as client:
        for cut in cuts[:: 1 if ends == "closed" else 5]:
            stage.forget_failures()
            nonce = stage.nonce()
            play = Play(pieces=(data[:cut],), ends="closed" if ends == "closed" else "reset")
            stage.play(nonce, play, play)
            client.send(post(ASKED.replace(NONCE, nonce), PIN))
            status, _, body = await client.response()
            outcomes.add(status)
            if status == 200:
                *events, done, last = body.split(b"\n\n")
                assert (done + b"\n\n", last) == (DONE, b"")
                for event in events:
                    said = json.loads(event.removeprefix(b"data: "))
                    assert said.get("id", nonce.decode()) == nonce.decode(), cut
            else:
                assert status == 502, (cut, body)
        stage.forget_failures()
        await stage.ask(client, PIN)
    assert outcomes == {200, 502}
