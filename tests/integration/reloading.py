"""A gateway whose configuration is a file that tests rewrite."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from nexus.demo.engine import FakeEngine
from nexus.runtime.gateway import Gateway
from nexus.runtime.reload import Reloader
from nexus.runtime.source import ConfigSource
from tests.harness import Running

__all__ = ["BASE", "reloading", "table", "write"]

BASE = "[server]\nport = 0\n[discovery]\nenabled = false\n"


def table(engine: FakeEngine, name: str = "", **settings: object) -> str:
    """A ``[[backends]]`` for an engine."""
    lines = [f'[[backends]]\nname = "{name or engine.name}"\nurl = "{engine.url}"']
    lines.append(f'type = "{engine.dialect}"')
    for key, value in settings.items():
        lines.append(f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}")
    return "\n".join(lines) + "\n"


def write(file: Path, *parts: str, base: str = BASE) -> None:
    """Replaces the file as careful editors do: by a rename."""
    temporary = file.with_suffix(".new")
    temporary.write_text("\n".join((base, *parts)))
    temporary.replace(file)


@contextlib.asynccontextmanager
async def reloading(
    file: Path,
    *,
    env: Mapping[str, str] | None = None,
    interval_s: float = 3600.0,
    searched: bool = False,
    wait: bool = True,
) -> AsyncIterator[Running]:
    """A gateway of the configuration in ``file``, which is looked at each ``interval_s``.

    ``searched``: the file is found in its folder, not named.
    """
    source = ConfigSource(path=None if searched else file, env=env or {}, cwd=file.parent)
    gateway = Gateway(source.load())
    gateway.reloader = Reloader(gateway, source, interval_s=interval_s)
    async with gateway:
        run = Running(gateway)
        try:
            if wait:
                await run.healthy()
            yield run
        finally:
            await run.client.aclose()
        await run.settled()
