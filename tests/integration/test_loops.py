"""Gateways behind gateways: no request goes in a circle (behaviour § 7)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator

import httpx

from nexus.config.schema import DiscoveryConfig
from nexus.core.backend import BackendSpec, EngineKind
from nexus.demo.engine import FakeEngine
from nexus.demo.profile import SeenRequest
from tests.harness import Running, chat, eventually, running, spec_of


def nexus_at(port: int, name: str = "other", *models: str, priority: int = 1) -> BackendSpec:
    """Another gateway as a static backend, preferred."""
    return BackendSpec(
        name=name,
        url=f"http://127.0.0.1:{port}",
        engine=EngineKind.GENERIC,
        priority=priority,
        models=models,
    )


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on right now."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in socks]


async def ask(run: Running, model: str, **headers: str) -> httpx.Response:
    """One chat."""
    return await run.client.post("/v1/chat/completions", json=chat(model), headers=headers)


def vias(call: SeenRequest) -> list[bytes]:
    """The ``Via`` fields that an engine saw."""
    return [value for name, value in call.headers if name == b"via"]


async def test_a_backend_that_is_the_gateway_itself() -> None:
    """One attempt, then 508: no circle, no retries, and the client is told why."""
    (port,) = free_ports(1)
    itself = nexus_at(port, "itself", "m")
    async with running(itself, wait=False, server={"port": port}) as run:
        await run.healthy("itself")
        answer = await ask(run, "m")
        assert answer.status_code == 508
        error = answer.json()["error"]
        assert error["code"] == "loop_detected"
        assert "leads back" in error["message"]
        assert answer.headers["x-should-retry"] == "false"
        # The client's call, and the one that came back.
        await eventually(lambda: len(run.records) == 2, "both recorded")
        assert [len(record.attempts or ()) for record in run.records] == [0, 1]
        assert run.records[1].attempts[0].outcome == "loop_detected"


@contextlib.asynccontextmanager
async def pair(one: FakeEngine, other: FakeEngine) -> AsyncIterator[tuple[Running, Running]]:
    """Two gateways, each with an engine of its own and, preferred to it, the other gateway."""
    ports = free_ports(2)
    mine = nexus_at(ports[1], "second", "both", "left", "right")
    its = nexus_at(ports[0], "first", "both", "left", "right")
    async with (
        running(mine, spec_of(one), wait=False, server={"port": ports[0]}) as first,
        running(its, spec_of(other), wait=False, server={"port": ports[1]}) as second,
    ):
        first.gateway.checker.check_all()
        await first.healthy()
        await second.healthy()
        yield first, second


async def test_two_gateways_that_prefer_each_other() -> None:
    """The second's way back to the first is refused, and its own engine answers."""
    engines = [FakeEngine(name=name, models=("both", name)) for name in ("left", "right")]
    async with engines[0], engines[1], pair(*engines) as (first, second):
        answer = await ask(first, "both")
        assert answer.status_code == 200
        assert answer.headers["x-nexus-backend"] == "second"
        assert [len(engine.calls) for engine in engines] == [0, 1]
        record = next(one for one in second.records if one.status == 200)
        assert [one.outcome for one in record.attempts or ()] == ["loop_detected", "ok"]
        # Being refused speaks against nobody.
        assert first.gateway.store.live("second").errors_total == 0
        assert second.gateway.store.live("first").errors_total == 0


async def test_what_only_the_other_one_has() -> None:
    """A chain is no circle."""
    engines = [FakeEngine(name=name, models=("both", name)) for name in ("left", "right")]
    async with engines[0], engines[1], pair(*engines) as (first, _):
        answer = await ask(first, "right")
        assert answer.status_code == 200
        assert b",".join(vias(engines[1].calls[0])).count(b"nexus-") == 2


async def test_upstream_sees_our_mark_and_no_other_proxy() -> None:
    """Hops of other gateways are passed on, in order, ours last."""
    async with FakeEngine() as engine, running(engine) as run:
        await ask(run, "demo-model")
        await ask(run, "demo-model", via="1.1 nginx, 1.1 nexus-0123")
        own = b"1.1 nexus-" + run.gateway.instance_id.encode()
        assert [vias(call) for call in engine.calls] == [[own], [b"1.1 nexus-0123", own]]


async def test_a_request_that_was_here_before() -> None:
    """Refused before anything is read or sent; recorded as refused."""
    async with FakeEngine() as engine, running(engine) as run:
        answer = await ask(run, "demo-model", via=f"1.1 nexus-{run.gateway.instance_id}")
        assert answer.status_code == 508
        answer = await ask(run, "demo-model", via=", ".join(f"1.1 nexus-{i}" for i in range(5)))
        assert answer.status_code == 508
        assert engine.calls == []
        assert {record.outcome.value for record in run.records} == {"refused"}


async def looked_around(run: Running) -> None:
    """Everybody listens by now: one more look, and every server has been asked."""
    discovery = run.gateway.discovery
    await discovery.scan_now()
    await eventually(lambda: not discovery.asking, "all have been asked")


async def test_gateways_that_see_each_other_do_not_use_each_other() -> None:
    """Both scan the same ports, each other's among them: the engine is found, the gateways are
    not backends."""
    ports = free_ports(2)
    async with FakeEngine(dialect="vllm") as engine:
        looking = DiscoveryConfig(mdns=False, announce=False, scan_ports=(*ports, engine.port))
        async with (
            running(wait=False, server={"port": ports[0]}, discovery=looking) as first,
            running(wait=False, server={"port": ports[1]}, discovery=looking) as second,
        ):
            for run in (first, second):
                await looked_around(run)
                assert list(run.gateway.backends()) == [f"vllm-{engine.port}"]
                assert run.gateway.discovery.directory.servers == 2
