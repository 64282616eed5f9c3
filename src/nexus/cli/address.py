"""Where the gateway is: ``--gateway``, else ``NEXUS_GATEWAY``, else as configured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
import msgspec

from nexus.cli.failure import Failure, config_failure

if TYPE_CHECKING:
    from nexus.config.schema import ServerConfig

__all__ = ["Address", "find_address"]


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a gateway.

    ``url`` has no trailing slash and no ``/v1``; with ``unix`` (a socket's path) only its path
    counts. ``ca`` is a file of authorities to trust, ``insecure`` trusts everyone,
    ``certificate`` is the very certificate that the gateway serves, where the configuration tells.
    ``named`` is false for the address that is tried because nobody named one.
    """

    url: str
    unix: str = ""
    ca: str = ""
    insecure: bool = False
    certificate: str = ""
    named: bool = True
    admin_key: str = ""

    def __repr__(self) -> str:
        """Without the key."""
        return f"Address({str(self)!r})"

    def __str__(self) -> str:
        """As people write it."""
        return f"unix:{self.unix}" if self.unix else self.url


def find_address(option: str | None, *, ca: str | None = None, insecure: bool = False) -> Address:
    """The gateway to talk to. Raises :class:`Failure`, or ``click.BadParameter`` for an address
    that is none."""
    named = os.environ.get("NEXUS_GATEWAY", "").strip()
    if option is not None:
        found = _named(option, "--gateway")
    elif named:
        found = _named(named, "NEXUS_GATEWAY")
    else:
        found = _configured()
    key = os.environ.get("NEXUS_ADMIN_KEY", "").strip() or found.admin_key
    if key and not found.named and not found.unix:
        _refuse_elsewhere(found.url)
    return msgspec.structs.replace(found, ca=ca or "", insecure=insecure, admin_key=key)


def _named(text: str, origin: str) -> Address:
    """``http://host:port``, ``host:port``, or ``unix:PATH``."""
    from nexus.core.backend import parse_backend_url

    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        # unix:///run/nexus.sock is how others write unix:/run/nexus.sock.
        path = path.removeprefix("//") if path.startswith("///") else path
        if not path:
            raise click.BadParameter("a path must follow unix:", param_hint=origin)
        return Address(url="http://localhost", unix=path)
    try:
        address = parse_backend_url(text if "://" in text else f"http://{text}")
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=origin) from None
    authority = address.authority
    if ":" in address.host:  # the zone of fe80::1%eth0 is for connecting, not for Host
        authority = authority.replace(address.host.partition("%")[0], address.host, 1)
    return Address(url=f"{address.scheme}://{authority}{address.base_path}")


def _configured() -> Address:
    """By host and port of file and environment."""
    server, folder = _server_section()
    # An address to listen on is not always one to connect to.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(server.host, server.host)  # noqa: S104
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if server.tls_cert else "http"
    variable = server.admin_key_env
    return Address(
        url=f"{scheme}://{shown}:{server.port}",
        unix=str(folder / server.unix) if server.unix else "",
        certificate=str(folder / server.tls_cert) if server.tls_cert else "",
        named=False,
        admin_key=os.environ.get(variable, "").strip() if variable else "",
    )


def _refuse_elsewhere(url: str) -> None:
    """A configuration tells where a gateway of this machine listens. One that names another machine
    (it lay in the folder that somebody unpacked) would have the key sent there."""
    import socket

    host = urlsplit(url).hostname or ""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, place in found:
            with socket.socket(family, kind, protocol) as tried:
                tried.bind(place)  # only an address of this machine lets itself be bound
    except (OSError, UnicodeError):
        raise Failure(
            f"server.host of the configuration, {host}, is no address of this machine, so the "
            "admin key is not sent there. If that is where the gateway is: --gateway URL."
        ) from None


def _server_section() -> tuple[ServerConfig, Path]:
    """The ``[server]`` table and the directory that its file names are relative to. Secrets are
    not resolved: the variables that hold backends' keys are the gateway's, and need not exist
    where a command is typed."""
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
    return server, Path() if file is None else file.parent


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{file} cannot be read: {error}") from None
