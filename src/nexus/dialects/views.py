"""What the relay reads of an OpenAI-shaped answer or stream event: a few fields, fast, no surprise.

The fields are decoded straight into the view. Where an engine's types are odd, the text is decoded
as it comes and the view takes what makes sense of it: nothing here raises for what an engine says.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from nexus.dialects.errors import error_text
from nexus.dialects.scan import decode_value

__all__ = ["AnswerView", "ChunkView", "read_answer", "read_chunk"]

_ERROR_TEXT_MAX = 500


class UsageView(msgspec.Struct, frozen=True, gc=False):
    """Token counts, in the words of chat (``prompt``) or of the Responses API (``input``)."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class ResponseView(msgspec.Struct, frozen=True):
    """The response inside an event of the Responses API."""

    usage: UsageView | None = None
    error: Any = None


class DeltaView(msgspec.Struct, frozen=True):
    """What a chunk adds: only whether there is something is of interest."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class ChoiceView(msgspec.Struct, frozen=True):
    """One choice of an answer or a chunk (``text``: of a completion)."""

    finish_reason: str | None = None
    delta: DeltaView | None = None
    text: str | None = None


class PlainChoiceView(msgspec.Struct, frozen=True, gc=False):
    """One choice of a plain answer: its message is not looked at."""

    finish_reason: str | None = None


class _View(msgspec.Struct, frozen=True):
    """What answers and events have in common.

    ``object`` and ``type`` are the wire's own words; ``error`` is whatever stands there.
    """

    object: str | None = None
    type: str | None = None
    model: str | None = None
    usage: UsageView | None = None
    error: Any = None
    message: Any = None
    code: Any = None

    @property
    def is_error(self) -> bool:
        """Whether it is an error object: OpenAI's, the Responses API's, or SGLang's flat one."""
        return bool(self.error) or self.type == "error" or self.object == "error"

    @property
    def error_status(self) -> int | None:
        """The HTTP status that the error object tells, if any (SGLang: 200 + error event)."""
        places = (self.error if isinstance(self.error, dict) else {}, {"code": self.code})
        for place in places:
            for name in ("code", "status", "status_code"):
                status = place.get(name)
                if isinstance(status, str) and status.isdecimal() and len(status) == 3:
                    status = int(status)
                if isinstance(status, int) and 400 <= status <= 599:
                    return status
        return None

    @property
    def error_code(self) -> str | None:
        """The error's ``code`` where it is a word."""
        code = self.error.get("code") if isinstance(self.error, dict) else self.code
        return code if isinstance(code, str) else None

    @property
    def error_message(self) -> str:
        """The error's own words, bounded; empty when there is none."""
        return (error_text(self.error) or error_text(self.message))[:_ERROR_TEXT_MAX]

    def _usage(self) -> UsageView | None:
        return self.usage

    @property
    def prompt_tokens(self) -> int | None:
        """Prompt tokens as the engine counted them."""
        usage = self._usage()
        if usage is None:
            return None
        return usage.prompt_tokens if usage.prompt_tokens is not None else usage.input_tokens

    @property
    def completion_tokens(self) -> int | None:
        """Completion tokens as the engine counted them."""
        usage = self._usage()
        if usage is None:
            return None
        tokens = usage.completion_tokens
        return tokens if tokens is not None else usage.output_tokens


class AnswerView(_View, frozen=True):
    """A plain JSON answer. ``choices`` is ``None`` where the answer has none (embeddings, an answer
    in another dialect)."""

    choices: list[PlainChoiceView] | None = None

    @property
    def finish_reason(self) -> str | None:
        """The first finish reason."""
        for choice in self.choices or ():
            if choice.finish_reason:
                return choice.finish_reason
        return None


class ChunkView(_View, frozen=True):
    """The data of one event of a stream. ``response`` belongs to the Responses API."""

    choices: list[ChoiceView] | None = None
    response: ResponseView | None = None

    @property
    def finish_reason(self) -> str | None:
        """The first finish reason."""
        for choice in self.choices or ():
            if choice.finish_reason:
                return choice.finish_reason
        return None

    @property
    def has_content(self) -> bool:
        """Whether it brings text, of the answer or of the reasoning."""
        for choice in self.choices or ():
            delta = choice.delta
            if choice.text or (
                delta is not None and (delta.content or delta.reasoning_content or delta.reasoning)
            ):
                return True
        return False

    @property
    def has_tool_calls(self) -> bool:
        """Whether it brings a tool call or a piece of one."""
        return any(choice.delta and choice.delta.tool_calls for choice in self.choices or ())

    def _usage(self) -> UsageView | None:
        if self.usage is None and self.response is not None:
            return self.response.usage
        return self.usage


_decode_answer = msgspec.json.Decoder(AnswerView).decode
_decode_chunk = msgspec.json.Decoder(ChunkView).decode


def read_answer(body: bytes) -> AnswerView | None:
    """Reads a plain answer; ``None`` when it is not, from end to end, one JSON object in UTF-8."""
    try:
        view = _decode_answer(body)
        if not body.isascii():
            body.decode()
    except (msgspec.DecodeError, ValueError):
        return _read_slowly(body, AnswerView)
    except RecursionError:
        return None
    return view


def read_chunk(data: bytes) -> ChunkView | None:
    """Reads the data of one SSE event; ``None`` when it is not one JSON object in UTF-8."""
    try:
        view = _decode_chunk(data)
        if not data.isascii():
            data.decode()
    except (msgspec.DecodeError, ValueError):
        return _read_slowly(data, ChunkView)
    except RecursionError:
        return None
    return view


_ViewT = TypeVar("_ViewT", AnswerView, ChunkView)


def _read_slowly(data: bytes, view: type[_ViewT]) -> _ViewT | None:
    """The same for odd types and for what msgspec refuses: each odd value reads as absent."""
    try:
        document = decode_value(data)
        data.decode()
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    fitted: _ViewT = _fit(document, view)
    return fitted


def _fit(document: dict[str, Any], view: type[Any]) -> Any:
    """A view of ``document`` with every field that fits, nested views likewise."""
    fitted: dict[str, Any] = {}
    for name, value in document.items():
        if name not in view.__struct_fields__:
            continue
        nested = _NESTED.get(name)
        if name == "choices":
            nested = PlainChoiceView if view is AnswerView else ChoiceView
            if isinstance(value, list):
                fitted[name] = [_fit(item, nested) for item in value if isinstance(item, dict)]
        elif nested is not None:
            if isinstance(value, dict):
                fitted[name] = _fit(value, nested)
        elif name in ("error", "message", "code"):
            fitted[name] = value
        elif name == "tool_calls":
            fitted[name] = [msgspec.Raw(b"{}")] if isinstance(value, list) and value else None
        elif name.endswith("_tokens"):
            fitted[name] = value if type(value) is int else None
        elif isinstance(value, str):
            fitted[name] = value
    return view(**fitted)


_NESTED: dict[str, type[Any]] = {
    "usage": UsageView,
    "response": ResponseView,
    "delta": DeltaView,
}
