"""Reload under load: the fleet changes twenty times while two hundred calls a second go through."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from time import monotonic

import pytest

from nexus.demo.engine import FakeEngine
from nexus.demo.profile import Speed
from tests.harness import Raw, Running, chat, eventually, raw
from tests.integration.reloading import reloading, table, write

CALLS_PER_S = 200
CLIENTS = 40
CHANGES = 20
SECONDS_PER_CHANGE = 0.5


class Load:
    """Calls at a steady rate over kept-alive connections, every other one streamed; ``failed`` has
    those that went wrong."""

    def __init__(self, run: Running) -> None:
        self._port = run.port
        self._ending = asyncio.Event()
        self.failed: list[str] = []
        self.done = 0
        self.backends: dict[str, int] = {}
        self.slowest_s = 0.0
        self.began_s = monotonic()

    async def keep_up(self) -> None:
        """Calls until :meth:`end`; returns when each has had its answer."""
        self.began_s = monotonic()
        await asyncio.gather(*(self._client(number) for number in range(CLIENTS)))

    def end(self) -> None:
        """No further calls."""
        self._ending.set()

    async def _client(self, number: int) -> None:
        due_s = self.began_s + number / CALLS_PER_S
        async with raw(self._port) as connection:
            while not self._ending.is_set():
                await asyncio.sleep(due_s - monotonic())
                due_s += CLIENTS / CALLS_PER_S
                await self._call(connection, stream=bool(self.done % 2))

    async def _call(self, connection: Raw, *, stream: bool) -> None:
        body = json.dumps(chat(stream=stream)).encode()
        began_s = monotonic()
        connection.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        status, headers, answer = await connection.response()
        if status != 200 or (b"[DONE]" if stream else b'"choices"') not in answer:
            self.failed.append(f"{status}: {answer[:200]!r}")
        name = headers.get("x-nexus-backend", "")
        self.backends[name] = self.backends.get(name, 0) + 1
        self.done += 1
        self.slowest_s = max(self.slowest_s, monotonic() - began_s)


@pytest.mark.slow
async def test_no_call_fails_while_the_configuration_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """200 calls a second for ten seconds while the file changes 20 times (backends added, removed,
    re-prioritised, renamed; broken files among them): none fails, and the backend that no change
    was about keeps its connections and its figures."""
    file = tmp_path / "nexus.toml"
    pace = Speed(ttft_s=0.005, tokens=4, tokens_per_s=400.0)
    engines = [FakeEngine(name=name, settings=pace) for name in "abcd"]
    async with engines[0] as a, engines[1] as b, engines[2] as c, engines[3] as d:
        write(file, table(a), table(b))
        async with reloading(file, interval_s=0.05) as run:
            plane, store = run.gateway.plane, run.gateway.store
            load = Load(run)
            generator = asyncio.ensure_future(load.keep_up())
            await eventually(lambda: store.live("a").requests_total > 50, "calls go through")
            live, pool = store.live("a"), plane._links["a"].pool
            opened, served = pool.opened_total, live.requests_total
            reloads = run.gateway.metrics.reloads
            for change in range(CHANGES):
                before = sum(reloads.values())
                texts = {
                    0: (table(a), table(b), table(c)),
                    1: (table(a), table(b, priority=10 + change), table(c)),
                    2: (table(a), table(b), table(d), "[routing]\nmax_retries = 3\n"),
                    3: (table(a), table(b), "broken ="),
                    4: (table(a), table(b, "b2"), table(d, priority=change)),
                }[change % 5]
                write(file, *texts)
                await eventually(lambda old=before: sum(reloads.values()) > old, "a reload")  # type: ignore[misc]
                await asyncio.sleep(SECONDS_PER_CHANGE - 0.25)
            load.end()
            took_s = monotonic() - load.began_s
            await generator
            assert load.failed == []
            assert load.done / took_s > 0.5 * CALLS_PER_S  # else it was no load
            assert reloads == {"applied": 16, "rejected": 4}
            assert store.live("a") is live
            assert plane._links["a"].pool is pool
            assert live.requests_total == load.backends["a"]
            assert live.requests_total > served
            assert live.errors_total == 0
            # Opened because calls came at once, not because any was thrown away.
            assert pool.opened_total - opened <= pool.idle_max
            with capsys.disabled():
                print(  # noqa: T201 - the figures are what this test is for
                    f"\n{load.done} calls in {took_s:.1f} s, {len(load.failed)} failed, slowest "
                    f"{load.slowest_s * 1000:.0f} ms, by backend {load.backends}; connections to "
                    f"a: {opened} before, {pool.opened_total} after; reloads {reloads}"
                )
