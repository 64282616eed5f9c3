"""The command line as a whole: help, version, mistakes."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from nexus import __version__
from nexus.cli.main import main

COMMANDS = [
    name.split()
    for name in (
        "serve",
        "health",
        "models",
        "backends",
        *(f"backends {verb}" for verb in ("list", "add", "remove", "drain", "resume", "approve")),
        "backends probe",
        "route",
        "route explain",
        "chat",
        "top",
        "stats",
        "history",
        "config",
        "config init",
        "config check",
        "config show",
        "config reload",
        "demo",
        "demo-engine",
        "completions",
    )
]


def test_version(runner: CliRunner) -> None:
    """``--version`` says name and version."""
    result = runner.invoke(main, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"nexus {__version__}\n")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(runner: CliRunner, command: list[str]) -> None:
    """Each command exists, is listed by its group, and explains itself."""
    result = runner.invoke(main, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    listing = runner.invoke(main, [*command[:-1], "--help"])
    assert f"\n  {command[-1]}  " in listing.stdout


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["helth"], "health"), (["backend"], "backends"), (["backends", "lst"], "list")],
)
def test_a_typo_is_answered_with_the_nearest_command(
    runner: CliRunner, typed: list[str], meant: str
) -> None:
    """A wrong name is a usage error (2) that suggests the right one."""
    result = runner.invoke(main, typed)
    assert result.exit_code == 2
    assert f"Did you mean '{meant}'?" in result.stderr
    assert result.stdout == ""


def test_a_name_like_no_other_gets_no_suggestion(runner: CliRunner) -> None:
    """No guess where nothing is near."""
    result = runner.invoke(main, ["xyzzy"])
    assert result.exit_code == 2
    assert "Did you mean" not in result.stderr


def test_a_wrong_option_is_a_usage_error(runner: CliRunner) -> None:
    """Exit code 2, as for all wrong usage."""
    assert runner.invoke(main, ["health", "--jsno"]).exit_code == 2
    assert runner.invoke(main, ["serve", "--port", "70000"]).exit_code == 2
    assert runner.invoke(main, ["--nope"]).exit_code == 2


def test_help_imports_click_and_little_else() -> None:
    """What makes start-up slow stays unimported: the bound is 150 ms, told here by its causes."""
    code = (
        "import sys\nfrom nexus.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'structlog', 'rich', 'msgspec', 'starlette', 'asyncio', 'uvloop', 'httptools',"
        " 'http.client', 'nexus.cli.read', 'nexus.config'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or None)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "Commands:" in result.stdout


def test_exit_codes_of_the_process() -> None:
    """``python -m nexus`` is the command: 0 for help, 2 for wrong usage."""
    for arguments, code in ((["--help"], 0), (["--version"], 0), (["nonsense"], 2)):
        result = subprocess.run(
            [sys.executable, "-m", "nexus", *arguments], capture_output=True, check=False
        )
        assert result.returncode == code


def test_the_entry_point_is_the_group() -> None:
    """``nexus.cli.main:main`` is what the package installs."""
    assert isinstance(main, click.Group)
