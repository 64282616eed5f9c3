"""``GET /metrics``: the page itself, who may read it, and that it is what it says."""

from __future__ import annotations

import asyncio
import shutil
import subprocess

import pytest
from msgspec.structs import replace
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.telemetry.names import METRICS, PROCESS_METRICS
from tests.harness import Running, chat, running

ALL = {*METRICS, *PROCESS_METRICS}


def family_names(text: str) -> set[str]:
    """The names that the page's TYPE lines announce."""
    return {line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE ")}


async def _traffic(run: Running) -> None:
    await run.client.post("/v1/chat/completions", json=chat())
    async with run.client.stream(
        "POST", "/v1/chat/completions", json=chat(stream=True)
    ) as response:
        await response.aread()
    await run.client.post("/v1/chat/completions", json=chat("nobody-has-it"))
    await run.client.get("/nowhere")


async def test_every_metric_of_the_table_is_there_and_no_other() -> None:
    """The page and ``telemetry/names.py`` list the same names."""
    async with FakeEngine() as engine, running(engine) as run:
        await _traffic(run)
        answer = await run.client.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert answer.headers["cache-control"] == "no-store"
        assert family_names(answer.text) == ALL
        list(parse_text(answer.text))


async def test_openmetrics_on_request() -> None:
    """A scraper that asks for OpenMetrics gets it, well formed to its end."""
    async with FakeEngine() as engine, running(engine) as run:
        await _traffic(run)
        accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        answer = await run.client.get("/metrics", headers={"accept": accept})
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")
        families = {family.name: family for family in parse_openmetrics(answer.text)}  # type: ignore[no-untyped-call]
        (requests,) = (
            sample.value
            for sample in families["nexus_requests"].samples
            if sample.labels["outcome"] == "client_error" and sample.value
        )
        assert requests == 1


async def test_methods() -> None:
    """HEAD has the same head and no body; POST is refused."""
    async with FakeEngine() as engine, running(engine) as run:
        head = await run.client.head("/metrics")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 1_000
        refused = await run.client.post("/metrics")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


async def test_it_answers_while_draining() -> None:
    """The last figures before the end are worth having: they tell what still runs."""
    async with FakeEngine() as engine, running(engine) as run:
        engine.faults.set(Fault.STALL)
        call = asyncio.ensure_future(run.client.post("/v1/chat/completions", json=chat()))
        plane = run.gateway.plane
        while not plane.active:
            await asyncio.sleep(0)
        cut_now = asyncio.Event()
        draining = asyncio.ensure_future(run.gateway.drain(cut_now))
        while not plane.draining:
            await asyncio.sleep(0)
        answer = await run.client.get("/metrics")
        assert answer.status_code == 200
        assert f'nexus_in_flight_requests{{backend="{engine.name}"}} 1.0' in answer.text
        cut_now.set()
        await draining
        assert (await call).status_code == 503


async def test_metrics_access_admin() -> None:
    """``server.metrics_access = "admin"`` asks for the admin key; the default does not."""
    async with (
        FakeEngine() as engine,
        running(engine, server={"metrics_access": "admin"}, admin_key="secret") as run,
    ):
        assert (await run.client.get("/metrics")).status_code == 401
        headers = {"authorization": "Bearer secret"}
        assert (await run.client.get("/metrics", headers=headers)).status_code == 200
    async with FakeEngine() as engine, running(engine, admin_key="secret") as run:
        answer = await run.client.get("/metrics", headers={"host": "anything.example"})
        assert answer.status_code == 200


async def test_hostile_names_are_labels_that_can_be_read() -> None:
    """A model name with quotes, line ends, half a surrogate pair and a megabyte breaks nothing."""
    names = ['quo"te', "line\nend", "back\\slash", "half\ud800", "x" * 5_000, "x" * 5_001]
    async with FakeEngine() as engine, running(engine) as run:
        await run.client.post("/v1/chat/completions", json=chat())
        (record,) = run.records
        run.gateway.stats.settle()
        for name in names:
            run.gateway.metrics.record(replace(record, served_model=name))
        text = (await run.client.get("/metrics")).text
        (family,) = (one for one in parse_text(text) if one.name == "nexus_requests")
        labels = {sample.labels["model"] for sample in family.samples}
        assert {'quo"te', "line\nend", "back\\slash", "half\\ud800"} <= labels
        assert len(labels) == len(names) + 1
        assert max(map(len, labels)) < 250


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_promtool_finds_nothing_to_say() -> None:
    """Prometheus' own linter accepts a real scrape."""
    async with FakeEngine() as engine, running(engine) as run:
        await _traffic(run)
        text = (await run.client.get("/metrics")).text
    checked = await asyncio.to_thread(
        subprocess.run,
        ["promtool", "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr, checked.stdout) == (0, "", "")
