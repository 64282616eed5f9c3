"""Changes of the admin API that are saved to the configuration file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from nexus.core.backend import Source
from nexus.demo.engine import FakeEngine
from tests.harness import Running, chat, eventually
from tests.integration.reloading import BASE, reloading, table, write

BACKENDS = "/admin/v1/backends"
NOTE = "# mine, and none of yours\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "nexus.toml"


def saved(file: Path) -> list[dict[str, Any]]:
    text = file.read_text()
    assert NOTE in text
    backends: list[dict[str, Any]] = tomllib.loads(text).get("backends", [])
    return backends


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


def source_of(run: Running, name: str) -> Source:
    return run.gateway.store.snapshot.backends[name].spec.source


async def test_a_saved_backend(file: Path) -> None:
    """It is in the file with what was said of it, is the file's from then on, and is healthy at
    once."""
    async with FakeEngine(name="a") as a, FakeEngine(name="b") as b:
        write(file, NOTE, table(a))
        async with reloading(file) as run:
            answer = await run.client.post(
                BACKENDS,
                json={"url": b.url, "name": "b", "priority": 7, "models": ["m"], "save": True},
            )
            assert answer.status_code == 201
            assert (answer.json()["status"], answer.json()["source"]) == ("healthy", "static")
            assert saved(file)[1] == {"name": "b", "url": b.url, "priority": 7, "models": ["m"]}
            assert (await run.client.post("/admin/v1/config/reload")).json()["outcome"] == (
                "unchanged"
            )
        async with reloading(file) as run:
            assert source_of(run, "b") is Source.STATIC


async def test_our_own_save_is_no_news(file: Path) -> None:
    """The watcher finds nothing to read in what we wrote ourselves."""
    async with FakeEngine(name="a") as a, FakeEngine(name="b") as b:
        write(file, NOTE, table(a))
        async with reloading(file, interval_s=0.02) as run:
            await run.client.post(BACKENDS, json={"url": b.url, "name": "b", "save": True})
            reloads = dict(run.gateway.metrics.reloads)
            snapshot = run.gateway.loaded
            write(file, NOTE, table(a, zone="z"))
            await eventually(lambda: run.gateway.loaded is not snapshot, "their change is read")
            applied = run.gateway.metrics.reloads["applied"]
            assert applied == reloads["applied"] + 1


async def test_a_saved_change(file: Path) -> None:
    """What runs is what the file holds then, earlier changes that were not saved too."""
    async with FakeEngine(name="a") as a:
        write(file, NOTE, table(a, zone="x"))
        async with reloading(file) as run:
            await run.client.patch(f"{BACKENDS}/a", json={"priority": 3})
            assert saved(file) == [tomllib.loads(table(a, zone="x"))["backends"][0]]
            change: dict[str, object] = {
                "tier": 2,
                "zone": None,
                "headers": {"X-Key": "k"},
                "save": True,
            }
            change["models"] = ["a", "b"]
            answer = await run.client.patch(f"{BACKENDS}/a", json=change)
            assert answer.status_code == 200
            (entry,) = saved(file)
            assert (entry["priority"], entry["tier"], entry["headers"]) == (3, 2, {"X-Key": "k"})
            assert "zone" not in entry
            assert entry["models"] == ["a", "b"]
            spec = run.gateway.store.snapshot.backends["a"].spec
            assert (spec.priority, spec.tier, spec.zone) == (3, 2, "")
            back = await run.client.patch(f"{BACKENDS}/a", json={"priority": 9})
            assert back.json()["priority"] == 9
            again = await run.client.patch(f"{BACKENDS}/a", json={"priority": 3, "save": True})
            assert again.json()["priority"] == 3
            assert saved(file)[0]["priority"] == 3


async def test_saving_what_was_added(file: Path) -> None:
    """A change of an added backend that is saved puts the whole of it into the file."""
    async with FakeEngine(name="b") as b:
        write(file, NOTE)
        async with reloading(file) as run:
            await run.client.post(BACKENDS, json={"url": b.url, "name": "b", "zone": "z"})
            assert saved(file) == []
            await run.client.patch(f"{BACKENDS}/b", json={"priority": 1, "save": True})
            assert saved(file) == [{"name": "b", "url": b.url, "priority": 1, "zone": "z"}]
            assert source_of(run, "b") is Source.STATIC


async def test_a_saved_removal(file: Path) -> None:
    """Out of the file and out of the fleet; ``?save=true`` will do."""
    async with FakeEngine(name="a") as a, FakeEngine(name="b") as b:
        write(file, NOTE, table(a), table(b))
        async with reloading(file) as run:
            assert (await run.client.delete(f"{BACKENDS}/a?save=true")).status_code == 200
            assert [entry["name"] for entry in saved(file)] == ["b"]
            assert list(run.gateway.store.snapshot.backends) == ["b"]
            reply = await run.client.post("/v1/chat/completions", json=chat())
            assert reply.headers["x-nexus-backend"] == "b"


async def test_no_file_yet(file: Path) -> None:
    """The first saved change makes ./nexus.toml, which is watched from then on."""
    quiet = {"NEXUS_SERVER__PORT": "0", "NEXUS_DISCOVERY__ENABLED": "false"}
    async with (
        FakeEngine(name="b") as b,
        reloading(file, env=quiet, searched=True, wait=False) as run,
    ):
        await run.client.post(BACKENDS, json={"url": b.url, "name": "b", "save": True})
        assert tomllib.loads(file.read_text()) == {"backends": [{"name": "b", "url": b.url}]}
        assert (await run.client.get("/admin/v1/config")).json()["file"] == str(file)


async def test_a_file_with_faults_is_not_touched(file: Path) -> None:
    """422 with its problems; nothing is saved, nothing changes."""
    async with FakeEngine(name="a") as a, FakeEngine(name="b") as b:
        write(file, NOTE, table(a))
        async with reloading(file) as run:
            for broken in (table(a, prio=1), "x ="):
                write(file, NOTE, broken)
                text = file.read_text()
                answer = await run.client.post(
                    BACKENDS, json={"url": b.url, "name": "b", "save": True}
                )
                assert answer.status_code in (409, 422)
                assert str(file) in answer.text or "not valid TOML" in answer.text
                assert file.read_text() == text
                assert list(run.gateway.store.snapshot.backends) == ["a"]


async def test_a_folder_that_cannot_be_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """409 that names the file; nothing changes."""
    async with FakeEngine(name="a") as a, FakeEngine(name="b") as b:
        write(file, NOTE, table(a))
        async with reloading(file) as run:
            # Root, as whom tests may run, may write everywhere.
            monkeypatch.setattr("tempfile.mkstemp", refuse)
            answer = await run.client.post(BACKENDS, json={"url": b.url, "name": "b", "save": True})
            assert answer.status_code == 409
            assert "cannot be written" in answer.json()["error"]["message"]
            assert list(run.gateway.store.snapshot.backends) == ["a"]


async def test_a_removed_line_by_hand(file: Path) -> None:
    """A backend that somebody took out of the file meanwhile cannot be changed there: 409."""
    async with FakeEngine(name="a") as a:
        write(file, NOTE, table(a))
        async with reloading(file) as run:
            write(file, NOTE)
            answer = await run.client.patch(f"{BACKENDS}/a", json={"priority": 1, "save": True})
            assert answer.status_code == 409
            assert "names no backend 'a'" in answer.json()["error"]["message"]
            assert run.gateway.store.snapshot.backends["a"].spec.priority == 50


async def test_the_configuration_as_it_runs(file: Path) -> None:
    """GET /config tells values, where each is from, and what the admin API changed."""
    async with FakeEngine(name="a") as a, FakeEngine(name="b") as b:
        write(
            file, NOTE, table(a), base=BASE.replace("port = 0", "port = 0\nmax_header_bytes = 2048")
        )
        async with reloading(file, env={"NEXUS_ROUTING__MAX_RETRIES": "4"}) as run:
            await run.client.post(BACKENDS, json={"url": b.url, "name": "b"})
            await run.client.patch(f"{BACKENDS}/a", json={"priority": 3})
            shown = (await run.client.get("/admin/v1/config")).json()
            assert shown["file"] == str(file)
            assert shown["config"]["server"]["max_header_bytes"] == 2048
            assert shown["config"]["routing"]["max_retries"] == 4
            backends = shown["config"]["backends"]
            assert [(one["name"], one["priority"]) for one in backends] == [("a", 3), ("b", 50)]
            origins = shown["origins"]
            assert origins["server.max_header_bytes"] == f"file {file}"
            assert origins["routing.max_retries"] == "env NEXUS_ROUTING__MAX_RETRIES"
            assert origins["routing.strategy"] == "default"
            assert origins["backends[0]"] == origins["backends[1]"] == "admin API"
            assert shown["needs_restart"] == []
