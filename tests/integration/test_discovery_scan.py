"""The loopback scan: engines on this machine become backends by themselves (behaviour § 7)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from time import monotonic
from typing import Any

import httpx
import pytest

from nexus.config.schema import DiscoveryConfig
from nexus.core.backend import BackendSpec, Source
from nexus.demo.engine import FakeEngine
from tests.harness import Running, chat, eventually, running, spec_of
from tests.process import NexusProcess


@contextlib.asynccontextmanager
async def finding(
    *engines: FakeEngine, named: Sequence[BackendSpec] = (), **settings: Any
) -> AsyncIterator[Running]:
    """A gateway that was told of ``named`` backends alone and scans the ports of ``engines``
    (started first)."""
    ports = tuple(engine.port for engine in engines)
    config = DiscoveryConfig(
        **{"mdns": False, "announce": False, "scan_ports": ports, **settings.pop("discovery", {})}
    )
    async with running(*named, wait=False, discovery=config, **settings) as run:
        yield run


async def test_an_engine_on_a_well_known_port_is_routable_with_no_configuration() -> None:
    """``nexus serve`` as a process, no file, no backend: an Ollama on a scanned port answers."""
    async with FakeEngine(dialect="ollama", models=("llama3.2:1b",)) as engine:
        found = {
            "NEXUS_DISCOVERY__ENABLED": "true",
            "NEXUS_DISCOVERY__MDNS": "false",
            "NEXUS_DISCOVERY__SCAN_PORTS": f"[{engine.port}]",
        }
        with NexusProcess("serve", "--port", "0", environment=found) as process:
            url = (await _said(process, "listening"))["url"]
            line = await _said(process, "backend_state")
            assert line["backend"] == f"ollama-{engine.port}"
            assert line["status"] == "healthy"
            async with httpx.AsyncClient(base_url=url) as client:
                answer = await client.post("/v1/chat/completions", json=chat("llama3.2:1b"))
            assert answer.status_code == 200
            assert answer.headers["x-nexus-backend"] == f"ollama-{engine.port}"
            process.terminate()
            assert process.exit_code() == 0


async def _said(process: NexusProcess, event: str) -> dict[str, Any]:
    """Waits without blocking the engine in this loop."""
    await eventually(
        lambda: any(line.get("event") == event for line in process.log), f"{event} said"
    )
    return process.said(event)


async def test_found_backends_say_where_they_are_from() -> None:
    """Source ``scan``, a name of engine and port; two engines, two backends."""
    one, other = FakeEngine(dialect="vllm"), FakeEngine(dialect="llamacpp")
    async with one, other, finding(one, other) as run:
        await eventually(lambda: len(run.gateway.backends()) == 2, "both found")
        await run.healthy()
        backends = run.gateway.backends()
        assert set(backends) == {f"vllm-{one.port}", f"llamacpp-{other.port}"}
        assert {one.spec.source for one in backends.values()} == {Source.SCAN}


async def test_a_named_backend_wins() -> None:
    """Named by another of this machine's addresses: the scan adds nothing."""
    async with FakeEngine(dialect="vllm") as engine:
        named = spec_of(engine, name="mine", url=f"http://localhost:{engine.port}/v1")
        async with finding(engine, named=(named,)) as run:
            await looked(run)
            assert list(run.gateway.backends()) == ["mine"]


async def test_adding_a_found_one_by_hand_makes_it_ours() -> None:
    """``POST /admin/v1/backends`` with its URL, even under its name, is no conflict: one backend,
    manual, and it stays one."""
    async with FakeEngine(dialect="vllm") as engine, finding(engine) as run:
        await found(run)
        for body in ({"name": f"vllm-{engine.port}"}, {"name": "mine"}):
            answer = await run.client.post(
                "/admin/v1/backends", json={"url": f"http://localhost:{engine.port}", **body}
            )
            if body["name"] == "mine":
                assert answer.status_code == 409  # it is named already
                continue
            assert answer.status_code == 201
            await looked(run)
            for seconds in range(3):
                run.gateway.discovery.directory.tick(monotonic() + 1000 * seconds)
            (backend,) = run.gateway.backends().values()
            assert backend.spec.source is Source.MANUAL


async def test_an_engine_that_ends_is_forgotten_after_the_grace() -> None:
    """Unhealthy at once, gone after the grace; started again, it is back under its name."""
    engine = FakeEngine(dialect="vllm")
    await engine.start()
    async with finding(engine, discovery={"grace_period_seconds": 0.3}) as run:
        await found(run)
        before = run.gateway.backends()[f"vllm-{engine.port}"]
        await engine.stop()
        run.gateway.checker.check_all()
        await eventually(
            lambda: not run.gateway.backends()[before.name].routable, "it is seen to be down"
        )
        await run.gateway.discovery.scan_now()
        assert before.name in run.gateway.backends()
        await eventually(lambda: not run.gateway.backends(), "removed")
        engine = FakeEngine(dialect="vllm", port=engine.port)
        async with engine:
            await run.gateway.discovery.scan_now()
            await found(run)
            assert list(run.gateway.backends()) == [before.name]


async def test_a_restart_within_the_grace_changes_nothing() -> None:
    """The same backend, its live figures kept."""
    async with FakeEngine(dialect="vllm") as engine:
        port = engine.port
        async with finding(engine) as run:
            await found(run)
            live = run.gateway.store.live(f"vllm-{port}")
            await engine.stop()
            run.gateway.checker.check_all()
            await eventually(lambda: not run.gateway.backends()[f"vllm-{port}"].routable, "down")
            await run.gateway.discovery.scan_now()
            async with FakeEngine(dialect="vllm", port=port):
                await run.gateway.discovery.scan_now()
                run.gateway.checker.check_all()
                await run.healthy()
                assert run.gateway.store.live(f"vllm-{port}") is live


async def test_what_waits_for_approval() -> None:
    """``auto_approve = "never"``: listed as pending, not checked, not routable; approved, it is
    used."""
    async with (
        FakeEngine(dialect="vllm") as engine,
        finding(engine, discovery={"auto_approve": "never"}) as run,
    ):
        await eventually(run.gateway.backends, "found")
        name = f"vllm-{engine.port}"
        (shown,) = (await run.client.get("/admin/v1/backends")).json()["data"]
        assert (shown["name"], shown["status"], shown["source"]) == (name, "pending", "scan")
        assert (await run.client.get("/health")).json()["backends"]["total"] == 0
        answer = await run.client.post("/v1/chat/completions", json=chat())
        assert answer.status_code == 404
        approved = await run.client.post(f"/admin/v1/backends/{name}/approve")
        assert approved.status_code == 200
        await run.healthy(name)
        answer = await run.client.post("/v1/chat/completions", json=chat())
        assert answer.status_code == 200


async def test_removed_by_hand_stays_removed() -> None:
    """``nexus backends remove`` of a found backend is no game of whack-a-mole."""
    async with FakeEngine(dialect="vllm") as engine, finding(engine) as run:
        await found(run)
        answer = await run.client.delete(f"/admin/v1/backends/vllm-{engine.port}")
        assert answer.status_code == 200
        await looked(run)
        assert run.gateway.backends() == {}


async def test_found_backends_get_no_credentials() -> None:
    """Neither the client's key nor its query's, unless ``forward_authorization``."""
    key = {"authorization": "Bearer secret", "x-api-key": "secret"}
    for forwards in (False, True):
        async with (
            FakeEngine(dialect="vllm") as engine,
            finding(engine, discovery={"forward_authorization": forwards}) as run,
        ):
            await found(run)
            answer = await run.client.post("/v1/chat/completions", json=chat(), headers=key)
            assert answer.status_code == 200
            (call,) = engine.calls
            assert (b"secret" in str(call.headers).encode()) is forwards


async def test_a_port_with_something_else_on_it() -> None:
    """A server that is no LLM server, and one that says nothing: no backend, and each is asked
    once, not at each look."""
    asked = []

    async def web_page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if line:
            asked.append(line)
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno")
        writer.close()

    server = await asyncio.start_server(web_page, "127.0.0.1", 0)
    silent = socket.create_server(("127.0.0.1", 0))
    with silent:
        ports = (server.sockets[0].getsockname()[1], silent.getsockname()[1])
        looking = DiscoveryConfig(mdns=False, announce=False, scan_ports=ports)
        async with running(wait=False, discovery=looking) as run:
            for _ in range(3):
                await run.gateway.discovery.scan_now()
            await eventually(lambda: len(asked) >= 3, "asked")
            await eventually(lambda: not run.gateway.discovery.asking, "all asked")
            for _ in range(3):
                await run.gateway.discovery.scan_now()
            assert run.gateway.backends() == {}
            assert len(asked) == 3  # /v1/models, and two that would have settled it
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("off", [{"enabled": False}, {"scan": False}])
async def test_switched_off(off: dict[str, bool]) -> None:
    """Then nobody is even connected to."""
    async with FakeEngine(dialect="vllm") as engine, finding(engine, discovery=off) as run:
        await run.client.get("/health")
        await run.gateway.discovery.aclose()
        assert run.gateway.backends() == {}
        assert engine.connections_opened == 0


async def test_an_engine_on_ipv6_alone() -> None:
    """``::1`` is looked at too."""
    async with FakeEngine(dialect="vllm", host="::1") as engine, finding(engine) as run:
        await found(run)
        (backend,) = run.gateway.backends().values()
        assert backend.spec.url == f"http://[::1]:{engine.port}"
        answer = await run.client.post("/v1/chat/completions", json=chat())
        assert answer.status_code == 200


async def found(run: Running) -> None:
    """Something was found, and can be used."""
    await eventually(run.gateway.backends, "found")
    await run.healthy()


async def looked(run: Running) -> None:
    """Everything that can be seen was seen and asked."""
    await run.gateway.discovery.scan_now()
    await eventually(lambda: not run.gateway.discovery.asking, "all asked")


async def test_after_a_sleep_it_looks_again() -> None:
    """The next look would come in half a minute; the machine woke up, so it comes now."""
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    async with finding(discovery={"scan_ports": (port,)}) as run:
        await looked(run)
        assert not run.gateway.backends()
        async with FakeEngine(dialect="vllm", port=port):
            run.gateway.checker._on_wake()  # type: ignore[misc]
            await found(run)
