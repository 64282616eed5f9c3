"""No secret in any output: planted everywhere one can be, looked for everywhere something is said
(behaviour § 11)."""

from __future__ import annotations

import io
import logging
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nexus.admin.sessions import COOKIE
from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.runtime.gateway import Gateway
from nexus.runtime.reload import Reloader
from nexus.runtime.source import ConfigSource
from nexus.telemetry.access import AccessLog
from nexus.telemetry.logs import configure_logging
from tests.harness import Running, chat, eventually
from tests.integration.reloading import BASE, write

MARK = "PLANTED"
ADMIN = f"{MARK}-admin-key"
CLIENT = f"{MARK}-client-key"


def backend(name: str, url: str, **settings: str) -> str:
    lines = [f'[[backends]]\nname = "{name}"\nurl = "{url}"']
    lines += [f"{key} = {value}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


async def everything_said(run: Running) -> list[tuple[str, str]]:
    """What each page and route says, errors and the dashboard too."""
    key = {"authorization": f"Bearer {ADMIN}"}
    get = ["/", "/health", "/readyz", "/v1/models", "/metrics", "/nothing", "/v1/stats"]
    get += [f"/admin/v1/{path}" for path in ("backends", "models", "config", "stats", "history")]
    get += [f"/admin/v1/{path}" for path in ("openapi.json", "session", "backends/env", "nothing")]
    rows = (await run.client.get("/admin/v1/history", headers=key)).json()["data"]
    get += [f"/admin/v1/history/{row['request_id']}" for row in rows]
    said = []
    for path in get:
        answer = await run.client.get(path, headers=key)
        said.append((path, answer.text + str(answer.headers)))
    explained = await run.client.post("/admin/v1/routes/explain", json=chat(), headers=key)
    said.append(("explain", explained.text))
    return said


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that is logged, down to debug, but for what this test's own client says."""
    root, ours = logging.getLogger(), logging.getLogger("nexus")
    before = list(root.handlers), root.level, ours.level
    stream = io.StringIO()
    configure_logging("debug", "json", stream=stream)
    for client in ("httpx", "httpcore"):
        logging.getLogger(client).setLevel(logging.WARNING)
    yield stream
    root.handlers, level, own_level = before
    root.setLevel(level)
    ours.setLevel(own_level)
    for client in ("httpx", "httpcore"):
        logging.getLogger(client).setLevel(logging.NOTSET)


async def test_no_secret_is_ever_said(
    tmp_path: Path,
    log: io.StringIO,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Keys of backends by variable and file, in headers, query parameters and URLs, the admin key,
    sessions, clients' keys: after calls, failures, changes, reloads and refusals of all kinds, none
    is in any answer, event, metric, log line or page."""
    access = io.BytesIO()
    file, key_file = tmp_path / "nexus.toml", tmp_path / "key"
    key_file.write_text(f"{MARK}-file-key")
    env = {"ADMIN": ADMIN, "BACKEND": f"{MARK}-env-key"}
    monkeypatch.setenv("BACKEND", env["BACKEND"])
    base = BASE.replace("port = 0", 'port = 0\nadmin_key_env = "ADMIN"')
    async with (
        FakeEngine(name="e", api_key=env["BACKEND"]) as e,
        FakeEngine(name="f", api_key=f"{MARK}-file-key") as f,
        FakeEngine(name="h") as h,
        FakeEngine(name="n") as n,
    ):
        tables = [
            backend("env", e.url, api_key_env='"BACKEND"'),
            backend("file", f.url, api_key_file=f'"{key_file}"'),
            backend(
                "headers",
                f"{h.url}?code={MARK}-in-url",
                headers=f'{{ Authorization = "Bearer {MARK}-header" }}',
                query=f'{{ key = "{MARK}-query" }}',
            ),
        ]
        write(file, *tables, base=base)
        source = ConfigSource(path=file, env=env, cwd=tmp_path)
        gateway = Gateway(source.load(), access_log=AccessLog(access, "json"))
        gateway.reloader = Reloader(gateway, source, interval_s=3600.0)
        said: list[tuple[str, str]] = []
        async with gateway:
            run = Running(gateway)
            key = {"authorization": f"Bearer {ADMIN}"}
            await run.healthy()
            with gateway.events.subscribe() as listener:
                for name in ("env", "file", "headers"):
                    pinned = {"x-nexus-pin": name, "authorization": f"Bearer {CLIENT}"}
                    answer = await run.client.post(
                        f"/v1/chat/completions?api_key={CLIENT}", json=chat(), headers=pinned
                    )
                    said.append((f"call of {name}", str(answer.headers)))
                e.faults.set(Fault.STATUS, status=401)
                for _ in range(3):
                    answer = await run.client.post(
                        "/v1/chat/completions", json=chat(), headers={"x-nexus-pin": "env"}
                    )
                    said.append(("refused key", answer.text))
                e.faults.clear()

                async def write_admin(method: str, path: str, **fields: object) -> httpx.Response:
                    answer = await run.client.request(
                        method, f"/admin/v1{path}", json=fields or None, headers=key
                    )
                    said.append((f"{method} {path}", answer.text + str(answer.headers)))
                    return answer

                await write_admin("POST", "/backends", url=f"{n.url}?code={MARK}-new", name="n")
                await write_admin("POST", "/backends", url=f"{n.url}?code={MARK}-new", name="m")
                await write_admin("PATCH", "/backends/n", headers={"X-Key": f"{MARK}-patched"})
                await write_admin("PATCH", "/backends/env", priority=3, save=True)
                await write_admin("PATCH", "/backends/n", api_key_env="BACKEND", save=True)
                await write_admin("POST", "/probe", url=f"http://127.0.0.1:1?code={MARK}-probe")
                for wrong in (
                    {"url": f"http://me:{MARK}-pw@127.0.0.1:1"},
                    {"url": f"ftp://x?code={MARK}-code"},
                    {"url": f"http://127.0.0.1:1?code={MARK}-code"},
                    {"url": "http://x", "api_key_env": f"{MARK}-sk-in-the-wrong-place"},
                    {"url": "http://x", "headers": f"{MARK}-no-table"},
                    {"url": "http://x", "headers": {"X-Key": f"{MARK}\nx"}},
                    {"url": "http://x", "priority": f"{MARK}-no-number"},
                ):
                    assert (await write_admin("POST", "/backends", **wrong)).is_client_error
                key_file.write_text(f"{MARK}-another-file-key")
                held = tomllib.loads(file.read_text())["backends"]
                assert [one["name"] for one in held] == ["env", "file", "headers", "n"]
                text = file.read_text().replace(f"{MARK}-header", f"{MARK}-other-header")
                file.write_text(text)
                assert (await write_admin("POST", "/config/reload")).json()["changed"]
                for broken in (
                    f'[[backends]]\nname = "x"\nurl = "http://u:{MARK}-pw@h"\n',
                    f'[[backends]]\nname = "x"\nurl = "http://h"\napi_key = "{MARK}-unknown"\n',
                    f'[[backends]]\nname = "x"\nurl = "http://h"\napi_key_env = "{MARK}-a b"\n',
                    f'[[backends]]\nname = "x"\nurl = "http://h"\nheaders = "{MARK}-text"\n',
                ):
                    file.write_text(f"{text}\n{broken}")
                    assert (await write_admin("POST", "/config/reload")).status_code == 422
                wrong_key = await run.client.post("/admin/v1/session", json={"key": f"{ADMIN}x"})
                said.append(("wrong key", wrong_key.text + str(wrong_key.headers)))
                signed_in = await run.client.post("/admin/v1/session", json={"key": ADMIN})
                token = run.client.cookies[COOKIE]
                said.append(("signing in", signed_in.text))
                said += await everything_said(run)
                said += [("an event", str(event)) for event in listener._queue]
                assert {event.kind for event in listener._queue} == {"backend", "request", "config"}
            for old in (await run.client.get("/admin/v1/config", headers=key)).json()["config"][
                "backends"
            ]:
                assert set(old["headers"].values()) <= {"***"}
            await eventually(lambda: access.getvalue().count(b"\n") >= 6, "the access log")
            await run.client.aclose()
    captured = capfd.readouterr()
    said += [("log", log.getvalue()), ("access log", access.getvalue().decode())]
    said += [("standard output", captured.out), ("standard error", captured.err)]
    assert "config_reloaded" in log.getvalue()
    assert len(said) > 50
    found = [(where, text) for where, text in said if MARK in text or token in text]
    assert [where for where, _ in found] == [], found[:1]
