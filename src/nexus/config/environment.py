"""Settings from environment variables (behaviour § 8).

``NEXUS_SECTION__KEY`` names any key, deeper ones likewise (``NEXUS_ROUTING__WEIGHTS__LOAD``); the
value is read as TOML where it is that, else as text. ``NEXUS_HOST``, ``NEXUS_PORT`` and
``NEXUS_LOG_LEVEL`` are short forms. Other ``NEXUS_*`` names without ``__`` are somebody else's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from nexus.config.fields import KeyPath, fields_of, settings, shape_of, show_path
from nexus.config.problem import Problem, nearest_name
from nexus.config.schema import Config

__all__ = ["EnvironmentValue", "read_environment", "variable_name"]

_PREFIX = "NEXUS_"
_SHORT: dict[str, KeyPath] = {
    "NEXUS_HOST": ("server", "host"),
    "NEXUS_PORT": ("server", "port"),
    "NEXUS_LOG_LEVEL": ("logging", "level"),
}


class EnvironmentValue(msgspec.Struct, frozen=True, kw_only=True):
    """One setting found in the environment."""

    path: KeyPath
    value: Any
    variable: str


def variable_name(path: KeyPath) -> str:
    """The variable that sets the key at ``path``."""
    return _PREFIX + "__".join(str(part).upper() for part in path)


def read_environment(env: Mapping[str, str]) -> tuple[list[EnvironmentValue], list[Problem]]:
    """The settings in ``env``, to be applied in this order, and the names that mean nothing.

    A short form comes before its long form and a table before its keys, so that the more exact
    name has the last word.
    """
    found = [
        EnvironmentValue(path=path, value=_read(env[name].strip(), path), variable=name)
        for name, path in _SHORT.items()
        # Kubernetes sets NEXUS_PORT=tcp://10.0.0.1:8000 for a service that is named nexus.
        if env.get(name, "").strip() and not env[name].startswith("tcp://")
    ]
    problems: list[Problem] = []
    long_forms: list[EnvironmentValue] = []
    for name in sorted(env):
        if not name.startswith(_PREFIX) or "__" not in name[len(_PREFIX) :]:
            continue
        path = tuple(name[len(_PREFIX) :].lower().split("__"))
        if _annotation(path) is not None:
            value = _read(env[name], path)
            long_forms.append(EnvironmentValue(path=path, value=value, variable=name))
        else:
            problems.append(_unknown(name, path))
    return found + sorted(long_forms, key=lambda value: len(value.path)), problems


def _unknown(name: str, path: KeyPath) -> Problem:
    if path[0] == "backends":
        message = "backends are set in the file, not by variables"
        return Problem(source=f"env {name}", key="backends", message=message)
    known = [variable_name(setting) for setting, _ in settings()]
    nearest = nearest_name(name, known)
    return Problem(
        source=f"env {name}", key=show_path(path), message="unknown setting", nearest=nearest
    )


def _annotation(path: tuple[str, ...]) -> Any:
    """The type of the value at ``path``, ``None`` when there is no such key."""
    annotation: Any = Config
    for part in path:
        shape = shape_of(annotation)
        if shape.struct is not None and part in fields_of(shape.struct):
            annotation = fields_of(shape.struct)[part].type
        elif shape.base is dict and part:
            annotation = shape.item
        else:
            return None
    return annotation


def _read(text: str, path: KeyPath) -> Any:
    """A variable's value: TOML if it is that, unless the key wants text and it is not quoted."""
    import tomllib  # not needed without such a variable, and start-up is timed

    try:
        tables = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        tables = {}
    # A line break in the variable could begin a further key; then it is not one TOML value.
    value = tables["value"] if tables.keys() == {"value"} else text
    wants_text = shape_of(_annotation(tuple(map(str, path)))).base in (str, Literal)
    if wants_text and not isinstance(value, str):
        value = text
    return value.lower() if path == ("logging", "level") and isinstance(value, str) else value
