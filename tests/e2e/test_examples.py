"""What is offered to copy: example configurations, the systemd unit, the image's description."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.stage import NEXUS, run_nexus

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted([*ROOT.glob("examples/*.toml"), *ROOT.glob("deploy/*.toml")])


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_is_valid(tmp_path: Path, file: Path) -> None:
    """`nexus config check` finds nothing once the variables that it names hold keys."""
    named = re.findall(r'^\w+_key_env = "(\w+)"', file.read_text(), re.MULTILINE)
    done = run_nexus(tmp_path, "config", "check", str(file), **dict.fromkeys(named, "key"))
    assert (done.code, done.err) == (0, "")
    assert "valid" in done.out


def test_every_example_is_listed() -> None:
    """The page of examples names each, and no other."""
    page = (ROOT / "examples" / "README.md").read_text()
    listed = set(re.findall(r"\]\((\w[\w.-]*\.toml)\)", page))
    assert listed == {file.name for file in ROOT.glob("examples/*.toml")}


def unit() -> dict[str, list[str]]:
    """The settings of the systemd unit."""
    settings: dict[str, list[str]] = {}
    for line in (ROOT / "deploy" / "nexus.service").read_text().splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            settings.setdefault(name, []).append(value)
    return settings


def test_the_unit_starts_what_there_is(tmp_path: Path) -> None:
    """Its command line is one of ours; a stop waits longer than a drain takes at most."""
    settings = unit()
    (command,) = settings["ExecStart"]
    words = shlex.split(command)
    assert words[0] == "/opt/nexus/bin/nexus"
    done = run_nexus(tmp_path, words[1], "--help")
    assert words[2] in done.out
    assert settings["DynamicUser"] == ["yes"]
    assert float(settings["TimeoutStopSec"][0]) > 30.0  # server.drain_timeout_seconds


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """systemd-analyze finds nothing to complain of."""
    text = (ROOT / "deploy" / "nexus.service").read_text()
    copy = tmp_path / "nexus.service"
    copy.write_text(text.replace("/opt/nexus/bin/nexus", NEXUS))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_image_is_built_from_what_there_is() -> None:
    """What the Dockerfile copies exists and is let in by .dockerignore; what it runs is a command
    of ours; it is not root."""
    text = (ROOT / "Dockerfile").read_text()
    let_in = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert set(copied) == let_in
    assert all((ROOT / source).exists() for source in copied)
    commands = re.findall(r'(?:CMD|ENTRYPOINT) \["([^\]]+)"\]', text)
    assert [command.split('", "') for command in commands] == [
        ["nexus", "health"],
        ["nexus"],
        ["serve"],
    ]
    assert re.search(r"^USER 10001", text, re.MULTILINE)
    assert text.index("USER 10001") < text.index("ENTRYPOINT")
