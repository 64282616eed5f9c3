"""``nexus serve`` as a process: a start that fails, signals, open files."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nexus.runtime.gateway import raise_descriptor_limit
from tests.process import NexusProcess
from tests.processes import clean_environment


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``nexus serve`` that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "nexus", "serve", *arguments],
        cwd=folder,
        env=clean_environment(folder),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    """It says that the port is taken and what to do, without a traceback, and exits with 1."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = start(tmp_path, "--port", str(port))
    assert ended.returncode == 1
    assert f"port {port} is in use" in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[server]\nunix = "/nowhere/at/all.sock"\n', "/nowhere/at/all.sock"),
        ('[server]\ntls_cert = "none.pem"\ntls_key = "none.pem"\n', "tls_cert"),
        ('[server]\nhost = "203.0.113.1"\n', "203.0.113.1"),
        ('[[backends]]\nname = "a"\nurl = "nonsense"\n', "backends[0].url"),
    ],
)
def test_a_start_that_fails_says_why(tmp_path: Path, text: str, says: str) -> None:
    """What cannot be listened on, or used, is named; exit 1, no traceback."""
    (tmp_path / "nexus.toml").write_text(text)
    ended = start(tmp_path, "--port", "0")
    assert ended.returncode == 1
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_sighup_does_not_end_it() -> None:
    """Reloading is not there yet: SIGHUP is answered by a line in the log, not by the end."""
    with NexusProcess("serve", "--config", os.devnull, "--port", "0") as process:
        process.said("listening")
        os.kill(process.pid, signal.SIGHUP)
        process.said("reload_unavailable")
        process.terminate()
        assert process.exit_code() == 0


def test_the_limit_of_open_files_is_raised() -> None:
    """The soft limit becomes the hard one: at exhaustion uvloop closes what it accepts unsaid."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
