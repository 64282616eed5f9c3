"""Finds the configuration, lays its sources over each other, and resolves its secrets.

Precedence (behaviour § 8): flag, environment, file, default.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from nexus.config.environment import read_environment
from nexus.config.layers import FLAG, Layers
from nexus.config.mask import masked
from nexus.config.parse import build_config, read_toml
from nexus.config.problem import ConfigError, Problem, ProblemList
from nexus.config.schema import Config
from nexus.config.secrets import read_admin_key, read_backend_keys
from nexus.config.specs import backend_spec
from nexus.core.backend import BackendSpec

__all__ = [
    "ConfigError",
    "Loaded",
    "Problem",
    "find_config",
    "key_files",
    "load_config",
    "masked",
]

FILE_NAME = "nexus.toml"


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that can be run.

    ``path`` is the file it was read from, ``None`` without one. ``origins`` tells for each key
    path where its value is from: ``flag``, ``env NAME``, ``file PATH`` or ``default``. Relative
    file names that the configuration file gave are joined to its directory. ``backends`` and
    ``admin_key`` (empty for none) hold secrets: neither is part of the ``repr``.
    """

    config: Config
    path: Path | None
    origins: dict[str, str]
    backends: tuple[BackendSpec, ...]
    admin_key: str

    def __repr__(self) -> str:
        """Only where it is from: the rest may end in a log."""
        return f"Loaded(path={self.path!r}, backends={[spec.name for spec in self.backends]!r})"


def load_config(
    *,
    path: Path | None,
    env: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
    cwd: Path | None = None,
    text: str | None = None,
) -> Loaded:
    """The configuration of this process.

    ``path`` is an explicit file, ``None`` to search (see :func:`find_config`). ``overrides`` are
    the command line's flags by dotted key (``"server.port"``); ``None`` values were not given.
    ``text`` stands for what the file holds: a change is looked at before it is written.
    Raises :class:`ConfigError` with every problem of every source.
    """
    file = find_config(path=path, env=env, cwd=cwd)
    variables, problems = read_environment(env)
    try:
        if text is None:
            text = "" if file is None else _read_file(file)
        text = text.removeprefix("\ufeff")
        raw = read_toml(text, source=str(file)) if text else {}
    except ConfigError as error:
        raise ConfigError([*error.problems, *problems]) from None
    layers = Layers(file, text, raw)
    for variable in variables:
        layers.put(variable.path, variable.value, f"env {variable.variable}")
    for key, value in (overrides or {}).items():
        if value is not None:
            layers.put(tuple(key.split(".")), value, FLAG)
    found = ProblemList(layers.locate)
    config = build_config(layers.raw, found)
    if file is not None:
        config = _anchored(config, layers, file.parent)
    admin_key = read_admin_key(config, env, found.report)
    keys = read_backend_keys(config, env, found.report)
    if problems or found.problems:
        raise ConfigError([*found.problems, *problems], key_files(config))
    return Loaded(
        config=config,
        path=file,
        origins=layers.origins(config),
        backends=tuple(
            backend_spec(backend, api_key=key)
            for backend, key in zip(config.backends, keys, strict=True)
        ),
        admin_key=admin_key,
    )


def key_files(config: Config) -> tuple[str, ...]:
    """The files that backends' keys are read from."""
    return tuple(one.api_key_file for one in config.backends if one.api_key_file)


def find_config(
    *, path: Path | None, env: Mapping[str, str], cwd: Path | None = None
) -> Path | None:
    """The file to read: ``path``, else the one that ``NEXUS_CONFIG`` names, both whether or not
    they exist; else ``nexus.toml`` in ``cwd`` (default: the working directory), else in
    ``$XDG_CONFIG_HOME/nexus`` (default ``~/.config/nexus``); ``None`` when there is none."""
    here = Path.cwd() if cwd is None else cwd
    named = path if path is not None else env.get("NEXUS_CONFIG", "")
    if path is not None or named:
        return here / named
    places = [here / FILE_NAME]
    base = env.get("XDG_CONFIG_HOME", "")
    if Path(base).is_absolute():  # the specification has others ignored
        places.append(Path(base) / "nexus" / FILE_NAME)
    elif env.get("HOME"):
        places.append(Path(env["HOME"]) / ".config" / "nexus" / FILE_NAME)
    return next((place for place in places if _is_file(place)), None)


def _is_file(path: Path) -> bool:
    """Whether a file is there to be read; a directory that may not be entered (a service user
    with root's HOME) holds none for us."""
    try:
        return path.is_file()
    except OSError:
        return False


def _read_file(file: Path) -> str:
    """The text of a configuration file. Raises :class:`ConfigError`."""
    try:
        data = file.read_bytes()
    except OSError as error:
        message = f"cannot be read: {error.strerror or type(error).__name__}"
        raise ConfigError([Problem(source=str(file), message=message)]) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = Problem(source=str(file), line=line, message="not valid UTF-8")
        raise ConfigError([problem]) from None


def _anchored(config: Config, layers: Layers, base: Path) -> Config:
    """File names that the configuration file gave are relative to where it is, not to where the
    process was started: with a file under ``~/.config`` nothing else would make sense."""

    def anchor(section: Any, at: tuple[str | int, ...], *names: str) -> Any:
        moved = {
            name: str(base / getattr(section, name))
            for name in names
            if getattr(section, name) and layers.origin((*at, name)).startswith("file ")
        }
        return msgspec.structs.replace(section, **moved)

    backends = tuple(
        anchor(backend, ("backends", position), "api_key_file", "tls_ca")
        for position, backend in enumerate(config.backends)
    )
    server = anchor(config.server, ("server",), "tls_cert", "tls_key", "unix")
    return msgspec.structs.replace(config, server=server, backends=backends)
