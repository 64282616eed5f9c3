"""Text from outside made safe for one line on a terminal."""

from __future__ import annotations

__all__ = ["harmless", "printable"]

# Control characters (C0 without tab and line feed, DEL, C1), and what turns the direction of text.
_HARMFUL = dict.fromkeys(
    code
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\t\n"
)


def printable(text: str) -> str:
    """``text`` with everything that is not printable written as an escape (``\\n``, ``\\x1b``):
    it can neither break a line, nor steer a terminal, nor turn its direction."""
    if text.isprintable():
        return text
    return "".join(
        ch if ch.isprintable() else ch.encode("unicode_escape").decode("ascii") for ch in text
    )


def harmless(text: str) -> str:
    """``text`` of several lines without what steers a terminal or turns its direction. Everything
    else stays, the joiners and blanks of other scripts too."""
    return text.translate(_HARMFUL)
