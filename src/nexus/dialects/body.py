"""A JSON request body, read and edited without damage: bytes in, bytes out.

A body is taken apart only at its top level (:func:`read_object`); every value stays the raw bytes
that the client sent. The few edits (behaviour § 2.1) splice bytes, so that everything else goes
upstream as it came.
"""

from __future__ import annotations

import json
import re
from collections import Counter

import msgspec

from nexus.core.errors import ApiError
from nexus.dialects.scan import JsonError, Member, scan_members

__all__ = ["add_field", "copy_field", "read_object", "replace_string", "replace_value"]

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_colon = re.compile(rb"[ \t\n\r]*:[ \t\n\r]*").match
_member = re.compile(rb'[ \t\n\r]*[{,][ \t\n\r]*"([^"\\]*)"[ \t\n\r]*:[ \t\n\r]*').match
_object_end = re.compile(rb"[ \t\n\r]*\}").match
_ONCE = frozenset({"model", "stream"})
_USUAL = frozenset(
    {
        *("model", "messages", "stream", "stream_options", "temperature", "top_p", "max_tokens"),
        *("max_completion_tokens", "tools", "tool_choice", "response_format", "seed", "stop", "n"),
        *("presence_penalty", "frequency_penalty", "user", "prompt", "input", "encoding_format"),
    }
)
"""Names that need no closer look: no other spelling of ``model`` or ``stream`` is among them."""

_SHORT_BYTES_MAX = 8192
"""Up to here it takes less time to search a body than to walk through its members."""

_SPACE = b" \t\n\r"
_FIELDS_MAX = 10_000
"""Nobody needs a hundred. Ten megabytes of tiny ones would take 200 MB, and seconds to compare."""


def read_object(body: bytes) -> dict[str, msgspec.Raw]:
    """The members of the top-level object: decoded name → raw value (the last of a repeated name).

    Raises :class:`ApiError` 400, saying where, for what is not UTF-8, not JSON (RFC 8259: no NaN,
    no Infinity), not an object, nested deeper than about a thousand levels, has more than 10,000
    members, or ``model`` or ``stream`` twice under any spelling: engines fold case and take the
    last one, so that who checks and who runs would differ.
    """
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise ApiError.bad_request(
                f"Request body is not valid UTF-8 (byte {error.start})."
            ) from None
    try:
        try:
            fields = _decode(body)
        except msgspec.ValidationError:
            raise ApiError.bad_request("Request body must be a JSON object.") from None
        except msgspec.DecodeError:
            fields = {
                member.key: msgspec.Raw(body[member.start : member.end])
                for member in _members(body)
            }
        if len(fields) > _FIELDS_MAX:
            raise _too_many()
        if not _surely_once(body, fields):
            _refuse_repeated(body)
    except JsonError as error:
        raise ApiError.bad_request(
            f"Request body is not valid JSON: {error.reason} (byte {error.at})."
        ) from None
    except RecursionError:
        raise ApiError.bad_request("Request body is nested too deeply.") from None
    return fields


def _members(body: bytes) -> list[Member]:
    members = scan_members(body, _FIELDS_MAX + 1)
    if len(members) > _FIELDS_MAX:
        raise _too_many()
    return members


def _too_many() -> ApiError:
    return ApiError.bad_request(f"Request body has more than {_FIELDS_MAX} fields.")


def _surely_once(body: bytes, fields: dict[str, msgspec.Raw]) -> bool:
    """Whether it is cheap to see that neither name is repeated. ``False`` means: look closely."""
    if not _USUAL.issuperset(fields):
        for key in fields:
            if len(key) < 7 and key not in _ONCE and key.casefold() in _ONCE:
                return False
    if (
        len(body) <= _SHORT_BYTES_MAX
        and body.count(b'"model"') <= 1
        and body.count(b'"stream"') <= 1
        # A letter of either name that is written as an escape is one of \u0061 to \u0074.
        and not (b"\\" in body and (b"\\u006" in body or b"\\u007" in body))
    ):
        return True
    return _starts(body, fields) is not None


def _starts(body: bytes, fields: dict[str, msgspec.Raw]) -> dict[str, int] | None:
    """Where the value of each member begins. ``None`` where a name is repeated or holds an escape,
    or ``body`` was edited since ``fields`` were read: look closely.

    Goes from member to member, past each value by the length of the one that was kept: to search a
    picture of a megabyte takes twenty times as long as to compare it with itself.
    """
    starts = {}
    at = 0
    for _ in fields:
        found = _member(body, at)
        if found is None:
            return None
        key = found[1].decode()
        raw = fields.get(key)
        at = found.end()
        if raw is None or not body.startswith(raw, at):
            return None
        starts[key] = at
        at += len(raw)
    # As many members as names, and no more: each name stands there once.
    return starts if _object_end(body, at) is not None else None


def _refuse_repeated(body: bytes) -> None:
    given = Counter(member.key.casefold() for member in _members(body))
    for name in _ONCE:
        if given[name] > 1:
            raise ApiError.bad_request(
                f"'{name}' is given {given[name]} times (upper and lower case count as the same).",
                param=name,
            )


def replace_string(body: bytes, key: str, fields: dict[str, msgspec.Raw], new: str) -> bytes:
    """``body`` with the value of the top-level ``key`` replaced by the string ``new``; see
    :func:`replace_value`."""
    return replace_value(body, key, fields, json.dumps(new).encode())


def replace_value(body: bytes, key: str, fields: dict[str, msgspec.Raw], raw_new: bytes) -> bytes:
    """``body`` with the value of the top-level ``key`` replaced; all other bytes stay.

    ``fields`` is what :func:`read_object` made of ``body``, or of what it was before other fields
    were edited; ``raw_new`` is JSON.
    """
    start, end = _place(body, key, fields)
    whole = memoryview(body)
    return b"".join((whole[:start], raw_new, whole[end:]))


def _place(body: bytes, key: str, fields: dict[str, msgspec.Raw]) -> tuple[int, int]:
    """Where the value of ``key`` begins and ends."""
    raw = fields[key]
    if len(body) <= _SHORT_BYTES_MAX:
        name = json.dumps(key).encode()
        # Without an escape that could stand for a letter there is one spelling of the key, and
        # where that stands once, it is the key itself.
        if key.isidentifier() and b"\\u00" not in body and body.count(name) == 1:
            colon = _colon(body, body.index(name) + len(name))
            if colon is not None and body.startswith(raw, colon.end()):
                return colon.end(), colon.end() + len(raw)
    starts = _starts(body, fields)
    if starts is not None:
        return starts[key], starts[key] + len(raw)
    # Engines and decoders read the last of several.
    member = [member for member in scan_members(body) if member.key == key][-1]
    return member.start, member.end


def add_field(body: bytes, name: str, raw_value: bytes) -> bytes:
    """``body`` with one more member at the end of its top-level object; all other bytes stay.

    ``body`` has passed :func:`read_object` and has no such member yet; ``raw_value`` is JSON.
    """
    end = body.rindex(b"}")
    inside = body[:end].rstrip(_SPACE)
    comma = b"" if inside.endswith(b"{") else b","
    return inside + comma + json.dumps(name).encode() + b":" + raw_value + body[len(inside) :]


def copy_field(body: bytes, fields: dict[str, msgspec.Raw], field: str, target: str) -> bytes:
    """``body`` with ``target`` set to the value of ``field`` when the client sent ``field`` alone.

    ``null`` counts as not sent. ``fields`` is what :func:`read_object` made of ``body``.
    """
    value = bytes(fields.get(field, b"null"))
    there = fields.get(target)
    if value == b"null" or (there is not None and bytes(there) != b"null"):
        return body
    if there is not None:
        return replace_value(body, target, fields, value)
    return add_field(body, target, value)
