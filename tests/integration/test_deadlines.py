from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from nexus.core.call import Outcome
from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.demo.profile import Speed
from tests.harness import Running, chat, eventually, raw, running, spec_of
from tests.integration.scripted import Scripted, Talk, chunked, head, playing
from tests.integration.test_failover import PATH, duo, whole_stream

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
STREAM_HEAD = head("content-type: text/event-stream", "transfer-encoding: chunked")


def request(**fields: Any) -> bytes:
    body = json.dumps(chat(**fields)).encode()
    return f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", [Fault.STALL, Fault.STALL_AFTER_HEAD])
async def test_the_deadline_of_a_call_is_504(fault: Fault, stream: bool) -> None:
    """Past ``request_timeout_seconds`` the answer is 504, upstream is cancelled, no other tried."""
    async with duo(server={"request_timeout_seconds": 0.2}) as both:
        both.bad.faults.set(fault)
        answer = await both.ask(stream=stream)
        assert answer.status_code == 504
        error = answer.json()["error"]
        assert (error["code"], error["message"]) == ("gateway_timeout", "Backend request timed out")
        assert answer.headers["x-should-retry"] == "false"
        await eventually(lambda: both.bad.in_flight == 0, "upstream is cancelled")
        assert len(both.good.calls) == 0
        assert both.gateway.records[-1].outcome is Outcome.TIMEOUT


async def test_attempts_share_one_deadline() -> None:
    """A second attempt does not start the clock anew."""
    async with duo(server={"request_timeout_seconds": 0.5}) as both:
        both.bad.faults.set(Fault.STATUS, status=500, delay_s=0.3)
        both.good.faults.set(Fault.STALL)
        answer = await both.ask()
        assert answer.status_code == 504
        assert both.gateway.records[-1].duration_ms < 780


async def test_a_backend_may_have_a_deadline_of_its_own() -> None:
    """The per-backend timeout stands above the server's."""
    async with FakeEngine() as engine:
        spec = spec_of(engine, request_timeout_s=0.1)
        async with running(spec, server={"request_timeout_seconds": 60}) as gateway:
            engine.faults.set(Fault.STALL)
            assert (await gateway.client.post(PATH, json=chat())).status_code == 504


async def test_a_long_healthy_stream_is_never_cut() -> None:
    """The deadline bounds a stream's first event only."""
    slow = Speed(tokens_per_s=50, tokens=40)
    async with (
        FakeEngine(settings=slow) as engine,
        running(engine, server={"request_timeout_seconds": 0.3}) as gateway,
    ):
        answer = await gateway.client.post(PATH, json=chat(stream=True))
        assert whole_stream(answer)
        assert gateway.records[-1].duration_ms > 500


@pytest.mark.parametrize("stream", [False, True])
async def test_the_first_byte_deadline_moves_a_call(stream: bool) -> None:
    """A backend that does not begin in time is left for the next one."""
    async with duo(server={"first_byte_timeout_seconds": 0.15}) as both:
        both.bad.faults.set(Fault.STALL)
        answer = await both.ask(stream=stream)
        assert (answer.status_code, answer.headers["x-nexus-backend"]) == (200, "good")
        assert both.gateway.records[-1].attempts[0].outcome == "timeout"


@pytest.mark.parametrize("fault", [Fault.STALL_AFTER_HEAD, Fault.KEEPALIVE_COMMENTS])
async def test_a_head_or_a_comment_is_no_first_byte(fault: Fault) -> None:
    """The first byte of a stream is its first data event."""
    async with duo(server={"first_byte_timeout_seconds": 0.15}) as both:
        both.bad.faults.set(fault, delay_s=5.0)
        answer = await both.ask(stream=True)
        assert answer.headers["x-nexus-backend"] == "good"
        assert whole_stream(answer)


async def test_all_too_slow_is_504() -> None:
    """When every attempt ran out of its first byte deadline the client is told of a timeout."""
    async with duo(server={"first_byte_timeout_seconds": 0.1}) as both:
        both.bad.faults.set(Fault.STALL)
        both.good.faults.set(Fault.STALL)
        assert (await both.ask()).status_code == 504


async def test_a_stream_that_falls_silent_is_broken() -> None:
    """After ``stream_idle_timeout_seconds`` without a byte: error event, ``[DONE]``."""
    async with duo(server={"stream_idle_timeout_seconds": 0.2}) as both:
        both.bad.faults.set(Fault.STALL_AFTER_EVENTS, after_events=3)
        answer = await both.ask(stream=True)
        assert answer.status_code == 200
        assert "silent for 0.2 s" in answer.text
        assert answer.text.endswith("data: [DONE]\n\n")
        await both.gateway.settled()
        assert both.gateway.records[-1].outcome is Outcome.TIMEOUT
        await eventually(lambda: both.bad.in_flight == 0, "upstream is cancelled")


async def test_any_byte_restarts_the_idle_clock() -> None:
    """Comments keep a stream alive longer than its idle timeout, and pass."""

    async def comments(talk: Talk) -> None:
        await talk.write(STREAM_HEAD + b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
        for _ in range(16):
            await asyncio.sleep(0.1)
            await talk.write(b"8\r\n: ping\n\n\r\n")
        await talk.write(chunked(LAST))

    async with (
        Scripted(comments) as upstream,
        running(upstream.spec(), server={"stream_idle_timeout_seconds": 1.0}) as gateway,
    ):
        answer = await gateway.client.post(PATH, json=chat(stream=True))
        assert answer.content == EVENT + b": ping\n\n" * 16 + LAST


async def test_a_stream_of_bytes_that_falls_silent_is_cut() -> None:
    """A stream without events of its own has the idle clock too: the connection is cut."""

    async def half(talk: Talk) -> None:
        await talk.write(head("content-type: audio/mpeg", "transfer-encoding: chunked"))
        await talk.write(b"3\r\nabc\r\n")
        await asyncio.sleep(10)

    limits = {"stream_idle_timeout_seconds": 0.2, "request_timeout_seconds": 0.1}
    async with (
        Scripted(half, early=True) as upstream,
        running(upstream.spec(), server=limits) as gateway,
        raw(gateway.port) as client,
    ):
        body = b'{"model":"demo-model","input":"a","stream":true}'
        lines = f"POST /v1/audio/speech HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        client.send(lines.encode() + body)
        got = await client.rest()
        assert b"abc" in got
        assert not got.endswith(b"0\r\n\r\n")
        await gateway.settled()
        assert gateway.records[-1].outcome is Outcome.TIMEOUT


# --- the early head -----------------------------------------------------------------------------

EARLY = {"stream_keepalive_seconds": 0.05}


async def test_after_an_early_head_failover_still_works() -> None:
    """Until the first data event the next backend may take over, unseen."""
    async with duo(server=EARLY) as both:
        both.bad.faults.set(Fault.STATUS, status=500, delay_s=0.2)
        answer = await both.ask(stream=True)
        assert answer.text.startswith(": keep-alive\n\n")
        assert "x-nexus-backend" not in answer.headers
        assert whole_stream(answer)
        assert both.gateway.records[-1].backend == "good"


async def test_after_an_early_head_a_failure_is_an_event() -> None:
    """The status of a final failure is told within the stream, then ``[DONE]``."""
    async with duo(server=EARLY) as both:
        both.bad.faults.set(Fault.STATUS, status=500, delay_s=0.2)
        both.good.faults.set(Fault.STATUS, status=500)
        answer = await both.ask(stream=True)
        assert answer.status_code == 200
        error, done, rest = answer.text.replace(": keep-alive\n\n", "").split("\n\n")
        assert json.loads(error.removeprefix("data: "))["error"]["code"] == "bad_gateway"
        assert (done, rest) == ("data: [DONE]", "")
        record = both.gateway.records[-1]
        assert (record.outcome, record.status) == (Outcome.UPSTREAM_ERROR, 502)


async def test_after_an_early_head_a_relayed_error_is_an_event() -> None:
    """The engine's own 4xx, too: one error event with its words, then ``[DONE]``."""
    async with duo(server=EARLY) as both:
        both.bad.faults.set(
            Fault.STATUS, status=422, delay_s=0.2, body=b'{"error":{\n"message":"so not"}}'
        )
        answer = await both.ask(stream=True)
        error, done, rest = answer.text.replace(": keep-alive\n\n", "").split("\n\n")
        assert json.loads(error.removeprefix("data: "))["error"]["message"] == "so not"
        assert (done, rest) == ("data: [DONE]", "")


async def test_after_an_early_head_a_deadline_is_an_event() -> None:
    """A stream that never begins ends with the timeout's event."""
    async with duo(server={**EARLY, "request_timeout_seconds": 0.3}) as both:
        both.bad.faults.set(Fault.STALL)
        answer = await both.ask(stream=True)
        assert '"code":"gateway_timeout"' in answer.text
        assert answer.text.endswith("\n\ndata: [DONE]\n\n")


async def test_the_early_head_of_responses_ends_in_their_shape() -> None:
    """``/v1/responses`` has its own error event and no ``[DONE]``."""
    async with duo(server=EARLY) as both:
        for status in (500, 422):
            both.bad.faults.set(Fault.STATUS, status=status, delay_s=0.2)
            both.good.faults.set(Fault.STATUS, status=status)
            body = {"model": "demo-model", "input": "a", "stream": True}
            answer = await both.gateway.client.post("/v1/responses", json=body)
            event = answer.text.replace(": keep-alive\n\n", "")
            assert event.startswith("event: error\ndata: {")
            assert event.count("\n\n") == 1
            document = json.loads(event.split("data: ")[1])
            assert document["type"] == "error"
            assert document["error"]["message"]


async def test_plain_answers_get_no_early_head() -> None:
    """Only streams are kept alive by comments."""
    async with duo(server=EARLY) as both:
        both.bad.faults.set(Fault.STATUS, status=500, delay_s=0.2)
        answer = await both.ask()
        assert answer.json()["object"] == "chat.completion"


async def test_comments_stop_at_the_first_event() -> None:
    """Once the engine speaks nothing of ours is put in between."""
    slow = Speed(tokens_per_s=10, tokens=4)
    async with FakeEngine(settings=slow) as engine, running(engine, server=EARLY) as gateway:
        answer = await gateway.client.post(PATH, json=chat(stream=True))
        first = answer.text.index("data: ")
        assert "keep-alive" not in answer.text[first:]
        assert whole_stream(answer)


async def test_an_http10_client_gets_an_early_head_without_chunks() -> None:
    """HTTP/1.0 knows no chunked coding: the stream ends with the connection."""
    async with FakeEngine() as engine, running(engine, server=EARLY) as gateway:
        engine.faults.set(Fault.STALL, delay_s=0.15, count=1)
        async with raw(gateway.port) as client:
            client.send(request(stream=True).replace(b"HTTP/1.1", b"HTTP/1.0"))
            headers, _, body = (await client.rest()).partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in headers
        assert b"connection: close" in headers
        assert body.startswith(b": keep-alive\n\n")
        assert body.endswith(b"data: [DONE]\n\n")


# --- silence ------------------------------------------------------------------------------------

PROBING = {"timeout_seconds": 0.15, "failure_threshold": 1}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", ["500 Oops", "400 Bad"])
async def test_nobody_waits_for_the_rest_of_an_error(status: str, stream: bool) -> None:
    """A status, half a body, then silence: failed over or relayed long before the deadline."""
    fields = ("content-type: application/json", "content-length: 100")
    script = playing(head(*fields, status=status) + b'{"error":')
    async with (
        Scripted(script, name="half") as half,
        FakeEngine(name="good") as good,
        running(half.spec(priority=1), spec_of(good, priority=90)) as gateway,
    ):
        silence_after(0.1, gateway)
        answer = await gateway.client.post(PATH, json=chat(stream=stream))
        if status.startswith("500"):
            assert (answer.status_code, answer.headers["x-nexus-backend"]) == (200, "good")
        else:
            assert answer.status_code == 400
            assert answer.json()["error"]["message"]
        await eventually(
            lambda: gateway.gateway.plane.pooled("half")[0] == 0, "the connection is cut"
        )


def silence_after(silence_s: float, run: Running) -> None:
    """Has the gateway, not yet asked anything, probe after so much silence instead of 15 s."""
    plane = run.gateway.plane
    plane.limits = msgspec.structs.replace(plane.limits, silence_s=silence_s)


@pytest.mark.parametrize("stream", [False, True])
async def test_silence_has_the_backend_probed_and_left(stream: bool) -> None:
    """A stopped process holds nobody: its silence is noticed, its calls go elsewhere."""
    async with duo(health=PROBING) as both:
        silence_after(0.1, both.gateway)
        both.bad.faults.set(Fault.STALL, health=True)
        answer = await both.ask(stream=stream)
        assert (answer.status_code, answer.headers["x-nexus-backend"]) == (200, "good")
        assert both.gateway.records[-1].attempts[0].outcome == "backend_lost"
        assert both.lost("bad")


async def test_a_slow_but_living_backend_is_kept() -> None:
    """A probe that is answered leaves the silent call where it is."""
    async with duo(health=PROBING) as both:
        silence_after(0.05, both.gateway)
        before = both.bad.requests_seen
        both.bad.faults.set(Fault.STALL, delay_s=0.6)
        answer = await both.ask()
        assert (answer.status_code, answer.headers["x-nexus-backend"]) == (200, "bad")
        assert both.bad.requests_seen > before + 1


async def test_a_lost_backend_moves_many_calls_at_once() -> None:
    """All its uncommitted calls move when it turns unhealthy; the committed stay."""
    async with duo(health=PROBING) as both:
        silence_after(0.1, both.gateway)
        both.bad.faults.set(Fault.STALL, health=True)
        answers = await asyncio.gather(*(both.ask() for _ in range(20)))
        assert {answer.headers["x-nexus-backend"] for answer in answers} == {"good"}


async def test_a_plain_answer_on_its_way_has_met_the_first_byte() -> None:
    """A body that takes longer than ``first_byte_timeout_seconds`` is no failure once it began."""
    body = json.dumps({"choices": [{"message": {"content": "a"}}]}).encode()

    async def slowly(talk: Talk) -> None:
        await talk.write(head("content-type: application/json", f"content-length: {len(body)}"))
        await talk.write(body[:5])
        await asyncio.sleep(0.4)
        await talk.write(body[5:])

    async with (
        Scripted(slowly) as backend,
        running(backend.spec(), server={"first_byte_timeout_seconds": 0.2}) as gateway,
    ):
        answer = await gateway.client.post(PATH, json=chat())
        assert (answer.status_code, len(backend.talks)) == (200, 1)


async def test_a_fault_of_ours_at_a_deadline_ends_its_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A timer's callback that raises answers 500: without a timer the call would hang."""

    def fault(_: object) -> None:
        raise RuntimeError("a fault of ours")

    async with duo(server={"request_timeout_seconds": 0.2}) as both:
        monkeypatch.setattr("nexus.proxy.exchange.Exchange._on_deadline", fault)
        both.bad.faults.set(Fault.STALL)
        answer = await both.ask()
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "internal_error"
