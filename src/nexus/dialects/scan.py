"""JSON read exactly, with the standard library: the slow way, for what the fast one refuses.

msgspec refuses some texts that RFC 8259 allows (lone surrogates, integers of thousands of digits)
and does not tell where a member stands or how often it was given. Node's ``JSON.stringify`` emits
the former, so a body is only called invalid when this reader refuses it too.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, NamedTuple, NoReturn

import msgspec

__all__ = ["JsonError", "Member", "decode_value", "scan_members"]

_DIGITS_MAX = 4000
"""Python refuses to read longer integers (a guard against quadratic time)."""

_decode = msgspec.json.Decoder().decode
_space = re.compile(r"[ \t\n\r]*").match


class JsonError(ValueError):
    """Not JSON: ``reason`` in a few words, ``at`` the byte offset."""

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(f"{reason} (byte {at})")
        self.reason = reason
        self.at = at


class Member(NamedTuple):
    """One member of the top-level object: its decoded name and where its value stands in bytes."""

    key: str
    start: int
    end: int


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _number(digits: str) -> float:
    return int(digits) if len(digits) < _DIGITS_MAX else float(digits)


def _ignore(_digits: str) -> int:
    return 0


_checker = json.JSONDecoder(parse_int=_ignore, parse_float=_ignore, parse_constant=_refuse_constant)
_decoder = json.JSONDecoder(parse_int=_number, parse_constant=_refuse_constant)


def decode_value(raw: bytes | memoryview | msgspec.Raw) -> Any:
    """Any JSON value as Python objects.

    Raises ``ValueError`` (also its kin ``UnicodeDecodeError``) for what is not JSON and
    ``RecursionError`` for what is nested deeper than Python's stack.
    """
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _decoder.decode(bytes(raw).decode())


def scan_members(body: bytes, at_most: int = sys.maxsize) -> list[Member]:
    """The members of the top-level object in order, repeated names included; with ``at_most`` of
    them the rest is not looked at.

    ``body`` must be valid UTF-8. Raises :class:`JsonError` and ``RecursionError``.
    """
    # One character per byte: JSON's own characters are all ASCII, and offsets are those of bytes.
    text = body.decode("latin-1")
    members: list[Member] = []
    at = _skip(text, 0)
    if not text.startswith("{", at):
        raise JsonError("expected an object", at)
    at = _skip(text, at + 1)
    if not text.startswith("}", at):
        while True:
            if not text.startswith('"', at):
                raise JsonError("expected a name in quotes", at)
            key_end = _value_end(text, at)
            key = _decoder.decode(body[at:key_end].decode())
            at = _skip(text, key_end)
            if not text.startswith(":", at):
                raise JsonError("expected ':'", at)
            start = _skip(text, at + 1)
            end = _value_end(text, start)
            members.append(Member(key, start, end))
            if len(members) >= at_most:
                return members
            at = _skip(text, end)
            if text.startswith("}", at):
                break
            if not text.startswith(",", at):
                raise JsonError("expected ',' or '}'", at)
            at = _skip(text, at + 1)
    at = _skip(text, at + 1)
    if at != len(text):
        raise JsonError("unexpected data after the object", at)
    return members


def _skip(text: str, at: int) -> int:
    found = _space(text, at)
    return found.end() if found else at


def _value_end(text: str, at: int) -> int:
    try:
        return _checker.raw_decode(text, at)[1]
    except json.JSONDecodeError as error:
        raise JsonError(error.msg, error.pos) from None
    except ValueError as error:
        raise JsonError(str(error), at) from None
