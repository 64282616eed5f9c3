"""Newline-delimited JSON: bytes in any split → complete lines."""

from __future__ import annotations

__all__ = ["LineTooLong", "NdjsonSplitter"]


class LineTooLong(ValueError):  # noqa: N818 - says what happened
    """A line exceeds its limit; nothing after it can be read."""


class NdjsonSplitter:
    """Cuts a byte stream into lines at LF (a CR before it belongs to the line's end).

    Blank lines are left out. A line ends with its LF: what stands after the last one is no line
    until :meth:`end` says that no more comes.
    """

    __slots__ = ("_length", "_line_bytes_max", "_pending")

    def __init__(self, line_bytes_max: int = 1024 * 1024) -> None:
        self._line_bytes_max = line_bytes_max
        self._pending: list[bytes] = []
        self._length = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their ends.

        Raises :class:`LineTooLong` as soon as a line is longer than ``line_bytes_max`` bytes.
        """
        cut = data.rfind(b"\n")
        if cut < 0:
            self._keep(data)
            return []
        whole = data[:cut]
        if self._pending:
            whole = b"".join(self._pending) + whole
            self._pending.clear()
            self._length = 0
        lines = [line for line in (part.removesuffix(b"\r") for part in whole.split(b"\n")) if line]
        if len(whole) > self._line_bytes_max and any(
            len(line) > self._line_bytes_max for line in lines
        ):
            raise LineTooLong(f"a line is longer than {self._line_bytes_max} bytes")
        if cut + 1 < len(data):
            self._keep(data[cut + 1 :])
        return lines

    def end(self) -> bytes:
        """What came after the last line end: a last line without one, or half of one."""
        rest = b"".join(self._pending)
        self._pending.clear()
        self._length = 0
        return rest.removesuffix(b"\r")

    def _keep(self, data: bytes) -> None:
        self._length += len(data)
        # One more for the CR that may prove to be the line's end.
        if self._length > self._line_bytes_max + 1:
            raise LineTooLong(f"a line is longer than {self._line_bytes_max} bytes")
        self._pending.append(data)
