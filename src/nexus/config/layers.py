"""Several sources of settings laid over each other, each value remembering where it is from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nexus.config.fields import KeyPath, show_path
from nexus.config.lines import LineIndex

__all__ = ["Layers"]

DEFAULT = "default"
FLAG = "flag"


class Layers:
    """The tables of a file, with values from elsewhere put over them.

    An *origin* is ``file PATH``, ``env NAME``, ``flag`` or ``default``.
    """

    __slots__ = ("_file", "_index", "_origins", "raw")

    def __init__(self, file: Path | None, text: str, raw: dict[str, Any]) -> None:
        self._file = file
        self._index = LineIndex(text)
        self._origins: dict[KeyPath, str] = {}
        self.raw = raw
        for path in _leaves(raw):
            self._origins[path] = f"file {file}"

    def put(self, path: KeyPath, value: Any, origin: str) -> None:
        """Lays one value over what was there. ``path`` holds table keys only."""
        table = self.raw
        for key in path[:-1]:
            below = table.setdefault(str(key), {})
            if not isinstance(below, dict):
                return  # no table where one must be: reading the schema reports that
            table = below
        table[str(path[-1])] = value
        for known in [known for known in self._origins if known[: len(path)] == path]:
            del self._origins[known]
        self._origins[path] = origin

    def origin(self, path: KeyPath) -> str:
        """Where the value at ``path`` is from: it, or the table around it, was set there."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._origins:
                return self._origins[path[:length]]
        return DEFAULT

    def locate(self, path: KeyPath) -> tuple[str, int | None]:
        """Source and line for a problem at ``path``, which itself may be missing."""
        origin = self.origin(path)
        if origin == DEFAULT:
            inside = [at for at in self._origins if at[: len(path)] == path]
            origin = self._origins[inside[0]] if inside else f"file {self._file}"
        if origin == f"file {self._file}":
            return str(self._file), self._index.line(path)
        return origin, None

    def origins(self, config: msgspec.Struct) -> dict[str, str]:
        """The origin of every value of ``config``, by key path."""
        return {show_path(path): self.origin(path) for path in _leaves(config)}


def _leaves(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """The paths of all single values: lists of plain values and empty tables are single."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list | tuple) and value and _is_table(value[0]):
        for position, inner in enumerate(value):
            yield from _leaves(inner, (*path, position))
    elif path:
        yield path


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping | msgspec.Struct)
