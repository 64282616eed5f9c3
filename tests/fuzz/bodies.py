"""Request bodies: what is read of them, and the edits that change one value and no other byte."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from nexus.core.errors import ApiError
from nexus.dialects.body import add_field, copy_field, read_object, replace_string
from nexus.routing.profile import read_profile
from tests.fuzz.target import Target

__all__ = ["BODY"]


_PADDING = b" " * 10_000
"""Behind a body it makes a long one, which is looked at in another way."""


class _Pairs(list[tuple[str, Any]]):
    """The members of an object in order, repeated ones too."""


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def _read(body: bytes) -> Any:
    """``body`` as the standard library reads it, and RFC 8259 wants it."""
    return json.loads(
        body.decode(),
        object_pairs_hook=_Pairs,
        parse_constant=_refuse,
        parse_int=str,
        parse_float=str,
    )


def _plain(body: bytes) -> _Pairs | None:
    try:
        value = _read(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, _Pairs) else None


def _names(body: bytes) -> list[str] | None:
    """The names of a body, ``None`` if it is refused."""
    try:
        return list(read_object(body))
    except ApiError:
        return None


def _run(body: bytes) -> None:
    """What is refused is refused by 400; what passes is JSON, and an edit changes what it is meant
    to and nothing else."""
    reference = _plain(body)
    assert _names(body) == _names(body + _PADDING)
    try:
        profile, view = read_profile(body, "/v1/chat/completions", requires_messages=True)
        fields = view.fields
    except ApiError as error:
        assert error.status == 400
        _explain(body, reference, error)
        return
    assert reference is not None
    names = [name.casefold() for name, _ in reference]
    assert names.count("model") == 1
    assert names.count("stream") <= 1
    held = dict(reference)
    assert profile.model == held["model"]
    assert list(fields) == list(dict.fromkeys(name for name, _ in reference))

    raw = bytes(fields["model"])
    new = replace_string(body, "model", fields, "other: \u00e9\U0001f600")
    at = _place(body, new, raw)
    assert new[:at] == body[:at]
    assert _read(new) == [
        (name, "other: \u00e9\U0001f600" if name == "model" else value) for name, value in reference
    ]
    for known in (fields, read_object(new)):
        assert replace_string(new, "model", known, profile.model).startswith(body[:at])
    if "nexus" not in held:
        more = add_field(body, "nexus", b"[1]")
        assert _read(more) == [*reference, ("nexus", ["1"])]
        assert more.startswith(body[: body.rindex(b"}")].rstrip(b" \t\r\n"))
    copied = copy_field(body, fields, "max_completion_tokens", "max_tokens")
    if held.get("max_completion_tokens") is not None and held.get("max_tokens") is None:
        assert dict(_read(copied))["max_tokens"] == held["max_completion_tokens"]
    else:
        assert copied == body


def _place(body: bytes, new: bytes, raw: bytes) -> int:
    """Where the edit is: all around it is as it was."""
    length = len(body) - len(raw)
    inserted = len(new) - length
    for at in range(len(body) + 1):
        if (
            body[at : at + len(raw)] == raw
            and new == body[:at] + new[at : at + inserted] + body[at + len(raw) :]
        ):
            return at
    raise AssertionError("more than the value has changed")


def _explain(body: bytes, reference: _Pairs | None, error: ApiError) -> None:
    """A refusal of JSON that is good needs a reason."""
    if reference is None:
        return
    try:
        read_object(body)
    except ApiError:
        names = [name.casefold() for name, _ in reference]
        twice = names.count("model") > 1 or names.count("stream") > 1
        assert twice or "deeply" in error.message, error.message


BODY = Target(name="body", run=_run, blocks=(b"9" * 4300, b"[" * 1100))
