"""The network between the gateway and an engine is cut under load."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.chaos.load import Load
from tests.chaos.stage import RECOVERY_S, Engine, Gateway, Launch, Phases, gateway_toml
from tests.chaos.test_engines import PACE, harmless
from tests.network.namespaces import Machine, Network

pytestmark = pytest.mark.network


def on(machine: Machine) -> Launch:
    """Starts ``python ARGUMENTS`` on a machine of the network."""
    return lambda _, arguments: machine.run(sys.executable, *arguments)


@pytest.mark.slow
async def test_a_cut_network_costs_no_call_that_got_nothing(
    network: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The link of one of two engines goes down under load: nothing tells the gateway but silence.
    Calls that wait go elsewhere once checks fail, streams cut in the middle say so, and soon after
    the link is up the engine serves again."""
    machines = {"far": network.machine(), "near": network.machine()}
    home = network.machine()
    engines = []
    for name, machine in machines.items():
        start = partial(Engine, launch=on(machine), host=machine.v4, port=9000)
        engines.append(await asyncio.to_thread(start, name, tmp_path, *PACE))
    config = gateway_toml(
        {one.name: one.url for one in engines},
        # Namespaces have networks of their own, but one file system: clients come by way of it.
        server=f'unix = "{tmp_path}/nexus.sock"\nstream_idle_timeout_seconds = 2',
        health="interval_seconds = 1\ntimeout_seconds = 0.5",
    )
    with await asyncio.to_thread(Gateway, tmp_path, config, launch=on(home)) as gateway:
        await gateway.healthy(2)
        async with Load(gateway.address, 150) as load:
            phases = Phases(load)
            begun_s = phases.begin("both reachable")
            await phases.serving("far", begun_s)
            await phases.last(1.0)
            phases.begin("link down")
            machines["far"].link(up=False)
            await gateway.healthy(1)
            phases.begin("known to be lost")
            await phases.last(5.0)
            machines["far"].link(up=True)
            up_s = phases.begin("link up")
            took_s = await phases.serving("far", up_s)
            phases.notes["link up"] = f"far serves after {took_s:.1f} s"
        with capsys.disabled():
            print(phases.table())  # noqa: T201 - the figures are what this test is for
        harmless(load)
        assert took_s < RECOVERY_S
        await gateway.at_rest()
