"""What is wrong with a configuration: all of it at once, each with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from nexus.config.fields import KeyPath, show_path

__all__ = ["ConfigError", "Locate", "Problem", "ProblemList", "nearest_name"]

_LIKENESS_CHARS_MAX = 256

# Tells where the value at a key path was written: source and line.
Locate = Callable[[KeyPath], tuple[str, int | None]]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong.

    ``source`` is where it was written: a file's path, ``env NEXUS_...`` or ``flag``. ``line``
    counts from 1, ``None`` where it is not known. ``key`` is the key path
    (``backends[0].url``), empty when the file as a whole is meant. ``nearest`` is the valid name
    that comes closest, ``None`` if none does. No field ever holds a secret.
    """

    source: str
    message: str
    key: str = ""
    line: int | None = None
    nearest: str | None = None

    def __str__(self) -> str:
        """``nexus.toml:3: server.prot: unknown key (did you mean "port"?)``."""
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        parts = [place, self.key, self.message] if self.key else [place, self.message]
        hint = "" if self.nearest is None else f' (did you mean "{self.nearest}"?)'
        return ": ".join(parts) + hint


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` has every reason, at least one, in the order
    of the file's lines. ``files`` are key files that it names, perhaps the reason."""

    def __init__(self, problems: Iterable[Problem], files: Iterable[str] = ()) -> None:
        ordered = sorted(problems, key=lambda problem: (problem.source, problem.line or 0))
        self.problems: tuple[Problem, ...] = tuple(ordered)
        self.files = tuple(files)
        super().__init__(self.problems)

    def __str__(self) -> str:
        """All problems, one a line, under a heading when there are several."""
        if len(self.problems) == 1:
            return str(self.problems[0])
        lines = [f"the configuration has {len(self.problems)} problems:"]
        return "\n  ".join([*lines, *map(str, self.problems)])


class ProblemList:
    """Collects problems by key path while a configuration is read; raises none."""

    __slots__ = ("_keys", "_locate", "problems")

    def __init__(self, locate: Locate) -> None:
        self._locate = locate
        self._keys: set[KeyPath] = set()
        self.problems: list[Problem] = []

    def report(self, path: KeyPath, message: str, nearest: str | None = None) -> None:
        """Notes a problem; a key that has one already keeps just that."""
        if path in self._keys:
            return
        self._keys.add(path)
        source, line = self._locate(path)
        key = show_path(path)
        self.problems.append(
            Problem(source=source, line=line, key=key, message=message, nearest=nearest)
        )


def nearest_name(name: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that looks most like ``name``, ``None`` if none is close.

    Upper case, ``-`` and ``_`` are no difference to a person, so they are none here. What is longer
    than names are is like none of them: comparing takes long then.
    """
    if len(name) > _LIKENESS_CHARS_MAX:
        return None
    import difflib  # only ever needed to report a mistake

    def folded(text: str) -> str:
        return text.lower().replace("-", "_")

    by_folded = {folded(known): known for known in names if known}
    close = difflib.get_close_matches(folded(name), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None
