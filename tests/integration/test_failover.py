from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from email.utils import formatdate
from time import monotonic, time
from typing import Any

import httpx
import pytest

from nexus.core.backend import BackendSpec, EngineKind
from nexus.core.call import Outcome
from nexus.core.limits import TokenBucket
from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.demo.profile import Speed
from tests.harness import Running, chat, eventually, raw, running, spec_of
from tests.integration.scripted import Scripted, Talk, head, plain, playing
from tests.torture.told import CODED

PATH = "/v1/chat/completions"


class Duo:
    """A gateway that prefers ``bad`` and has ``good`` to fall back upon."""

    def __init__(self, gateway: Running, bad: FakeEngine, good: FakeEngine) -> None:
        self.gateway = gateway
        self.bad = bad
        self.good = good

    async def ask(self, *, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        return await self.gateway.client.post(PATH, json=chat(**fields), headers=headers)

    def lost(self, name: str) -> bool:
        return not self.gateway.gateway.store.snapshot.backends[name].routable


@contextlib.asynccontextmanager
async def duo(**settings: Any) -> AsyncIterator[Duo]:
    async with (
        FakeEngine(name="bad", dialect="vllm") as bad,
        FakeEngine(name="good", dialect="vllm") as good,
        running(spec_of(bad, priority=1), spec_of(good, priority=90), **settings) as gateway,
    ):
        yield Duo(gateway, bad, good)


def whole_stream(answer: httpx.Response) -> bool:
    """Whether a streamed answer has text, a finish reason and ``[DONE]``, and no error."""
    text = answer.text
    return (
        answer.status_code == 200
        and text.endswith("data: [DONE]\n\n")
        and '"finish_reason":"stop"' in text
        and '"error"' not in text
    )


# --- the table of faults (architecture § 1) -----------------------------------------------------

ROWS: list[tuple[str, Fault, dict[str, Any], str, int]] = [
    ("refused", Fault.REFUSE, {}, "connect_failed", 0),
    ("closed-on-accept", Fault.CLOSE_ON_ACCEPT, {}, "connect_failed", 0),
    ("closed", Fault.CLOSE_BEFORE_HEAD, {}, "connection_lost", 0),
    ("reset", Fault.RESET_BEFORE_HEAD, {}, "connection_lost", 0),
    ("500", Fault.STATUS, {"status": 500}, "error_status", 500),
    ("503", Fault.STATUS, {"status": 503}, "overloaded", 503),
    ("429", Fault.STATUS, {"status": 429}, "overloaded", 429),
    ("garbage", Fault.GARBAGE, {}, "invalid_response", 0),
    ("not-http", Fault.NOT_HTTP, {}, "invalid_response", 0),
    ("huge-head", Fault.HUGE_HEAD, {}, "invalid_response", 0),
    ("loading", Fault.LOADING, {}, "loading", 503),
    ("200-error-body", Fault.ERROR_BODY_200, {}, "error_event", 500),
    ("head-then-dies", Fault.RESET_AFTER_HEAD, {}, "connection_lost", 0),
    ("error-event-first", Fault.ERROR_EVENT_FIRST, {}, "error_event", 500),
    ("half-an-answer", Fault.CLOSE_AFTER_EVENTS, {"after_events": 0}, "connection_lost", 0),
    ("1xx-flood", Fault.INFORMATIONAL, {}, "invalid_response", 0),
]
"""Name, what the bad backend does, and what the attempt there comes to: outcome and status."""


@pytest.mark.parametrize("at_once", [False, True], ids=["in-turn", "at-once"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("fault", "order", "outcome", "status"), [row[1:] for row in ROWS], ids=[r[0] for r in ROWS]
)
async def test_a_misbehaving_backend_costs_no_call(
    fault: Fault, order: dict[str, Any], outcome: str, status: int, stream: bool, at_once: bool
) -> None:
    """With one of two backends at fault, none of twelve requests fails; it was tried, and did what
    the row says."""
    async with duo() as both:
        both.bad.faults.set(fault, **order)
        if at_once:
            answers = await asyncio.gather(*(both.ask(stream=stream) for _ in range(12)))
        else:
            answers = [await both.ask(stream=stream) for _ in range(12)]
        for answer in answers:
            assert whole_stream(answer) if stream else answer.status_code == 200, answer.text
            assert answer.headers["x-nexus-backend"] == "good"
        assert len(both.good.calls) == 12
        await both.gateway.settled()
        records = both.gateway.records
        assert [record.outcome for record in records] == [Outcome.OK] * 12
        if fault is Fault.ERROR_EVENT_FIRST and not stream:
            outcome = "error_status"  # a plain 500 then
        there = [one for record in records for one in record.attempts if one.backend == "bad"]
        assert (there[0].outcome, there[0].status) == (outcome, status)
        assert {one.outcome for one in there} <= {outcome, "backend_lost"}
        for record in records:
            assert [one.backend for one in record.attempts] in (["bad", "good"], ["good"])


BREAKS_OFF = [
    Fault.RESET_AFTER_EVENTS,
    Fault.CLOSE_AFTER_EVENTS,
    Fault.END_AFTER_EVENTS,
    Fault.TRUNCATED_CHUNK,
    Fault.VANISH_AFTER_EVENTS,
]
"""How an answer can break off in its middle."""


@pytest.mark.parametrize("fault", BREAKS_OFF)
async def test_half_a_plain_answer_costs_no_call(fault: Fault) -> None:
    """A plain answer is held until it is whole: wherever it breaks off, another backend's comes."""
    async with duo() as both:
        both.bad.faults.set(fault)
        for _ in range(12):
            answer = await both.ask()
            assert (answer.status_code, answer.headers["x-nexus-backend"]) == (200, "good")
            assert answer.json()["choices"][0]["finish_reason"] == "stop"
        assert [one.backend for one in both.gateway.records[0].attempts] == ["bad", "good"]


ODD = (
    b'{ "temperature":1.0,"model" : "demo-model","seed":12345678901234567890123,"x-unknown":'
    b'{"b":1E+5,"a":-0.0,"\\u00e9":null},\n"messages":[{"role":"assistant","content":null,'
    b'"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\\"a\\":1.0}"}'
    b'}]},{"role":"user","content":"\\ud83d\\ude00 \\/","name":null}],"stop":"a","top_p":1e-1,'
    b'"stream":%b , "user":null}'
)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_request_that_fails_over_is_the_same_byte_for_byte(stream: bool) -> None:
    """Unknown fields, ``content: null``, number spelling, order, spacing: each backend is sent what
    the client wrote."""
    body = ODD % (b"true" if stream else b"false")
    async with duo() as both:
        both.bad.faults.set(Fault.STATUS, status=500)
        answer = await both.gateway.client.post(PATH, content=body)
        assert (answer.status_code, answer.headers["x-nexus-attempts"]) == (200, "2")
        assert [call.body for call in both.bad.calls] == [body]
        assert [call.body for call in both.good.calls] == [body]


@pytest.mark.parametrize("fault", [*BREAKS_OFF, Fault.ERROR_EVENT_AFTER])
async def test_a_stream_that_dies_in_the_middle_says_so(fault: Fault) -> None:
    """The client gets what came whole, one error event, one ``[DONE]``; the backend is blamed."""
    async with duo() as both:
        both.bad.faults.set(fault, after_events=3)
        answer = await both.ask(stream=True)
        assert answer.status_code == 200
        events = answer.text.split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""]
        assert answer.text.count("[DONE]") == 1
        documents = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
        assert [document for document in documents if "error" in document] == [documents[-1]]
        assert len(documents) >= 3
        await both.gateway.settled()
        record = both.gateway.records[-1]
        assert (record.outcome, record.backend) == (Outcome.UPSTREAM_ERROR, "bad")
        assert both.gateway.gateway.store.live("bad").consecutive_failures == 1
        assert len(both.good.calls) == 0


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_clients_that_leave_harm_nobody(stream: bool) -> None:
    """After a hundred clients left in the middle, the next fifty requests all succeed, and on the
    same backends as before."""
    slow = Speed(tokens_per_s=20, tokens=200)
    async with (
        FakeEngine(name="one", settings=slow, slots=1000) as one,
        FakeEngine(name="two", settings=slow, slots=1000) as two,
        running(one, two) as gateway,
    ):
        body = json.dumps(chat(stream=stream)).encode()
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        engines = (one, two)

        async def leave() -> None:
            async with raw(gateway.port) as client:
                client.send(head.encode() + body)
                if stream:
                    await client.until(b"data: ")
                else:
                    at_work = lambda: sum(engine.in_flight for engine in engines) == 100  # noqa: E731
                    await eventually(at_work, "all are at work")
                    arrived.append(1)
                    await eventually(lambda: len(arrived) == 100, "all have seen it")

        arrived: list[int] = []
        await asyncio.gather(*(leave() for _ in range(100)))
        gone = lambda: sum(engine.cancelled for engine in engines) == 100  # noqa: E731
        await eventually(gone, "a hundred calls cancelled upstream")
        await gateway.settled()
        outcomes = [record.outcome for record in gateway.records]
        assert outcomes == [Outcome.CANCELLED] * 100
        for engine in engines:
            engine.settings = Speed()
        answers = await asyncio.gather(*(gateway.client.post(PATH, json=chat()) for _ in range(50)))
        assert [answer.status_code for answer in answers] == [200] * 50
        assert {answer.headers["x-nexus-attempts"] for answer in answers} == {"1"}
        assert {answer.headers["x-nexus-backend"] for answer in answers} == {"one", "two"}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_well_again_a_backend_is_back_in_use(stream: bool) -> None:
    """Whatever was wrong with it, within 15 s of its end a backend takes calls anew, and meanwhile
    no call fails."""

    async def after(fault: Fault, order: dict[str, Any]) -> None:
        async with duo() as both:
            both.bad.faults.set(fault, **order)
            for _ in range(8):  # enough to open its breaker
                assert (await both.ask(stream=stream)).headers["x-nexus-backend"] == "good"
            assert both.gateway.records[0].attempts[0].backend == "bad"
            both.bad.faults.clear()
            end_s = monotonic() + 15.0
            while (answer := await both.ask(stream=stream)).headers["x-nexus-backend"] != "bad":
                assert answer.status_code == 200
                assert monotonic() < end_s, f"after {fault} it is not back in use"
                await asyncio.sleep(0.05)

    await asyncio.gather(*(after(fault, order) for _, fault, order, _, _ in ROWS))


async def test_a_backend_that_is_back_serves_again() -> None:
    """Within 15 s of its return a lost backend takes calls anew."""
    async with duo() as both:
        both.bad.faults.set(Fault.REFUSE)
        assert (await both.ask()).status_code == 200
        await eventually(lambda: both.lost("bad"), "the lost backend is not routable")
        both.bad.faults.clear()
        await both.gateway.healthy("bad")
        answer = await both.ask()
        assert answer.headers["x-nexus-backend"] == "bad"


# --- attempts (behaviour § 5.2) -----------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 409, 429, 500, 501, 502, 503, 504, 507, 529, 599])
async def test_retried_statuses(status: int) -> None:
    """Each of these is tried elsewhere; the client sees only the second answer."""
    async with duo() as both:
        both.bad.faults.set(Fault.STATUS, status=status)
        answer = await both.ask()
        assert answer.status_code == 200
        assert answer.headers["x-nexus-attempts"] == "2"
        assert answer.headers["x-nexus-route-reason"] == "failover"
        attempts = both.gateway.records[-1].attempts
        assert [(one.backend, one.status) for one in attempts] == [("bad", status), ("good", 200)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 402, 404, 406, 410, 411, 413, 415, 418, 422, 431, 451])
async def test_other_client_errors_are_relayed(status: int, stream: bool) -> None:
    """The client's own mistakes come back as the engine worded them and speak against nobody."""
    body = b'{"error":{"message":"You did that","type":"t","param":null,"code":"c","x":1.0}}'
    async with duo() as both:
        both.bad.faults.set(Fault.STATUS, status=status, body=body)
        answer = await both.ask(stream=stream)
        assert (answer.status_code, answer.content) == (status, body)
        assert answer.headers["x-nexus-backend"] == "bad"
        assert len(both.good.calls) == 0
        live = both.gateway.gateway.store.live("bad")
        assert live.consecutive_failures == 0
        assert both.gateway.records[-1].outcome is Outcome.CLIENT_ERROR


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("status", ["500 Oops", "400 Bad"])
async def test_an_error_without_end_is_cut(status: str, stream: bool) -> None:
    """Its status and beginning say enough: failed over or relayed at once, nobody waits for its
    end, and its connection is not used again."""

    async def endless(talk: Talk) -> None:
        await talk.write(head("content-type: text/html", CODED, status=status))
        while True:  # until the connection is cut
            await talk.write(b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n")

    async with (
        Scripted(endless, name="endless") as upstream,
        FakeEngine(name="good") as good,
        running(upstream.spec(priority=1), spec_of(good, priority=90)) as gateway,
    ):
        answer = await gateway.client.post(PATH, json=chat("demo-model", stream=stream))
        if status.startswith("500"):
            assert (answer.status_code, answer.headers["x-nexus-backend"]) == (200, "good")
        else:
            assert answer.status_code == 400
            assert answer.json()["error"]["message"].startswith("xxx")
            assert not good.calls
        plane = gateway.gateway.plane
        await eventually(lambda: plane.pooled("endless")[0] == 0, "the connection is cut")


async def test_redirects_are_no_answers() -> None:
    """A 3xx means a wrong URL, not an answer: the next backend is tried."""
    async with duo() as both:
        both.bad.faults.set(Fault.STATUS, status=307)
        assert (await both.ask()).headers["x-nexus-backend"] == "good"


ELSEWHERE = [
    (404, "The model `demo-model` does not exist."),
    (400, "model 'demo-model' not found"),
    (400, "demo-model is not a multimodal model"),
    (500, "image input is not supported - hint: you may need to provide the mmproj"),
    (400, "This model's maximum context length is 10 tokens"),
    (400, "the request exceeds the available context size"),
]


@pytest.mark.parametrize(("status", "text"), ELSEWHERE)
async def test_what_another_backend_may_do_is_tried_there(status: int, text: str) -> None:
    """Model not here, cannot, prompt too long: next candidate, no mark against this one."""
    body = json.dumps({"error": {"message": text}}).encode()
    async with duo() as both:
        both.bad.faults.set(Fault.STATUS, status=status, body=body)
        answer = await both.ask()
        assert (answer.status_code, answer.headers["x-nexus-backend"]) == (200, "good")
        live = both.gateway.gateway.store.live("bad")
        assert live.consecutive_failures == 0


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("The model `demo-model` does not exist.", 404, "model_not_found"),
        ("demo-model is not a multimodal model", 400, "unsupported_capability"),
        ("This model's maximum context length is 10", 400, "context_length_exceeded"),
    ],
)
async def test_when_nobody_can_the_client_is_told_what(text: str, status: int, code: str) -> None:
    """All said the same: 404 or 400 with that meaning, never a 502."""
    body = json.dumps({"error": {"message": text}}).encode()
    async with duo() as both:
        for engine in (both.bad, both.good):
            engine.faults.set(Fault.STATUS, status=400, body=body)
        answer = await both.ask()
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_model_not_here_refreshes_the_listing() -> None:
    """The backend that denied the model is asked for its list anew; true lists win."""
    async with duo() as both:
        both.bad.models[:] = ["other"]
        answer = await both.ask()
        assert answer.headers["x-nexus-backend"] == "good"

        def moved() -> bool:
            models = both.gateway.gateway.store.snapshot.backends["bad"].models
            return [model.id for model in models] == ["other"]

        await eventually(moved, "the list of the backend is learned anew")
        assert (await both.ask()).headers["x-nexus-attempts"] == "1"


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_client_credentials_are_the_clients(status: int) -> None:
    """A 401/403 to the client's own key is relayed, not retried."""
    async with duo() as both:
        both.bad.faults.set(Fault.STATUS, status=status)
        answer = await both.ask(headers={"authorization": "Bearer mine"})
        assert (answer.status_code, len(both.good.calls)) == (status, 0)


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_own_credentials_are_tried_elsewhere(status: int) -> None:
    """Without a credential of the client's a 401/403 is a failed attempt, finally a 502."""
    async with duo() as both:
        both.bad.faults.set(Fault.STATUS, status=status)
        assert (await both.ask()).headers["x-nexus-backend"] == "good"
        both.good.faults.set(Fault.STATUS, status=status)
        answer = await both.ask()
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "bad_gateway")


async def test_a_backend_that_refuses_our_key_becomes_unhealthy() -> None:
    """The key was changed there: the call goes elsewhere, the backend is out with that reason."""
    async with duo() as both:
        both.bad.profile.api_key = "changed"
        assert (await both.ask()).headers["x-nexus-backend"] == "good"
        await eventually(lambda: both.lost("bad"), "the backend is out")
        reason = both.gateway.gateway.store.snapshot.backends["bad"].reason
        assert reason.startswith("credentials refused")


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_parks_a_backend(status: int) -> None:
    """A backend that asks for patience gets it: it is not tried again meanwhile."""
    async with duo() as both:
        both.bad.faults.set(Fault.STATUS, status=status, retry_after_s=30)
        for _ in range(3):
            assert (await both.ask()).headers["x-nexus-backend"] == "good"
        assert len(both.bad.calls) == 1


async def test_parking_ends_at_sixty_seconds() -> None:
    """A Retry-After of days counts as a minute."""
    async with duo() as both:
        live = both.gateway.gateway.store.live("bad")
        both.bad.faults.set(Fault.STATUS, status=503, retry_after_s=86400)
        await both.ask()
        assert 50 < live.parked_until_s - monotonic() <= 60.0


async def test_retry_after_may_be_a_date() -> None:
    """An HTTP date parks until then."""
    later = f"retry-after: {formatdate(time() + 20, usegmt=True)}"
    async with (
        Scripted(playing(plain({"error": "busy"}, later, status="503 Busy"))) as upstream,
        running(upstream.spec()) as gateway,
    ):
        answer = await gateway.client.post(PATH, json=chat())
        assert answer.status_code == 503
        assert 15 <= int(answer.headers["retry-after"]) <= 20
        live = gateway.gateway.store.live("scripted")
        assert 15 < live.parked_until_s - monotonic() <= 20


async def test_parking_needs_a_key_of_our_own() -> None:
    """What a client's own key ran into holds for that client alone."""
    async with duo() as both:
        both.bad.faults.set(Fault.STATUS, status=429, retry_after_s=30)
        await both.ask(headers={"authorization": "Bearer mine"})
        both.bad.faults.clear()
        assert (await both.ask()).headers["x-nexus-backend"] == "bad"


async def test_all_parked_is_told_at_once() -> None:
    """Nobody is tried: 429 with the soonest Retry-After."""
    async with duo() as both:
        both.bad.faults.set(Fault.STATUS, status=429, retry_after_s=40)
        both.good.faults.set(Fault.STATUS, status=429, retry_after_s=20)
        first = await both.ask()
        assert (first.status_code, first.headers["retry-after"]) == (429, "20")
        seen = len(both.bad.calls) + len(both.good.calls)
        second = await both.ask()
        assert second.status_code == 429
        assert 1 <= int(second.headers["retry-after"]) <= 20
        assert len(both.bad.calls) + len(both.good.calls) == seen
        assert both.gateway.records[-1].outcome is Outcome.REFUSED


@contextlib.asynccontextmanager
async def five(**settings: Any) -> AsyncIterator[tuple[Running, list[FakeEngine]]]:
    async with contextlib.AsyncExitStack() as stack:
        engines = [
            await stack.enter_async_context(FakeEngine(name=f"e{number}")) for number in range(5)
        ]
        gateway = await stack.enter_async_context(running(*engines, **settings))
        yield gateway, engines


@pytest.mark.parametrize(("retries", "attempts"), [(2, 3), (0, 1), (4, 5)])
async def test_attempts_are_bounded_and_never_meet_a_backend_twice(
    retries: int, attempts: int
) -> None:
    """``max_retries`` further attempts, each on another backend; the message lists each."""
    async with five(routing={"max_retries": retries}) as (gateway, engines):
        for engine in engines:
            engine.faults.set(Fault.STATUS, status=500)
        answer = await gateway.client.post(PATH, json=chat())
        assert answer.status_code == 502
        tried = [engine.name for engine in engines if engine.calls]
        assert len(tried) == attempts
        assert all(len(engine.calls) <= 1 for engine in engines)
        message = answer.json()["error"]["message"]
        assert "failed" in message
        assert all(name in message for name in tried)
        assert answer.headers["x-nexus-attempts"] == str(attempts)


async def test_a_lonely_backend_is_tried_again() -> None:
    """With one candidate the further attempts go to it."""
    async with FakeEngine() as engine, running(engine) as gateway:
        engine.faults.set(Fault.STATUS, status=500, count=2)
        answer = await gateway.client.post(PATH, json=chat())
        assert (answer.status_code, answer.headers["x-nexus-attempts"]) == (200, "3")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stale_connection_is_no_attempt(stream: bool) -> None:
    """A kept connection that the backend had closed is replaced without counting."""
    async with FakeEngine(dialect="vllm") as engine, running(engine) as gateway:
        assert (await gateway.client.post(PATH, json=chat())).status_code == 200
        opened = engine.connections_opened
        engine.faults.set(Fault.CLOSE_BEFORE_HEAD, count=1)
        answer = await gateway.client.post(PATH, json=chat(stream=stream))
        assert (answer.status_code, answer.headers["x-nexus-attempts"]) == (200, "1")
        assert engine.connections_opened == opened + 1
        await gateway.settled()
        assert len(gateway.records[-1].attempts) == 1
        assert gateway.gateway.store.live("demo").consecutive_failures == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_nonsense_ends_its_connection(stream: bool) -> None:
    """What is no answer may be one to another request: the next one goes on a fresh connection."""
    async with FakeEngine(dialect="vllm") as engine, running(engine) as gateway:
        assert (await gateway.client.post(PATH, json=chat(stream=stream))).status_code == 200
        opened = engine.connections_opened
        engine.faults.set(Fault.GARBAGE, count=1)
        answer = await gateway.client.post(PATH, json=chat(stream=stream))
        assert (answer.status_code, answer.headers["x-nexus-attempts"]) == (200, "2")
        assert engine.connections_opened == opened + 1


async def test_a_fresh_connection_that_closes_is_an_attempt() -> None:
    """Only kept connections can be stale."""
    async with duo(server={"pool_idle_per_backend": 0}) as both:
        both.bad.faults.set(Fault.CLOSE_BEFORE_HEAD)
        assert (await both.ask()).headers["x-nexus-attempts"] == "2"


async def test_the_retry_budget_spares_a_failing_fleet() -> None:
    """When it is used up nothing fails over any more, except from refused connections."""
    async with duo() as both:
        plane = both.gateway.gateway.plane
        plane.retry_budget = TokenBucket(1.0, 0.0)
        both.bad.faults.set(Fault.STATUS, status=500)
        assert (await both.ask()).status_code == 200
        assert (await both.ask()).status_code == 502
        both.bad.faults.set(Fault.REFUSE)
        assert (await both.ask()).status_code == 200


async def _waiting_at(both: Duo, count: int) -> list[asyncio.Task[httpx.Response]]:
    """So many calls that wait at the bad backend."""
    calls = [asyncio.create_task(both.ask(stream=bool(one % 2))) for one in range(count)]
    await eventually(lambda: both.bad.in_flight == count, "all calls are there")
    return calls


@pytest.mark.parametrize("budget", [0.0, 5.0])
async def test_who_was_at_a_backend_that_dies_needs_no_retry_budget(budget: float) -> None:
    """However many calls wait at a process that is killed, all are answered elsewhere."""
    async with duo() as both:
        both.gateway.gateway.plane.retry_budget = TokenBucket(budget, 0.0)
        both.bad.faults.set(Fault.STALL)
        calls = await _waiting_at(both, 40)
        both.bad.faults.set(Fault.REFUSE)
        answers = await asyncio.gather(*calls)
        assert [answer.status_code for answer in answers] == [200] * 40


async def test_who_was_at_a_backend_that_hangs_needs_no_retry_budget() -> None:
    """However many calls wait at a process that is stopped, all are answered elsewhere once checks
    tell so."""
    health = {"interval_seconds": 0.1, "timeout_seconds": 0.2}
    async with duo(health=health) as both:
        both.gateway.gateway.plane.retry_budget = TokenBucket(0.0, 0.0)
        both.bad.faults.set(Fault.STALL)
        calls = await _waiting_at(both, 40)
        both.bad.faults.set(Fault.STALL, health=True)
        answers = await asyncio.gather(*calls)
        assert [answer.status_code for answer in answers] == [200] * 40


async def test_the_retry_budget_counts_resets_of_a_tripped_fleet() -> None:
    """Calls that begin when all breakers are open cost: they are what makes a storm."""
    async with duo() as both:
        for engine in (both.bad, both.good):
            engine.faults.set(Fault.RESET_BEFORE_HEAD)
        await both.ask()
        both.gateway.gateway.plane.retry_budget = budget = TokenBucket(50.0, 0.0)
        for _ in range(10):
            assert (await both.ask()).status_code == 502
        assert budget._level < 50.0


async def test_a_poisonous_body_trips_nobody() -> None:
    """A body that makes every engine answer 500 leaves all breakers closed."""
    async with duo() as both:
        for engine in (both.bad, both.good):
            engine.faults.set(Fault.STATUS, status=500)
        for _ in range(5):
            assert (await both.ask()).status_code == 502
        for name in ("bad", "good"):
            live = both.gateway.gateway.store.live(name)
            assert (live.opened_times, live.consecutive_failures) == (0, 0)


@pytest.mark.parametrize("fault", [Fault.STATUS, Fault.ERROR_EVENT_FIRST])
async def test_a_500_that_works_elsewhere_counts(fault: Fault) -> None:
    """When the same calls succeed on another backend, the 500s were this one's own."""
    async with duo() as both:
        both.bad.faults.set(fault)
        for _ in range(3):
            assert whole_stream(await both.ask(stream=True))
        assert both.gateway.gateway.store.live("bad").opened_times == 1


async def test_when_all_are_tripped_the_least_bad_is_tried() -> None:
    """Open breakers never refuse a call by themselves."""
    async with FakeEngine() as engine, running(engine) as gateway:
        engine.faults.set(Fault.RESET_BEFORE_HEAD)
        assert (await gateway.client.post(PATH, json=chat())).status_code == 502
        assert gateway.gateway.store.live("demo").opened_times >= 1
        engine.faults.clear()
        assert (await gateway.client.post(PATH, json=chat())).status_code == 200


# --- all attempts failed (behaviour § 2.2) ------------------------------------------------------

_REFUSE = {"fault": Fault.REFUSE}


def _status(status: int, **more: Any) -> dict[str, Any]:
    return {"fault": Fault.STATUS, "status": status, **more}


@pytest.mark.parametrize(
    ("first", "second", "status", "code"),
    [
        (_status(429), _status(429), 429, "rate_limit_exceeded"),
        (_status(503), _status(503), 503, "service_unavailable"),
        (_status(429), _status(503), 503, "service_unavailable"),
        (_status(500), _status(500), 502, "bad_gateway"),
        (_status(500), _status(429), 502, "bad_gateway"),
        (_REFUSE, _REFUSE, 502, "bad_gateway"),
        (_REFUSE, _status(503), 502, "bad_gateway"),
        ({"fault": Fault.GARBAGE}, {"fault": Fault.GARBAGE}, 502, "bad_gateway"),
    ],
)
async def test_all_attempts_failed(
    first: dict[str, Any], second: dict[str, Any], status: int, code: str
) -> None:
    """What the client is told when every attempt failed."""
    async with duo() as both:
        for engine, order in ((both.bad, dict(first)), (both.good, dict(second))):
            engine.faults.set(order.pop("fault"), **order)
        answer = await both.ask()
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (status, code)
        assert error["message"].startswith(
            "Invalid backend response" if first["fault"] is Fault.GARBAGE else "All 2 attempts"
        )
        assert "bad: " in error["message"]
        assert "good: " in error["message"]
        assert ("x-should-retry" in answer.headers) == (status == 502)
        assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize("status", [408, 409])
async def test_a_final_408_or_409_is_relayed(status: int) -> None:
    """The last candidate's 408 or 409 is the answer, body and all."""
    body = b'{"error":{"message":"later","code":"busy"}}'
    async with duo() as both:
        for engine in (both.bad, both.good):
            engine.faults.set(Fault.STATUS, status=status, body=body)
        answer = await both.ask()
        assert (answer.status_code, answer.content) == (status, body)
        assert answer.headers["x-nexus-backend"] == "good"


async def test_retry_after_is_the_smallest_told() -> None:
    """Of several the client waits for the first, and nobody forbids it to retry."""
    async with duo() as both:
        both.bad.faults.set(Fault.STATUS, status=503, retry_after_s=7)
        both.good.faults.set(Fault.STATUS, status=503, retry_after_s=3)
        answer = await both.ask()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
        assert "x-should-retry" not in answer.headers


async def test_a_pin_knows_no_failover() -> None:
    """``x-nexus-pin`` asks for one backend: its failure is the answer; unknown ones are 404."""
    async with duo() as both:
        answer = await both.ask(headers={"x-nexus-pin": "good"})
        assert answer.headers["x-nexus-backend"] == "good"
        both.good.faults.set(Fault.STATUS, status=500)
        answer = await both.ask(headers={"x-nexus-pin": "good"})
        assert answer.status_code == 502
        assert (len(both.good.calls), len(both.bad.calls)) == (2, 0)
        answer = await both.ask(headers={"x-nexus-pin": "nobody"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "backend_not_found")


async def test_over_its_limit_a_backend_is_no_candidate() -> None:
    """``max_concurrency`` is hard: the next backend takes the call, then 503 with Retry-After."""
    async with (
        FakeEngine(name="one") as engine,
        running(spec_of(engine, max_concurrency=1)) as gateway,
    ):
        engine.faults.set(Fault.STALL, count=1)
        stuck = asyncio.create_task(gateway.client.post(PATH, json=chat()))
        await eventually(lambda: engine.in_flight == 1, "one call is in flight")
        answer = await gateway.client.post(PATH, json=chat())
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        stuck.cancel()
        await eventually(lambda: engine.in_flight == 0, "the stuck call is cancelled")


async def test_a_pipelined_call_finds_its_predecessor_gone() -> None:
    """The next request of a connection begins when every counter of the last has moved back."""
    async with (
        FakeEngine(name="one") as engine,
        running(
            spec_of(engine, max_concurrency=1), server={"max_concurrent_requests": 1}
        ) as gateway,
        raw(gateway.port) as client,
    ):
        body = json.dumps(chat()).encode()
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        client.send((head.encode() + body) * 5)
        assert [(await client.response())[0] for _ in range(5)] == [200] * 5


async def test_failover_heeds_the_limit_too() -> None:
    """A candidate that filled up since the plan was made is passed over."""
    async with (
        FakeEngine(name="bad") as bad,
        FakeEngine(name="full") as full,
        FakeEngine(name="good") as good,
        running(
            spec_of(bad, priority=1),
            spec_of(full, priority=2, max_concurrency=1),
            spec_of(good, priority=90),
            routing={"strategy": "priority_only"},
        ) as gateway,
    ):
        full.faults.set(Fault.STALL)
        bad.faults.set(Fault.STATUS, status=500, delay_s=0.2)
        answers = await asyncio.gather(
            gateway.client.post(PATH, json=chat()),
            gateway.client.post(PATH, json=chat(), headers={"x-nexus-pin": "bad"}),
            _abandoned(gateway, full),
        )
        assert answers[0].headers["x-nexus-backend"] == "good"
        assert len(full.calls) == 1


async def _abandoned(gateway: Running, engine: FakeEngine) -> None:
    """A call that occupies ``engine`` until another one has been answered."""
    call = asyncio.create_task(
        gateway.client.post(PATH, json=chat(), headers={"x-nexus-pin": engine.name})
    )
    await eventually(lambda: len(gateway.records) >= 2, "the others are answered")
    call.cancel()


@pytest.mark.parametrize("stream", [False, True])
async def test_who_joined_meanwhile_is_tried_too(stream: bool) -> None:
    """A call outlives its plan: when all of that failed, a backend that came (back) while the
    attempts took their time is asked before the call fails, or asks the same one again."""
    async with (
        FakeEngine(name="bad") as bad,
        FakeEngine(name="good") as good,
        running(bad) as gateway,
    ):
        bad.faults.set(Fault.STALL)
        call = asyncio.create_task(gateway.client.post(PATH, json=chat(stream=stream)))
        await eventually(lambda: bad.calls, "the call is at its only backend")
        gateway.gateway.add_backend(spec_of(good))
        await gateway.healthy("good")
        bad.faults.set(Fault.REFUSE)
        answer = await call
        assert (answer.status_code, answer.headers["x-nexus-backend"]) == (200, "good")
        assert answer.headers["x-nexus-route-reason"] == "failover"
        assert [one.backend for one in gateway.records[-1].attempts] == ["bad", "good"]


async def test_a_backend_nobody_listens_at() -> None:
    """A port without a listener is a failed attempt of the refused kind."""
    async with FakeEngine(name="gone") as engine:
        spec = BackendSpec(name="gone", url=engine.url, engine=EngineKind.OPENAI)
        async with running(spec) as gateway:
            await engine.stop()
            answer = await gateway.client.post(PATH, json=chat())
            assert answer.status_code == 502
            assert "refused" in answer.json()["error"]["message"]


@pytest.mark.parametrize("others", [1, 2])
async def test_a_form_that_failed_is_not_said_to_be_the_clients_fault(others: int) -> None:
    """Where nobody else takes a form under its model's name, the backend's failure is told."""
    form = {"files": {"file": ("a.wav", b"RIFF")}, "data": {"model": "demo-model"}}
    script = playing(plain({"error": {"message": "out of order"}}, status="500 Oops"))
    async with (
        Scripted(script, name="own") as own,
        Scripted(script, name="other", models=("whisper",)) as other,
        Scripted(script, name="third", models=("whisper",)) as third,
        running(
            own.spec(priority=1),
            *(
                one.spec(priority=90, model_names={"demo-model": "whisper"})
                for one in (other, third)[:others]
            ),
        ) as gateway,
    ):
        answer = await gateway.client.post("/v1/audio/transcriptions", **form)  # type: ignore[arg-type]
        assert answer.status_code == 502
        assert "out of order" in answer.json()["error"]["message"]
        assert not other.talks
        assert not third.talks


@pytest.mark.parametrize("name", ["b\u00fcro 1", "\u8a08\u7b97", "a%41", "plain"])
async def test_the_name_that_an_answer_tells_can_be_pinned(name: str) -> None:
    """Whatever a backend is called, what ``x-nexus-backend`` says of it asks for it."""
    async with (
        FakeEngine(name=name) as one,
        FakeEngine(name="other") as two,
        running(spec_of(one, priority=1), spec_of(two, priority=9)) as gateway,
    ):
        told = (await gateway.client.post(PATH, json=chat())).headers["x-nexus-backend"]
        for pin in (told.encode(), name.encode()):
            headers = {b"x-nexus-pin": pin}
            pinned = await gateway.client.post(PATH, json=chat(), headers=headers)
            assert pinned.headers.get("x-nexus-backend") == told, pinned.text
            plan = await gateway.client.post(
                "/admin/v1/routes/explain", json=chat(), headers=headers
            )
            assert plan.json()["chosen"] == name
