"""OpenAI's wire format as typed values (API reference: Chat, Completions, Embeddings, Models).

Unknown fields are ignored when read. Nothing that is relayed passes through these types: a body in
the same dialect goes on byte for byte. They are for what Nexus itself reads or writes whole.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from nexus.dialects.views import AnswerView, ChunkView, read_answer, read_chunk

__all__ = [
    "AnswerView",
    "ChatCompletionChunk",
    "ChatCompletionRequest",
    "ChatCompletionResponse",
    "ChatMessage",
    "Choice",
    "ChunkChoice",
    "ChunkDelta",
    "ChunkView",
    "ContentPart",
    "EmbeddingItem",
    "EmbeddingsRequest",
    "EmbeddingsResponse",
    "FunctionCall",
    "ImageUrl",
    "ModelEntry",
    "ModelList",
    "StreamOptions",
    "ToolCall",
    "Usage",
    "read_answer",
    "read_chunk",
]


class ImageUrl(msgspec.Struct, frozen=True, omit_defaults=True):
    """An image by URL, often a ``data:`` one."""

    url: str
    detail: str | None = None


class ContentPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part of a message's content; ``type`` says which other field is set."""

    type: str
    text: str | None = None
    image_url: ImageUrl | None = None


class FunctionCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function's name and its arguments as JSON text. In a stream both come in fragments."""

    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool call, whole in an answer, with ``index`` in a stream."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: FunctionCall | None = None


class ChatMessage(msgspec.Struct, frozen=True):
    """One message. ``role`` is any string: which roles there are is the engine's to say.

    ``content`` is always written, ``null`` beside tool calls; the other fields only when they are
    set.
    """

    role: str
    content: str | list[ContentPart] | None = None
    name: str | UnsetType | None = UNSET
    tool_calls: list[ToolCall] | UnsetType | None = UNSET
    tool_call_id: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType | None = UNSET
    reasoning: str | UnsetType | None = UNSET
    refusal: str | UnsetType | None = UNSET


class StreamOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """``include_usage`` asks for one more chunk, with the usage."""

    include_usage: bool | None = None


class ChatCompletionRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """``POST /v1/chat/completions``. ``stream: null`` means false."""

    model: str
    messages: list[ChatMessage]
    stream: bool | None = False
    temperature: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    top_p: float | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    user: str | None = None
    stream_options: StreamOptions | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.stream is None:
            msgspec.structs.force_setattr(self, "stream", False)


class Usage(msgspec.Struct, frozen=True):
    """Token counts of one call."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Choice(msgspec.Struct, frozen=True):
    """One answer of a plain completion."""

    index: int
    message: ChatMessage
    finish_reason: str | None = None


class _Completion(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    created: int
    model: str


class ChatCompletionResponse(_Completion, frozen=True, kw_only=True):
    """A plain answer of ``/v1/chat/completions``; ``created`` is Unix time."""

    object: Literal["chat.completion"] = "chat.completion"
    choices: list[Choice]
    usage: Usage | UnsetType = UNSET


class ChunkDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a chunk adds to the message."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None


class ChunkChoice(msgspec.Struct, frozen=True):
    """One answer's share of a chunk. ``finish_reason`` is null until the last one."""

    index: int
    delta: ChunkDelta
    finish_reason: str | None = None


class ChatCompletionChunk(_Completion, frozen=True, kw_only=True):
    """One event of a streamed chat; ``id``, ``created`` and ``model`` stay the same throughout."""

    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET


class EmbeddingsRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """``POST /v1/embeddings``."""

    model: str
    input: str | list[str | int | list[int]] = ""
    encoding_format: str | None = None
    dimensions: int | None = None


class EmbeddingItem(msgspec.Struct, frozen=True):
    """One vector, as numbers or (``encoding_format: base64``) as text."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingsResponse(msgspec.Struct, frozen=True):
    """The answer of ``/v1/embeddings``."""

    model: str
    data: list[EmbeddingItem]
    object: Literal["list"] = "list"
    usage: dict[str, int] | UnsetType = UNSET


class ModelEntry(msgspec.Struct, frozen=True):
    """One entry of ``GET /v1/models``."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = ""


class ModelList(msgspec.Struct, frozen=True):
    """The answer of ``GET /v1/models``."""

    data: list[ModelEntry]
    object: Literal["list"] = "list"
