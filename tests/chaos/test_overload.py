"""More than it can take: calls, connections, descriptors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from time import monotonic

import pytest

from tests.chaos.load import Call, Load
from tests.chaos.stage import Engine, Gateway, Phases, gateway_toml, launch_here, stage
from tests.harness import eventually, raw
from tests.process import resident_bytes
from tests.processes import Process

_log = logging.getLogger(__name__)

PLACES = 20
ANSWER_S = 0.2
CAPACITY_PER_S = PLACES / ANSWER_S
MIB = 1024 * 1024


async def overload(home: Path, seconds: float) -> str:
    """Half the capacity, twice of it for ``seconds``, half of it again; returns a table."""
    async with stage(
        home,
        "one",
        engine=("--ttft", str(ANSWER_S / 2), "--tokens", "8", "--tokens-per-second", "80"),
        server=f"port = 0\nmax_concurrent_requests = {PLACES}",
    ) as (gateway, _):
        pid = gateway.process.pid
        async with Load(gateway.address, CAPACITY_PER_S / 2) as load:
            phases = Phases(load)
            phases.begin("half the capacity")
            await eventually(lambda: load.outcomes["ok"] > 40, "calls go through", 20.0)
            before_bytes = resident_bytes(pid)
            unharmed_s = median(call.took_s for call in load.calls)
            begun_s = phases.begin("twice the capacity")
            load.rate_per_s = CAPACITY_PER_S * 2
            await phases.last(seconds)
            after_bytes = resident_bytes(pid)
            load.rate_per_s = CAPACITY_PER_S / 2
            over_s = phases.begin("half of it again")
            await phases.last(2.0)
        assert set(load.outcomes) == {"ok", "status 503"}
        during = [call for call in load.calls if begun_s <= call.began_s < over_s]
        refused = [call for call in during if call.status == 503]
        accepted = [call for call in during if call.status == 200]
        assert len(refused) > len(during) / 4
        assert all(int(call.headers["retry-after"]) >= 1 for call in refused)
        assert median(call.took_s for call in accepted) < 2 * unharmed_s
        assert median(call.took_s for call in refused) < 0.05
        recovered_s = max(call.began_s for call in refused) - over_s
        assert not [
            call for call in load.calls if call.status == 503 and call.began_s > over_s + 1.0
        ]
        assert after_bytes - before_bytes < 16 * MIB
        return (
            f"{phases.table()}\naccepted took {_told(accepted)}, refused {_told(refused)}; last "
            f"refusal {1000 * recovered_s:.0f} ms after the end; memory {before_bytes / MIB:.1f} "
            f"MiB before, {after_bytes / MIB:.1f} after"
        )


def _told(calls: list[Call]) -> str:
    cuts = quantiles([1000 * call.took_s for call in calls], n=100)
    return f"{cuts[49]:.1f} ms (99 %: {cuts[98]:.1f})"


async def test_what_is_too_much_is_refused_at_once(tmp_path: Path) -> None:
    """At twice the capacity the excess is told 503 with Retry-After within milliseconds, accepted
    calls take no longer, memory stays, and a second later all is as before."""
    _log.info("%s", await overload(tmp_path, 1.5))


@pytest.mark.slow
async def test_two_minutes_of_too_much(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for two minutes."""
    table = await overload(tmp_path, 120.0)
    with capsys.disabled():
        print(table)  # noqa: T201 - the figures are what this test is for


@asynccontextmanager
async def single(home: Path, descriptors: int = 0) -> AsyncIterator[Gateway]:
    """A gateway in front of one engine, with so many open files at most."""
    engine = await asyncio.to_thread(Engine, "one", home, "--ttft", "0.02")
    try:
        config = gateway_toml(
            {"one": engine.url}, health="interval_seconds = 0.5\ntimeout_seconds = 0.5"
        )
        with await asyncio.to_thread(Gateway, home, config, descriptors=descriptors) as gateway:
            await gateway.healthy(1)
            yield gateway
    finally:
        engine.kill()


def idle_clients(stack: ExitStack, gateway: Gateway, count: int, home: Path) -> tuple[Process, int]:
    """A process with so many silent connections, and how many of them were opened."""
    process = launch_here(
        home / "idle.log", ["-m", "tests.chaos.idle", str(gateway.port), str(count)]
    )
    stack.callback(process.kill)
    return process, int(process.says(r"open (\d+)"))


async def test_few_descriptors_and_many_clients(tmp_path: Path) -> None:
    """With 256 descriptors, 600 silent connections and calls: those who ask go on to be answered,
    new clients find room, the backend stays healthy, and the log has a line of it, not hundreds."""
    async with single(tmp_path, 256) as gateway:
        with ExitStack() as stack:
            async with Load(gateway.address, 100) as load:
                await eventually(lambda: load.outcomes["ok"] > 50, "calls go through")
                crowd, _ = await asyncio.to_thread(idle_clients, stack, gateway, 600, tmp_path)
                await asyncio.sleep(0.7)  # who was silent for half a second makes room
                since_s = monotonic()
                for _ in range(20):
                    assert (await gateway.get("/health"))["backends"]["healthy"] == 1
                    assert gateway.descriptors() < 250
                await eventually(lambda: load.since(since_s)["ok"] > 100, "calls go through")
                crowd.close_stdin()
            # Of calls that came while the crowd did some may have found no room for a connection.
            failed = load.outcomes.total() - load.outcomes["ok"]
            assert failed <= 0.1 * load.begun, load.outcomes
            late = [call for call in load.calls if call.began_s > since_s and call.outcome != "ok"]
            assert late == []
        assert gateway.process.output.count('"too_many_connections"') == 1
        assert '"unhealthy"' not in gateway.process.output


@pytest.mark.slow
async def test_two_thousand_at_once(tmp_path: Path) -> None:
    """Two thousand clients connect in one moment, each with a call: all are answered."""
    async with single(tmp_path) as gateway:
        load = Load(gateway.address, 0.0, keep=False)
        for _ in range(2000):
            load._begin()
        await eventually(lambda: not load.under_way, "all have ended", 60.0)
        await load.end()
        assert set(load.outcomes) <= {"ok", "status 503"}, load.outcomes
        assert load.outcomes["ok"] >= 1000  # server.max_concurrent_requests
        _log.info("%s in %.1f s", load.outcomes, max(call.took_s for call in load.calls))
        async with raw(gateway.port) as client:
            client.send(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await client.response())[0] == 200


@pytest.mark.slow
async def test_ten_thousand_idle_connections(tmp_path: Path) -> None:
    """Ten thousand clients that say nothing: a call is answered meanwhile as ever, each takes a few
    kilobytes, and all descriptors are free again when they have left."""
    async with single(tmp_path) as gateway:
        pid = gateway.process.pid
        descriptors, before_bytes = gateway.descriptors(), resident_bytes(pid)
        with ExitStack() as stack:
            crowd, count = await asyncio.to_thread(idle_clients, stack, gateway, 10_000, tmp_path)
            assert count == 10_000
            await eventually(lambda: gateway.descriptors() >= 10_000, "all were accepted")
            per_connection = (resident_bytes(pid) - before_bytes) / count
            async with Load(gateway.address, 50) as load:
                await eventually(lambda: load.outcomes["ok"] >= 25, "calls go through")
            assert set(load.outcomes) == {"ok"}
            assert median(call.took_s for call in load.calls) < 0.5
            crowd.close_stdin()
            await eventually(lambda: gateway.descriptors() <= descriptors + 20, "all have left", 20)
        _log.info("%.1f kB per idle connection", per_connection / 1000)
        assert per_connection < 10_000
