"""What the pages and calls say while the gateway shuts down (behaviour §§ 2, 2.2, 10)."""

from __future__ import annotations

import asyncio

from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.proxy.exchange import Exchange
from tests.harness import chat, eventually, raw, running
from tests.integration.http.wire import check_error, get, post


async def test_while_draining() -> None:
    """/health and /livez stay 200, /readyz is 503, a new call is 503 with Retry-After and closes;
    the one in flight is answered."""
    async with FakeEngine() as engine, running(engine) as gateway, raw(gateway.port) as client:
        client.send(get(b"/readyz"))
        assert (await client.response())[0] == 200
        engine.faults.set(Fault.STALL, count=1)
        slow = asyncio.create_task(gateway.client.post("/v1/chat/completions", json=chat()))
        await eventually(lambda: engine.in_flight == 1, "a call is in flight")
        cut = asyncio.Event()
        drain = asyncio.create_task(gateway.gateway.drain(cut))
        await eventually(lambda: gateway.gateway.plane.draining, "the drain has begun")
        statuses = {}
        for path in ("/health", "/livez", "/readyz"):
            async with raw(gateway.port) as other:
                other.send(get(path.encode()))
                statuses[path] = (await other.response())[0]
        assert statuses == {"/health": 200, "/livez": 200, "/readyz": 503}
        async with raw(gateway.port) as other:
            other.send(post())
            answer = await other.response()
            check_error(answer, 503, "service_unavailable")
            assert answer[1]["connection"] == "close"
            assert int(answer[1]["retry-after"]) >= 1
        assert not slow.done()
        cut.set()
        await drain
        assert (await slow).status_code == 503


async def test_a_call_that_cannot_be_ended_well_does_not_stop_the_drain() -> None:
    """A fault of our own in one call is that call's 500; the others are told, and the end comes."""
    shut: list[Exchange] = []

    class Clumsy(Exchange):
        def shut(self) -> None:
            shut.append(self)
            if len(shut) == 1:
                raise ValueError("a fault")
            super().shut()

    async with FakeEngine() as engine, running(engine) as gateway:
        gateway.gateway.plane.exchange = Clumsy
        engine.faults.set(Fault.STALL)
        calls = [
            asyncio.create_task(gateway.client.post("/v1/chat/completions", json=chat()))
            for _ in range(3)
        ]
        await eventually(lambda: engine.in_flight == 3, "all are in flight")
        cut = asyncio.Event()
        cut.set()
        await gateway.gateway.drain(cut)
        statuses = sorted([(await call).status_code for call in calls])
        assert statuses == [500, 503, 503]
