"""What is measured and what it needs: upstreams, nginx and Nexus."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from benchmarks.macro.processes import CannotRun, Processes, free_port
from benchmarks.macro.wire import (
    ANSWER,
    PLAIN_MODEL,
    big_answer_parts,
    model_list,
    plain_request,
    stream_request,
)

__all__ = ["Proxy", "Servers", "Upstream", "find_nginx", "start_engine", "start_nexus"]

_SBIN = "/usr/sbin:/usr/local/sbin"
_RELOAD_S = 1.0


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy under test: its process, where it takes plain calls and streams, its access log."""

    name: str
    pid: int
    plain_port: int
    stream_port: int
    access_log: Path


def find_program(name: str, package: str) -> str:
    """A program of the system. Raises :class:`CannotRun`."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SBIN}")
    if found is None:
        raise CannotRun(f"{name} is missing, Nexus is compared with it: apt-get install {package}")
    return found


def find_nginx() -> str:
    """The nginx program. Raises :class:`CannotRun`."""
    return find_program("nginx", "nginx-light")


_COMMON = """\
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections {connections}; }}
http {{
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    keepalive_requests 1000000000;
    client_max_body_size 64m;
    client_body_buffer_size 2m;
"""

_UPSTREAM = """\
    access_log off;
    default_type application/json;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        set $piece '{piece}';
        location = /v1/chat/completions {{ return 200 '{answer}'; }}
        location = /v1/models {{ return 200 '{models}'; }}
        location = /health {{ return 200 '{{}}'; }}
        location / {{ return 404 '{{}}'; }}
    }}
}}
"""

_PROXY = """\
    access_log {dir}/access.log;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_buffering off;
"""

_PROXIED = """\
    upstream upstream{number} {{
        server 127.0.0.1:{upstream};
        keepalive 512;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ proxy_pass http://upstream{number}; }}
    }}
"""

_NEXUS = """\
[server]
port = {port}
max_concurrent_requests = {calls}

[discovery]
enabled = false
"""

_BACKEND = """
[[backends]]
name = "upstream{number}"
url = "http://127.0.0.1:{upstream}"
type = "openai"
"""


class Upstream:
    """nginx with a fixed answer, short or long."""

    def __init__(self, processes: Processes, core: int) -> None:
        self.port = free_port()
        self._directory = processes.directory / "upstream"
        self._big = False
        self._process = _spawn_nginx(
            processes, "upstream", core, self._settings(big=False), connections=8192
        )
        processes.await_ready("upstream", self._process, self.port, plain_request(self.port))

    def answer_with(self, *, big: bool) -> None:
        """Changes the answer; kept-alive connections are closed."""
        if big == self._big:
            return
        self._big = big
        config = self._directory / "nginx.conf"
        head = config.read_text().partition("    access_log off;")[0]
        config.write_text(head + self._settings(big=big))
        self._process.send_signal(signal.SIGHUP)
        time.sleep(_RELOAD_S)

    def _settings(self, *, big: bool) -> str:
        before, piece, count, after = big_answer_parts()
        return _UPSTREAM.format(
            port=self.port,
            piece=piece,
            answer=before + "$piece" * count + after if big else ANSWER.decode(),
            models=model_list(PLAIN_MODEL).decode(),
        )


def start_engine(processes: Processes, core: int) -> int:
    """The engine that streams; returns its port. Raises :class:`CannotRun`."""
    command = [sys.executable, "-m", "benchmarks.macro.engine"]
    process = processes.spawn("engine", command, core, piped=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.strip().isdigit():
        raise CannotRun("the streaming engine did not start")
    return int(line)


def start_nginx(
    processes: Processes, core: int, upstreams: Sequence[int], connections: int = 8192
) -> tuple[subprocess.Popen[bytes], list[int], Path]:
    """nginx in front of upstreams; returns its process, a port for each and its access log."""
    ports = [free_port() for _ in upstreams]
    settings = _PROXY.format(dir=processes.directory / "nginx")
    for number, (port, upstream) in enumerate(zip(ports, upstreams, strict=True)):
        settings += _PROXIED.format(number=number, port=port, upstream=upstream)
    process = _spawn_nginx(processes, "nginx", core, settings + "}\n", connections)
    return process, ports, processes.directory / "nginx" / "access.log"


def start_nexus(
    processes: Processes, core: int, upstreams: Sequence[int], calls: int = 1000
) -> tuple[subprocess.Popen[bytes], int, Path]:
    """Nexus in front of upstreams; returns its process, its port and its access log. ``calls`` is
    how many it serves at once."""
    port = free_port()
    config = processes.directory / f"nexus-{port}.toml"
    config.write_text(
        _NEXUS.format(port=port, calls=calls)
        + "".join(
            _BACKEND.format(number=number, upstream=upstream)
            for number, upstream in enumerate(upstreams)
        )
    )
    command = [sys.executable, "-m", "nexus", "serve", "--config", str(config)]
    return processes.spawn("nexus", command, core), port, processes.stdout("nexus")


def _spawn_nginx(
    processes: Processes, name: str, core: int, settings: str, connections: int
) -> subprocess.Popen[bytes]:
    directory = processes.directory / name
    directory.mkdir()
    # Started by root, workers would run as nobody, who may not enter a private directory.
    user = "user root;\n" if os.geteuid() == 0 else ""
    config = directory / "nginx.conf"
    head = _COMMON.format(dir=directory, connections=connections)
    config.write_text(user + head + settings)
    errors = str(directory / "error.log")
    command = [find_nginx(), "-p", str(directory), "-e", errors, "-c", str(config)]
    return processes.spawn(name, command, core)


class Servers:
    """nginx and Nexus, each in front of both upstreams; a context manager that ends it all.

    ``directory`` holds configurations and logs. ``proxy_core`` is for the proxies, ``load_core``
    for the upstreams.
    """

    def __init__(self, directory: Path, *, proxy_core: int, load_core: int) -> None:
        self._processes = Processes(directory)
        self._proxy_core = proxy_core
        self._load_core = load_core

    def __enter__(self) -> tuple[Proxy, Proxy]:
        """nginx and Nexus, both answering. Raises :class:`CannotRun`."""
        try:
            return self._start()
        except BaseException:
            self._processes.end()
            raise

    def __exit__(self, *_: object) -> None:
        """Ends every process that was started."""
        self._processes.end()

    def _start(self) -> tuple[Proxy, Proxy]:
        processes = self._processes
        upstreams = [
            Upstream(processes, self._load_core).port,
            start_engine(processes, self._load_core),
        ]
        process, ports, log = start_nginx(processes, self._proxy_core, upstreams)
        first = _proxy("nginx", process, ports, log)
        _await(processes, process, first)
        process, port, log = start_nexus(processes, self._proxy_core, upstreams)
        second = _proxy("nexus", process, [port, port], log)
        _await(processes, process, second)
        return first, second


def _proxy(name: str, process: subprocess.Popen[bytes], ports: list[int], log: Path) -> Proxy:
    plain, stream = ports
    return Proxy(name=name, pid=process.pid, plain_port=plain, stream_port=stream, access_log=log)


def _await(processes: Processes, process: subprocess.Popen[bytes], proxy: Proxy) -> None:
    for port, request in (
        (proxy.plain_port, plain_request(proxy.plain_port)),
        (proxy.stream_port, stream_request(proxy.stream_port, 1, 50.0)),
    ):
        processes.await_ready(proxy.name, process, port, request)
