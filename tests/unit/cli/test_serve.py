"""``nexus serve``, ``config check`` and the demos: what they hand on, and how they fail."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import types
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nexus.cli.main import main
from nexus.config.loader import Loaded


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Loaded]:
    """Stands in for the runtime; holds what it was given, and ends with 7."""
    loaded: list[Loaded] = []

    def run(config: Loaded, _source: object) -> int:
        loaded.append(config)
        return 7

    module: Any = types.ModuleType("nexus.runtime.serve")
    module.run = run
    monkeypatch.setitem(sys.modules, "nexus.runtime.serve", module)
    return loaded


def test_serve_hands_the_configuration_on(runner: CliRunner, served: list[Loaded]) -> None:
    """Flags stand above the file; the runtime's exit code is the command's."""
    Path("nexus.toml").write_text('[server]\nhost = "127.0.0.9"\nport = 1\n')
    result = runner.invoke(main, ["serve", "--port", "0", "--log-level", "DEBUG"])
    assert result.exit_code == 7
    (loaded,) = served
    assert (loaded.config.server.host, loaded.config.server.port) == ("127.0.0.9", 0)
    assert loaded.config.logging.level == "debug"


def test_serve_without_anything(runner: CliRunner, served: list[Loaded]) -> None:
    """No file, no flags: the defaults."""
    assert runner.invoke(main, ["serve"]).exit_code == 7
    assert served[0].path is None
    assert served[0].config.server.port == 8000


def test_serve_with_a_named_file(runner: CliRunner, served: list[Loaded]) -> None:
    """``--config`` and ``--host`` are used."""
    Path("other.toml").write_text("[server]\nport = 81\n")
    assert runner.invoke(main, ["serve", "--config", "other.toml", "--host", "::1"]).exit_code == 7
    assert (served[0].config.server.host, served[0].config.server.port) == ("::1", 81)


def test_serve_with_a_bad_file(runner: CliRunner, served: list[Loaded]) -> None:
    """All problems at once, on standard error, exit 1; nothing is started."""
    Path("nexus.toml").write_text('[server]\nprot = 1\nport = "x"\n')
    result = runner.invoke(main, ["serve"])
    assert result.exit_code == 1
    assert served == []
    assert result.stdout == ""
    assert result.stderr.startswith("nexus: configuration has 2 problems:\n")
    assert "nexus.toml:2: server.prot: unknown" in result.stderr
    assert "server.port" in result.stderr


def test_serve_with_a_file_that_is_not_there(runner: CliRunner, served: list[Loaded]) -> None:
    """A missing explicit file is an error."""
    result = runner.invoke(main, ["serve", "--config", "absent.toml"])
    assert result.exit_code == 1
    assert "absent.toml" in result.stderr
    assert served == []


def test_config_check(runner: CliRunner) -> None:
    """A good file is said to be good, a bad one fails with every problem, none is fine."""
    result = runner.invoke(main, ["config", "check"])
    assert result.exit_code == 0
    assert "no configuration file" in result.stdout

    Path("good.toml").write_text('[[backends]]\nname = "a"\nurl = "http://127.0.0.1:1"\n')
    result = runner.invoke(main, ["config", "check", "good.toml"])
    assert result.exit_code == 0
    assert "good.toml: valid (1 backend named)" in result.stdout

    Path("nexus.toml").write_text("[nonsense]\n")
    result = runner.invoke(main, ["config", "check"])
    assert result.exit_code == 1
    assert result.stderr.startswith("nexus: configuration has 1 problem:")
    assert "nonsense" in result.stderr


def test_config_check_finds_a_server_that_is_named_twice(runner: CliRunner) -> None:
    """What would keep the gateway from starting is no valid configuration."""
    tables = [f'[[backends]]\nname = "{name}"\nurl = "http://10.0.0.1:8000"\n' for name in "ab"]
    Path("nexus.toml").write_text("".join(tables))
    result = runner.invoke(main, ["config", "check"])
    assert result.exit_code == 1
    assert 'backends[1].url: is the same server as backends[0] ("a")' in result.stderr


def test_config_check_as_a_process(tmp_path: Path) -> None:
    """The exit codes that scripts rely on."""
    bad = tmp_path / "bad.toml"
    bad.write_text("= nothing")
    command = [sys.executable, "-m", "nexus", "config", "check", str(bad)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "not valid TOML" in result.stderr


def test_demo_hands_its_port_on(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """``nexus demo --port`` reaches the runtime, 8000 by default."""
    ports: list[int] = []

    def run(port: int) -> int:
        ports.append(port)
        return 0

    module: Any = types.ModuleType("nexus.runtime.demo")
    module.run = run
    monkeypatch.setitem(sys.modules, "nexus.runtime.demo", module)
    assert runner.invoke(main, ["demo", "--port", "0"]).exit_code == 0
    assert runner.invoke(main, ["demo"]).exit_code == 0
    assert ports == [0, 8000]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_demo_engine_runs_until_it_is_told_to_stop(ending: signal.Signals) -> None:
    """It says where it listens, serves its models, and ends with 0 on SIGTERM and Ctrl-C."""
    command = [sys.executable, "-m", "nexus", "demo-engine", "--dialect", "vllm"]
    process = subprocess.Popen(
        [*command, "--model", "m1", "--model", "m2"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        found = re.search(r"http://[0-9.]+:[0-9]+", process.stderr.readline())
        assert found is not None
        with urllib.request.urlopen(f"{found[0]}/v1/models", timeout=10) as answer:  # noqa: S310
            body = answer.read()
        assert b"m1" in body
        assert b"m2" in body
        process.send_signal(ending)
        _, rest = process.communicate(timeout=20)
        assert process.returncode == 0, rest
    finally:
        process.kill()
        process.communicate()


def test_demo_engine_on_a_taken_port(stand_in: Any) -> None:
    """A port in use is one clear line and exit 1."""
    command = [sys.executable, "-m", "nexus", "demo-engine", "--port", str(stand_in.port)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert result.returncode == 1
    assert f"nexus: cannot listen on 127.0.0.1:{stand_in.port}" in result.stderr
    assert "Traceback" not in result.stderr


def test_config_init(runner: CliRunner) -> None:
    """Writes a file that is valid as it stands and with everything in it switched on; an existing
    one is only replaced when that is said."""
    result = runner.invoke(main, ["config", "init"])
    assert result.exit_code == 0
    assert "wrote nexus.toml" in result.stdout
    assert runner.invoke(main, ["config", "check"]).exit_code == 0

    written = Path("nexus.toml").read_text()
    setting = re.compile(r"^# (?=\[|[\"a-z_0-9:-]+\s*=)", re.MULTILINE)
    Path("on.toml").write_text(setting.sub("", written))
    assert len(setting.findall(written)) > 10
    keys = {"NEXUS_ADMIN_KEY": "k", "OPENAI_API_KEY": "k"}
    result = runner.invoke(main, ["config", "check", "on.toml"], env=keys)
    assert (result.stderr, result.exit_code) == ("", 0)
    assert "valid (2 backends named)" in result.stdout

    Path("nexus.toml").write_text("mine")
    result = runner.invoke(main, ["config", "init"])
    assert result.exit_code == 1
    assert "nexus.toml exists already: --force replaces it" in result.stderr
    assert Path("nexus.toml").read_text() == "mine"
    assert runner.invoke(main, ["config", "init", "--force"]).exit_code == 0
    assert Path("nexus.toml").read_text() == written
    assert runner.invoke(main, ["config", "init", "absent/x.toml"]).exit_code == 1
