"""Saved changes: edits of ``[[backends]]`` in a configuration's text that leave all else as it was.

Comments, order and formatting stay. Tables are found by their lines (``blocks.py``), what is in one
is edited by ``tomlkit``, and every edit is checked: read again by a parser, the new text must hold
what the old one held and the change, nothing else; if not, the file is not written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nexus.config.blocks import Block, find_blocks

__all__ = ["EditError", "add_backend", "change_backend", "remove_backend"]

_BOM = "\ufeff"

Values = Mapping[str, Any]


class EditError(Exception):
    """A change that could not be saved; nothing was written. The text says why and what to do."""


def add_backend(text: str, table: Values) -> str:
    """``text`` with one more ``[[backends]]`` after those it has. ``None`` values are left out."""
    entry = {key: value for key, value in table.items() if value is not None}

    def edit(plain: str) -> str:
        lines = plain.split("\n")
        blocks = find_blocks(lines)
        if not blocks and "backends" in _read(plain):
            return _in_array(plain, lambda backends: backends.append(_item(entry)))
        new = ["[[backends]]", *(f"{_key(key)} = {_text(entry[key])}" for key in entry)]
        at = blocks[-1].end if blocks else _last_line(lines)
        after = lines[at:] if any(line.strip() for line in lines[at:]) else [""]
        return "\n".join([*lines[:at], *([""] if at else []), *new, *after])

    def expect(raw: dict[str, Any]) -> None:
        raw.setdefault("backends", []).append(entry)

    return _checked(text, edit, expect)


def change_backend(text: str, name: str, changes: Values) -> str:
    """``text`` with some keys of one backend set, or taken out where the value is ``None``.

    Raises :class:`EditError` when the file names no such backend.
    """

    def edit(plain: str) -> str:
        position = _position(_read(plain), name)
        lines = plain.split("\n")
        blocks = find_blocks(lines)
        if not blocks:
            return _in_array(plain, lambda backends: _set(backends[position], _items(changes)))
        block = blocks[position]
        gone = [
            (start, end)
            for start, end in block.subtables
            if any(f".{key}]" in "".join(lines[start].split()) for key in changes)
        ]
        body = _edit_body("\n".join(lines[block.start + 1 : block.body]), changes)
        rest = [
            line
            for number, line in enumerate(lines[block.body :], start=block.body)
            if not any(start <= number < end for start, end in gone)
        ]
        return "\n".join([*lines[: block.start + 1], *body, *rest])

    def expect(raw: dict[str, Any]) -> None:
        position = _position(raw, name)
        _set(raw["backends"][position], changes)

    return _checked(text, edit, expect)


def remove_backend(text: str, name: str) -> str:
    """``text`` without one backend and the comment above it. Raises :class:`EditError` when the
    file does not name it."""

    def edit(plain: str) -> str:
        position = _position(_read(plain), name)
        lines = plain.split("\n")
        blocks = find_blocks(lines)
        if not blocks:
            return _in_array(plain, lambda backends: backends.pop(position))
        return _without(lines, blocks[position])

    def expect(raw: dict[str, Any]) -> None:
        position = _position(raw, name)
        del raw["backends"][position]
        if not raw["backends"]:
            del raw["backends"]

    return _checked(text, edit, expect)


def _checked(
    text: str, edit: Callable[[str], str], expect: Callable[[dict[str, Any]], None]
) -> str:
    bom = _BOM if text.startswith(_BOM) else ""
    text = text.removeprefix(_BOM)
    windows = "\r\n" in text and "\n" not in text.replace("\r\n", "")
    plain = text.replace("\r\n", "\n") if windows else text
    try:
        wanted = _read(plain)
    except (ValueError, RecursionError) as error:
        raise EditError(
            f"The configuration file is not valid TOML ({error}): nothing was saved."
        ) from None
    backends = wanted.get("backends", [])
    if not isinstance(backends, list) or not all(isinstance(one, dict) for one in backends):
        raise EditError(
            'In the configuration file "backends" is no list of tables ([[backends]]): mend that '
            "first. Nothing was saved."
        )
    expect(wanted)
    try:
        new = edit(plain)
        held = _read(new)
        good = held == wanted or held == {**wanted, "backends": []}
    except Exception:  # whatever it was, the file is not harmed by it
        good = False
    if not good:
        raise EditError(
            "The configuration file is written in a way that cannot be edited without harm: make "
            "the change by hand. Nothing was saved."
        )
    return bom + (new.replace("\n", "\r\n") if windows else new)


def _read(text: str) -> dict[str, Any]:
    import tomllib  # start-up is timed

    return tomllib.loads(text)


def _position(document: Values, name: str) -> int:
    for position, backend in enumerate(document.get("backends", ())):
        if backend.get("name") == name:
            return position
    raise EditError(f"The configuration file names no backend '{name}': nothing was saved.")


def _edit_body(body: str, changes: Values) -> list[str]:
    """The lines of a table's own keys, with the changes."""
    import tomlkit

    document = tomlkit.parse(body + "\n" if body else "")
    _set(document, _items(changes))
    return tomlkit.dumps(document).rstrip("\n").split("\n")


def _set(table: Any, changes: Values) -> None:
    for key, value in changes.items():
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value


def _in_array(plain: str, edit: Callable[[Any], object]) -> str:
    """The same where all backends stand in one array: ``backends = [{…}, {…}]``."""
    import tomlkit

    document = tomlkit.parse(plain)
    edit(document["backends"])
    return tomlkit.dumps(document)


def _without(lines: list[str], block: Block) -> str:
    before, after = lines[: block.comment], lines[block.end :]
    while after and not after[0].strip():
        after.pop(0)
    if not after:
        while before and not before[-1].strip():
            before.pop()
        after = [""]
    return "\n".join([*before, *after])


def _last_line(lines: list[str]) -> int:
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    return end


def _items(changes: Values) -> dict[str, Any]:
    return {key: None if value is None else _item(value) for key, value in changes.items()}


def _item(value: Any) -> Any:
    """A value as tomlkit has it, tables inline."""
    import tomlkit

    if not isinstance(value, Mapping):
        return tomlkit.item(value)
    table = tomlkit.inline_table()
    for key, inner in value.items():
        table[key] = _item(inner)
    return table


def _text(value: Any) -> str:
    text: str = _item(value).as_string()
    return text


def _key(key: str) -> str:
    import tomlkit

    text: str = tomlkit.key(key).as_string()
    return text
