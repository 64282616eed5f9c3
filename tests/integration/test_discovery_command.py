"""``nexus discover`` as a process: what it finds, prints, adds and refuses."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nexus.demo.engine import FakeEngine
from tests.harness import running


async def discover(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors; the network is not asked."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nexus", "discover", "--no-mdns", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")},
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine(dialect="ollama", models=("m1", "m2"), host="0.0.0.0") as engine:
        yield engine


async def test_this_machine_without_a_gateway(engine: FakeEngine) -> None:
    """Engine, version and models of what listens; a table for people."""
    code, out, err = await discover("--port", str(engine.port))
    assert (code, err) == (0, "")
    heading, row = out.splitlines()
    assert heading.split() == ["URL", "ENGINE", "VERSION", "STATUS", "MODELS", "SEEN", "BY"]
    assert row.split()[:2] == [f"http://127.0.0.1:{engine.port}", "ollama"]
    assert "m1:latest, m2:latest" in row


async def test_a_subnet_as_json(engine: FakeEngine) -> None:
    """Every address that answers, in the shape of the admin API's probe."""
    code, out, _ = await discover("--subnet", "127.0.0.0/29", "--port", str(engine.port), "--json")
    assert code == 0
    rows: list[dict[str, Any]] = json.loads(out)["data"]
    # All of them are this machine: one server.
    (row,) = rows
    assert row["url"] == f"http://127.0.0.1:{engine.port}"
    assert (row["engine"], row["source"], row["nexus"]) == ("ollama", "scan", False)
    assert [model["id"] for model in row["models"]] == ["m1:latest", "m2:latest"]


async def test_nothing_there() -> None:
    """It says where it looked."""
    code, out, _ = await discover("--port", "1")
    assert code == 0
    assert out == "no inference server found on this machine (ports 1)\n"


@pytest.mark.parametrize("subnet", ["8.8.8.0/24", "10.0.0.0/8", "nonsense"])
async def test_ranges_that_are_refused(subnet: str) -> None:
    """Wrong usage: exit code 2, nothing is scanned."""
    code, out, err = await discover("--subnet", subnet)
    assert (code, out) == (2, "")
    assert "--subnet" in err


async def test_what_is_found_is_added(engine: FakeEngine) -> None:
    """``--add`` registers it at the running gateway, once; a gateway is not added."""
    async with running(wait=False) as run:
        arguments = ("--port", str(engine.port), "--port", str(run.port), "--gateway", run.url)
        code, out, err = await discover(*arguments, "--add")
        assert (code, err) == (0, "")
        assert "added as ollama" in out
        assert "not added: a gateway" in out
        (backend,) = run.gateway.backends().values()
        assert backend.spec.url == f"http://127.0.0.1:{engine.port}"
        await run.healthy()
        _, out, _ = await discover(*arguments, "--add")
        assert "known already" in out
        assert len(run.gateway.backends()) == 1


async def test_add_without_a_gateway() -> None:
    """Said before anything is scanned."""
    code, out, err = await discover("--add", "--gateway", "http://127.0.0.1:1", "--port", "1")
    assert (code, out) == (1, "")
    assert "no gateway is running" in err
