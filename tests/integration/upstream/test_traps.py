"""What a backend may do to HTTP, and what becomes of it (traps: "responses", "Around the call")."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator

import httpx
import pytest

from nexus.core.call import Outcome
from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from tests.harness import Running, chat, eventually, running, spec_of
from tests.integration.scripted import Scripted, Talk, chunked, head, plain, playing
from tests.integration.test_failover import PATH, duo

BODY = b'{"id":"x","choices":[]}'
SIZE = f"content-length: {len(BODY)}"
JSON = "content-type: application/json"
GOOD = head(JSON, SIZE) + BODY


class Played:
    def __init__(self, upstream: Scripted, gateway: Running) -> None:
        self.upstream = upstream
        self.gateway = gateway

    async def ask(
        self, *pieces: bytes, close: bool = False, reset: bool = False, path: str = PATH
    ) -> httpx.Response:
        """What the client gets when the upstream plays ``pieces``."""
        self.upstream.script = playing(*pieces, close=close, reset=reset)
        answer = await self.gateway.client.post(path, json=chat(input="x"))
        await self.gateway.settled()
        return answer

    async def works(self) -> bool:
        """Whether the next call gets its own, whole answer."""
        answer = await self.ask(GOOD)
        return (answer.status_code, answer.content) == (200, BODY)

    @property
    def pooled(self) -> tuple[int, int, int]:
        """Connections to the backend: open, idle, opened ever."""
        return self.gateway.gateway.plane.pooled("scripted")


@pytest.fixture
async def played() -> AsyncIterator[Played]:
    async with (
        Scripted(playing()) as upstream,
        running(upstream.spec(), routing={"max_retries": 0}) as gateway,
    ):
        yield Played(upstream, gateway)


REFUSED = {
    "length and chunks": head(JSON, SIZE, "transfer-encoding: chunked") + chunked(BODY),
    "two lengths": head(JSON, SIZE, SIZE) + BODY,
    "two lengths that differ": head(JSON, SIZE, "content-length: 5") + BODY,
    "signed length": head(JSON, f"content-length: +{len(BODY)}") + BODY,
    "listed length": head(JSON, f"content-length: {len(BODY)}, {len(BODY)}") + BODY,
    "bare LF": head(JSON, SIZE).replace(b"\r\n", b"\n") + BODY,
    "folded field": head(JSON, SIZE, "x: a\r\n b") + BODY,
    "101 without Upgrade": head(status="101 Switching"),
    "101 with a second answer": head("upgrade: x", "connection: upgrade", status="101 No") + GOOD,
    "101 with Upgrade": head("upgrade: x", "connection: upgrade", status="101 Switching"),
    "bad chunk size": head(JSON, "transfer-encoding: chunked") + b"zz\r\n" + BODY,
    "status 000": GOOD.replace(b"200 OK", b"000 OK"),
    "status 999": GOOD.replace(b"200 OK", b"999 OK"),
    "HTTP/2.0": GOOD.replace(b"HTTP/1.1", b"HTTP/2.0"),
    "HTTP/0.9": GOOD.replace(b"HTTP/1.1", b"HTTP/0.9"),
    "5000 fields": head(JSON, SIZE, *("x-a: b",) * 5000) + BODY,
    "a field of 300 kB": head(JSON, SIZE, "x: " + "a" * 300_000) + BODY,
    "a field of 70 kB": head(JSON, SIZE, "x: " + "a" * 70_000) + BODY,
    "5000 interim answers": head(status="100 Continue") * 5000 + GOOD,
    "coding gzip": head(JSON, "transfer-encoding: gzip") + BODY,
    "coding xchunked": head(JSON, "transfer-encoding: xchunked") + BODY,
    "coding identity": head(JSON, "transfer-encoding: identity") + BODY,
    "chunked twice": head(JSON, "transfer-encoding: chunked", "transfer-encoding: chunked")
    + chunked(BODY),
    "NUL in a value": head(JSON, SIZE, "x: a\0b") + BODY,
    "not HTTP at all": b"SSH-2.0-OpenSSH_9.6\r\n",
    "no content": head(status="204 No Content"),
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-ty",
    "half a body": head(JSON, "content-length: 100") + BODY,
    "half a chunk": head(JSON, "transfer-encoding: chunked") + b"64\r\n" + BODY,
    "a length as a trailer": head(JSON, "transfer-encoding: chunked")
    + chunked(BODY)[:-2]
    + b"content-length: 9\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_answers_are_502(played: Played, name: str) -> None:
    """None of it reaches the client; the connection is not used again; the next call is fine."""
    answer = await played.ask(REFUSED[name], close=True)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "bad_gateway"), name
    await eventually(lambda: played.pooled[:2] == (0, 0), "the connection is gone")
    assert await played.works()


_NEEDS_AN_END = ("half", "not HTTP", "nothing")


@pytest.mark.parametrize("name", [name for name in REFUSED if not name.startswith(_NEEDS_AN_END)])
async def test_refused_answers_are_refused_at_once(played: Played, name: str) -> None:
    """Also when the backend keeps the connection open and waits."""
    answer = await played.ask(REFUSED[name])
    assert answer.status_code == 502, name
    assert await played.works()


ACCEPTED: dict[str, tuple[bytes, bool, bool]] = {
    # answer, whether the backend closes, whether the connection is kept
    "length": (GOOD, False, True),
    "chunks": (head(JSON, "transfer-encoding: chunked") + chunked(BODY[:5], BODY[5:]), False, True),
    "chunks with extensions and trailers": (
        head(JSON, "transfer-encoding: Chunked")
        + b"%x;a=b\r\n%b\r\n0\r\nx-trailer: 1\r\nset-cookie: a\r\n\r\n" % (len(BODY), BODY),
        False,
        True,
    ),
    "5000 trailers": (
        head(JSON, "transfer-encoding: chunked")
        + chunked(BODY)[:-2]
        + b"x-t: 1\r\n" * 5000
        + b"\r\n",
        False,
        True,
    ),
    "until EOF": (head(JSON) + BODY, True, False),
    "until EOF, close": (head(JSON, "connection: close") + BODY, True, False),
    "HTTP/1.0 until EOF": (head(JSON, version="1.0") + BODY, True, False),
    "HTTP/1.0 with a length": (head(JSON, SIZE, version="1.0") + BODY, True, False),
    "HTTP/1.0 kept alive": (
        head(JSON, SIZE, "connection: keep-alive", version="1.0") + BODY,
        False,
        True,
    ),
    "HTTP/1.0 chunked": (
        head(JSON, "transfer-encoding: chunked", version="1.0") + chunked(BODY),
        True,
        False,
    ),
    "length and close": (head(JSON, SIZE, "connection: close") + BODY, False, False),
    "anything after close": (
        head(JSON, SIZE, "connection: close") + BODY + b"garbage after",
        False,
        False,
    ),
    "interim answers": (
        head(status="100 Continue") + head("link: x", status="103 Early Hints") + GOOD,
        False,
        True,
    ),
    "a second answer in the same read": (GOOD + plain(b'{"not":"yours"}'), False, False),
    "half a second answer": (GOOD + b"HTTP/1.1 200 OK\r\nconte", False, False),
    "a stray CRLF": (GOOD + b"\r\n", False, True),
    "bytes that are no answer": (GOOD + b"\x00\x01\x02", False, False),
    "an idle upgrade": (
        head(JSON, SIZE, "connection: upgrade", "upgrade: h2c") + BODY,
        False,
        True,
    ),
    "100 fields": (head(JSON, SIZE, *("x-a: b",) * 100) + BODY, False, True),
}


_CUTS = [(name, False) for name in ACCEPTED]
_CUTS += [(name, True) for name, (answer, _, _) in ACCEPTED.items() if len(answer) < 3000]


@pytest.mark.parametrize(("name", "one_by_one"), _CUTS)
async def test_accepted_answers_arrive(played: Played, name: str, one_by_one: bool) -> None:
    """The client gets the body, a kept connection is kept, any other never serves again."""
    answer, close, kept = ACCEPTED[name]
    pieces = [answer[at : at + 1] for at in range(len(answer))] if one_by_one else [answer]
    got = await played.ask(*pieces, close=close)
    assert (got.status_code, got.content) == (200, BODY)
    assert "not" not in got.text
    assert played.gateway.records[-1].outcome is Outcome.OK
    if name == "a stray CRLF" or (one_by_one and not kept):
        pass  # whether the connection survives depends on the moment the rest comes in
    elif kept:
        assert played.pooled == (1, 1, 1)
    else:
        await eventually(lambda: played.pooled[:2] == (0, 0), "the connection is gone")
    assert await played.works()


async def test_no_body_with_a_length_is_not_trusted(played: Played) -> None:
    """204 and 304 have no body whatever their fields claim: the connection ends with them."""
    for status in ("204 No Content", "304 Not Modified"):
        for fields in (("content-length: 5",), ("transfer-encoding: chunked",)):
            answer = await played.ask(head(JSON, *fields, status=status))
            assert answer.status_code == 502
            await eventually(lambda: played.pooled[:2] == (0, 0), "the connection is gone")
    assert await played.works()


async def test_an_audio_answer_without_content_is_an_error(played: Played) -> None:
    """A 204 where bytes were asked for never leaves as a 204 with chunks."""
    answer = await played.ask(head(status="204 No Content"), path="/v1/audio/speech")
    assert answer.status_code == 502
    assert await played.works()


async def test_bytes_on_an_idle_connection_discard_it(played: Played) -> None:
    """What nobody asked for never becomes the next call's answer."""
    assert await played.works()
    assert played.pooled == (1, 1, 1)
    talk = played.upstream.talks[-1]
    await talk.write(plain(b'{"not":"yours"}'))
    await eventually(lambda: played.pooled[0] == 0, "the connection is discarded")
    assert await played.works()


async def test_unasked_bytes_in_the_moment_of_reuse(played: Played) -> None:
    """Even when they come right behind the answer, in a read of their own."""
    for _ in range(20):
        await played.ask(GOOD, plain(b'{"not":"yours"}'))
        answer = await played.ask(GOOD)
        assert answer.content == BODY


async def test_a_connection_that_closes_while_idle_is_replaced(played: Played) -> None:
    """FIN on an idle connection takes it out of the pool."""
    assert await played.works()
    played.upstream.talks[-1].close()
    await eventually(lambda: played.pooled[0] == 0, "the connection is gone")
    assert await played.works()
    assert played.pooled[2] == 2


async def test_connections_are_reused(played: Played) -> None:
    """A hundred calls in a row need one connection."""
    for _ in range(100):
        assert await played.works()
    assert played.pooled == (1, 1, 1)


async def test_keep_alive_timeouts_are_heeded(played: Played) -> None:
    """A backend that says when it closes is not asked on that connection until then."""
    await played.ask(head(JSON, SIZE, "keep-alive: timeout=1") + BODY)
    assert played.pooled[1] == 1
    await eventually(lambda: played.pooled[0] == 0, "closed before the backend would")


async def test_a_whole_answer_followed_by_a_reset_is_a_success(played: Played) -> None:
    """Plain and framed: what is whole is whole."""
    for answer in (GOOD, head(JSON, "transfer-encoding: chunked") + chunked(BODY)):
        got = await played.ask(answer, reset=True)
        assert (got.status_code, got.content) == (200, BODY)
        assert played.gateway.records[-1].outcome is Outcome.OK
    assert played.gateway.gateway.store.live("scripted").consecutive_failures == 0


BIG = 11 * 1024 * 1024


@pytest.mark.parametrize("status", [401, 413, 400])
@pytest.mark.parametrize("ending", ["close", "keep"])
async def test_an_early_answer_arrives(status: int, ending: str) -> None:
    """An engine that answers while 11 MB of body are still under way is heard."""
    error = b'{"error":{"message":"enough"}}'

    async def early(talk: Talk) -> None:
        await talk.write(plain(error, "connection: close", status=f"{status} No"))
        if ending == "keep":
            await asyncio.wait_for(talk.gone.wait(), 20)

    async with (
        Scripted(early, early=True) as upstream,
        running(upstream.spec(), server={"max_body_bytes": 2 * BIG}) as gateway,
    ):
        for _ in range(5):
            answer = await gateway.client.post(
                PATH, json=chat(text="x" * BIG), headers={"authorization": "Bearer mine"}
            )
            assert (answer.status_code, answer.content) == (status, error)
        await gateway.settled()


async def test_our_own_shortage_is_nobodys_fault() -> None:
    """Out of descriptors: 503, and no mark against any backend."""
    async with duo() as both:
        assert (await both.ask(headers={"x-nexus-pin": "good"})).status_code == 200
        plane = both.gateway.gateway.plane
        plane.drop_connections()
        await eventually(lambda: plane.pooled("good")[0] == 0, "no upstream connection is left")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            answer = await both.ask()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert answer.status_code == 503
        assert "EMFILE" in answer.json()["error"]["message"]
        for name in ("bad", "good"):
            live = both.gateway.gateway.store.live(name)
            assert (live.consecutive_failures, live.opened_times) == (0, 0)
        assert (await both.ask()).status_code == 200


async def test_surplus_answers_of_an_engine_harm_no_neighbour() -> None:
    """Calls at the same time, one engine that always says too much: everybody gets their own."""
    async with FakeEngine() as engine, running(engine) as gateway:
        engine.faults.set(Fault.SURPLUS_BYTES)
        answers = await asyncio.gather(
            *(gateway.client.post(PATH, json=chat(text=f"n{number}")) for number in range(30))
        )
        assert all(answer.json()["object"] == "chat.completion" for answer in answers)


async def test_a_fault_of_our_own_is_one_calls_500(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception inside the handling of an answer: 500 with the request id, the rest unharmed."""

    def broken(*_: object) -> None:
        raise RuntimeError("a fault of our own")

    async with FakeEngine() as engine, running(spec_of(engine)) as gateway:
        with monkeypatch.context() as patch:
            patch.setattr("nexus.proxy.relay.read_answer", broken)
            answer = await gateway.client.post(PATH, json=chat())
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (500, "internal_error")
        assert answer.headers["x-request-id"] in error["message"]
        assert (await gateway.client.post(PATH, json=chat())).status_code == 200
