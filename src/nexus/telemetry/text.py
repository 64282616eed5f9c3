"""Text from outside made safe for one line on a terminal."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """``text`` with everything that is not printable written as an escape (``\\n``, ``\\x1b``):
    it can neither break a line, nor steer a terminal, nor turn its direction."""
    if text.isprintable():
        return text
    return "".join(
        ch if ch.isprintable() else ch.encode("unicode_escape").decode("ascii") for ch in text
    )
