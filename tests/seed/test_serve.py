"""Seed T11: ``nexus serve`` as a process, from its start to its end by SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import httpx
import pytest

from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.demo.profile import Speed
from tests.harness import eventually
from tests.process import NexusProcess
from tests.seed.fleet import COMPLETIONS, request, reserved_port


class Served:
    """A running ``nexus serve`` and a client of it."""

    def __init__(self, process: NexusProcess, client: httpx.AsyncClient) -> None:
        self.process = process
        self.client = client

    async def said(self, event: str) -> None:
        """Waits until the log line ``event`` came; the loop runs on meanwhile."""
        await asyncio.to_thread(self.process.said, event)

    async def exit_code(self, timeout_s: float = 20.0) -> int:
        """Waits until the process has ended by itself."""
        return await asyncio.to_thread(self.process.exit_code, timeout_s)

    def complete(self) -> asyncio.Future[httpx.Response]:
        """A completion, asked for on a connection of its own."""
        return asyncio.ensure_future(self._complete())

    async def _complete(self) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.client.base_url, timeout=60.0) as client:
            return await client.post(COMPLETIONS, json=request())


@contextlib.asynccontextmanager
async def serving(
    folder: Path, engine: FakeEngine | None = None, *, server: str = "", port: int = 0
) -> AsyncIterator[Served]:
    """``nexus serve`` in front of ``engine``, once that is healthy; ``server`` is what its file
    says in ``[server]``."""
    file = folder / "nexus.toml"
    text = f"[server]\n{server}\n"
    if engine is not None:
        text += f'[[backends]]\nname = "only"\nurl = "{engine.url}"\ntype = "openai"\n'
    file.write_text(text)
    with NexusProcess("serve", "--config", str(file), "--port", str(port)) as process:
        listening = await asyncio.to_thread(process.said, "listening")
        if port:
            assert listening["url"] == f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=listening["url"], timeout=60.0) as client:
            served = Served(process, client)
            if engine is not None:
                await served.said("backend_state")
                assert (await client.get("/readyz")).status_code == 200
            yield served


async def test_serve_starts_api_server(tmp_path: Path) -> None:
    """``/health`` is 200 on the chosen port, and SIGTERM ends an idle process at once with 0."""
    with reserved_port() as port:
        async with serving(tmp_path, port=port) as served:
            response = await served.client.get("/health")
            assert response.status_code == 200
            assert response.json()["backends"]["total"] == 0
            served.process.terminate()
            assert await served.exit_code() == 0


async def test_serve_with_config_timeout(tmp_path: Path) -> None:
    """``request_timeout_seconds = 1`` in the file: a backend that takes 2 s is 504."""
    engine = FakeEngine(models=["test"], settings=Speed(delay_s=2.0))
    setting = "request_timeout_seconds = 1"
    async with engine, serving(tmp_path, engine, server=setting) as served:
        began_s = monotonic()
        response = await served.complete()
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "gateway_timeout"
        assert monotonic() - began_s > 0.95


async def test_serve_graceful_shutdown(tmp_path: Path) -> None:
    """A slow call that is in flight at SIGTERM completes; then the process ends with 0."""
    engine = FakeEngine(models=["test"], settings=Speed(delay_s=1.0))
    async with engine, serving(tmp_path, engine) as served:
        slow = served.complete()
        await eventually(lambda: engine.in_flight == 1, "the call at the backend")
        served.process.terminate()
        await served.said("draining")
        assert not slow.done()
        response = await asyncio.wait_for(slow, 5.0)
        assert response.status_code == 200
        assert response.json()["object"] == "chat.completion"
        assert await served.exit_code() == 0
        assert (engine.completed, engine.cancelled) == (1, 0)


async def test_serve_rejects_after_shutdown(tmp_path: Path) -> None:
    """After SIGTERM a new call is 503 while the one in flight completes; then the process ends."""
    engine = FakeEngine(models=["test"], settings=Speed(delay_s=2.0))
    async with engine, serving(tmp_path, engine) as served:
        slow = served.complete()
        await eventually(lambda: engine.in_flight == 1, "the call at the backend")
        served.process.terminate()
        await served.said("draining")
        late = await served.complete()
        assert late.status_code == 503
        assert late.json()["error"]["code"] == "service_unavailable"
        assert late.headers["connection"] == "close"
        assert int(late.headers["retry-after"]) >= 1
        assert not slow.done()
        assert (await slow).status_code == 200
        assert await served.exit_code() == 0
        assert engine.completed == 1


@pytest.mark.slow
async def test_serve_shutdown_timeout(tmp_path: Path) -> None:
    """A call that never completes does not keep the process: 30 s after SIGTERM it is cut, and the
    process ends with 0 all the same."""
    async with FakeEngine(models=["test"]) as engine:
        engine.faults.set(Fault.STALL)
        async with serving(tmp_path, engine) as served:
            stuck = served.complete()
            await eventually(lambda: engine.in_flight == 1, "the call at the backend")
            told_s = monotonic()
            served.process.terminate()
            assert await served.exit_code(40.0) == 0
            assert 29.0 < monotonic() - told_s < 34.0
            await asyncio.wait([stuck], timeout=5.0)
            assert stuck.done()
            assert stuck.exception() is not None or stuck.result().status_code == 503
            await eventually(lambda: engine.in_flight == 0, "the backend's request cancelled")
