"""The engines of ``nexus demo``, and ``nexus demo-engine``."""

from __future__ import annotations

import asyncio

import structlog

from nexus.demo.command import run_engine
from nexus.demo.engine import FakeEngine
from nexus.demo.fleet import start_demo_engines
from nexus.demo.profile import Speed
from tests.unit.demo.wire import CHAT, fetch


async def test_the_demo_fleet_shares_a_model() -> None:
    """Two engines, ``demo-llama`` on both, ``demo-vision`` on one."""
    engines = await start_demo_engines()
    try:
        assert {engine.name: engine.dialect for engine in engines} == {
            "demo-vllm": "vllm",
            "demo-ollama": "ollama",
        }
        for engine in engines:
            engine.settings = Speed()
            body = {**CHAT, "model": "demo-llama"}
            assert (await fetch(engine, "/v1/chat/completions", body))[0] == 200
        assert ["demo-vision" in engine.models for engine in engines] == [False, True]
    finally:
        for engine in engines:
            await engine.stop()


async def test_the_command_tells_its_url_and_ends_when_told() -> None:
    """One line with the port that the kernel chose; the port is free afterwards."""
    stop = asyncio.Event()
    engine = FakeEngine(name="one", dialect="ollama")
    with structlog.testing.capture_logs() as lines:
        running = asyncio.create_task(run_engine(engine=engine, stop=stop))
        async with asyncio.timeout(5):
            while not lines:
                await asyncio.sleep(0.001)
        assert (await fetch(engine, "/api/version"))[0] == 200
        stop.set()
        await running
    (line,) = lines
    assert line["url"] == engine.url == f"http://127.0.0.1:{engine.port}"
    assert (line["name"], line["dialect"]) == ("one", "ollama")
    assert engine.connections_open == 0
