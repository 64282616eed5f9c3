"""The figures are true: after a run whose every outcome is known, each counter is what the script
counted, to the last call, attempt and token; nothing is counted twice and nothing besides."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nexus.config.schema import ModelOverride
from nexus.core.live import BackendLive, BreakerState
from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.routing.router import Router
from tests.harness import Raw, Running, chat, eventually, raw, running, spec_of
from tests.integration.scripted import Scripted, Talk, head

CHAT = "/v1/chat/completions"
MODEL = "demo-model"
EVENT = (
    b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":'
    b'{"content":"hi"},"finish_reason":null}]}\n\n'
)
LAST = (
    b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},'
    b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)

Figures = Counter[tuple[str, tuple[tuple[str, str], ...]]]

# These depend on how connections happen to be reused and on the clock, not on the script.
NOT_COUNTED = ("nexus_upstream_connect_seconds", "nexus_body_bytes")


class Script:
    """A gateway, its engines, and what the script says happened."""

    def __init__(self, run: Running, a: FakeEngine, b: FakeEngine, slow: FakeEngine) -> None:
        self.run = run
        self.a = a
        self.b = b
        self.slow = slow
        self.expected: Figures = Counter()

    def expect(self, metric: str, amount: int = 1, /, **labels: str) -> None:
        """``metric`` grows by ``amount``."""
        if amount:
            self.expected[metric, tuple(sorted(labels.items()))] += amount

    def call(
        self,
        outcome: str,
        *attempts: tuple[str, str],
        model: str = MODEL,
        endpoint: str = CHAT,
        routed: bool = True,
        began: bool = False,
        reported: tuple[int, int] = (0, 0),
        estimated: int = 0,
    ) -> None:
        """One call ended in ``outcome`` after ``attempts`` (backend, what it came to). ``routed``:
        a decision was made. ``began``: it was a stream whose first event came. Tokens as the
        engine reported them, or as content events."""
        backend = attempts[-1][0] if attempts else ""
        labels = {"endpoint": endpoint, "model": model, "backend": backend}
        self.expect("nexus_requests_total", outcome=outcome, **labels)
        self.expect("nexus_request_duration_seconds_count", **labels)
        self.expect("nexus_routing_decision_seconds_count", int(routed))
        self.expect("nexus_requests_cancelled_total", int(outcome == "cancelled"))
        for name, came_to in attempts:
            self.expect("nexus_attempts_total", backend=name, outcome=came_to)
        names = [name for name, _ in attempts]
        moves = list(pairwise(names))
        self.expect("nexus_failovers_total", sum(one != two for one, two in moves))
        self.expect("nexus_retries_total", sum(one == two for one, two in moves))
        if began:
            self.expect("nexus_time_to_first_token_seconds_count", **labels)
            if outcome == "ok" and max(reported[1], estimated) > 1:
                self.expect("nexus_time_per_output_token_seconds_count", **labels)
        for amount, direction, source in (
            (reported[0], "input", "reported"),
            (reported[1], "output", "reported"),
            (estimated, "output", "estimated"),
        ):
            kind = {"direction": direction, "source": source}
            self.expect("nexus_tokens_total", amount, **kind)
            self.expect("nexus_backend_tokens_total", amount, model=model, backend=backend, **kind)

    async def ask(self, status: int, path: str = CHAT, **body: Any) -> Any:
        """Makes a call whose answer must have ``status``."""
        headers = body.pop("headers", {})
        fields = chat(body.pop("model", MODEL), **body) if "input" not in body else body
        answer = await self.run.client.post(path, json=fields, headers=headers)
        assert answer.status_code == status, answer.text
        return answer

    @asynccontextmanager
    async def leaving(self, **body: Any) -> AsyncIterator[Raw]:
        """A client that will leave when the block ends."""
        async with raw(self.run.port) as client:
            data = json.dumps(chat(**body)).encode()
            client.send(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(data), data)
            )
            yield client

    async def rest(self) -> None:
        """Between two steps: no fault in force, every backend as new."""
        for engine in (self.a, self.b, self.slow):
            engine.faults.clear()
        await self.run.settled()
        for live in self.run.gateway.store.snapshot.live.values():
            _forgive(live)
        await self.run.healthy("a", "b", "slow")

    async def figures(self) -> Figures:
        """What the gateway counted: every counter, and the count of every histogram."""
        text = (await self.run.client.get("/metrics")).text
        found: Figures = Counter()
        for family in text_string_to_metric_families(text):
            if not family.name.startswith("nexus_") or family.name.startswith(NOT_COUNTED):
                continue
            for sample in family.samples:
                counts = sample.name.endswith(("_total", "_count"))
                if counts and family.type in ("counter", "histogram") and sample.value:
                    found[sample.name, tuple(sorted(sample.labels.items()))] = int(sample.value)
        return found


def _forgive(live: BackendLive) -> None:
    live.breaker = BreakerState.CLOSED
    live.parked_until_s = live.open_until_s = 0.0
    live.consecutive_failures = live.window_calls = live.window_failures = 0


def _content_events(body: bytes) -> int:
    return sum(
        bool(json.loads(line[6:])["choices"][0]["delta"].get("content"))
        for line in body.split(b"\n")
        if line.startswith(b'data: {"') and b'"choices"' in line
    )


# --- the steps ------------------------------------------------------------------------------


async def plain(s: Script) -> None:
    """Three plain calls, one by an alias."""
    for name in (MODEL, MODEL, "gpt-4"):
        answer = await s.ask(200, model=name)
        usage = answer.json()["usage"]
        s.call("ok", ("a", "ok"), reported=(usage["prompt_tokens"], usage["completion_tokens"]))


async def streams(s: Script) -> None:
    """Two streams, with usage and without."""
    answer = await s.ask(200, stream=True)
    s.call("ok", ("a", "ok"), began=True, estimated=_content_events(answer.content))
    answer = await s.ask(200, stream=True, stream_options={"include_usage": True})
    usage = json.loads(answer.text.split("\n\n")[-3].removeprefix("data: "))["usage"]
    reported = (usage["prompt_tokens"], usage["completion_tokens"])
    s.call("ok", ("a", "ok"), began=True, reported=reported)


async def other_endpoints(s: Script) -> None:
    """Embeddings report prompt tokens only."""
    await s.ask(200, "/v1/embeddings", model=MODEL, input="text")
    s.call("ok", ("a", "ok"), endpoint="/v1/embeddings", reported=(10, 0))


async def bad_requests(s: Script) -> None:
    """What is wrong before a backend is asked."""
    answer = await s.run.client.post(CHAT, content=b"{no json")
    assert answer.status_code == 400
    s.call("client_error", model="unknown", routed=False)
    for name in ("nobody", "x" * 3_000):
        await s.ask(404, model=name)
        s.call("client_error", model="unknown", routed=False)
    await s.ask(404, headers={"x-nexus-pin": "nowhere"})
    s.call("client_error", routed=False)
    picture = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    await s.ask(400, messages=[{"role": "user", "content": picture}])
    s.call("client_error", routed=False)


async def refused_by_http(s: Script) -> None:
    """A body that is too large is a call that was refused before it was read."""
    async with raw(s.run.port) as client:
        client.send(
            b"POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 99999999\r\n\r\n"
        )
        assert (await client.response())[0] == 413
    s.call("client_error", model="unknown", routed=False)


async def no_calls(s: Script) -> None:
    """What is no call: unknown paths, wrong methods, malformed HTTP, half a request."""
    assert (await s.run.client.get("/nowhere")).status_code == 404
    assert (await s.run.client.get(CHAT)).status_code == 405
    async with raw(s.run.port) as client:
        client.send(b"NONSENSE\r\n\r\n")
        assert (await client.response())[0] == 400
    async with raw(s.run.port) as client:
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    for status in ("404", "405", "400"):
        s.expect("nexus_http_errors_total", status=status)
    for page in ("/health", "/v1/models", "/livez", "/metrics"):
        assert (await s.run.client.get(page)).status_code == 200


async def relayed_error(s: Script) -> None:
    """A backend's own 400 is the client's mistake."""
    s.a.faults.set(Fault.STATUS, status=400, count=1)
    await s.ask(400)
    s.call("client_error", ("a", "relayed"))


async def stale_connection(s: Script) -> None:
    """A kept connection that turns out to be closed is replaced: that is no attempt."""
    s.a.faults.set(Fault.RESET_BEFORE_HEAD, count=1)
    await s.ask(200)
    s.call("ok", ("a", "ok"), reported=(10, 5))


async def failovers(s: Script) -> None:
    """Each way of failing before the commit, then the other backend."""
    for fault, kind in (
        (Fault.RESET_BEFORE_HEAD, "connection_lost"),
        (Fault.GARBAGE, "invalid_response"),
        (Fault.RESET_AFTER_HEAD, "connection_lost"),
    ):
        s.run.gateway.plane.drop_connections()
        s.a.faults.set(fault, count=1)
        await s.ask(200)
        s.call("ok", ("a", kind), ("b", "ok"), reported=(10, 5))
        await s.rest()
    s.a.faults.set(Fault.STATUS, status=500, count=1)
    await s.ask(200)
    s.call("ok", ("a", "error_status"), ("b", "ok"), reported=(10, 5))
    await s.rest()
    s.a.faults.set(Fault.ERROR_EVENT_FIRST, count=1)
    answer = await s.ask(200, stream=True)
    estimated = _content_events(answer.content)
    s.call("ok", ("a", "error_event"), ("b", "ok"), began=True, estimated=estimated)


async def retry_here(s: Script) -> None:
    """The only backend is asked again."""
    s.slow.faults.set(Fault.STATUS, status=500, count=1)
    await s.ask(200, model="slow-model")
    s.call("ok", ("slow", "error_status"), ("slow", "ok"), model="slow-model", reported=(10, 5))


async def all_fail(s: Script) -> None:
    """Nobody answers: one call, two attempts, at the alias' model."""
    for engine in (s.a, s.b):
        engine.faults.set(Fault.STATUS, status=500, count=1)
    await s.ask(502, model="gpt-4")
    s.call("upstream_error", ("a", "error_status"), ("b", "error_status"))


async def nobody_listens(s: Script) -> None:
    """Connections that cannot be made."""
    s.a.faults.set(Fault.REFUSE)
    s.a.drop_connections()
    await eventually(lambda: not s.run.gateway.plane.pooled("a")[0], "no connection to a is left")
    # What health checks find meanwhile must not take it out of the plan.
    await s.run.gateway.checker.aclose()
    await s.ask(200)
    s.call("ok", ("a", "connect_failed"), ("b", "ok"), reported=(10, 5))
    s.expect("nexus_upstream_connect_failures_total", backend="a")


async def broken_streams(s: Script) -> None:
    """Streams that break after the commit."""
    for fault, outcome in (
        (Fault.RESET_AFTER_EVENTS, "upstream_error"),
        (Fault.END_AFTER_EVENTS, "upstream_error"),
    ):
        s.a.faults.set(fault, count=1, after_events=3)
        answer = await s.ask(200, stream=True)
        assert b'"error"' in answer.content
        estimated = _content_events(answer.content)
        s.call(outcome, ("a", "broken_stream"), began=True, estimated=estimated)
        await s.rest()


async def timeouts(s: Script) -> None:
    """The call's deadline, before an answer and in the middle of a silent stream."""
    s.slow.faults.set(Fault.STALL, count=1)
    await s.ask(504, model="slow-model")
    s.call("timeout", ("slow", "timeout"), model="slow-model")
    await s.rest()
    s.slow.faults.set(Fault.STALL_AFTER_EVENTS, count=1, after_events=2)
    answer = await s.ask(200, model="slow-model", stream=True)
    estimated = _content_events(answer.content)
    s.call(
        "timeout",
        ("slow", "broken_stream"),
        model="slow-model",
        began=True,
        estimated=estimated,
    )


async def cancelled(s: Script) -> None:
    """Clients that leave before an answer, and in the middle of one."""
    s.a.faults.set(Fault.STALL)
    before = s.a.in_flight
    async with s.leaving():
        await eventually(lambda: s.a.in_flight == before + 1, "the call at its backend")
    s.call("cancelled", ("a", "cancelled"))
    await s.rest()
    s.a.faults.set(Fault.STALL_AFTER_EVENTS, after_events=3)
    async with s.leaving(stream=True) as client:
        seen = b"".join([await client.until(b"\n\n") for _ in range(3)])
    estimated = _content_events(seen.replace(b"\r\n", b"\n"))
    s.call("cancelled", ("a", "cancelled"), began=True, estimated=estimated)


async def hangs_up_after_done(s: Script) -> None:
    """A client that has read ``[DONE]`` has everything, though the last chunk is not there yet."""
    told = asyncio.Event()

    async def play(talk: Talk) -> None:
        fields = ("content-type: text/event-stream", "transfer-encoding: chunked")
        data = EVENT * 3 + LAST
        await talk.write(head(*fields) + b"%x\r\n%b\r\n" % (len(data), data))
        await told.wait()

    async with Scripted(play, models=("scripted-model",)) as upstream:
        s.run.gateway.add_backend(upstream.spec())
        await s.run.healthy("scripted")
        async with s.leaving(model="scripted-model", stream=True) as client:
            await client.until(b"[DONE]\n\n")
        await s.run.settled()
        told.set()
    s.call("ok", ("scripted", "ok"), model="scripted-model", began=True, estimated=3)


async def over_the_limit(s: Script) -> None:
    """More calls than ``max_concurrent_requests``, and than one backend takes at once."""
    s.slow.faults.set(Fault.STALL)
    async with AsyncExitStack() as clients:
        await clients.enter_async_context(s.leaving(model="slow-model"))
        await eventually(lambda: s.run.gateway.plane.active == 1, "a call at the backend")
        await s.ask(503, model="slow-model")
        s.call("refused", model="slow-model", routed=False)
        s.a.faults.set(Fault.STALL)
        for _ in range(3):
            await clients.enter_async_context(s.leaving())
        await eventually(lambda: s.run.gateway.plane.active == 4, "four calls under way")
        await s.ask(503)
        s.call("refused", model="unknown", routed=False)
    await s.run.settled()
    s.call("cancelled", ("slow", "cancelled"), model="slow-model")
    for _ in range(3):
        s.call("cancelled", ("a", "cancelled"))


async def nobody_healthy(s: Script) -> None:
    """A model that is known, at backends that all are drained."""
    s.run.gateway.store.drain("slow")
    await s.ask(503, model="slow-model")
    s.call("refused", model="slow-model", routed=False)
    s.run.gateway.store.resume("slow")


async def our_own_fault(s: Script) -> None:
    """A fault of ours is a 500 that is counted as such."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Router, "route", lambda *_, **__: 1 // 0)
        await s.ask(500)
    s.call("upstream_error", routed=False)
    s.expect("nexus_internal_errors_total")


async def draining(s: Script) -> None:
    """A call that comes during the drain is refused."""
    s.run.gateway.plane.draining = True
    await s.ask(503)
    s.run.gateway.plane.draining = False
    s.call("refused", model="unknown", routed=False)


STEPS: list[Callable[[Script], Awaitable[None]]] = [
    plain,
    streams,
    other_endpoints,
    bad_requests,
    refused_by_http,
    no_calls,
    relayed_error,
    stale_connection,
    failovers,
    retry_here,
    all_fail,
    broken_streams,
    timeouts,
    cancelled,
    hangs_up_after_done,
    over_the_limit,
    nobody_healthy,
    our_own_fault,
    draining,
    nobody_listens,
]


@asynccontextmanager
async def script() -> AsyncIterator[Script]:
    """Two backends of one model and a slow one of another."""
    async with (
        FakeEngine(name="a") as a,
        FakeEngine(name="b") as b,
        FakeEngine(name="slow", models=("slow-model",)) as slow,
        running(
            spec_of(a, priority=1),
            spec_of(b, priority=2),
            spec_of(slow, request_timeout_s=0.3, stream_idle_timeout_s=0.3, max_concurrency=1),
            server={"max_concurrent_requests": 4},
            routing={"strategy": "priority_only", "aliases": {"gpt-4": MODEL}},
            health={"interval_seconds": 0.2, "recovery_threshold": 1},
            models={MODEL: ModelOverride(vision=False)},
        ) as run,
    ):
        yield Script(run, a, b, slow)


async def test_every_counter_is_the_scripts() -> None:
    """Step by step, and so in sum: exactly what the script says, nothing else."""
    async with script() as s:
        for step in STEPS:
            await step(s)
            await s.run.settled()
            assert await s.figures() == s.expected, step.__name__
            if step is not STEPS[-1]:
                await s.rest()
        total = sum(
            amount for (name, _), amount in s.expected.items() if name == "nexus_requests_total"
        )
        stats = s.run.gateway.stats.view(0.0)["requests"]
        assert stats["total"] == len(s.run.records) == total


async def test_bytes_are_those_of_the_bodies() -> None:
    """Bytes in are what clients sent, bytes out what they got, framing apart."""
    async with script() as s:
        sent = received = 0
        for fields in (chat(), chat(stream=True), chat("nobody"), chat("slow-model")):
            data = json.dumps(fields).encode()
            answer = await s.run.client.post(CHAT, content=data)
            sent += len(data)
            received += len(answer.content)
        s.run.gateway.stats.settle()
        metrics = s.run.gateway.metrics
        assert (metrics.bytes_in, metrics.bytes_out) == (sent, received)
