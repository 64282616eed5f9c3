"""Request body → what routing and the edits need to know of it. Nothing else is looked at.

Only what behaviour § 2.2 names is refused here. Content that makes no sense (a message that is no
object, a number as content) is the engine's to judge: it counts as nothing and goes on its way.
"""

from __future__ import annotations

import re
from itertools import compress
from operator import is_not
from typing import Any

import msgspec
from msgspec.structs import astuple

from nexus.core.call import RequestProfile
from nexus.core.errors import ApiError
from nexus.dialects.body import read_object
from nexus.dialects.scan import decode_value

__all__ = ["BodyView", "read_profile"]

_SHAPE = frozenset({"model", "messages", "stream"})
_TEXT_FIELDS = ("prompt", "input", "instructions", "query", "documents")
_TOOL_FIELDS = ("tools", "functions")
_OUTPUT_FIELDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_IMAGE_TYPES = frozenset({"image_url", "input_image", "image"})
_JSON_TYPES = frozenset({"json_object", "json_schema"})

_TEXT_NAMES = ("content", "text", "tool_calls", "function", "arguments", "output", "refusal")
"""Where messages, parts, tool calls and the Responses API's items keep their text. What stands
elsewhere (base64 of audio and files, ids) is no text."""

_NEUTRAL = frozenset({b"null", b'""', b"[]", b"{}", b"false"})
_NEUTRAL_OF = {"n": frozenset({b"1", b"1.0"}), "tool_choice": frozenset({b'"auto"'})}
_NEUTRAL_BYTES_MAX = 64
"""An empty list or object with more blanks in it than this counts as full: it only ranks."""

_TOKEN_ID_BYTES = 4
"""What one token id of a prompt weighs; the learned ratio starts at 4 bytes per token."""

_USUAL_BYTES_MAX = 12 * 1024
"""Beyond this, to search a usual body for names takes longer than to read it the long way."""


class BodyView:
    """The request body as edits need it, read when one is made.

    ``include_usage``: the client asked for a usage chunk (``stream_options.include_usage``).
    """

    __slots__ = ("_body", "_fields", "include_usage")

    def __init__(
        self, body: bytes, fields: dict[str, msgspec.Raw] | None, *, include_usage: bool
    ) -> None:
        self._body = body
        self._fields = fields
        self.include_usage = include_usage

    @property
    def fields(self) -> dict[str, msgspec.Raw]:
        """Top-level name → raw value."""
        if self._fields is None:
            self._fields = read_object(self._body)
        return self._fields


_PARTS_MAX = 100_000
"""No prompt has as many parts; ten megabytes of empty ones would hold up everybody for seconds."""
_ABSENT = msgspec.Raw(b"null")


class _UsualMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    role: str
    content: str


class _UsualChat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A chat request as most are: text messages and the plainest fields, nothing else. It is read
    in one go; every other one, and every one with something wrong, is read by the long way."""

    model: str
    messages: list[_UsualMessage]
    stream: bool = False
    stream_options: msgspec.Raw = _ABSENT
    max_completion_tokens: msgspec.Raw = _ABSENT
    max_tokens: msgspec.Raw = _ABSENT
    temperature: msgspec.Raw = _ABSENT
    top_p: msgspec.Raw = _ABSENT
    seed: msgspec.Raw = _ABSENT
    stop: msgspec.Raw = _ABSENT
    presence_penalty: msgspec.Raw = _ABSENT
    frequency_penalty: msgspec.Raw = _ABSENT
    user: msgspec.Raw = _ABSENT


_LETTER_ESCAPE = re.compile(rb"\\u00[4567]")
_decode_usual = msgspec.json.Decoder(_UsualChat).decode
_USUAL_NAMES = _UsualChat.__struct_fields__[3:]
_ALL_ABSENT = (_ABSENT,) * len(_USUAL_NAMES)


def read_profile(
    body: bytes, endpoint: str, *, requires_messages: bool, pin: str | None = None
) -> tuple[RequestProfile, BodyView]:
    """Reads a JSON request body for ``endpoint`` (its path).

    ``pin`` is the value of ``x-nexus-pin``, if any. Raises :class:`ApiError` 400 for what
    ``read_object`` refuses, for a ``model`` that is not a non-empty string, a ``stream`` that is
    neither boolean nor null, and for required ``messages`` that are missing or no list.
    """
    if requires_messages and len(body) <= _USUAL_BYTES_MAX:
        usual = _read_usual(body)
        if usual is not None:
            return _usual_profile(usual, body, endpoint, pin)
    fields = read_object(body)
    model = _read_model(fields)
    stream = _read_stream(fields)
    text_bytes = images = 0

    messages = fields.get("messages")
    if messages is not None:
        value = _value(messages)
        # A list that Python's stack cannot hold decodes to nothing and is a list all the same.
        if requires_messages and type(value) is not list and memoryview(messages)[0] != 0x5B:  # [
            raise ApiError.bad_request("'messages' must be a list.", param="messages")
        text_bytes, images = _measure_messages(value)
    elif requires_messages:
        raise ApiError.bad_request("'messages' is missing.", param="messages")
    for name in _TEXT_FIELDS:
        if name in fields:
            more_bytes, more_images = _measure(_value(fields[name]))
            text_bytes += more_bytes
            images += more_images

    named = frozenset(
        [name for name, raw in fields.items() if name not in _SHAPE and not _neutral(name, raw)]
    )
    needs_tools = False
    for name in _TOOL_FIELDS:
        if name in named and memoryview(fields[name])[0] == 0x5B:  # [
            needs_tools = True
            text_bytes += len(fields[name])

    profile = RequestProfile(
        endpoint=endpoint,
        model=model,
        stream=stream,
        needs_vision=images > 0,
        needs_tools=needs_tools,
        needs_json=_needs_json(fields),
        text_bytes=text_bytes,
        images=images,
        max_output_tokens=_max_output_tokens(fields),
        fields=named,
        pin=pin,
    )
    include_usage = "stream_options" in fields and _asks_for_usage(fields["stream_options"])
    return profile, BodyView(body, fields, include_usage=include_usage)


def _read_usual(body: bytes) -> _UsualChat | None:
    """The request, if it is a usual one and beyond doubt: no name twice in any spelling."""
    try:
        usual = _decode_usual(body)
        if not body.isascii():
            body.decode()
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    # A name in other letters (``Model``) would have been one field too many.
    if (
        body.count(b'"model"') != 1
        or body.count(b'"stream"') > 1
        or not usual.model
        # An escape that may stand for a letter of either name, upper or lower case.
        or (body.find(b"\\u00") >= 0 and _LETTER_ESCAPE.search(body) is not None)
    ):
        return None
    return usual


def _usual_profile(
    usual: _UsualChat, body: bytes, endpoint: str, pin: str | None
) -> tuple[RequestProfile, BodyView]:
    text_bytes = 0
    for message in usual.messages:
        content = message.content
        text_bytes += len(content) if content.isascii() else _utf8_bytes(content)
    # Which of the optional fields are there: most are not.
    there = compress(_USUAL_NAMES, map(is_not, astuple(usual)[3:], _ALL_ABSENT))
    named = [name for name in there if not _neutral(name, getattr(usual, name))]
    output = None
    if usual.max_completion_tokens is not _ABSENT:
        output = _whole_number(usual.max_completion_tokens)
    if output is None and usual.max_tokens is not _ABSENT:
        output = _whole_number(usual.max_tokens)
    profile = RequestProfile(
        endpoint=endpoint,
        model=usual.model,
        stream=usual.stream,
        text_bytes=text_bytes,
        max_output_tokens=output,
        fields=frozenset(named),
        pin=pin,
    )
    asks = usual.stream_options is not _ABSENT and _asks_for_usage(usual.stream_options)
    return profile, BodyView(body, None, include_usage=asks)


def _read_model(fields: dict[str, msgspec.Raw]) -> str:
    raw = fields.get("model")
    if raw is None:
        raise ApiError.bad_request("'model' is missing.", param="model")
    model = _value(raw)
    if type(model) is not str:
        raise ApiError.bad_request("'model' must be a string.", param="model")
    if not model:
        raise ApiError.bad_request("'model' is empty.", param="model")
    if not model.isascii() and any("\ud800" <= ch <= "\udfff" for ch in model):
        raise ApiError.bad_request("'model' holds half of a surrogate pair.", param="model")
    return model


def _read_stream(fields: dict[str, msgspec.Raw]) -> bool:
    raw = fields.get("stream")
    if raw is None:
        return False
    value = bytes(raw)
    if value == b"true":
        return True
    if value in (b"false", b"null"):
        return False
    raise ApiError.bad_request("'stream' must be true or false.", param="stream")


def _value(raw: msgspec.Raw) -> Any:
    """The decoded value; ``None`` for what does not fit on Python's stack."""
    try:
        return decode_value(raw)
    except RecursionError:
        return None


def _measure_messages(messages: Any) -> tuple[int, int]:
    """Bytes of text and number of images: the usual shape, fast; the rest as :func:`_measure`."""
    if type(messages) is not list:
        return 0, 0
    text_bytes = 0
    unusual: list[Any] = []
    for message in messages:
        if type(message) is dict and type(content := message.get("content")) is str:
            text_bytes += len(content) if content.isascii() else _utf8_bytes(content)
            if "tool_calls" in message:
                unusual.append(message["tool_calls"])
        elif type(message) is dict:
            unusual.append(message)
    if not unusual:
        return text_bytes, 0
    more_bytes, images = _measure(unusual)
    return text_bytes + more_bytes, images


def _measure(value: Any) -> tuple[int, int]:
    """Bytes of text and number of images in a string, a part, a message, or lists of them: at least
    so many, since what would take long to count is left out."""
    text_bytes = images = seen = 0
    pending = [value]
    while pending and seen < _PARTS_MAX:
        seen += 1
        item = pending.pop()
        if type(item) is str:
            text_bytes += _utf8_bytes(item)
        elif type(item) is list:
            if item and type(item[0]) is int:
                text_bytes += _TOKEN_ID_BYTES * len(item)
            else:
                pending.extend(item)
        elif type(item) is dict:
            kind = item.get("type")
            if type(kind) is str and kind in _IMAGE_TYPES:
                images += 1
            else:
                pending.extend([item[name] for name in _TEXT_NAMES if name in item])
    return text_bytes, images


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _neutral(name: str, raw: msgspec.Raw) -> bool:
    """Whether the field says no more than its absence would."""
    if len(raw) > _NEUTRAL_BYTES_MAX:
        return False
    value = bytes(raw)
    if value in _NEUTRAL:
        return True
    if value[0] > 0x5A:  # [ { or a word
        return value[0] in b"[{" and not value[1:-1].strip()
    return name in _NEUTRAL_OF and value in _NEUTRAL_OF[name]


def _needs_json(fields: dict[str, msgspec.Raw]) -> bool:
    """``response_format`` (chat), or ``text.format`` (Responses API), asks for JSON."""
    wanted: Any = None
    if "response_format" in fields:
        wanted = _value(fields["response_format"])
    elif "text" in fields:
        text = _value(fields["text"])
        wanted = text.get("format") if type(text) is dict else None
    kind = wanted.get("type") if type(wanted) is dict else None
    return type(kind) is str and kind in _JSON_TYPES


def _max_output_tokens(fields: dict[str, msgspec.Raw]) -> int | None:
    for name in _OUTPUT_FIELDS:
        if name in fields:
            number = _whole_number(fields[name])
            if number is not None:
                return number
    return None


def _whole_number(raw: msgspec.Raw) -> int | None:
    digits = bytes(raw)
    return int(digits) if digits.isdigit() and len(digits) < 19 else None


def _asks_for_usage(raw: msgspec.Raw) -> bool:
    options = _value(raw)
    return type(options) is dict and options.get("include_usage") is True
