"""As many clients as there may be: who makes room, and what is said where there is none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from msgspec.structs import replace

from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.http1 import server
from tests.harness import Raw, Running, eventually, raw, running
from tests.integration.http.wire import check_error, get, post

LIMIT = 4


@contextlib.asynccontextmanager
async def crowd(count: int) -> AsyncIterator[tuple[Running, FakeEngine, list[Raw]]]:
    """A gateway for four clients, and so many that have not said a word."""
    async with (
        FakeEngine() as engine,
        running(engine) as gateway,
        contextlib.AsyncExitStack() as stack,
    ):
        http = gateway.gateway.server
        await eventually(lambda: not http.connections, "nobody is connected")
        http.change_limits(replace(http.limits, connections=LIMIT))
        clients = [await stack.enter_async_context(raw(gateway.port)) for _ in range(count)]
        await eventually(lambda: len(http.connections) == count, "all are connected")
        yield gateway, engine, clients


def age(gateway: Running, seconds: float = 2 * server._SPARED_S) -> None:
    """Lets time pass for every connection."""
    for connection in gateway.gateway.server.connections:
        connection._joined_s -= seconds
        connection.idle_since_s -= seconds


async def test_who_has_not_said_a_word_makes_room_first() -> None:
    """A silent connection is closed for a new client, a used one that is idle stays."""
    async with crowd(LIMIT) as (gateway, _, clients):
        clients[0].send(get(b"/health"))
        assert (await clients[0].response())[0] == 200
        age(gateway)
        async with raw(gateway.port) as newcomer:
            newcomer.send(get(b"/health"))
            assert (await newcomer.response())[0] == 200
            clients[0].send(get(b"/health"))
            assert (await clients[0].response())[0] == 200
        ended = [one for one in clients[1:] if one.reader.at_eof()]
        assert len(ended) == 1


async def test_the_longest_idle_is_next() -> None:
    """Of used connections the one goes that was idle longest."""
    async with crowd(LIMIT) as (gateway, _, clients):
        for client in clients:
            client.send(get(b"/health"))
            await client.response()
            age(gateway)
        async with raw(gateway.port) as newcomer:
            newcomer.send(get(b"/health"))
            assert (await newcomer.response())[0] == 200
            await eventually(lambda: clients[0].reader.at_eof(), "the longest idle was closed")
            assert not any(client.reader.at_eof() for client in clients[1:])


async def test_calls_are_never_cut_for_a_newcomer() -> None:
    """With nobody idle the newcomer is told 503, at once and once the calls end it is welcome; the
    log has one line however many came."""
    async with crowd(LIMIT) as (gateway, engine, clients):
        lines: list[int] = []
        gateway.gateway.server.on_crowded = lines.append
        engine.faults.set(Fault.STALL)
        for client in clients:
            client.send(post())
        await eventually(lambda: engine.in_flight == LIMIT, "all calls are at the backend")
        age(gateway)
        for _ in range(3):
            async with raw(gateway.port) as newcomer:
                check_error(await newcomer.response(), 503, "service_unavailable")
        assert len(lines) == 3
        engine.faults.clear()
        clients[0].writer.close()
        await eventually(lambda: engine.in_flight == LIMIT - 1, "one has left")
        async with raw(gateway.port) as newcomer:
            newcomer.send(post())
            assert (await newcomer.response())[0] == 200


async def test_even_the_told_are_too_many() -> None:
    """Beyond an eighth more than the limit, connections are cut without a word: to tell them would
    take what is kept for backends."""
    async with crowd(LIMIT) as (gateway, _, _), contextlib.AsyncExitStack() as stack:
        others = [await stack.enter_async_context(raw(gateway.port)) for _ in range(8)]
        told = await asyncio.gather(*(other.rest() for other in others))
        assert all(not text or b" 503 " in text for text in told)
        assert b"" in told
        assert len(gateway.gateway.server.connections) <= LIMIT + 1


async def test_the_log_is_not_flooded() -> None:
    """A thousand that find no room are one line a minute."""
    async with FakeEngine() as engine, running(engine) as gateway:
        said: list[str] = []

        class Log:
            def warning(self, event: str, **_: object) -> None:
                said.append(event)

        gateway.gateway._log = Log()  # type: ignore[assignment]
        for count in range(1000):
            gateway.gateway._crowded(count)
        assert said == ["too_many_connections"]
