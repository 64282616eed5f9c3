"""``nexus config show|reload``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from nexus.cli.main import main
from tests.unit.cli.conftest import StandIn

CONFIG: dict[str, Any] = {
    "path": "/etc/nexus/nexus.toml",
    "config": {
        "server": {"host": "127.0.0.1", "port": 8000},
        "routing": {"aliases": {"gpt-4": "llama"}, "fallbacks": {}},
        "backends": [{"name": "gpu", "models": ["a", "b"], "tls_ca": None}],
    },
    "origins": {
        "server.host": "default",
        "server.port": "env NEXUS_PORT",
        "routing.aliases": "file /etc/nexus/nexus.toml",
        "routing.fallbacks": "default",
        "backends[0].name": "file /etc/nexus/nexus.toml",
    },
}
DIFF: dict[str, Any] = {
    "added": ["new"],
    "removed": ["old"],
    "changed": [{"name": "gpu", "changes": [{"key": "priority", "before": 50, "after": 10}]}],
    "settings": [{"key": "routing.strategy", "before": "smart", "after": "random\x07"}],
    "needs_restart": [{"key": "server.port", "before": 8000, "after": 8001}],
}
RELOAD = "POST /admin/v1/config/reload"


@pytest.fixture
def gateway(stand_in: StandIn, runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A gateway with a configuration, and a new one to read."""
    assert runner
    stand_in.answers = {"/admin/v1/config": (200, CONFIG), RELOAD: (200, DIFF)}
    monkeypatch.setenv("NEXUS_GATEWAY", stand_in.url)
    return stand_in


def test_show(runner: CliRunner, gateway: StandIn) -> None:
    """Each setting with its value and origin, a part's origin being that of the whole."""
    assert gateway
    result = runner.invoke(main, ["config", "show"])
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["SETTING", "VALUE", "FROM"],
        ["server.host", '"127.0.0.1"', "default"],
        ["server.port", "8000", "env", "NEXUS_PORT"],
        ["routing.aliases.gpt-4", '"llama"', "file", "/etc/nexus/nexus.toml"],
        ["routing.fallbacks", "{}", "default"],
        ["backends[0].name", '"gpu"', "file", "/etc/nexus/nexus.toml"],
        ["backends[0].models", '["a",', '"b"]', "default"],
        ["backends[0].tls_ca", "unset", "default"],
    ]


def test_show_what_is_not_the_default(runner: CliRunner, gateway: StandIn) -> None:
    """--changed leaves the defaults out; with nothing left it says so."""
    result = runner.invoke(main, ["config", "show", "--changed"])
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == [
        "server.port",
        "routing.aliases.gpt-4",
        "backends[0].name",
    ]
    gateway.answers["/admin/v1/config"] = (200, {"config": {"a": {"b": 1}}, "origins": {}})
    result = runner.invoke(main, ["config", "show", "--changed"])
    assert result.stdout == "everything is at its default\n"


def test_reload_tells_what_changed(runner: CliRunner, gateway: StandIn) -> None:
    """One line for each backend and setting, and what waits for a restart; nothing: says so."""
    result = runner.invoke(main, ["config", "reload"])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "+ backend new",
        "- backend old",
        "~ backend gpu: priority 50 -> 10",
        '~ routing.strategy "smart" -> "random\\u0007"',
        "! server.port 8000 -> 8001: only after a restart",
    ]
    gateway.answers[RELOAD] = (200, {})
    assert "nothing has changed" in runner.invoke(main, ["config", "reload"]).stdout


def test_a_refused_reload(runner: CliRunner, gateway: StandIn) -> None:
    """All of the gateway's problems are passed on, a line each; exit 1."""
    told = "the configuration has 2 problems:\n  nexus.toml:3: server.prot: unknown key\n  b\x07ad"
    error = {"error": {"message": told, "code": "invalid_config"}}
    gateway.answers[RELOAD] = (422, error)
    result = runner.invoke(main, ["config", "reload"])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[1:] == [
        "  nexus.toml:3: server.prot: unknown key",
        "  b\\x07ad",
    ]


@pytest.mark.parametrize("command", ["show", "reload"])
def test_json(runner: CliRunner, gateway: StandIn, command: str) -> None:
    """What the gateway answers, as it is."""
    assert gateway
    told = json.loads(runner.invoke(main, ["config", command, "--json"]).stdout)
    assert told == {"show": CONFIG, "reload": DIFF}[command]
