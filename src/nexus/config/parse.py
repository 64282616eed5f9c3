"""From TOML to a :class:`Config`, with every problem found at once.

Tables are taken apart key by key, each value converted on its own, so that one bad key hides no
other; a value that cannot be used is replaced by its default while the rest is looked at, and in
the end the problems are raised together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar

import msgspec

from nexus.config.check import check_backend, check_config, check_name
from nexus.config.fields import Field, KeyPath, describe, fields_of, settings, shape_of, show_path
from nexus.config.lines import LineIndex
from nexus.config.problem import ConfigError, Problem, ProblemList, nearest_name
from nexus.config.schema import BackendConfig, Config

__all__ = [
    "ConfigError",
    "Problem",
    "build_backend",
    "build_config",
    "parse_config",
    "read_toml",
]

_HINTS_MAX = 100

S = TypeVar("S", bound=msgspec.Struct)


class _Unusable:
    """Stands for a value that was reported."""


_UNUSABLE: Final = _Unusable()


def parse_config(text: str, *, source: str) -> Config:
    """Reads a whole configuration file. ``source`` names it in problems.

    Raises :class:`ConfigError` with all problems. What needs the environment or other files (key
    variables, key files) is looked at by :func:`nexus.config.loader.load_config`.
    """
    raw = read_toml(text, source=source)
    index = LineIndex(text)
    found = ProblemList(lambda path: (source, index.line(path)))
    config = build_config(raw, found)
    if found.problems:
        raise ConfigError(found.problems)
    return config


def read_toml(text: str, *, source: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises :class:`ConfigError` when it is not TOML."""
    import tomllib  # not needed without a file, and start-up is timed

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        message = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "nested too deeply"
        place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
        line = int(place[1]) if place and place[1] else None
        if place and line is None:
            line = text.count("\n") + 1
        message = message[: place.start()] if place else message
        problem = Problem(source=source, line=line, message=f"not valid TOML: {message}")
        raise ConfigError([problem]) from None


def build_config(raw: Mapping[str, Any], found: ProblemList) -> Config:
    """The configuration that ``raw`` describes; what is wrong with it goes to ``found``.

    With problems the configuration holds defaults in the places that they name: good for looking
    further, not for running.
    """
    config = _Reader(found).table(Config, raw, ())
    check_config(config, found.report)
    return config


def build_backend(raw: Mapping[str, Any], found: ProblemList) -> BackendConfig:
    """One backend by itself, as ``[[backends]]`` would have it; key paths begin at its table."""
    backend = _Reader(found).table(BackendConfig, raw, ())
    if backend.name:
        check_name(backend.name, ("name",), found.report)
    check_backend(backend, (), found.report)
    return backend


class _Reader:
    """Walks raw tables along the schema."""

    __slots__ = ("_found",)

    def __init__(self, found: ProblemList) -> None:
        self._found = found

    def table(self, struct: type[S], raw: Mapping[str, Any], path: KeyPath) -> S:
        """A struct from a TOML table. Required keys that are missing become empty text."""
        fields = fields_of(struct)
        for name in raw:
            if name not in fields:
                self._unknown(struct, name, path)
        values: dict[str, Any] = {}
        for name, field in fields.items():
            value = self._field(field, raw, (*path, name))
            if value is not _UNUSABLE:
                values[name] = value
        return msgspec.structs.replace(_blank(struct), **values)

    def _field(self, field: Field, raw: Mapping[str, Any], path: KeyPath) -> Any:
        if field.name in raw:
            return self._value(field.type, raw[field.name], path)
        if field.required:
            self._found.report(path, "is required")
            return _UNUSABLE
        return field.default

    def _value(self, annotation: Any, raw: Any, path: KeyPath) -> Any:
        shape = shape_of(annotation)
        if shape.struct is not None:
            if isinstance(raw, Mapping):
                return self.table(shape.struct, raw, path)
            # Keeps its place, so that the positions of the items after it stay right.
            self._wrong(annotation, raw, path)
            return _blank(shape.struct)
        if shape.base is tuple and isinstance(raw, list | tuple):
            items = [self._value(shape.item, item, (*path, i)) for i, item in enumerate(raw)]
            return tuple(item for item in items if item is not _UNUSABLE)
        if shape.base is dict and isinstance(raw, dict):
            return self._entries(shape.key, shape.item, raw, path)
        try:
            value = msgspec.convert(raw, annotation)
        except msgspec.ValidationError:
            value = _UNUSABLE
        if isinstance(value, float) and not math.isfinite(value):
            value = _UNUSABLE
        if value is _UNUSABLE:
            self._wrong(annotation, raw, path)
        return value

    def _entries(self, key: Any, item: Any, raw: dict[str, Any], path: KeyPath) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for name, value in raw.items():
            at = (*path, name)
            try:
                msgspec.convert(name, key)
            except msgspec.ValidationError:
                self._found.report(at, f"the name must be {describe(key)}")
                continue
            read = self._value(item, value, at)
            if read is not _UNUSABLE:
                entries[name] = read
        return entries

    def _unknown(self, struct: type[msgspec.Struct], name: str, path: KeyPath) -> None:
        if len(self._found.problems) >= _HINTS_MAX:
            # Whoever has so many mistakes is no person, and looking for likeness takes a while.
            self._found.report((*path, name), "unknown key")
            return
        nearest = nearest_name(name, fields_of(struct))
        if nearest is None:
            # A right key in a wrong table is the other common slip.
            elsewhere = [show_path(known) for known, _ in settings() if known[-1] == name]
            nearest = elsewhere[0] if elsewhere else None
        self._found.report((*path, name), "unknown key", nearest)

    def _wrong(self, annotation: Any, raw: Any, path: KeyPath) -> None:
        shape = shape_of(annotation)
        nearest = None
        if shape.base is Literal and isinstance(raw, str):
            nearest = nearest_name(raw, shape.choices)
        message = f"must be {describe(annotation)}, not {_show(shape.base, raw)}"
        self._found.report(path, message, nearest)


def _blank(struct: type[S]) -> S:
    """All defaults; required keys, which are texts, empty."""
    return struct(**{name: "" for name, field in fields_of(struct).items() if field.required})


def _show(base: Any, raw: Any) -> str:
    """A wrong value for a message. Only numbers where numbers belong, and names where one of a
    few belongs, are repeated: anything else may be a secret in the wrong place."""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, int | float):
        return f"{raw!r:.40}" if base in (int, float) else "a number"
    if isinstance(raw, str):
        if not raw:
            return "empty text"
        return f'"{raw:.40}"' if base is Literal else "text"
    if isinstance(raw, dict):
        return "a table"
    return "a list" if isinstance(raw, list | tuple) else f"a {type(raw).__name__}"
