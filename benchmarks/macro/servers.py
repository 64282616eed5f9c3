"""The processes of the benchmark: upstreams, nginx and Nexus, each on the core it belongs to."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from benchmarks.macro.wire import ANSWER, PLAIN_MODEL, model_list, plain_request, stream_request

__all__ = ["CannotRun", "Proxy", "Servers", "find_nginx"]

_READY_S = 20.0
_ROOT = Path(__file__).resolve().parents[2]


class CannotRun(Exception):  # noqa: N818 - what it says
    """Something is missing; the message says what and how to get it."""


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy under test: its process, where it takes plain calls and streams, its access log."""

    name: str
    pid: int
    plain_port: int
    stream_port: int
    access_log: Path


def find_nginx() -> str:
    """The nginx program. Raises :class:`CannotRun`."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise CannotRun(
            "nginx is missing, it is what Nexus is compared with: apt-get install nginx-light"
        )
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_COMMON = """\
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections 8192; }}
http {{
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    keepalive_requests 1000000000;
"""

_UPSTREAM = """\
    access_log off;
    default_type application/json;
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        location = /v1/chat/completions {{ return 200 '{answer}'; }}
        location = /v1/models {{ return 200 '{models}'; }}
        location / {{ return 404 '{{}}'; }}
    }}
}}
"""

_PROXY = """\
    access_log {dir}/access.log;
    upstream plain {{
        server 127.0.0.1:{plain_upstream};
        keepalive 512;
        keepalive_requests 1000000000;
    }}
    upstream stream {{
        server 127.0.0.1:{stream_upstream};
        keepalive 512;
        keepalive_requests 1000000000;
    }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_buffering off;
    server {{
        listen 127.0.0.1:{plain_port} backlog=2048;
        location / {{ proxy_pass http://plain; }}
    }}
    server {{
        listen 127.0.0.1:{stream_port} backlog=2048;
        location / {{ proxy_pass http://stream; }}
    }}
}}
"""

_NEXUS = """\
[server]
port = {port}

[discovery]
enabled = false

[[backends]]
name = "plain"
url = "http://127.0.0.1:{plain_upstream}"
type = "openai"

[[backends]]
name = "stream"
url = "http://127.0.0.1:{stream_upstream}"
type = "openai"
"""


class Servers:
    """Starts what is measured and what it needs; a context manager that ends it all.

    ``directory`` holds configurations and logs. ``proxy_core`` is for the proxies, ``load_core``
    for the upstreams.
    """

    def __init__(
        self, directory: Path, *, proxy_core: int, load_core: int, events_per_s: float
    ) -> None:
        self._directory = directory
        self._proxy_core = proxy_core
        self._load_core = load_core
        self._events_per_s = events_per_s
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> tuple[Proxy, Proxy]:
        """nginx and Nexus, both answering. Raises :class:`CannotRun`."""
        try:
            return self._start()
        except BaseException:
            self._end()
            raise

    def __exit__(self, *_: object) -> None:
        """Ends every process that was started."""
        self._end()

    def _start(self) -> tuple[Proxy, Proxy]:
        nginx = find_nginx()
        plain_upstream = _free_port()
        self._nginx(
            nginx,
            "upstream",
            self._load_core,
            _UPSTREAM.format(
                port=plain_upstream,
                answer=ANSWER.decode(),
                models=model_list(PLAIN_MODEL).decode(),
            ),
        )
        stream_upstream = self._engine()

        ports = _free_port(), _free_port()
        process = self._nginx(
            nginx,
            "proxy",
            self._proxy_core,
            _PROXY.format(
                dir=self._directory / "proxy",
                plain_upstream=plain_upstream,
                stream_upstream=stream_upstream,
                plain_port=ports[0],
                stream_port=ports[1],
            ),
        )
        log = self._directory / "proxy" / "access.log"
        first = Proxy(
            name="nginx",
            pid=process.pid,
            plain_port=ports[0],
            stream_port=ports[1],
            access_log=log,
        )

        port = _free_port()
        config = self._directory / "nexus.toml"
        config.write_text(
            _NEXUS.format(port=port, plain_upstream=plain_upstream, stream_upstream=stream_upstream)
        )
        log = self._directory / "nexus-access.log"
        process = self._spawn(
            [sys.executable, "-m", "nexus", "serve", "--config", str(config)],
            self._proxy_core,
            stdout=log,
            stderr=self._directory / "nexus-stderr.log",
        )
        second = Proxy(
            name="nexus", pid=process.pid, plain_port=port, stream_port=port, access_log=log
        )
        for proxy in (first, second):
            self._await_ready(proxy.plain_port, plain_request(proxy.plain_port), proxy.name)
            self._await_ready(proxy.stream_port, stream_request(proxy.stream_port, 1), proxy.name)
        return first, second

    def _nginx(self, program: str, name: str, core: int, rest: str) -> subprocess.Popen[bytes]:
        directory = self._directory / name
        directory.mkdir()
        # Started by root, workers would run as nobody, who may not enter a private directory.
        user = "user root;\n" if os.geteuid() == 0 else ""
        config = directory / "nginx.conf"
        config.write_text(user + _COMMON.format(dir=directory) + rest)
        return self._spawn(
            [program, "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(config)],
            core,
            stdout=directory / "out.log",
            stderr=directory / "err.log",
        )

    def _engine(self) -> int:
        process = self._spawn(
            [sys.executable, "-m", "benchmarks.macro.engine", str(self._events_per_s)],
            self._load_core,
            stdout=None,
            stderr=self._directory / "engine-stderr.log",
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.strip().isdigit():
            raise CannotRun("the streaming engine did not start")
        return int(line)

    def _spawn(
        self, command: Sequence[str], core: int, *, stdout: Path | None, stderr: Path
    ) -> subprocess.Popen[bytes]:
        with stderr.open("wb") as errors:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if stdout is None else stdout.open("wb"),
                stderr=errors,
                cwd=_ROOT,
            )
        self._processes.append(process)
        # Before it has threads or children, which inherit it.
        os.sched_setaffinity(process.pid, {core})
        return process

    def _await_ready(self, port: int, request: bytes, name: str) -> None:
        """Asks until the answer is 200."""
        headers, _, body = request.partition(b"\r\n\r\n")
        del headers
        end_s = time.monotonic() + _READY_S
        said = "nothing"
        while time.monotonic() < end_s:
            if any(process.poll() is not None for process in self._processes):
                break
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
            try:
                connection.request(
                    "POST", "/v1/chat/completions", body, {"Content-Type": "application/json"}
                )
                answer = connection.getresponse()
                said = f"{answer.status} {answer.read()[:200]!r}"
                if answer.status == 200:
                    return
            except OSError as error:
                said = str(error)
            finally:
                connection.close()
            time.sleep(0.1)
        raise CannotRun(f"{name} does not answer: {said}. {self._last_words()}")

    def _last_words(self) -> str:
        logs = sorted(self._directory.glob("**/err*.log")) + sorted(
            self._directory.glob("*-stderr.log")
        )
        texts = [log.read_text(errors="replace").strip()[-500:] for log in logs]
        return " | ".join(text for text in texts if text)

    def _end(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._processes.clear()
