"""``nexus demo``: two demo engines and a gateway in front of them, with nothing to install."""

from __future__ import annotations

import asyncio

import uvloop

from nexus.config.loader import Loaded
from nexus.config.schema import Config, DiscoveryConfig, HealthCheckConfig, ServerConfig
from nexus.core.backend import BackendSpec, EngineKind
from nexus.demo.fleet import start_demo_engines
from nexus.runtime.serve import serve
from nexus.telemetry.logs import configure_logging, finish_logging

__all__ = ["run"]


def run(port: int) -> int:
    """Serves the demo on ``port`` until told to stop; returns the exit code."""
    configure_logging("info", "auto", {}, background=True)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_demo(port))
    finally:
        finish_logging()


async def _demo(port: int) -> int:
    engines = await start_demo_engines()
    try:
        loaded = Loaded(
            config=Config(
                server=ServerConfig(port=port),
                health_check=HealthCheckConfig(interval_seconds=5.0),
                # Its own engines and no others: what it shows is the same everywhere.
                discovery=DiscoveryConfig(enabled=False),
            ),
            path=None,
            origins={},
            backends=tuple(
                BackendSpec(name=engine.name, url=engine.url, engine=EngineKind(engine.dialect))
                for engine in engines
            ),
            admin_key="",
        )
        return await serve(loaded)
    finally:
        for engine in engines:
            await engine.stop()
