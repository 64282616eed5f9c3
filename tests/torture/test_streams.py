"""Streamed answers that are framed oddly, too long, too short or hostile: what reached the client
is whole events, and where the stream broke it says so."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.harness import Raw, eventually, raw
from tests.integration.scripted import head
from tests.torture.recorder import NONCE, Play
from tests.torture.stage import BODY, SMUGGLED, Stage, chunked, post
from tests.torture.told import CODED, SECOND

ASKED = BODY[:-1] + b',"stream":true}'
SSE = "content-type: text/event-stream"
FIRST = b'data: {"id":"' + NONCE + b'","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
LAST = (
    b'data: {"id":"' + NONCE + b'","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
)
DONE = b"data: [DONE]\n\n"
EVENTS = FIRST + LAST + DONE
LENGTH = f"content-length: {len(EVENTS)}"
START = head(SSE, CODED)
CHUNK = b"%x\r\n%b\r\n" % (len(FIRST), FIRST)
"""The first event, the stream open."""
REST = chunked(LAST + DONE)
PIN = b"x-nexus-pin: first"


class Stream(msgspec.Struct, frozen=True):
    """What is played, and whether the client gets it whole. ``None``: an error instead, since what
    is wrong shows before anything was sent: another backend could still answer."""

    data: bytes
    whole: bool | None
    kept: bool = False
    ends: str = "kept"


STREAMS = {
    "chunks": Stream(START + chunked(EVENTS), True, kept=True),
    "one byte a chunk": Stream(
        START + chunked(FIRST, 1)[:-5] + chunked(LAST + DONE, 1), True, kept=True
    ),
    "a length": Stream(head(SSE, LENGTH) + EVENTS, True, kept=True),
    "until the end": Stream(head(SSE) + EVENTS, True, ends="closed"),
    "until the end of HTTP/1.0": Stream(head(SSE, version="1.0") + EVENTS, True, ends="closed"),
    "extensions and trailers": Stream(
        START + chunked(EVENTS, extension=b";smuggled=1", trailers=b"x: smuggled\r\n"),
        True,
        kept=True,
    ),
    "interim answers before": Stream(
        head(status="103 Early Hints") * 3 + START + chunked(EVENTS), True, kept=True
    ),
    "a second answer behind": Stream(START + chunked(EVENTS) + SECOND, True),
    "garbage behind": Stream(START + chunked(EVENTS) + b"smuggled", True),
    "more than its length": Stream(head(SSE, LENGTH) + EVENTS + b"data: smuggled\n\n", True),
    "a reset behind": Stream(START + chunked(EVENTS), True, ends="reset"),
    "both framings": Stream(head(SSE, CODED, LENGTH) + chunked(EVENTS), None),
    "two lengths": Stream(head(SSE, LENGTH, LENGTH) + EVENTS, None),
    "gzip": Stream(head(SSE, "transfer-encoding: gzip, chunked") + chunked(EVENTS), None),
    "a second answer before": Stream(head(SSE, "content-length: 0") + SECOND, None),
    "no event": Stream(START + b"0\r\n\r\n", None),
    "a bad first size": Stream(START + b"zz\r\n" + EVENTS, None),
    "a bad size": Stream(START + CHUNK + b"zz\r\n" + EVENTS, False),
    "a size with LF": Stream(START + CHUNK + b"%x\n%b\r\n0\r\n\r\n" % (len(LAST), LAST), False),
    "a chunk too long": Stream(START + CHUNK + b"5\r\n" + LAST + b"\r\n0\r\n\r\n", False),
    "a second answer within": Stream(START + CHUNK + SECOND, False),
    "the last chunk too early": Stream(START + CHUNK + b"0\r\n\r\n", False, kept=True),
    "the last chunk too early, and more": Stream(START + CHUNK + b"0\r\n\r\n" + REST, False),
    "cut between chunks": Stream(START + CHUNK, False, ends="closed"),
    "cut in a chunk": Stream(START + CHUNK + REST[:30], False, ends="closed"),
    "reset between chunks": Stream(START + CHUNK, False, ends="reset"),
    "a length too long": Stream(
        head(SSE, f"content-length: {len(EVENTS)}") + FIRST, False, ends="closed"
    ),
    "a length too short": Stream(
        head(SSE, f"content-length: {len(FIRST)}") + FIRST + b"data: smuggled\n\n", False
    ),
    "a trailer without end": Stream(
        START + CHUNK + b"0\r\nx: " + b"a" * 1_000_000, False
    ),
    "an extension without end": Stream(START + CHUNK + b"5;" + b"a" * 1_000_000, False),
    "a coding as a trailer": Stream(
        START + chunked(EVENTS, trailers=b"transfer-encoding: x\r\n"), True
    ),
}  # fmt: skip
MODES = ("alone", "behind a good one", "byte by byte")


def _pieces(data: bytes) -> tuple[bytes, ...]:
    """Byte by byte, nonces whole: they are put in piece by piece."""
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        size = len(NONCE) if data.startswith(NONCE, at) else 1
        pieces.append(data[at : at + size])
        at += size
    return tuple(pieces)


async def _good(stage: Stage, client: Raw) -> None:
    nonce = stage.nonce()
    stage.play(nonce, Play(pieces=(START + chunked(EVENTS),)))
    client.send(post(ASKED.replace(NONCE, nonce), PIN))
    status, _, body = await client.response()
    assert (status, body) == (200, EVENTS.replace(NONCE, nonce))


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_has_one_outcome(stage: Stage, name: str) -> None:
    """Whole as it was, or its whole events, an error event and ``[DONE]``, or 502; the next stream
    on the client's connection, at the same backend, is its own."""
    case = STREAMS[name]
    plane = stage.run.gateway.plane
    for mode in MODES:
        if mode == "byte by byte" and len(case.data) > 1500:
            continue
        stage.forget_failures()
        plane.drop_connections()
        await eventually(lambda: plane.pooled("first")[0] == 0, "no connection is left")
        try:
            async with raw(stage.port) as client:
                if mode == "behind a good one":
                    await _good(stage, client)
                nonce = stage.nonce()
                pieces = _pieces(case.data) if mode == "byte by byte" else (case.data,)
                ends = case.ends
                play = msgspec.convert({"pieces": pieces, "ends": ends}, Play)
                stage.play(nonce, play, play)
                client.send(post(ASKED.replace(NONCE, nonce), PIN))
                status, headers, body = await client.response()
                assert SMUGGLED not in body
                assert SMUGGLED not in repr(headers).encode()
                if case.whole is None:
                    assert status == 502, body
                elif not case.whole and mode != "byte by byte" and status == 502:
                    # Start and fault came in one read: nothing was sent, another could answer.
                    assert nonce not in body
                elif case.whole:
                    assert (status, body) == (200, EVENTS.replace(NONCE, nonce))
                else:
                    first = FIRST.replace(NONCE, nonce)
                    assert status == 200
                    assert body.startswith(first + b'data: {"error":'), body
                    assert body.endswith(b"}\n\n" + DONE)
                    assert body.count(b"\n\n") == 3
                await stage.run.settled()
                if case.kept:
                    assert plane.pooled("first")[:2] == (1, 1)
                else:
                    await eventually(
                        lambda: plane.pooled("first")[:2] == (0, 0), "the connection is gone"
                    )
                stage.forget_failures()
                await _good(stage, client)
                await stage.ask(client)
        except (AssertionError, TimeoutError, asyncio.IncompleteReadError) as error:
            error.add_note(mode)
            raise
