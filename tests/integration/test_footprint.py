"""What a gateway loads to start and to serve, and how much memory that takes."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path

from tests.process import NexusProcess, resident_bytes

LIMIT_BYTES = 38 * 1024 * 1024

NEEDLESS = frozenset(
    {
        *("anyio", "difflib", "html", "jinja2", "prometheus_client", "pygments", "rich"),
        *("starlette", "tomlkit", "zeroconf"),
    }
)
"""Packages that a gateway needs for tables, its pages, discovery, saving or refusing: later, if
ever. Each costs milliseconds of the start and memory."""


def test_a_gateway_just_started_is_small(tmp_path: Path) -> None:
    """``nexus serve`` takes at most 38 MiB when it begins to listen."""
    file = tmp_path / "nexus.toml"
    file.write_text("")
    with NexusProcess("serve", "--config", str(file), "--port", "0") as gateway:
        gateway.said("listening")
        taken_bytes = resident_bytes(gateway.pid)
    assert 0 < taken_bytes <= LIMIT_BYTES, f"{taken_bytes / 2**20:.1f} MiB"


def test_the_first_call_needs_nothing_but_the_data_plane(tmp_path: Path) -> None:
    """From the start to the end of a call, without discovery, no package is imported that serves
    something else."""
    file = tmp_path / "nexus.toml"
    with NexusProcess("demo-engine", "--model", "demo") as engine:
        engine_url = engine.said("demo engine listens")["url"]
        file.write_text(f"[[backends]]\nname = 'demo'\nurl = '{engine_url}'\ntype = 'openai'\n")
        serve = ("serve", "--config", str(file), "--port", "0")
        with NexusProcess(*serve, environment={"PYTHONPROFILEIMPORTTIME": "1"}) as gateway:
            url = gateway.said("listening")["url"]
            gateway.said("backend_state")
            assert _ask(url.removeprefix("http://"), "demo") == 200
            gateway.terminate()
            gateway.exit_code()
            imported = _imported(gateway)
    assert "nexus.proxy.exchange" in imported
    # Of rich there is the try of structlog, which is told that there is none.
    assert {name for name in imported if name.partition(".")[0] in NEEDLESS} <= {"rich"}


def _ask(address: str, model: str) -> int:
    question = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(question))
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def _imported(process: NexusProcess) -> set[str]:
    """The modules that ``-X importtime`` told of."""
    told = (re.match(r"import time:.*\|\s+(\S+)$", line.get("text", "")) for line in process.log)
    return {found[1] for found in told if found is not None}
