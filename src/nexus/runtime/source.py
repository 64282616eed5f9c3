"""Where this process has its configuration from, so that it can be read again and saved to."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nexus.config.loader import FILE_NAME, Loaded, find_config, load_config
from nexus.config.save import read_file, write_file

__all__ = ["ConfigSource", "Mark"]

Mark = tuple[Any, ...]
"""What tells that files have changed; compared for equality alone."""


class ConfigSource:
    """The file, environment and flags that ``nexus serve`` was started with."""

    __slots__ = ("_cwd", "_env", "_overrides", "_path")

    def __init__(
        self,
        *,
        path: Path | None = None,
        env: Mapping[str, str] | None = None,
        overrides: Mapping[str, object] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self._cwd = Path.cwd() if cwd is None else cwd
        self._path = path
        self._env = os.environ if env is None else env
        self._overrides = overrides

    def load(self) -> Loaded:
        """The configuration as it is now. Raises ``ConfigError``."""
        return self._load(self._path, None)

    def find(self) -> Path | None:
        """The file that :meth:`load` would read."""
        return find_config(path=self._path, env=self._env, cwd=self._cwd)

    def stands_still(self) -> bool:
        """Whether the file can be read again without waiting: no pipe (``--config <(...)``, or one
        that was put in the file's place) or device. Never raises."""
        path = self.find()
        try:
            return path is None or not _is_stream(path.stat().st_mode)
        except OSError:
            return True  # its reader says what is wrong

    def save(self, edit: Callable[[str], str], check: Callable[[Loaded], object]) -> Loaded:
        """Edits the file, ``./nexus.toml`` if there is none yet, and returns what it holds now.

        The new text is looked at before it is written, by ``check`` too. Raises what that raises,
        ``ConfigError`` when the file would not be valid, ``EditError`` when it cannot be written:
        then nothing changed.
        """
        path = self.find() or self._cwd / FILE_NAME
        before = read_file(path)
        text = edit(before.text)
        loaded = self._load(path, text)
        check(loaded)
        if text.encode() != before.data:
            write_file(before, text)
        return loaded

    def mark(self, *further: str) -> Mark:
        """How the file stands, and ``further`` ones (keys): by what a rename or a swapped link
        changes too. Never raises."""
        file = self.find()
        paths = [str(file)] if file is not None else []
        return tuple((path, _stat(path)) for path in (*paths, *further))

    def _load(self, path: Path | None, text: str | None) -> Loaded:
        return load_config(
            path=path, env=self._env, overrides=self._overrides, cwd=self._cwd, text=text
        )


def _is_stream(mode: int) -> bool:
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode) or stat.S_ISBLK(mode)


def _stat(path: str) -> tuple[int, ...] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
