"""A stand-in for the running gateway, and an environment that names none."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner


class StandIn:
    """Answers with canned statuses and bodies, by path (other methods than GET: by ``POST /path``);
    remembers who asked for what, and the bodies."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.seen: list[tuple[str, str | None]] = []
        self.bodies: list[bytes] = []
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(self.path)

            def do_POST(self) -> None:
                self.answer(f"POST {self.path}")

            def do_DELETE(self) -> None:
                self.answer(f"DELETE {self.path}")

            def answer(self, asked: str) -> None:
                length = int(self.headers.get("content-length") or 0)
                stand_in.bodies.append(self.rfile.read(length))
                stand_in.seen.append((asked, self.headers.get("authorization")))
                status, value = stand_in.answers.get(asked, (404, {}))
                body = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """A gateway to talk to."""
    gateway = StandIn()
    thread = threading.Thread(target=gateway.server.serve_forever, args=(0.01,))
    thread.start()
    yield gateway
    gateway.server.shutdown()
    gateway.server.server_close()
    thread.join()


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Runs commands in an empty directory, without a configuration or NEXUS_* variables."""
    for name in list(os.environ):
        if name.startswith("NEXUS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return CliRunner()
