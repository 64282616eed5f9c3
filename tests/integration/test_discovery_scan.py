"""The loopback scan: engines on this machine become backends by themselves (behaviour § 7)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx

from nexus.config.schema import DiscoveryConfig
from nexus.core.backend import Source
from nexus.demo.engine import FakeEngine
from tests.harness import Running, chat, eventually, running
from tests.process import NexusProcess


@contextlib.asynccontextmanager
async def finding(*engines: FakeEngine, **settings: Any) -> AsyncIterator[Running]:
    """A gateway that was told of no backend and scans the ports of ``engines`` (started first)."""
    ports = tuple(engine.port for engine in engines)
    config = DiscoveryConfig(
        **{"mdns": False, "announce": False, "scan_ports": ports, **settings.pop("discovery", {})}
    )
    async with running(wait=False, discovery=config, **settings) as run:
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
