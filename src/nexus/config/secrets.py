"""Keys are not in the configuration; it names the variables and files that hold them.

Nothing here puts a key, or what may be one in the wrong place, into a message.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from nexus.config.check import Report, header_value_fault
from nexus.config.fields import KeyPath
from nexus.config.schema import BackendConfig, Config

__all__ = ["read_admin_key", "read_backend_key", "read_backend_keys"]

# What is surely a variable's name; anything else may be the key itself and is not repeated.
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_KEY_BYTES_MAX = 65_536


def read_admin_key(config: Config, env: Mapping[str, str], report: Report) -> str:
    """The admin key, empty when none is configured. A named but empty variable is reported."""
    name = config.server.admin_key_env
    return _from_variable(name, env, report, ("server", "admin_key_env")) if name else ""


def read_backend_keys(config: Config, env: Mapping[str, str], report: Report) -> tuple[str, ...]:
    """Each backend's key, in the order of ``config.backends``, empty where it has none."""
    return tuple(
        read_backend_key(backend, env, report, ("backends", position))
        for position, backend in enumerate(config.backends)
    )


def read_backend_key(
    backend: BackendConfig, env: Mapping[str, str], report: Report, at: KeyPath
) -> str:
    """One backend's key, empty when it has none; ``at`` is where its table stands."""
    if backend.api_key_env:
        return _from_variable(backend.api_key_env, env, report, (*at, "api_key_env"))
    if backend.api_key_file:
        return _from_file(Path(backend.api_key_file), report, (*at, "api_key_file"))
    return ""


def _from_variable(
    name: str, env: Mapping[str, str], report: Report, at: tuple[str | int, ...]
) -> str:
    key = env.get(name, "").strip()
    shown = f"variable {name}" if _VARIABLE.fullmatch(name) else "variable of this name"
    if not key:
        state = "is empty" if name in env else "is not set"
        report(at, f"the environment {shown} {state}")
    elif (fault := header_value_fault(key)) is not None:
        report(at, f"the environment {shown} {fault}")
    return key


def _from_file(path: Path, report: Report, at: tuple[str | int, ...]) -> str:
    try:
        # Whoever opens a pipe without a writer waits for one, and so would every client.
        with open(path, "rb", opener=_open_now) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                report(at, "the file is a pipe or device: a key is read from an ordinary file")
                return ""
            key = file.read(_KEY_BYTES_MAX).decode().strip()
    except OSError as error:
        report(at, f"the file cannot be read: {error.strerror or type(error).__name__}")
        return ""
    except ValueError:  # not UTF-8, or a path that holds NUL
        report(at, "the file cannot be read as text")
        return ""
    if not key:
        report(at, "the file is empty")
    elif (fault := header_value_fault(key)) is not None:
        report(at, f"the file {fault}")
    return key


def _open_now(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
