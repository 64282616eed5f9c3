"""Completion in the shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from nexus.cli.main import main
from tests.unit.cli.conftest import StandIn


def complete(gateway: str, *words: str) -> list[str]:
    """What is offered for the last of ``words``."""
    env = {
        **os.environ,
        "_NEXUS_COMPLETE": "bash_complete",
        "COMP_WORDS": "\n".join(["nexus", *words]),
        "COMP_CWORD": str(len(words)),
        "NEXUS_GATEWAY": gateway,
    }
    done = subprocess.run(
        [sys.executable, "-c", "from nexus.cli.main import main; main(prog_name='nexus')"],
        env=env,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script(runner: CliRunner, shell: str) -> None:
    """Each shell gets a script that its own parser takes (those that are here), and that asks
    nexus."""
    result = runner.invoke(main, ["completions", shell])
    assert result.exit_code == 0
    assert f"_NEXUS_COMPLETE={shell}_complete" in result.stdout
    if shutil.which(shell):
        checked = subprocess.run(
            [shell, "-n"], input=result.stdout, capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")


def test_an_unknown_shell(runner: CliRunner) -> None:
    """Wrong usage, with the shells there are."""
    result = runner.invoke(main, ["completions", "tcsh"])
    assert result.exit_code == 2
    assert "fish" in result.stderr


def test_commands_and_options() -> None:
    """Commands, commands of a group, and options are offered without a gateway."""
    nowhere = "http://127.0.0.1:1"
    assert complete(nowhere, "he") == ["health"]
    assert complete(nowhere, "backends", "re") == ["remove", "resume"]
    assert "--outcome" in complete(nowhere, "history", "--")
    assert complete(nowhere, "history", "--outcome", "t") == ["timeout"]


def test_names_from_the_gateway(stand_in: StandIn) -> None:
    """Backends and models are offered by name; nothing that a shell could trip over, and nothing
    when no gateway runs."""
    bad_names = (None, "$(reboot)", "`reboot`", "a;reboot", "a b", "--help", "~", "a|b", "a>b", "")
    stand_in.answers = {
        "/admin/v1/backends": (200, {"data": [{"name": "gpu"}, {"name": "g\nx"}, {"name": "mac"}]}),
        "/v1/models": (200, {"data": [{"id": "llama3:8b"}, *({"id": bad} for bad in bad_names)]}),
    }
    assert complete(stand_in.url, "backends", "drain", "g") == ["gpu"]
    assert complete(stand_in.url, "history", "--model", "") == ["llama3:8b"]
    assert complete("http://127.0.0.1:1", "backends", "drain", "") == []


def test_bash_completes_names_with_colons(stand_in: StandIn, tmp_path: Path) -> None:
    """In bash a colon ends a word: the offer is what follows it."""
    stand_in.answers = {"/v1/models": (200, {"data": [{"id": "llama3:8b"}, {"id": "llama3:70b"}]})}
    command = tmp_path / "nexus"
    command.write_text(f"#!{sys.executable}\nfrom nexus.cli.main import main\nmain()\n")
    command.chmod(0o755)
    script = (
        'eval "$(nexus completions bash)"\n'
        'COMP_LINE="nexus history --model llama3:7"; COMP_POINT=${#COMP_LINE}\n'
        "_nexus_completion nexus\n"
        'printf "%s|" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        env={
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "NEXUS_GATEWAY": stand_in.url,
        },
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("70b|", "")
