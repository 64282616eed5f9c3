"""Commands that read from the running gateway."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nexus.cli.main import main
from tests.unit.cli.conftest import StandIn

HEALTH = {
    "status": "degraded",
    "version": "0.1.0",
    "uptime_seconds": 93_784,
    "backends": {"total": 2, "healthy": 1, "unhealthy": 1},
    "models": 5,
}
MODELS = {
    "data": [
        {
            "id": "llama3:8b",
            "backends": [
                {
                    "name": "gpu",
                    "status": "healthy",
                    "kind": "chat",
                    "context_length": 8192,
                    "capabilities": {"vision": False, "tools": True, "json_mode": None},
                },
                {"name": "mac", "status": "unhealthy", "context_length": 4096},
            ],
        }
    ],
}
BACKENDS = {
    "data": [
        {
            "name": "gpu",
            "url": "http://10.0.0.2:8000",
            "engine": "vllm",
            "status": "unhealthy",
            "reason": "said\x1b[2J\nno",
            "priority": 50,
            "in_flight": 3,
            "models": [{"id": "a"}, {"id": "b"}],
        }
    ]
}
STATS = {
    "uptime_seconds": 12.5,
    "requests": {"total": 4, "ok": 3, "client_error": 1, "in_flight": 0},
    "tokens": {"prompt": 10, "completion": 20},
    "backends": [
        {
            "name": "gpu",
            "requests": 4,
            "errors": 1,
            "ttft_ms": {"p50": 12.34, "p95": None},
            "duration_ms": {"p50": 1234.5, "p95": 2000},
        }
    ],
    "models": [],
}
HISTORY = {
    "data": [
        {
            "request_id": "r-1",
            "at": 0.0,
            "model": "llama3:8b",
            "backend": "mac",
            "attempts": [{"backend": "gpu"}, {"backend": "mac"}],
            "status": 200,
            "outcome": "ok",
            "ttft_ms": 8.44,
            "duration_ms": 12_345,
            "tokens": {"prompt": 10, "completion": None},
        },
        {"request_id": "r-3", "tokens": {"prompt": None, "completion": None, "estimated": 7}},
        {"request_id": "r-2", "at": None, "tokens": None, "attempts": [], "backend": ""},
    ]
}
READS = {
    ("health",): ("/health", HEALTH),
    ("models",): ("/admin/v1/models", MODELS),
    ("backends", "list"): ("/admin/v1/backends", BACKENDS),
    ("stats",): ("/admin/v1/stats", STATS),
    ("stats", "--window", "5m"): ("/admin/v1/stats?window=5m", STATS),
    ("history",): ("/admin/v1/history?limit=20", HISTORY),
    ("history", "--limit", "1", "--backend", "a b", "--model", "m", "--outcome", "ok"): (
        "/admin/v1/history?limit=1&backend=a+b&model=m&outcome=ok",
        HISTORY,
    ),
}


@pytest.fixture
def gateway(stand_in: StandIn, runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A gateway with answers for every command, named by NEXUS_GATEWAY."""
    assert runner
    stand_in.answers = {path: (200, answer) for path, answer in READS.values()}
    monkeypatch.setenv("NEXUS_GATEWAY", stand_in.url)
    return stand_in


@pytest.mark.parametrize("command", READS, ids=" ".join)
def test_json_is_what_the_gateway_answers(
    runner: CliRunner, gateway: StandIn, command: tuple[str, ...]
) -> None:
    """``--json`` prints the answer itself, nothing added, nothing lost."""
    result = runner.invoke(main, [*command, "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == READS[command][1]
    assert gateway.seen == [(READS[command][0], None)]


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (("health",), ["degraded", "1 of 2 healthy", "1 d 2 h", "5"]),
        (("models",), ["MODEL", "llama3:8b", "chat", "8192", "tools", "gpu, (mac)"]),
        (("backends", "list"), ["NAME", "gpu", "vllm", "unhealthy", "50", "http://10.0.0.2:8000"]),
        (
            ("history",),
            ["1970-01-01", "gpu > mac", "200", "8.4 ms", "12.3 s", "10+?", "r-1", "?+~7", "r-2"],
        ),
        (("stats", "--window", "5m"), ["BACKEND (LAST 5M)"]),
        (("stats",), ["12 s", "client error", "prompt tokens", "gpu", "12 ms", "1234 ms", "-"]),
    ],
)
def test_tables(
    runner: CliRunner, gateway: StandIn, command: tuple[str, ...], shown: list[str]
) -> None:
    """For people, the same in columns, without colours where nobody sees them."""
    assert gateway
    result = runner.invoke(main, command)
    assert result.exit_code == 0
    for text in shown:
        assert text in result.stdout
    assert "\x1b" not in result.stdout


def test_what_a_backend_said_cannot_steer_the_terminal(runner: CliRunner, gateway: StandIn) -> None:
    """Control characters in a table are escaped: a row stays a row."""
    assert gateway
    result = runner.invoke(main, ["backends", "list"], color=True)
    assert "said\\x1b[2J\\nno" in result.stdout
    assert len(result.stdout.splitlines()) == 2


def test_nothing_to_list(runner: CliRunner, gateway: StandIn) -> None:
    """Empty lists say so, and what to do."""
    gateway.answers["/admin/v1/models"] = gateway.answers["/admin/v1/backends"] = (
        200,
        {"data": []},
    )
    assert "no models" in runner.invoke(main, ["models"]).stdout
    assert "no backends" in runner.invoke(main, ["backends", "list"]).stdout


@pytest.mark.parametrize("command", READS, ids=" ".join)
def test_no_gateway(runner: CliRunner, free_port: int, command: tuple[str, ...]) -> None:
    """With none running: says so, where, and how to start it; exit 1."""
    result = runner.invoke(main, [*command, "--gateway", f"http://127.0.0.1:{free_port}"])
    assert result.exit_code == 1
    assert f"no gateway is running at http://127.0.0.1:{free_port}" in result.stderr
    assert "nexus serve" in result.stderr
    assert result.stdout == ""


def test_where_the_gateway_is(
    runner: CliRunner, stand_in: StandIn, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--gateway`` before ``NEXUS_GATEWAY`` before the environment before the file."""
    stand_in.answers = {"/health": (200, HEALTH)}

    def works(*arguments: str) -> bool:
        return runner.invoke(main, ["health", *arguments]).exit_code == 0

    Path("nexus.toml").write_text(
        f'[server]\nhost = "0.0.0.0"\nport = {stand_in.port}\n'
        '[[backends]]\nname = "a"\nurl = "http://x"\napi_key_env = "NOT_SET_HERE"\n'
    )
    assert works()
    monkeypatch.setenv("NEXUS_PORT", str(free_port))
    assert not works()
    monkeypatch.setenv("NEXUS_GATEWAY", f"127.0.0.1:{stand_in.port}")
    assert works()
    monkeypatch.setenv("NEXUS_GATEWAY", f"http://127.0.0.1:{free_port}")
    assert not works()
    for url in (stand_in.url, f"{stand_in.url}/", f"{stand_in.url}/v1"):
        assert works("--gateway", url)


def test_a_configured_unix_socket(runner: CliRunner, tmp_path: Path) -> None:
    """A gateway on a Unix socket is asked there; none there is told by its path."""
    import socketserver
    import threading
    from http.server import BaseHTTPRequestHandler

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.client_address = ("unix", 0)
            body = json.dumps(HEALTH).encode()
            self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + body)

        def log_message(self, *args: Any) -> None:
            """Says nothing."""

    Path("nexus.toml").write_text('[server]\nunix = "n.sock"\n')
    result = runner.invoke(main, ["health"])
    assert result.exit_code == 1
    assert str(tmp_path / "n.sock") in result.stderr

    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "n.sock"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            assert "degraded" in runner.invoke(main, ["health"]).stdout
        finally:
            server.shutdown()
            thread.join()


def test_a_bad_address_is_wrong_usage(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that is none exits with 2."""
    assert runner.invoke(main, ["health", "--gateway", "ftp://x"]).exit_code == 2
    monkeypatch.setenv("NEXUS_GATEWAY", "http://")
    assert runner.invoke(main, ["health"]).exit_code == 2


def test_a_bad_configuration_is_told(runner: CliRunner, stand_in: StandIn) -> None:
    """A file whose server section is wrong fails with its problems, unless the gateway is named."""
    stand_in.answers = {"/health": (200, HEALTH)}
    Path("nexus.toml").write_text("[server]\nport = -1\n")
    result = runner.invoke(main, ["health"])
    assert result.exit_code == 1
    assert "server.port" in result.stderr
    assert runner.invoke(main, ["health", "--gateway", stand_in.url]).exit_code == 0


def test_the_admin_key_goes_to_the_admin_api_only(
    runner: CliRunner, gateway: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NEXUS_ADMIN_KEY is sent where it is asked for, and nowhere else."""
    monkeypatch.setenv("NEXUS_ADMIN_KEY", "k")
    runner.invoke(main, ["stats"])
    runner.invoke(main, ["health"])
    assert gateway.seen == [("/admin/v1/stats", "Bearer k"), ("/health", None)]


def test_a_refusal_is_shown_with_its_reason(runner: CliRunner, gateway: StandIn) -> None:
    """An error of the gateway is passed on, exit 1."""
    error = {"error": {"message": "Pages may not.", "code": "forbidden"}}
    gateway.answers["/admin/v1/stats"] = (403, error)
    result = runner.invoke(main, ["stats"])
    assert result.exit_code == 1
    assert "403: Pages may not." in result.stderr


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"status": "ok"}'),
        (200, b'{"error": "Unexpected endpoint"}'),
        (404, b"404 page not found"),
        (404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}),
        (404, {"detail": "Not Found"}),
        (200, b""),
    ],
)
def test_something_else_answers(
    runner: CliRunner, gateway: StandIn, answer: tuple[int, Any]
) -> None:
    """Another program on that port is said to be none of ours; exit 1, no traceback."""
    gateway.answers["/health"] = answer
    result = runner.invoke(main, ["health"])
    assert result.exit_code == 1
    assert f"nexus: what answers at {gateway.url} is not a Nexus gateway" in result.stderr
    assert "--gateway URL" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "said"), [("", "put it into the variable NEXUS_ADMIN_KEY"), ("k", "is wrong")]
)
def test_the_admin_key_is_missing_or_wrong(
    runner: CliRunner,
    gateway: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    said: str,
) -> None:
    """A 401 says which, and names the variable; exit 1."""
    error = {"error": {"message": "no", "code": "unauthorized"}}
    gateway.answers["/admin/v1/stats"] = (401, error)
    monkeypatch.setenv("NEXUS_ADMIN_KEY", key)
    result = runner.invoke(main, ["stats"])
    assert result.exit_code == 1
    assert said in result.stderr
    assert "NEXUS_ADMIN_KEY" in result.stderr


def test_the_key_of_the_configuration_is_used(
    runner: CliRunner, gateway: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the configuration tells the address, it tells the key's variable, too."""
    monkeypatch.delenv("NEXUS_GATEWAY")
    monkeypatch.setenv("OWN_KEY", "secret")
    Path("nexus.toml").write_text(f'[server]\nport = {gateway.port}\nadmin_key_env = "OWN_KEY"\n')
    runner.invoke(main, ["stats"])
    monkeypatch.setenv("NEXUS_ADMIN_KEY", "stronger")
    runner.invoke(main, ["stats"])
    asked = "/admin/v1/stats"
    assert gateway.seen == [(asked, "Bearer secret"), (asked, "Bearer stronger")]


def test_a_proxy_in_front_of_nothing(runner: CliRunner, gateway: StandIn) -> None:
    """A 502 that is not ours is told as what it is."""
    gateway.answers["/health"] = (502, b"<html>Bad Gateway</html>")
    result = runner.invoke(main, ["health"])
    assert result.exit_code == 1
    assert "502" in result.stderr
    assert "a proxy in front" in result.stderr


def test_colours_are_for_terminals(
    runner: CliRunner, gateway: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal the status has a colour; with NO_COLOR it has none."""
    assert gateway
    monkeypatch.setattr("nexus.cli.table.stdout_is_terminal", lambda: True)
    assert "\x1b[31m" in runner.invoke(main, ["backends", "list"], color=True).stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in runner.invoke(main, ["backends", "list"], color=True).stdout


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_terminal_that_cannot_show_it(stand_in: StandIn, encoding: str) -> None:
    """Characters that standard output has no way to write, lone surrogates too, end no command."""
    model = {"id": "m\u00e9\u4e2d\ud800", "backends": []}
    stand_in.answers = {"/admin/v1/models": (200, {"data": [model]})}
    done = subprocess.run(
        [sys.executable, "-m", "nexus", "models", "--gateway", stand_in.url],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\ud800" in done.stdout


def test_pending_backends(
    runner: CliRunner, gateway: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person is told how to approve them; a script's table stays a table."""
    pending = {"data": [{"name": "new", "status": "pending"}]}
    gateway.answers["/admin/v1/backends"] = (200, pending)
    assert "approve" not in runner.invoke(main, ["backends", "list"]).stdout
    monkeypatch.setattr("nexus.cli.backends.stdout_is_terminal", lambda: True)
    assert "nexus backends approve NAME" in runner.invoke(main, ["backends", "list"]).stdout
