"""Where each ``[[backends]]`` stands in a TOML text: its lines, and the comments that are its own.

A comment right above a header belongs to that header, though a parser has it at the end of the
table before. Lines are judged one by one, as people write them; who edits by this must look at the
result with a real parser.
"""

from __future__ import annotations

import re

import msgspec

__all__ = ["Block", "find_blocks"]

_HEADER = re.compile(r"\s*(\[\[?)\s*(?:backends|\"backends\"|'backends')\s*(\.|\]\]?)")
_ANY_HEADER = re.compile(r"\s*\[\[?[^\[\]]+\]\]?\s*(#.*)?$")
# What hides quotes from us (comments, strings of one line), and what begins a string of several.
_OUTSIDE = re.compile(r"""#.*|\"{3}|'{3}|"(?:[^"\\]|\\.)*"|'[^']*'""")
# Two quotes more may stand at the end of such a string: they are its own.
_CLOSING = {
    '"""': re.compile(r'(?:[^"\\]|\\.|"(?!""))*"{3,5}'),
    "'''": re.compile(r"(?:[^']|'(?!''))*'{3,5}"),
}


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of one ``[[backends]]``, counted from 0, ends excluded.

    ``comment`` is where the comment above begins, ``start`` the header's line, ``body`` where its
    own keys end and sub-tables (``[backends.headers]``) begin, ``subtables`` those, each with its
    first line, ``end`` where it all ends: comments above the next header, and blank lines, not
    included.
    """

    comment: int
    start: int
    body: int
    subtables: tuple[tuple[int, int], ...]
    end: int


def find_blocks(lines: list[str]) -> list[Block]:
    """Every ``[[backends]]`` of a text, in order."""
    headers = _headers(lines)
    blocks: list[Block] = []
    for index, (line, kind) in enumerate(headers):
        if kind != "item":
            continue
        inner = []
        after = len(lines)
        for number, other in headers[index + 1 :]:
            if other != "sub":
                after = number
                break
            inner.append(number)
        starts = [line, *inner]
        stops = [*inner, after]
        ends = [_end(lines, start, stop) for start, stop in zip(starts, stops, strict=True)]
        blocks.append(
            Block(
                comment=_comment(lines, line),
                start=line,
                body=ends[0],
                subtables=tuple(zip(inner, ends[1:], strict=True)),
                end=ends[-1],
            )
        )
    return blocks


def _headers(lines: list[str]) -> list[tuple[int, str]]:
    """Line and kind of each header: ``item`` (``[[backends]]``), ``sub`` (a table of one) or
    ``other``."""
    found: list[tuple[int, str]] = []
    within = ""  # the triple quote that a string of several lines began with
    for number, line in enumerate(lines):
        if not within and _ANY_HEADER.match(line):
            ours = _HEADER.match(line)
            kind = "other"
            if ours is not None:
                kind = "sub" if ours[2] == "." else "item" if ours[1] == "[[" else "other"
            found.append((number, kind))
        within = _after(line, within)
    return found


def _after(line: str, within: str) -> str:
    """The triple quote that is open after ``line``, ``within`` being the one before it."""
    at = 0
    while True:
        if within:
            closing = _CLOSING[within].match(line, at)
            if closing is None:
                return within
            at = closing.end()
        token = _OUTSIDE.search(line, at)
        while token is not None and token[0] not in _CLOSING:
            token = _OUTSIDE.search(line, token.end())
        if token is None:
            return ""
        within, at = token[0], token.end()


def _comment(lines: list[str], header: int) -> int:
    start = header
    while start > 0 and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    return start


def _end(lines: list[str], start: int, stop: int) -> int:
    """Where what begins at ``start`` ends; the next header, or the text's end, is at ``stop``."""
    end = _comment(lines, stop) if stop < len(lines) else stop
    while end > start + 1 and not lines[end - 1].strip():
        end -= 1
    return end
