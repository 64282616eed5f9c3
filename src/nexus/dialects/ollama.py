"""Ollama's native answers (``/api/chat``, ``/api/generate``) → OpenAI's.

Ollama streams one JSON object per line and says ``"done": true`` in the last one, with the token
counts; zero-valued counts are left out, so a missing one is unknown, not nought. Tool calls come
whole, their arguments as an object, either in a line of their own or (0.33) in the last one, whose
``done_reason`` stays ``stop``. After the first byte an error is a line ``{"error": "..."}`` and no
``done`` follows. (Ollama docs/api.md; server/routes.go.)
"""

from __future__ import annotations

from typing import Any

import msgspec

from nexus.dialects.errors import encodable, error_text
from nexus.dialects.scan import decode_value

__all__ = ["OllamaStream", "is_ollama_object", "translate_answer"]

_FINISH_REASONS = {"length": "length"}  # stop, load, unload and what may come: stop
_ERROR_TEXT_MAX = 500


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Line(msgspec.Struct, frozen=True):
    """One object of either endpoint."""

    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    logprobs: list[msgspec.Raw] | None = None
    error: Any = None

    @property
    def known(self) -> bool:
        """Whether it has the shape of either endpoint."""
        return self.done is not None and (self.message is not None or self.response is not None)

    @property
    def plausible(self) -> bool:
        """Whether it can be a line of a stream whose first one was known."""
        return not (self.done is None and self.message is None and self.response is None)

    @property
    def text(self) -> str:
        """The text of the answer."""
        if self.message is not None:
            return self.message.content or ""
        return self.response or ""

    @property
    def reasoning(self) -> str:
        """The text of the reasoning."""
        if self.message is not None and self.message.thinking:
            return self.message.thinking
        return self.thinking or ""

    @property
    def tool_calls(self) -> list[msgspec.Raw]:
        """The tool calls, raw."""
        return (self.message.tool_calls or []) if self.message is not None else []


_decode = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode


def is_ollama_object(line: bytes) -> bool:
    """Whether ``line`` is an answer, or a piece of one, of either endpoint."""
    decoded = _read(line)
    return decoded is not None and decoded.known


class OllamaStream:
    """Translates one stream: a line in, complete SSE events out.

    ``model`` is the name to show, ``created`` Unix time, ``call_id`` what makes ids unique.
    ``include_usage``: the client asked for the usage chunk. ``chat``: it wants chat chunks, else
    those of ``/v1/completions``. ``finished`` once the last line was seen; ``error`` is the
    engine's text when it said no, or what was wrong with a line: the stream is broken then.
    Token counts and ``finish_reason`` are ``None`` until known.
    """

    __slots__ = (
        "_base",
        "_begun",
        "_call_id",
        "_chat",
        "_include_usage",
        "_tool_calls",
        "completion_tokens",
        "error",
        "finish_reason",
        "finished",
        "prompt_tokens",
    )

    def __init__(
        self,
        model: str,
        *,
        created: int,
        call_id: str,
        include_usage: bool = False,
        chat: bool = True,
    ) -> None:
        self._base = _base(model, created, call_id, chat=chat, chunk=True)
        self._call_id = call_id
        self._chat = chat
        self._include_usage = include_usage
        self._begun = False
        self._tool_calls = 0
        self.finished = False
        self.error: str | None = None
        self.finish_reason: str | None = None
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None

    def feed(self, line: bytes) -> bytes:
        """The events that ``line`` comes to, possibly none. Nothing follows the end or an error."""
        if self.finished or self.error is not None:
            return b""
        decoded = _read(line)
        if decoded is None or not (decoded.error or decoded.plausible):
            self.error = "a line of the stream is not an Ollama answer"
            return b""
        if decoded.error:
            self.error = error_text(decoded.error)[:_ERROR_TEXT_MAX] or "unknown error"
            return b""
        events = self._deltas(decoded)
        if decoded.done:
            events += self._end(decoded)
        return b"".join(events)

    def _deltas(self, line: _Line) -> list[bytes]:
        events: list[bytes] = []
        if not self._chat:
            return [self._event({"text": line.text})] if line.text else events
        if not self._begun:
            self._begun = True
            events.append(self._event({"delta": {"role": "assistant", "content": ""}}))
        delta: dict[str, Any] = {}
        if line.text:
            delta["content"] = line.text
        if line.reasoning:
            delta["reasoning_content"] = delta["reasoning"] = line.reasoning
        calls = _tool_calls(line.tool_calls, self._call_id, self._tool_calls, indexed=True)
        if calls:
            delta["tool_calls"] = calls
            self._tool_calls += len(calls)
        if delta:
            choice: dict[str, Any] = {"delta": delta}
            if line.logprobs:
                choice["logprobs"] = {"content": line.logprobs}
            events.append(self._event(choice))
        return events

    def _end(self, line: _Line) -> list[bytes]:
        self.finished = True
        self.finish_reason = _finish_reason(line, self._tool_calls)
        self.prompt_tokens = line.prompt_eval_count
        self.completion_tokens = line.eval_count
        last: dict[str, Any] = {"delta": {}} if self._chat else {"text": ""}
        events = [self._event(last, self.finish_reason)]
        if self._include_usage:
            events.append(_sse({**self._base, "choices": [], "usage": _usage(line)}))
        events.append(b"data: [DONE]\n\n")
        return events

    def _event(self, choice: dict[str, Any], finish_reason: str | None = None) -> bytes:
        whole = {"index": 0, **choice, "finish_reason": finish_reason}
        return _sse({**self._base, "choices": [whole]})


def translate_answer(
    body: bytes, *, model: str, created: int, call_id: str, chat: bool = True
) -> bytes | None:
    """A plain answer of either endpoint as ``chat.completion`` (or, with ``chat`` false,
    ``text_completion``); ``None`` when ``body`` is no such answer."""
    line = _read(body)
    if line is None or line.error or not line.known:
        return None
    calls = _tool_calls(line.tool_calls, call_id, 0, indexed=False)
    choice: dict[str, Any] = {"index": 0}
    if chat:
        # Beside tool calls OpenAI says null where there is no text.
        text = line.text or None if calls else line.text
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if line.reasoning:
            message["reasoning_content"] = message["reasoning"] = line.reasoning
        if calls:
            message["tool_calls"] = calls
        choice["message"] = message
        if line.logprobs:
            choice["logprobs"] = {"content": line.logprobs}
    else:
        choice["text"] = line.text
    choice["finish_reason"] = _finish_reason(line, len(calls) if chat else 0)
    base = _base(model, created, call_id, chat=chat, chunk=False)
    return _encode({**base, "choices": [choice], "usage": _usage(line)})


def _base(model: str, created: int, call_id: str, *, chat: bool, chunk: bool) -> dict[str, Any]:
    kind = ("chat.completion.chunk" if chunk else "chat.completion") if chat else "text_completion"
    return {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{call_id}",
        "object": kind,
        "created": created,
        "model": model,
    }


def _sse(chunk: dict[str, Any]) -> bytes:
    return b"data: " + _encode(chunk) + b"\n\n"


def _finish_reason(line: _Line, tool_calls: int) -> str:
    reason = _FINISH_REASONS.get(line.done_reason or "", "stop")
    return "tool_calls" if tool_calls and reason == "stop" else reason


def _usage(line: _Line) -> dict[str, int]:
    prompt, completion = line.prompt_eval_count or 0, line.eval_count or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _tool_calls(
    raws: list[msgspec.Raw], call_id: str, first: int, *, indexed: bool
) -> list[dict[str, Any]]:
    """OpenAI's tool calls: arguments as JSON text, an id for each, in a stream an index too."""
    calls: list[dict[str, Any]] = []
    for raw in raws:
        function, given_id = _function(raw)
        if function is None:
            continue
        index = first + len(calls)
        call = {"id": given_id or f"call_{call_id}_{index}", "type": "function"}
        whole: dict[str, Any] = {"index": index, **call} if indexed else dict(call)
        whole["function"] = function
        calls.append(whole)
    return calls


class _Function(msgspec.Struct, frozen=True):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Call(msgspec.Struct, frozen=True):
    function: _Function
    id: str | None = None


_decode_call = msgspec.json.Decoder(_Call).decode


def _function(raw: msgspec.Raw) -> tuple[dict[str, str] | None, str | None]:
    """Name and arguments of one call, and its id; ``None`` for what is no call."""
    try:
        call = _decode_call(raw)
        arguments = bytes(call.function.arguments).decode()
        if arguments.startswith('"'):
            # Already JSON text, as OpenAI has it.
            arguments = encodable(str(decode_value(call.function.arguments)))
    except (msgspec.DecodeError, ValueError):
        return None, None
    return {"name": call.function.name, "arguments": arguments}, call.id


def _read(line: bytes) -> _Line | None:
    try:
        return _decode(line)
    except (msgspec.DecodeError, ValueError):
        return _read_slowly(line)
    except RecursionError:
        return None


def _read_slowly(line: bytes) -> _Line | None:
    """The same for odd types and for what msgspec refuses; halves of surrogate pairs, which no
    event can carry, become question marks."""
    try:
        document = decode_value(line)
        if not isinstance(document, dict):
            return None
        return _decode(msgspec.json.encode(_encodable(document)))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    if isinstance(value, dict):
        return {encodable(name): _encodable(item) for name, item in value.items()}
    return value
