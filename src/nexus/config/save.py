"""Replaces a configuration file in one step: whoever reads sees the old text or the new one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from nexus.config.edit import EditError

__all__ = ["FileText", "read_file", "write_file"]


class FileText(msgspec.Struct, frozen=True, kw_only=True):
    """What a file held when it was read. ``data`` is ``None`` when there was none; ``path`` is
    where it really is, links followed."""

    path: Path
    data: bytes | None

    @property
    def text(self) -> str:
        """Its text, empty for none. Raises :class:`EditError`."""
        try:
            return "" if self.data is None else self.data.decode()
        except UnicodeDecodeError:
            raise EditError(f"{self.path} is not valid UTF-8: nothing was saved.") from None


def read_file(path: Path) -> FileText:
    """What is in a file that may not be there yet. Raises :class:`EditError`."""
    real = Path(os.path.realpath(path))
    try:
        return FileText(path=real, data=real.read_bytes())
    except FileNotFoundError:
        return FileText(path=real, data=None)
    except OSError as error:
        raise _unwritable(path, error, "read") from None


def write_file(before: FileText, text: str) -> None:
    """Puts ``text`` in the place of what :func:`read_file` read, keeping mode and, where allowed,
    owner; a link stays a link.

    Raises :class:`EditError` when the file has changed since, or cannot be written.
    """
    import tempfile  # with what it brings; most gateways never save

    path = before.path
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".new")
    except OSError as error:
        raise _unwritable(path, error, "written") from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            if before.data is not None:
                known = path.stat()
                os.fchmod(file.fileno(), known.st_mode & 0o7777)
                with contextlib.suppress(PermissionError):
                    os.fchown(file.fileno(), known.st_uid, known.st_gid)
            file.flush()
            os.fsync(file.fileno())
        if read_file(path).data != before.data:
            raise EditError(f"{path} has just been changed by someone else: nothing was saved.")
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error, "written") from None
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError, what: str) -> EditError:
    why = error.strerror or type(error).__name__
    return EditError(f"{path} cannot be {what} ({why}): nothing was saved.")
