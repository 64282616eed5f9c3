"""Real llama.cpp servers die and hang under load."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.chaos.load import Load
from tests.chaos.stage import RECOVERY_S, Gateway, Phases, gateway_toml
from tests.chaos.test_engines import harmless
from tests.harness import eventually
from tests.real.conftest import StartLlamaCpp
from tests.real.servers import LlamaCpp
from tests.real.tiny_model import TINY_NAME

pytestmark = [pytest.mark.real, pytest.mark.slow]

RATE_PER_S = 40
"""Two slots each, some 50 ms an answer; no load that the machine itself could not take."""


@asynccontextmanager
async def fleet(start: StartLlamaCpp, home: Path) -> AsyncIterator[tuple[Gateway, list[LlamaCpp]]]:
    engines = [await asyncio.to_thread(start, name) for name in ("mortal", "steady")]
    try:
        config = gateway_toml(
            {one.name: one.url for one in engines},
            server="port = 0\nstream_idle_timeout_seconds = 3",
            health="interval_seconds = 5\ntimeout_seconds = 1",
            backend="",
        )
        with await asyncio.to_thread(Gateway, home, config) as gateway:
            await gateway.healthy(2)
            yield gateway, engines
            await gateway.at_rest()
    finally:
        for one in engines:
            one.process.kill()


async def test_a_killed_server_and_a_stopped_one(
    llamacpp_server: StartLlamaCpp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of two is killed and restarted, then stopped and woken, under an open-loop load: no call
    without a byte fails, streams say that they broke, and each time it serves again within 15 s."""
    async with (
        fleet(llamacpp_server, tmp_path) as (gateway, (mortal, _)),
        Load(gateway.address, RATE_PER_S, model=TINY_NAME, max_tokens=160) as load,
    ):
        phases = Phases(load)
        phases.begin("both well")
        await eventually(lambda: load.served["mortal"] > 20, "it has its share")
        phases.begin("killed")
        mortal.process.kill()
        await phases.last(3.0)
        await asyncio.to_thread(mortal.start)
        back_s = phases.begin("restarted")
        took_s = await phases.serving("mortal", back_s)
        phases.notes["restarted"] = f"serves after {took_s:.1f} s"
        await phases.last(1.0)
        phases.begin("stopped")
        os.kill(mortal.process.pid, signal.SIGSTOP)
        try:
            await gateway.healthy(1, 60.0)
            phases.begin("known to hang")
            await phases.last(3.0)
        finally:
            os.kill(mortal.process.pid, signal.SIGCONT)
        woken_s = phases.begin("woken")
        slept_s = await phases.serving("mortal", woken_s)
        phases.notes["woken"] = f"serves after {slept_s:.1f} s"
        await load.end()
        with capsys.disabled():
            print(phases.table())  # noqa: T201 - the figures are what this test is for
        harmless(load)
        assert max(took_s, slept_s) < RECOVERY_S
