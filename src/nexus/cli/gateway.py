"""Talks to the running gateway, for commands that read."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from nexus.cli.failure import Failure, config_failure

__all__ = ["Gateway", "find_gateway"]

_TIMEOUT_S = 10.0


class Gateway:
    """A gateway's address: ``url`` as people write it, or the path of a Unix socket.

    The proxies of the environment are not asked: gateways are near.
    """

    def __init__(self, url: str, *, unix: str = "", admin_key: str = "") -> None:
        self.url = url
        self.unix = unix
        self.admin_key = admin_key

    def get(self, path: str) -> Any:
        """The JSON that ``GET path`` answers.

        Raises :class:`Failure` when nobody is there, or it is not Nexus, or it says no.
        """
        status, body = self._ask(path)
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if status >= 400:
            raise Failure(f"{self._place} answered {status}: {_error_text(answer)}")
        if not isinstance(answer, dict):
            raise Failure(f"what answers at {self._place} is not a Nexus gateway")
        return answer

    @property
    def _place(self) -> str:
        return self.unix or self.url

    def _ask(self, path: str) -> tuple[int, bytes]:
        parts = urlsplit(self.url)
        headers = {"Accept": "application/json"}
        if self.admin_key and path.startswith("/admin/"):
            headers["Authorization"] = f"Bearer {self.admin_key}"
        connection = self._connection()
        try:
            connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (ConnectionRefusedError, FileNotFoundError):
            raise Failure(
                f"no gateway is running at {self._place}. Start one with `nexus serve`, or say "
                f"where it is with --gateway URL or NEXUS_GATEWAY."
            ) from None
        except TimeoutError:
            raise Failure(f"{self._place} did not answer within {_TIMEOUT_S:.0f} s") from None
        except http.client.HTTPException:
            raise Failure(f"what answers at {self._place} is not a Nexus gateway") from None
        except OSError as error:
            raise Failure(f"cannot reach {self._place}: {error.strerror or error}") from None
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self.unix:
            return _UnixConnection(self.unix)
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        return kind(parts.hostname, parts.port, timeout=_TIMEOUT_S)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def find_gateway(option: str | None) -> Gateway:
    """The gateway to talk to: ``--gateway``, else ``NEXUS_GATEWAY``, else where the configuration
    would have it listen. Raises :class:`Failure` or ``click.BadParameter``."""
    admin_key = os.environ.get("NEXUS_ADMIN_KEY", "").strip()
    if option is not None:
        return Gateway(_checked(option, "--gateway"), admin_key=admin_key)
    named = os.environ.get("NEXUS_GATEWAY", "").strip()
    if named:
        return Gateway(_checked(named, "NEXUS_GATEWAY"), admin_key=admin_key)
    return _configured(admin_key)


def _checked(url: str, origin: str) -> str:
    from nexus.core.backend import parse_backend_url

    try:
        address = parse_backend_url(url if "://" in url else f"http://{url}")
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=origin) from None
    return f"{address.scheme}://{address.authority}{address.base_path}"


def _configured(admin_key: str) -> Gateway:
    """By host and port of file and environment. Secrets are not resolved: the variables that hold
    backends' keys are the gateway's, and need not exist where a command is typed."""
    from nexus.config.environment import read_environment
    from nexus.config.layers import Layers
    from nexus.config.loader import find_config
    from nexus.config.parse import build_config, read_toml
    from nexus.config.problem import ConfigError, Problem, ProblemList

    try:
        file = find_config(path=None, env=os.environ)
        text = "" if file is None else _read(file)
        layers = Layers(file, text, read_toml(text, source=str(file)))
        for variable in read_environment(os.environ)[0]:
            layers.put(variable.path, variable.value, f"env {variable.variable}")
        found = ProblemList(layers.locate)
        server = build_config(layers.raw, found).server
        ours: list[Problem] = [p for p in found.problems if p.key.startswith("server")]
        if ours:
            raise ConfigError(ours)
    except ConfigError as error:
        raise config_failure(error) from None
    # An address to listen on is not always one to connect to.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(server.host, server.host)  # noqa: S104
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if server.tls_cert else "http"
    unix = server.unix
    if unix and file is not None:
        unix = str(file.parent / unix)
    return Gateway(f"{scheme}://{shown}:{server.port}", unix=unix, admin_key=admin_key)


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{file} cannot be read: {error}") from None


def _error_text(answer: object) -> str:
    from nexus.telemetry.text import printable

    if isinstance(answer, dict):
        error = answer.get("error")
        if isinstance(error, dict) and isinstance(error.get("message"), str):
            return printable(error["message"])
    return "an error that is not Nexus's own"
