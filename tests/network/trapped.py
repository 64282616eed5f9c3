"""A gateway and backends in one process, in a namespace whose names, addresses and ports are the
test's: ``python -m tests.network.trapped CASE`` ends with ``fine`` or a traceback."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys

import uvloop

from nexus.core.backend import BackendSpec, EngineKind
from nexus.demo.engine import FakeEngine
from tests.harness import chat, eventually, running, spec_of
from tests.integration.scripted import Scripted, playing

PATH = "/v1/chat/completions"


async def families() -> None:
    """An engine listens on one family only; its name leads to both."""
    for host in ("127.0.0.1", "::1"):
        async with FakeEngine(host=host) as engine:
            port = engine.url.rpartition(":")[2]
            spec = BackendSpec(
                name="named", url=f"http://both.test:{port}", engine=EngineKind(engine.dialect)
            )
            async with running(spec) as gateway:
                for _ in range(3):
                    gateway.gateway.plane.drop_connections()
                    answer = await gateway.client.post(PATH, json=chat())
                    assert answer.status_code == 200, answer.text


async def names() -> None:
    """A name that nobody knows makes its backend unhealthy and says so; others serve."""
    names = ["nowhere.invalid", "x." * 130 + "y", "a" * 64 + ".test"]
    wrong = [
        BackendSpec(
            name=f"n{number}", url=f"http://{name}:80", engine=EngineKind.OPENAI, priority=1
        )
        for number, name in enumerate(names)
    ]
    async with (
        FakeEngine() as engine,
        running(*wrong, spec_of(engine, priority=90), wait=False) as gateway,
    ):
        store = gateway.gateway.store
        await gateway.healthy(engine.name)

        def said() -> list[str]:
            return [store.snapshot.backends[spec.name].reason for spec in wrong]

        await eventually(
            lambda: all("cannot be resolved" in reason for reason in said()), "all are told so"
        )
        answer = await gateway.client.post(PATH, json=chat())
        assert answer.status_code == 200, answer.text


async def ports() -> None:
    """No local port is left to call from: 503 that says so, and nobody's fault."""
    async with Scripted(playing()) as backend, running(backend.spec()) as gateway:
        held: list[socket.socket] = []
        with contextlib.ExitStack() as stack:
            while True:
                one = stack.enter_context(socket.socket())
                one.setblocking(False)
                code = one.connect_ex(("127.0.0.1", backend.port))
                if code == errno.EADDRNOTAVAIL:
                    break
                assert code in (0, errno.EINPROGRESS), errno.errorcode[code]
                held.append(one)
                await asyncio.sleep(0)
            async with asyncio.timeout(10):
                answer = await gateway.client.post(PATH, json=chat())
            assert answer.status_code == 503, answer.text
            assert "EADDRNOTAVAIL" in answer.json()["error"]["message"], answer.text
            gateway.gateway.checker.suspect("scripted")
            await asyncio.sleep(0.3)
            store = gateway.gateway.store
            live = store.live("scripted")
            assert (live.consecutive_failures, live.opened_times) == (0, 0)
            assert store.snapshot.backends["scripted"].routable


CASES = {"families": families, "names": names, "ports": ports}

if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(CASES[sys.argv[1]]())
    sys.stdout.write("fine\n")
