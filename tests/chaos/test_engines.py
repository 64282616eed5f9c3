"""Engines die, hang, crawl and come back under load."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from tests.chaos.load import Load
from tests.chaos.stage import RECOVERY_S, Engine, Gateway, Phases, stage
from tests.harness import eventually

_log = logging.getLogger(__name__)

PACE = ("--ttft", "0.03", "--tokens", "12", "--tokens-per-second", "100")
"""An answer takes 0.15 s."""
QUICK_HEALTH = "interval_seconds = 1\ntimeout_seconds = 0.5"


def harmless(load: Load) -> None:
    """No call failed; a stream in flight may have been told that its engine died."""
    assert set(load.outcomes) <= {"ok", "told"}, load.outcomes
    assert load.under_way == 0


async def killed_and_back(phases: Phases, engine: Engine, away_s: float) -> None:
    """kill -9, some seconds without it, restart, until it serves."""
    phases.begin(f"{engine.name} killed")
    engine.kill()
    await phases.last(away_s)
    await asyncio.to_thread(engine.start)
    back_s = phases.begin(f"{engine.name} restarted")
    took_s = await phases.serving(engine.name, back_s)
    phases.notes[f"{engine.name} restarted"] = f"serves after {took_s:.1f} s"
    assert took_s < RECOVERY_S


async def test_a_killed_engine_costs_no_call_that_got_nothing(tmp_path: Path) -> None:
    """One of two engines is killed at 300 calls a second: every call without a byte is answered,
    streams in flight end with the error event, and it serves again within 15 s of its restart."""
    async with stage(tmp_path, "mortal", "steady", engine=PACE) as (gateway, (mortal, _)):
        async with Load(gateway.address, 300) as load:
            phases = Phases(load)
            phases.begin("both well")
            await eventually(lambda: load.served["mortal"] > 100, "it has its share")
            await killed_and_back(phases, mortal, 0.5)
        _log.info("%s", phases.table())  # shown by pytest --log-cli-level=info
        harmless(load)
        # No more streams can have been cut than were in flight there.
        assert load.outcomes["told"] <= 75
        told = (await gateway.get("/admin/v1/stats"))["requests"]
        assert told["upstream_error"] == load.outcomes["told"]
        assert told["ok"] == load.outcomes["ok"]


@pytest.mark.slow
async def test_a_stopped_engine_holds_nobody(tmp_path: Path) -> None:
    """One of three engines is stopped by SIGSTOP: calls that wait for it go elsewhere once checks
    tell that it hangs, streams cut in the middle say so; woken up it serves again."""
    async with stage(
        tmp_path,
        *("sleeper", "steady", "third"),
        engine=PACE,
        server="port = 0\nstream_idle_timeout_seconds = 2",
        health=QUICK_HEALTH,
    ) as (gateway, (sleeper, *_)):
        async with Load(gateway.address, 150) as load:
            phases = Phases(load)
            phases.begin("all well")
            await eventually(lambda: load.served["sleeper"] > 30, "it has its share")
            phases.begin("sleeper stopped")
            sleeper.stop()
            try:
                await gateway.healthy(2)
                known_s = phases.begin("sleeper known to hang")
                await eventually(lambda: load.since(known_s)["ok"] > 100, "others serve")
            finally:
                sleeper.go_on()
            woken_s = phases.begin("sleeper woken")
            took_s = await phases.serving("sleeper", woken_s)
            phases.notes["sleeper woken"] = f"serves after {took_s:.1f} s"
        _log.info("%s", phases.table())
        harmless(load)
        slowest_s = max(call.took_s for call in load.calls)
        assert slowest_s < 10.0


@pytest.mark.slow
async def test_when_all_are_dead_it_is_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both engines are killed at 200 calls a second: each call is told 502 or 503, soon; when one
    is back, all are answered again within 15 s."""
    async with stage(tmp_path, "a", "b", engine=PACE) as (gateway, (a, b)):
        async with Load(gateway.address, 200) as load:
            phases = Phases(load)
            phases.begin("both well")
            await eventually(lambda: load.outcomes["ok"] > 100, "calls go through")
            a.kill()
            b.kill()
            killed_s = phases.begin("both killed")
            await phases.last(3.0)
            dead = [call for call in load.calls if call.began_s > killed_s + 0.5]
            await asyncio.to_thread(a.start)
            back_s = phases.begin("one restarted")
            took_s = await phases.serving("a", back_s)
            phases.notes["one restarted"] = f"serves after {took_s:.1f} s"
            well_s = phases.begin("one well")
            await phases.last(2.0)
        with capsys.disabled():
            print(phases.table())  # noqa: T201 - the figures are what this test is for
        assert set(load.outcomes) <= {"ok", "told", "status 502", "status 503"}
        assert {call.outcome for call in dead} <= {"status 502", "status 503"}
        assert max(call.took_s for call in dead) < 2.0
        assert {call.outcome for call in load.calls if call.began_s > well_s} == {"ok"}
        assert took_s < RECOVERY_S


@pytest.mark.slow
async def test_engines_fail_one_after_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three engines, under 300 calls a second: one is killed and restarted, one stopped and
    woken, one answers 500, resets what it began, and crawls; no call without a byte fails."""
    async with stage(
        tmp_path,
        *("a", "b", "c"),
        engine=PACE,
        server="port = 0\nstream_idle_timeout_seconds = 5",
        health="interval_seconds = 5\ntimeout_seconds = 1",
    ) as (gateway, (a, b, c)):
        async with Load(gateway.address, 300) as load:
            phases = Phases(load)
            phases.begin("all well")
            await phases.last(3.0)
            await killed_and_back(phases, a, 5.0)
            await stopped_and_woken(gateway, phases, b)
            phases.begin("c answers 500")
            await c.fault("status", status=500)
            await phases.last(3.0)
            phases.begin("c resets in the middle")
            await c.fault("reset_after_events")
            await phases.last(3.0)
            await c.fault("none")
            well_s = phases.begin("all well again")
            took_s = await phases.serving("c", well_s)
            phases.notes["all well again"] = f"c serves after {took_s:.1f} s"
            phases.begin("c crawls")
            await c.speed(ttft_s=3.0, tokens=12, tokens_per_s=10)
            await phases.last(6.0)
            await c.speed(ttft_s=0.03, tokens=12, tokens_per_s=100)
            phases.begin("all well again")
            await phases.last(4.0)
        with capsys.disabled():
            print(phases.table())  # noqa: T201 - the figures are what this test is for
        harmless(load)


async def stopped_and_woken(gateway: Gateway, phases: Phases, engine: Engine) -> None:
    """SIGSTOP until checks have noticed, and some seconds more; SIGCONT, until it serves."""
    name = engine.name
    phases.begin(f"{name} stopped")
    engine.stop()
    try:
        await gateway.healthy(2, 60.0)
        phases.begin(f"{name} known to hang")
        await phases.last(5.0)
    finally:
        engine.go_on()
    woken_s = phases.begin(f"{name} woken")
    took_s = await phases.serving(name, woken_s)
    phases.notes[f"{name} woken"] = f"serves after {took_s:.1f} s"
    assert took_s < RECOVERY_S
