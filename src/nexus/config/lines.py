"""On which line of a TOML text a key stands.

``tomllib`` gives values without places. This reads only table headers and ``key =`` line starts,
which is exact for what people write; a key inside an inline table is found at the line of the
table that holds it.
"""

from __future__ import annotations

import re

from nexus.config.fields import KeyPath

__all__ = ["LineIndex"]

_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})\s*=")
_ONE_KEY = re.compile(_KEY)
_TRIPLE = re.compile(r'"""|\'\'\'')


class LineIndex:
    """Finds the line of a key path. Raises nothing: what it cannot read has no line."""

    __slots__ = ("_lines", "_tables")

    def __init__(self, text: str) -> None:
        self._lines: dict[KeyPath, int] = {}
        self._tables: dict[KeyPath, int] = {}
        self._read(text)

    def line(self, path: KeyPath) -> int | None:
        """The line, from 1, of the key or else of the nearest table around it."""
        for length in range(len(path), 0, -1):
            found = self._lines.get(path[:length])
            if found is not None:
                return found
        return None

    def _read(self, text: str) -> None:
        table: KeyPath = ()
        within = ""  # the triple quote that a string of several lines began with
        for number, line in enumerate(text.split("\n"), start=1):
            if not within:
                if header := _HEADER.match(line):
                    table = self._enter(_split(header[2]), repeated=header[1] == "[[")
                    self._note(table, number)
                elif assignment := _ASSIGNMENT.match(line):
                    self._note(table + _split(assignment[1]), number)
            for quote in _TRIPLE.findall(line):
                within = quote if not within else "" if quote == within else within

    def _enter(self, keys: tuple[str, ...], *, repeated: bool) -> KeyPath:
        """The path of a header's table: ``[[backends]]`` counts up, ``[backends.headers]`` is in
        the latest one."""
        path: KeyPath = ()
        for depth, key in enumerate(keys, start=1):
            path = (*path, key)
            if repeated and depth == len(keys):
                self._tables[path] = self._tables.get(path, -1) + 1
            if path in self._tables:
                path = (*path, self._tables[path])
        return path

    def _note(self, path: KeyPath, number: int) -> None:
        for length in range(1, len(path) + 1):
            self._lines.setdefault(path[:length], number)


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(_plain(key) for key in _ONE_KEY.findall(dotted))


def _plain(key: str) -> str:
    if key[0] == "'":
        return key[1:-1]
    if key[0] == '"':
        return re.sub(r"\\(.)", r"\1", key[1:-1])
    return key
