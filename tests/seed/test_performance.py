"""Seed T13: how fast, how small.

Time is the whole round trip as a client sees it: client, gateway and backend are three processes
on loopback, the client keeps one connection alive, the backend answers at once. Other processes
share the machine, so the best of up to three rounds counts. Memory is the resident memory of a
fresh process that has imported everything, before and after it makes a gateway.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from tests.process import NexusProcess
from tests.seed.fleet import COMPLETIONS, request

WARM_UPS = 10
CALLS = 100
ROUNDS = 3
BODY = json.dumps(request())


def test_response_time_under_5ms(tmp_path: Path) -> None:
    """A call takes less than 5 ms on average, and 99 of 100 less than 10 ms."""
    file = tmp_path / "nexus.toml"
    with NexusProcess("demo-engine", "--model", "test") as engine:
        url = engine.said("demo engine listens")["url"]
        file.write_text(f'[[backends]]\nname = "only"\nurl = "{url}"\ntype = "openai"\n')
        with NexusProcess("serve", "--config", str(file), "--port", "0") as gateway:
            address = urlsplit(gateway.said("listening")["url"])
            gateway.said("backend_state")
            client = http.client.HTTPConnection(address.netloc, timeout=10.0)
            try:
                rounds = [measured(client)]
                while len(rounds) < ROUNDS and not fast(rounds[-1]):
                    rounds.append(measured(client))
            finally:
                client.close()
    assert fast(rounds[-1]), [f"mean {mean_ms:.2f} ms, p99 {p99:.2f} ms" for mean_ms, p99 in rounds]


def fast(times_ms: tuple[float, float]) -> bool:
    """Whether mean and 99th percentile keep the seed's bounds."""
    mean_ms, p99_ms = times_ms
    return mean_ms < 5.0 and p99_ms < 10.0


def measured(client: http.client.HTTPConnection) -> tuple[float, float]:
    """Mean and 99th percentile of one round, in ms."""
    for _ in range(WARM_UPS):
        complete(client)
    times_ms = []
    for _ in range(CALLS):
        began = perf_counter()
        complete(client)
        times_ms.append((perf_counter() - began) * 1000)
    return sum(times_ms) / CALLS, sorted(times_ms)[98]


def complete(client: http.client.HTTPConnection) -> None:
    """One whole call."""
    client.request("POST", COMPLETIONS, BODY, {"Content-Type": "application/json"})
    response = client.getresponse()
    body = response.read()
    assert response.status == 200
    assert body.startswith(b"{")
    assert body.endswith(b"}")


MEASURE = """
import asyncio
import os
import uvloop
from nexus.config.loader import Loaded
from nexus.config.schema import Config, ServerConfig
from nexus.runtime.gateway import Gateway
from tests.process import resident_bytes

async def main():
    config = Config(server=ServerConfig(port=0))
    loaded = Loaded(config=config, path=None, origins={}, backends=(), admin_key="")
    before = resident_bytes(os.getpid())
    gateway = Gateway(loaded)
    made = resident_bytes(os.getpid())
    await gateway.start()
    started = resident_bytes(os.getpid())
    await gateway.stop()
    print(before, made, started)

uvloop.run(main())
"""


def test_memory_overhead_under_10mb() -> None:
    """Making a gateway takes less than 10 MB, and so does having it listen."""
    result = subprocess.run(
        [sys.executable, "-c", MEASURE],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    before, made, started = (int(word) for word in result.stdout.split())
    assert before > 0
    assert made - before < 10_000_000
    assert started - before < 10_000_000
