"""What calls and connections leave behind is freed at once. The cycle collector comes by seldom:
what only it finds is memory that every stream adds to meanwhile."""

from __future__ import annotations

import gc
import json

from nexus.demo.engine import FakeEngine
from nexus.http1.server import ServerConnection
from nexus.http1.upstream import UpstreamConnection
from nexus.proxy.exchange import Exchange
from tests.harness import chat, eventually, raw, running

_KINDS = (ServerConnection, UpstreamConnection, Exchange)


def _alive() -> int:
    return sum(type(one) in _KINDS for one in gc.get_objects())


async def test_nothing_waits_for_the_collector() -> None:
    """Ten streamed and ten plain calls, each on a connection of its own: with the collector off no
    connection and no call is left of them."""
    async with FakeEngine() as engine, running(engine) as gateway:
        gc.collect()
        gc.disable()
        try:
            before = _alive()
            for number in range(20):
                body = json.dumps(chat(stream=number % 2 == 0)).encode()
                async with raw(gateway.gateway.port) as client:
                    client.send(
                        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
                    )
                    assert b" 200 OK\r\n" in await client.rest()
            assert len(gateway.records) == 20
            gateway.gateway.plane.drop_connections()
            await eventually(lambda: _alive() <= before, "all connections and calls are freed")
        finally:
            gc.enable()
