"""A new configuration while the gateway runs: all of it or nothing (behaviour § 8)."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from nexus.core.backend import BackendStatus, Source
from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.demo.profile import Speed
from nexus.telemetry.events import Event
from tests.harness import Running, chat, eventually, running, spec_of
from tests.integration.reloading import BASE, reloading, table, write

RELOAD = "/admin/v1/config/reload"
BACKENDS = "/admin/v1/backends"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "nexus.toml"


async def reload(run: Running) -> Any:
    answer = await run.client.post(RELOAD)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def ask(run: Running, **fields: Any) -> httpx.Response:
    return await run.client.post("/v1/chat/completions", json=chat(**fields))


async def test_nothing_changed(file: Path) -> None:
    """A reload of the same file applies nothing and says so."""
    async with FakeEngine(name="a") as a:
        write(file, table(a))
        async with reloading(file) as run:
            before = run.gateway.store.snapshot
            diff = await reload(run)
            assert diff["outcome"] == "unchanged"
            assert run.gateway.store.snapshot is before
            assert run.gateway.metrics.reloads == {"applied": 1, "rejected": 0}


async def test_a_key_file_that_is_named_now_is_no_change_of_a_file(file: Path) -> None:
    """One edit that names a key file is read once, not once more for the file that it names."""
    async with FakeEngine(name="a") as a:
        write(file, table(a))
        key = file.parent / "key"
        key.write_text("secret-key")
        async with reloading(file, interval_s=0.02) as run:
            reloader = run.gateway.reloader
            assert reloader is not None
            write(file, table(a, api_key_file=str(key)))
            await eventually(lambda: run.gateway.metrics.reloads["applied"], "the edit was read")
            assert reloader._mark() == reloader._seen
            key.write_text("another-key!")
            await eventually(
                lambda: run.gateway.store.snapshot.backends["a"].spec.api_key == "another-key!",
                "the key file is watched",
            )


async def test_a_key_file_that_comes_later_is_read(file: Path) -> None:
    """A configuration that was refused for its key file is taken when that is there; and told to be
    refused once, not at each look."""
    async with FakeEngine(name="a") as a, FakeEngine(name="b") as b:
        write(file, table(a))
        key = file.parent / "key"
        async with reloading(file, interval_s=0.02) as run:
            reloads, reloader = run.gateway.metrics.reloads, run.gateway.reloader
            assert reloader is not None
            write(file, table(a), table(b, api_key_file="key"))
            await eventually(lambda: reloads["rejected"], "it is refused")
            assert reloader._mark() == reloader._seen
            assert list(run.gateway.store.snapshot.backends) == ["a"]
            key.touch()
            await eventually(lambda: reloads["rejected"] == 2, "an empty one is no better")
            key.write_text("secret-key")
            await run.healthy("a")
            await eventually(lambda: "b" in run.gateway.store.snapshot.backends, "b is known")
            assert run.gateway.store.snapshot.backends["b"].spec.api_key == "secret-key"
            assert reloads == {"applied": 1, "rejected": 2}
            await run.healthy("b")


async def test_backends_come_go_and_change(file: Path) -> None:
    """One added, one removed, one changed, one as it was, told in the answer."""
    async with FakeEngine(name="a") as a, FakeEngine(name="b") as b, FakeEngine(name="c") as c:
        write(file, table(a), table(b))
        async with reloading(file) as run:
            write(file, table(a, priority=9), table(c))
            diff = await reload(run)
            assert diff["outcome"] == "applied"
            assert (diff["added"], diff["removed"]) == (["c"], ["b"])
            assert diff["changed"] == [
                {"name": "a", "changes": [{"key": "priority", "before": 50, "after": 9}]}
            ]
            await run.healthy("c")
            assert sorted(run.gateway.store.snapshot.backends) == ["a", "c"]
            assert run.gateway.store.snapshot.backends["a"].spec.priority == 9


async def test_unchanged_backends_keep_everything(file: Path) -> None:
    """The very connections, the live figures and the health of who is not meant stay."""
    async with FakeEngine(name="a") as a, FakeEngine(name="b") as b:
        write(file, table(a))
        async with reloading(file) as run:
            for _ in range(3):
                assert (await ask(run)).is_success
            link = run.gateway.plane._links["a"]
            connections = set(link.pool._connections)
            live = run.gateway.store.live("a")
            write(file, table(a), table(b))
            await reload(run)
            await run.healthy()
            assert run.gateway.store.live("a") is live
            assert live.requests_total == 3
            run.gateway.store.drain("b")
            assert (await ask(run)).is_success
            assert run.gateway.plane._links["a"] is link
            assert set(link.pool._connections) == connections
            assert link.pool.opened_total == 1
            assert live.requests_total == 4


async def test_a_new_priority_keeps_connections_and_health(file: Path) -> None:
    """A change that is not about the way there opens no connection and asks for no new health."""
    async with FakeEngine(name="a") as a:
        write(file, table(a))
        async with reloading(file) as run:
            assert (await ask(run)).is_success
            write(file, table(a, priority=1, zone="attic", max_concurrency=7))
            await reload(run)
            assert run.gateway.store.snapshot.backends["a"].status is BackendStatus.HEALTHY
            assert (await ask(run)).is_success
            assert run.gateway.plane.pooled("a")[2] == 1


async def test_another_name_for_the_same_server(file: Path) -> None:
    """A renamed backend is known at once: health, models and figures are its server's."""
    async with FakeEngine(name="a") as a:
        write(file, table(a))
        async with reloading(file) as run:
            assert (await ask(run)).is_success
            live = run.gateway.store.live("a")
            write(file, table(a, "z"))
            await reload(run)
            assert list(run.gateway.store.snapshot.backends) == ["z"]
            assert run.gateway.store.live("z") is live
            answer = await ask(run)
            assert answer.headers["x-nexus-backend"] == "z"


async def test_exchanged_names(file: Path) -> None:
    """Two backends that exchange their names are both known still."""
    async with FakeEngine(name="a") as a, FakeEngine(name="b") as b:
        write(file, table(a), table(b))
        async with reloading(file) as run:
            lives = run.gateway.store.live("a"), run.gateway.store.live("b")
            write(file, table(a, "b"), table(b, "a"))
            await reload(run)
            assert (run.gateway.store.live("b"), run.gateway.store.live("a")) == lives
            backends = run.gateway.store.snapshot.backends
            assert (backends["a"].spec.url, backends["b"].spec.url) == (b.url, a.url)
            assert all(backend.routable for backend in backends.values())
            await run.gateway.checker.probe_now("a")
            await run.gateway.checker.probe_now("b")


QUICK = BASE + "[health_check]\ninterval_seconds = 0.1\ntimeout_seconds = 0.2\n"


@pytest.mark.parametrize("names", [("z", "b"), ("b", "a")], ids=["another", "exchanged"])
async def test_calls_at_a_backend_that_is_renamed_and_then_hangs(
    file: Path, names: tuple[str, str]
) -> None:
    """They go elsewhere when it turns unhealthy, whatever it was called when they began; those at
    the other backend stay there."""
    async with FakeEngine(name="a") as a, FakeEngine(name="b") as b:
        write(file, table(a), table(b), base=QUICK)
        async with reloading(file) as run:
            for engine in (a, b):
                engine.faults.set(Fault.STALL)
            calls = [
                asyncio.create_task(
                    run.client.post(
                        "/v1/chat/completions", json=chat(), headers={"x-nexus-pin": "b"}
                    )
                )
            ]
            await eventually(lambda: b.in_flight == 1, "one is at b")
            run.gateway.store.drain("b")
            calls.append(asyncio.create_task(ask(run)))
            await eventually(lambda: a.in_flight == 1, "another one is at a")
            run.gateway.store.resume("b")
            write(file, table(a, names[0]), table(b, names[1]), base=QUICK)
            await reload(run)
            b.faults.set(Fault.STALL, delay_s=0.01)  # those to come are answered
            a.faults.set(Fault.STALL, health=True)
            answer = await calls[1]
            # Who has exchanged its name with where it would go to finds nobody else; it is told.
            assert answer.status_code == (200 if names[0] == "z" else 502)
            assert b.in_flight == 1
            calls[0].cancel()
            await asyncio.gather(*calls, return_exceptions=True)


async def test_a_broken_file_changes_nothing(file: Path) -> None:
    """422 with every problem and its line; the old configuration goes on, and is told."""
    async with FakeEngine(name="a") as a:
        write(file, table(a))
        async with reloading(file) as run:
            before = run.gateway.store.snapshot
            write(file, table(a, prio=1), "[routing]\nstrategy = 'smrt'\n")
            answer = await run.client.post(RELOAD)
            assert answer.status_code == 422
            problems = answer.json()["problems"]
            assert [one["key"] for one in problems] == ["backends[0].prio", "routing.strategy"]
            assert [one["nearest"] for one in problems] == ["priority", "smart"]
            assert all(one["line"] for one in problems)
            assert "has 2 problems" in answer.json()["error"]["message"]
            assert run.gateway.store.snapshot is before
            assert (await ask(run)).is_success
            assert run.gateway.metrics.reloads["rejected"] == 1


async def test_a_pipe_in_the_place_of_the_file_stops_nobody(file: Path) -> None:
    """Its reader would wait for a writer: it is not read, neither to reload nor to save, and said
    to be what it is."""
    async with FakeEngine(name="a") as a:
        write(file, table(a))
        async with reloading(file, interval_s=0.02) as run:
            file.unlink()
            os.mkfifo(file)
            async with asyncio.timeout(10):
                await eventually(lambda: run.gateway.metrics.reloads["rejected"], "it is refused")
                answer = await run.client.post(RELOAD)
                saved = await run.client.patch(f"{BACKENDS}/a", json={"priority": 3, "save": True})
            assert answer.status_code == saved.status_code == 422
            assert "is a pipe or device" in answer.json()["error"]["message"]
            assert (await ask(run)).is_success
            write(file, table(a, priority=7))
            await eventually(
                lambda: run.gateway.store.snapshot.backends["a"].spec.priority == 7,
                "a file is read again",
            )


async def test_a_file_that_is_gone_changes_nothing(file: Path) -> None:
    """Named or found: a file that vanished is an accident."""
    async with FakeEngine(name="a") as a:
        for searched in (False, True):
            write(file, table(a))
            async with reloading(file, searched=searched) as run:
                file.unlink()
                answer = await run.client.post(RELOAD)
                assert answer.status_code == 422
                assert str(file) in answer.json()["error"]["message"]
                assert "a" in run.gateway.store.snapshot.backends


async def test_two_tables_for_one_server(file: Path) -> None:
    """Refused, naming both; nothing is half applied."""
    async with FakeEngine(name="a") as a, FakeEngine(name="b") as b:
        write(file, table(a))
        async with reloading(file) as run:
            write(file, table(b), table(a), table(a, "again"))
            answer = await run.client.post(RELOAD)
            assert answer.status_code == 422
            (problem,) = answer.json()["problems"]
            assert problem["key"] == "backends[2].url"
            assert 'backends[1] ("a")' in problem["message"]
            assert list(run.gateway.store.snapshot.backends) == ["a"]


async def test_what_was_added_meanwhile_stays(file: Path) -> None:
    """Backends and drains of the admin API survive a reload; so do found ones."""
    engines = FakeEngine(name="a"), FakeEngine(name="b"), FakeEngine(name="c")
    async with engines[0] as a, engines[1] as b, engines[2] as c:
        write(file, table(a))
        async with reloading(file) as run:
            await run.client.post(BACKENDS, json={"url": b.url, "name": "b"})
            run.gateway.add_backend(spec_of(c, source=Source.SCAN))
            await run.client.post(f"{BACKENDS}/a/drain")
            await run.client.patch(f"{BACKENDS}/a", json={"zone": "attic"})
            write(file, table(a), "[routing]\nmax_retries = 5\n")
            await reload(run)
            backends = run.gateway.store.snapshot.backends
            assert sorted(backends) == ["a", "b", "c"]
            assert backends["a"].status is BackendStatus.DRAINING
            assert backends["a"].spec.zone == "attic"
            await run.healthy("b", "c")


async def test_the_file_takes_over_what_was_added(file: Path) -> None:
    """A server that the file names now, by any name, is the file's, with its health."""
    async with FakeEngine(name="a") as a, FakeEngine(name="b") as b, FakeEngine(name="c") as c:
        write(file, table(a))
        async with reloading(file) as run:
            await run.client.post(BACKENDS, json={"url": b.url, "name": "b", "type": "openai"})
            run.gateway.store.add(
                spec_of(c, name="found", source=Source.MDNS), status=BackendStatus.PENDING
            )
            live = run.gateway.store.live("b")
            write(file, table(a), table(b), table(c, "mine"))
            await reload(run)
            backends = run.gateway.store.snapshot.backends
            assert sorted(backends) == ["a", "b", "mine"]
            assert {one.spec.source for one in backends.values()} == {Source.STATIC}
            assert backends["b"].routable
            assert run.gateway.store.live("b") is live
            await run.healthy("mine")
            assert (await run.client.delete(f"{BACKENDS}/b")).status_code == 409


async def test_a_name_that_is_taken(file: Path) -> None:
    """A file that wants a name of an added backend for another server is refused, and told how."""
    async with FakeEngine(name="a") as a, FakeEngine(name="b") as b:
        write(file)
        async with reloading(file) as run:
            await run.client.post(BACKENDS, json={"url": a.url, "name": "x"})
            write(file, table(b, "x"))
            answer = await run.client.post(RELOAD)
            assert answer.status_code == 422
            assert "remove that one first" in answer.json()["error"]["message"]
            assert run.gateway.store.snapshot.backends["x"].spec.url == a.url


async def test_settings_take_effect(file: Path) -> None:
    """Routing, aliases, facts of models, limits and health checks, from the next call on."""
    async with FakeEngine(name="a") as a:
        write(file, table(a))
        async with reloading(file) as run:
            assert (await ask(run, model="gpt-4")).status_code == 404
            write(
                file,
                table(a),
                '[routing]\nstrategy = "random"\n[routing.aliases]\n"gpt-4" = "demo-model"\n',
                '[models."demo-model"]\ncontext_length = 77\n',
                "[health_check]\ninterval_seconds = 3\n",
                "[telemetry]\nhistory_size = 1\n",
                base=BASE.replace(
                    "port = 0",
                    "port = 0\nmax_body_bytes = 2000\nrequest_timeout_seconds = 9\n"
                    "keep_alive_seconds = 0.05\npool_idle_per_backend = 3\n",
                ),
            )
            diff = await reload(run)
            assert {change["key"] for change in diff["settings"]} == {
                "health_check.interval_seconds",
                "models.demo-model.context_length",
                "routing.aliases.gpt-4",
                "routing.strategy",
                "server.keep_alive_seconds",
                "server.max_body_bytes",
                "server.pool_idle_per_backend",
                "server.request_timeout_seconds",
                "telemetry.history_size",
            }
            assert (await ask(run, model="gpt-4")).is_success
            listed = (await run.client.get("/v1/models")).json()["data"]
            assert {one["id"]: one["context_length"] for one in listed} == {
                "demo-model": 77,
                "gpt-4": 77,
            }
            too_big = await ask(run, text="x" * 3000)
            assert too_big.status_code == 413
            assert "2000" in too_big.json()["error"]["message"]
            link = run.gateway.plane.link(run.gateway.store.snapshot.backends["a"])
            assert (link.request_timeout_s, link.pool.idle_max) == (9.0, 3)
            assert run.gateway.checker._settings.interval_s == 3
            assert len(run.gateway.history) == 1
            # The kept-alive connection of this client is idle too long now.
            await eventually(lambda: not run.gateway.server.connections, "idle ones closed")


async def test_calls_under_way_keep_their_limits(file: Path) -> None:
    """A timeout that is shortened is for the calls to come, and a call's connection is kept."""
    async with FakeEngine(name="a", settings=Speed(delay_s=0.6)) as a:
        write(file, table(a))
        async with reloading(file) as run:
            slow = asyncio.ensure_future(ask(run))
            await eventually(lambda: run.gateway.plane.active, "a call under way")
            short = BASE.replace("port = 0", "port = 0\nrequest_timeout_seconds = 0.2")
            write(file, table(a), base=short)
            await reload(run)
            assert run.gateway.plane.active == 1
            assert (await ask(run)).status_code == 504
            assert (await slow).status_code == 200


async def test_what_needs_a_restart_is_said(file: Path) -> None:
    """Host and port stay, the answer and GET /config name them; the rest is applied."""
    async with FakeEngine(name="a") as a:
        write(file, table(a))
        async with reloading(file) as run:
            port = run.port
            write(
                file,
                table(a, zone="x"),
                base='[server]\nhost = "127.0.0.2"\nport = 1\n[discovery]\nenabled = false\n',
            )
            diff = await reload(run)
            assert {change["key"]: change["after"] for change in diff["needs_restart"]} == {
                "server.host": "127.0.0.2",
                "server.port": 1,
            }
            assert diff["settings"] == []
            assert [change["name"] for change in diff["changed"]] == ["a"]
            shown = (await run.client.get("/admin/v1/config")).json()
            assert shown["config"]["server"]["port"] == 0
            assert len(shown["needs_restart"]) == 2
            assert run.port == port


async def test_a_new_admin_key(file: Path) -> None:
    """Another key counts at once: the old one, its sessions and its listeners are out."""
    keys = {"OLD": "key-one", "NEW": "key-two"}
    named = BASE.replace("port = 0", 'port = 0\nadmin_key_env = "OLD"')
    write(file, base=named)
    async with reloading(file, env=keys) as run:
        assert (await run.client.post("/admin/v1/session", json={"key": "key-one"})).is_success
        with run.gateway.events.subscribe() as listener:
            write(file, base=named.replace("OLD", "NEW"))
            diff = await reload(run)
            assert "key-" not in str(diff)
            async with asyncio.timeout(5):
                while await listener.get():
                    pass
        assert (await run.client.get(BACKENDS)).status_code == 401
        bearer = {"authorization": "Bearer key-two"}
        assert (await run.client.get(BACKENDS, headers=bearer)).is_success


async def test_a_new_backend_key(file: Path, tmp_path: Path) -> None:
    """A key file that holds another key is news, and is told without the key."""
    key = tmp_path / "key"
    key.write_text("sk-first")
    async with FakeEngine(name="a", api_key="sk-second") as a:
        write(file, table(a, api_key_file=str(key)))
        async with reloading(file, interval_s=0.05, wait=False) as run:
            with run.gateway.events.subscribe() as listener:
                key.write_text("sk-second")
                await run.healthy("a")
                events: list[Event] = []
                while not any(one.kind == "config" for one in events):
                    event = await listener.get()
                    assert event is not None
                    events.append(event)
            assert "sk-" not in str(events)
            assert events[-1].data["changed"][0]["changes"][0]["key"] == "api_key"


@pytest.mark.parametrize("how", ["rename", "in place", "link"])
async def test_the_file_is_watched(file: Path, tmp_path: Path, how: str) -> None:
    """A file that is renamed into place, written in place, or behind a swapped link (Kubernetes),
    is read by itself; a broken one is told once."""
    async with FakeEngine(name="a") as a, FakeEngine(name="b") as b:
        if how == "link":
            for name, tables in (("one", (a,)), ("two", (a, b))):
                (tmp_path / name).mkdir()
                write(tmp_path / name / "nexus.toml", *map(table, tables))
            (tmp_path / "data").symlink_to("one")
            file.symlink_to("data/nexus.toml")
        else:
            write(file, table(a))
        async with reloading(file, interval_s=0.05) as run:
            if how == "link":
                (tmp_path / "next").symlink_to("two")
                (tmp_path / "next").replace(tmp_path / "data")
            elif how == "rename":
                write(file, table(a), table(b))
            else:
                file.write_text("\n".join((BASE, table(a), table(b))))
            await eventually(lambda: "b" in run.gateway.store.snapshot.backends, "b is known")
            assert run.gateway.metrics.reloads == {"applied": 1, "rejected": 0}
            if how == "rename":
                write(file, "broken =")
                await eventually(
                    lambda: run.gateway.metrics.reloads["rejected"], "it is found broken"
                )
                write(file, table(a))
                await eventually(
                    lambda: run.gateway.metrics.reloads["applied"] == 2, "it is read again"
                )
                assert run.gateway.metrics.reloads["rejected"] == 1
            await run.healthy()


async def test_a_file_that_comes_later(file: Path) -> None:
    """Started without a file, one that is put where it would be looked for is read."""
    quiet = {"NEXUS_SERVER__PORT": "0", "NEXUS_DISCOVERY__ENABLED": "false"}
    async with (
        FakeEngine(name="a") as a,
        reloading(file, env=quiet, searched=True, interval_s=0.05, wait=False) as run,
    ):
        assert run.gateway.loaded.path is None
        write(file, table(a))
        await eventually(lambda: "a" in run.gateway.store.snapshot.backends, "a is known")
        await run.healthy()


async def test_a_gateway_without_a_source() -> None:
    """409 where there is nothing to read again or to save to."""
    async with FakeEngine(name="a") as a, running() as run:
        assert (await run.client.post(RELOAD)).status_code == 409
        answer = await run.client.post(BACKENDS, json={"url": a.url, "save": True})
        assert answer.status_code == 409
        assert "without a configuration file" in answer.json()["error"]["message"]
        assert run.gateway.store.snapshot.backends == {}


async def test_discovery_leaves_alone_what_the_file_took_over(file: Path) -> None:
    """A found backend that the file names now is not moved or removed by what found it."""
    async with FakeEngine(name="a") as a:
        write(file)
        async with reloading(file) as run:
            run.gateway.add_backend(spec_of(a, source=Source.SCAN))
            await run.healthy()
            write(file, table(a))
            await reload(run)
            run.gateway.discovery.move("a", "http://127.0.0.1:1")
            run.gateway.discovery.remove("a", "gone for the grace period")
            backend = run.gateway.store.snapshot.backends["a"]
            assert (backend.spec.url, backend.spec.source) == (a.url, Source.STATIC)
            assert backend.routable


async def test_a_changed_key_of_an_added_backend_is_saved(file: Path) -> None:
    """The same backend with another key is no other server."""
    async with FakeEngine(name="a", api_key="sk-1") as a:
        write(file)
        async with reloading(file) as run:
            run.gateway.add_backend(spec_of(a, source=Source.MANUAL))
            change = {"headers": {"Authorization": "Bearer sk-1"}, "save": True}
            answer = await run.client.patch(f"{BACKENDS}/a", json=change)
            assert answer.status_code == 200
            assert answer.json()["source"] == "static"
            await run.healthy("a")
