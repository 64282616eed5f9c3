"""``nexus demo-engine``: one fake engine as a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from nexus.demo.engine import DialectName, FakeEngine
from nexus.demo.profile import Speed

__all__ = ["run_engine"]


async def run_engine(
    *,
    dialect: DialectName = "openai",
    models: Sequence[str] = ("demo-model",),
    host: str = "127.0.0.1",
    port: int = 0,
    name: str = "demo",
    settings: Speed | None = None,
    context_length: int = 8192,
    vision: bool = False,
    api_key: str = "",
    slots: int = 4,
    answer: str | None = None,
    stop: asyncio.Event | None = None,
    engine: FakeEngine | None = None,
) -> None:
    """Runs an engine until ``stop`` is set or the task is cancelled.

    Logs one line with its URL, which tells the port the kernel chose for port 0. ``engine`` runs
    in place of one made from the other arguments. Raises ``OSError`` when the address is taken.
    """
    if engine is None:
        engine = FakeEngine(
            dialect=dialect,
            models=models,
            host=host,
            port=port,
            name=name,
            settings=settings,
            context_length=context_length,
            vision=vision,
            api_key=api_key,
            slots=slots,
            answer=answer,
        )
    async with engine:
        log = structlog.get_logger("nexus.demo")
        log.info(
            "demo engine listens",
            url=engine.url,
            name=engine.name,
            dialect=engine.dialect,
            models=list(engine.models),
        )
        await (stop or asyncio.Event()).wait()
