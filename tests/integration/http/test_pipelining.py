"""Requests that do not wait for answers: answered in order, within bounds (traps: HTTP parsing)."""

from __future__ import annotations

import json
from functools import partial

import pytest

from nexus.demo.engine import FakeEngine
from nexus.demo.profile import Speed
from nexus.http1.server import ServerConnection
from tests.harness import Raw, Running, chat, eventually, raw, running
from tests.integration.http.wire import CHAT, closed, get, post, request


def numbered(number: int) -> bytes:
    """A request whose answer tells its number."""
    return get(b"/livez", b"X-Request-Id: n-%d" % number)


async def numbers_until_close(client: Raw) -> tuple[list[str], str]:
    """The ids answered until the server ends, and the last answer's ``connection``."""
    seen: list[str] = []
    last = ""
    while not client.reader.at_eof():
        status, headers, _ = await client.response()
        assert status == 200
        seen.append(headers["x-request-id"])
        last = headers.get("connection", "")
        if last == "close":
            break
    await closed(client)
    return seen, last


async def test_in_order(gateway: Running, engine: FakeEngine) -> None:
    """Slow and quick requests in one write are answered in the order of asking."""
    engine.settings = Speed(delay_s=0.02)
    asked = [
        post(json.dumps(chat(text="one")).encode()),
        get(b"/livez"),
        post(json.dumps(chat(stream=True)).encode()),
        get(b"/nowhere"),
        post(b"not json"),
        get(b"/v1/models"),
        post(json.dumps(chat(text="two")).encode()),
    ]
    async with raw(gateway.port) as client:
        client.send(b"".join(asked))
        answers = [await client.response() for _ in asked]
    assert [status for status, _, _ in answers] == [200, 200, 200, 404, 400, 200, 200]
    assert answers[2][1]["content-type"] == "text/event-stream"
    assert answers[2][2].endswith(b"data: [DONE]\n\n")
    assert answers[5][1]["content-type"] == "application/json"
    assert len(engine.calls) == 3
    # One after the other: the second call was sent after the first was answered.
    assert json.loads(engine.calls[0].body)["messages"][0]["content"] == "one"
    assert json.loads(engine.calls[2].body)["messages"][0]["content"] == "two"


async def test_a_thousand_in_one_write(gateway: Running) -> None:
    """They are answered up to the cap, in order, then the connection closes: none is skipped."""
    async with raw(gateway.port) as client:
        client.send(b"".join(numbered(number) for number in range(1000)))
        seen, last = await numbers_until_close(client)
    assert last == "close"
    assert 1 <= len(seen) <= 1000
    assert seen == [f"n-{number}" for number in range(len(seen))]


async def test_many_behind_a_slow_one(gateway: Running, engine: FakeEngine) -> None:
    """What piles up behind a call that takes long is bounded: that call is answered whole, what is
    answered after it is in order, then the connection closes."""
    engine.settings = Speed(delay_s=0.1)
    async with raw(gateway.port) as client:
        client.send(post())
        await eventually(lambda: engine.calls, "the call is at the engine")
        client.send(b"".join(numbered(number) for number in range(20_000)))
        status, headers, _ = await client.response()
        assert status == 200
        if headers.get("connection") == "close":
            await closed(client)
        else:
            seen, _ = await numbers_until_close(client)
            assert seen == [f"n-{number}" for number in range(len(seen))]


async def test_sixty_is_within_the_cap(gateway: Running) -> None:
    """A pipeline of ordinary length is answered whole and the connection stays."""
    async with raw(gateway.port) as client:
        for _ in range(3):
            client.send(b"".join(numbered(number) for number in range(60)))
            for number in range(60):
                status, headers, _ = await client.response()
                assert (status, headers["x-request-id"]) == (200, f"n-{number}")
                assert "connection" not in headers


def has_read(connection: ServerConnection, requests: int) -> bool:
    """Whether the server has these requests: answered, waiting, or given up."""
    return bool(
        connection._serial == requests
        or connection._backlog_bytes
        or connection._ready
        or connection._no_more
    )


async def test_who_asks_on_and_never_reads(gateway: Running, engine: FakeEngine) -> None:
    """Answers that nobody reads are not heaped up: no further request is answered meanwhile."""
    engine.models[:] = [f"model-{number}-{'x' * 200}" for number in range(500)]
    gateway.gateway.checker.suspect("demo")
    await eventually(
        lambda: len(gateway.gateway.store.snapshot.listed) == 500, "500 models are listed"
    )
    server = gateway.gateway.server
    async with raw(gateway.port) as client:
        transport = client.writer.transport
        transport.pause_reading()  # type: ignore[attr-defined]
        await eventually(lambda: server.connections, "the server has the connection")
        [connection] = server.connections
        for sent in range(20, 1020, 20):
            client.send(get(b"/v1/models") * 20)
            await eventually(partial(has_read, connection, sent), "the server has read them")
            assert server.unwritten_bytes < 1_000_000
    await gateway.settled()


async def test_pipelined_answers_reach_a_late_reader(gateway: Running, engine: FakeEngine) -> None:
    """Who reads late gets every answer: those held back meanwhile are given once it reads."""
    engine.models[:] = [f"model-{number}-{'x' * 200}" for number in range(500)]
    gateway.gateway.checker.suspect("demo")
    await eventually(
        lambda: len(gateway.gateway.store.snapshot.listed) == 500, "500 models are listed"
    )
    server = gateway.gateway.server
    async with raw(gateway.port) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(get(b"/v1/models") * 60)
        await eventually(lambda: server.unwritten_bytes > 0, "answers wait to be read")
        client.send(get(b"/livez"))
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(60):
            status, _, body = await client.response()
            assert status == 200
            assert len(json.loads(body)["data"]) == 500
        assert (await client.response())[2] == b'{"status":"alive"}'


@pytest.mark.parametrize("count", [2, 5])
async def test_two_bodies_in_one_write(gateway: Running, engine: FakeEngine, count: int) -> None:
    """Bodies that follow one another in one write each arrive whole."""
    bodies = [json.dumps(chat(text="x" * 1000 * number)).encode() for number in range(count)]
    async with raw(gateway.port) as client:
        client.send(b"".join(post(body) for body in bodies))
        for _ in bodies:
            assert (await client.response())[0] == 200
    assert [call.body for call in engine.calls] == bodies


async def test_the_last_before_close(gateway: Running) -> None:
    """``Connection: close`` in the middle of a pipeline ends it there."""
    last = get(b"/livez", b"Connection: close")
    async with raw(gateway.port) as client:
        client.send(get() + last + get())
        assert (await client.response())[0] == 200
        status, headers, _ = await client.response()
        assert (status, headers["connection"]) == (200, "close")
        await closed(client)


async def test_bodies_held_behind_a_call_are_given_back(engine: FakeEngine) -> None:
    """Bodies that wait in the pipeline count; a client that leaves gives all of them back."""
    engine.settings = Speed(delay_s=30.0)
    async with running(engine) as run:
        async with raw(run.port) as client:
            client.send(post() * 10)
            await eventually(lambda: engine.calls, "the first is at the engine")
            assert run.gateway.budget.used_bytes > 0
        await run.settled()
        assert len(engine.calls) == 1


async def test_half_a_request_behind_a_call(gateway: Running, engine: FakeEngine) -> None:
    """A request that began behind another is read on once that one is answered."""
    whole = post()
    async with raw(gateway.port) as client:
        client.send(whole + whole[:100])
        assert (await client.response())[0] == 200
        client.send(whole[100:])
        assert (await client.response())[0] == 200
    assert len(engine.calls) == 2


async def test_a_head_without_end_behind_a_call(gateway: Running) -> None:
    """A refusal waits for its turn: the answer before it is whole."""
    async with raw(gateway.port) as client:
        client.send(post() + request(b"POST " + CHAT + b" HTTP/1.1", host=False))
        assert (await client.response())[0] == 200
        assert (await client.response())[0] == 400
        await closed(client)
