"""``nexus serve`` as a process: a start that fails, signals, open files."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nexus.runtime.gateway import raise_descriptor_limit
from tests.process import NexusProcess
from tests.processes import clean_environment


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``nexus serve`` that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "nexus", "serve", *arguments],
        cwd=folder,
        env=clean_environment(folder, **environment),
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


def test_sighup_reads_the_configuration_again(tmp_path: Path) -> None:
    """SIGHUP has the configuration read again: a change is applied and said, a broken file said
    with all that is wrong, and the gateway goes on."""
    file = tmp_path / "nexus.toml"
    base = "[server]\nport = 0\n[discovery]\nenabled = false\n"
    file.write_text(base)
    with NexusProcess("serve", "--config", str(file)) as process:
        process.said("listening")
        file.write_text(base + "[routing]\nmax_retries = 7\n")
        os.kill(process.pid, signal.SIGHUP)
        line = process.said("config_reloaded")
        assert line["settings"] == [{"key": "routing.max_retries", "before": 2, "after": 7}]
        file.write_text(base + "[routing]\nmax_retries = -1\n")
        os.kill(process.pid, signal.SIGHUP)
        (problem,) = process.said("config_reload_failed")["problems"]
        assert f"{file}:6: routing.max_retries: must be" in problem
        process.terminate()
        assert process.exit_code() == 0


def test_the_log_level_changes_while_it_runs(tmp_path: Path) -> None:
    """A level that a reload lowers counts from that reload's own line on."""
    file = tmp_path / "nexus.toml"
    base = '[server]\nport = 0\n[discovery]\nenabled = false\n[logging]\nlevel = "{}"\n'
    file.write_text(base.format("warning"))
    with NexusProcess("serve", "--config", str(file)) as process:
        process.said("no_backends")
        file.write_text(base.format("info"))
        line = process.said("config_reloaded")
        assert line["trigger"] == "file"
        process.terminate()
        assert process.exit_code() == 0
        assert [line["event"] for line in process.log][-1] == "stopped"


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    """With the pipe of standard error full the gateway answers, reloads and ends as asked."""
    file = tmp_path / "nexus.toml"
    good = f'[server]\nunix = "{tmp_path}/nexus.sock"\n[discovery]\nenabled = false\n'
    file.write_text(good)

    def ask(path: str) -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10.0)
            client.connect(f"{tmp_path}/nexus.sock")
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: client.recv(65536), b"")).decode()

    process = subprocess.Popen(
        [sys.executable, "-m", "nexus", "serve", "--config", str(file)],
        env=clean_environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        assert b"listening" in process.stderr.readline()  # and no further line is ever read
        file.write_text(good + "".join(f"{'x' * 200}{number} = 1\n" for number in range(60)))
        for number in range(1, 11):  # each is a line of 20 kB, ten times what the pipe holds
            os.kill(process.pid, signal.SIGHUP)
            deadline_s = time.monotonic() + 20.0
            while f'outcome="rejected"}} {number}' not in ask("/metrics"):
                assert time.monotonic() < deadline_s, "the reload was never refused"
        process.terminate()
        assert process.wait(20.0) == 0
    finally:
        process.kill()
        process.communicate()


def test_the_limit_of_open_files_is_raised() -> None:
    """The soft limit becomes the hard one: at exhaustion uvloop closes what it accepts unsaid."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_port_that_is_an_engine_s_says_so(tmp_path: Path) -> None:
    """Who is there, with which model, and that it will be found when that is true."""
    command = [sys.executable, "-m", "nexus", "demo-engine", "--dialect", "vllm", "--model", "m1"]
    engine = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert engine.stderr is not None
        port = int(json.loads(engine.stderr.readline())["url"].rpartition(":")[2])
        scanned = {"NEXUS_DISCOVERY__SCAN_PORTS": f"[{port}]"}
        who = f"nexus: port {port} is a vLLM server with model m1: start with --port {port + 10}"
        for environment, then in (
            (scanned, ", it will be found by itself"),
            ({}, " and name that server in [[backends]]"),
            ({**scanned, "NEXUS_DISCOVERY__ENABLED": "false"}, " and name that server"),
        ):
            ended = start(tmp_path, "--port", str(port), **environment)
            assert ended.returncode == 1
            assert f"{who}{then}" in ended.stderr
    finally:
        engine.kill()
        engine.communicate()


def test_two_gateways_on_one_port(tmp_path: Path) -> None:
    """The second is told that a Nexus is there, and no nonsense about finding it."""
    with NexusProcess("serve", "--config", os.devnull, "--port", "0") as process:
        port = process.said("listening")["url"].rpartition(":")[2]
        ended = start(tmp_path, "--port", port)
        assert ended.returncode == 1
        assert f"port {port} is another Nexus: start with --port" in ended.stderr
        assert "found" not in ended.stderr


def test_nothing_found_says_what_to_do() -> None:
    """A start without engines: it says where it looked, and how to go on."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    looking = {
        "NEXUS_DISCOVERY__ENABLED": "true",
        "NEXUS_DISCOVERY__MDNS": "false",
        "NEXUS_DISCOVERY__SCAN_PORTS": f"[{port}]",
    }
    with NexusProcess(
        "serve", "--config", os.devnull, "--port", "0", environment=looking
    ) as process:
        assert process.said("looking_for_backends")["ports"] == [port]
        hint = process.said("no_backends")["hint"]
        assert f"no engine found on ports {port} of this machine: start one" in hint
