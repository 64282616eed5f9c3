"""What a request asks an engine for, and what the engine will say to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import msgspec

from nexus.demo.profile import Profile

__all__ = ["Ask", "Say", "plan_answer", "read_ask"]

_WORDS = (
    "the", "fleet", "answers", "every", "question", "with", "words", "of", "its", "own", "because",
    "nobody", "here", "needs", "a", "model", "to", "see", "how", "requests", "travel",
)  # fmt: skip
_TOKENS_MAX = 200_000


class _Function(msgspec.Struct):
    name: str = "tool"


class _Tool(msgspec.Struct):
    function: _Function | None = None
    name: str = "tool"


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class Ask(msgspec.Struct):
    """The fields of an inference request that change the answer, of every dialect at once."""

    model: str | None = None
    stream: bool | None = None
    messages: msgspec.Raw = msgspec.Raw()
    """Undecoded; empty when absent."""
    prompt: Any = None
    input: Any = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    stream_options: _StreamOptions | None = None
    tools: list[_Tool] | None = None
    tool_choice: Any = None
    response_format: Any = None
    format: Any = None
    options: dict[str, Any] | None = None
    keep_alive: Any = None
    encoding_format: str | None = None

    @property
    def wants_usage(self) -> bool:
        """``stream_options.include_usage``."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def first_tool(self) -> str:
        """The name of the first tool, empty without tools."""
        if not self.tools:
            return ""
        tool = self.tools[0]
        return tool.function.name if tool.function else tool.name


_decode = msgspec.json.Decoder(Ask).decode


def read_ask(body: bytes) -> Ask:
    """Reads a request body. Raises ``ValueError`` for what is not JSON or not of this shape."""
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # Lone surrogates and the like: the standard library takes them, as real engines do.
        document = json.loads(body)
        if isinstance(document, dict) and "messages" in document:
            document["messages"] = msgspec.Raw(json.dumps(document["messages"]).encode())
        return msgspec.convert(document, Ask)


class Say(msgspec.Struct, frozen=True):
    """An answer's content. ``tool`` is the name of the function to call, empty for text."""

    tokens: int
    finish: str
    tool: str = ""
    arguments: str = '{"city":"Paris"}'
    spoken: tuple[str, ...] | None = None

    def pieces(self) -> Iterator[str]:
        """The text token by token."""
        if self.spoken is not None:
            return iter(self.spoken[: self.tokens])
        return (f" {word}" for word in islice(cycle(_WORDS), self.tokens))

    def text(self) -> str:
        """The text whole."""
        return "".join(self.pieces())


def plan_answer(ask: Ask, profile: Profile, wanted: int | None) -> Say:
    """What ``profile`` says to ``ask``: a tool call when one is required, ``{"ok":true}`` when JSON
    is asked for, else words: as many as ``wanted`` tokens, or as the speed's ``tokens``."""
    choice = ask.tool_choice
    if ask.tools and profile.tools and (choice == "required" or isinstance(choice, dict)):
        name = ask.first_tool
        if isinstance(choice, dict):
            name = (choice.get("function") or choice).get("name", name)
        return Say(4, "tool_calls", tool=name)
    kind = ask.response_format.get("type") if isinstance(ask.response_format, dict) else None
    if kind in ("json_object", "json_schema") or ask.format:
        return Say(2, "stop", spoken=('{"ok":', "true}"))
    if profile.answer is not None:
        spoken = tuple(re.findall(r"\s*\S+\s*$|\s*\S+", profile.answer)) or (profile.answer,)
        if wanted is not None and 0 < wanted < len(spoken):
            return Say(wanted, "length", spoken=spoken)
        return Say(len(spoken), "stop", spoken=spoken)
    if wanted is not None and wanted > 0:
        return Say(min(wanted, _TOKENS_MAX), "length")
    return Say(profile.speed.tokens, "stop")
