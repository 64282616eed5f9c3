"""OpenAI's wire types: the edge cases that the seed leaves unnamed, and the shapes written."""

from __future__ import annotations

import json

import msgspec
import pytest

from nexus.dialects.openai import (
    ChatCompletionChunk,
    ChatCompletionRequest,
    ChatCompletionResponse,
    ChatMessage,
    Choice,
    ChunkChoice,
    ChunkDelta,
    ContentPart,
    EmbeddingsRequest,
    ModelEntry,
    ModelList,
    Usage,
)


def _message(text: str) -> ChatMessage:
    return msgspec.json.decode(text, type=ChatMessage)


def test_unknown_role_is_read() -> None:
    """Which roles there are is the engine's to say."""
    assert _message('{"role": "developer", "content": "x"}').role == "developer"


def test_null_content_with_tool_calls_is_read() -> None:
    """An assistant's message may be nothing but tool calls, its content null or left out."""
    calls = '"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]'
    for message in (
        _message(f'{{"role": "assistant", "content": null, {calls}}}'),
        _message(f'{{"role": "assistant", {calls}}}'),
    ):
        assert message.content is None
        assert isinstance(message.tool_calls, list)
        assert message.tool_calls[0].function is not None
        assert message.tool_calls[0].function.name == "f"


def test_empty_content_list_is_read() -> None:
    """A list without parts is a list."""
    assert _message('{"role": "user", "content": []}').content == []


def test_extra_fields_are_ignored() -> None:
    """What is not known here does not hinder reading, at any depth."""
    request = msgspec.json.decode(
        '{"model": "m", "future": {"a": [1]}, "messages": [{"role": "user", "cache": 1,'
        ' "content": [{"type": "text", "text": "x", "cache_control": {}}]}]}',
        type=ChatCompletionRequest,
    )
    assert request.messages[0].content == [ContentPart(type="text", text="x")]


@pytest.mark.parametrize("stream", ["", '"stream": null,', '"stream": false,'])
def test_stream_is_false_unless_said(stream: str) -> None:
    """Absent and null mean false."""
    text = f'{{"model": "m", {stream} "messages": []}}'
    assert msgspec.json.decode(text, type=ChatCompletionRequest).stream is False


def test_a_request_is_written_without_what_was_not_said() -> None:
    """Fields left at their default do not appear."""
    request = ChatCompletionRequest(model="m", messages=[ChatMessage(role="user", content="x")])
    assert json.loads(msgspec.json.encode(request)) == {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
    }


def test_an_answer_is_written_in_openai_s_shape() -> None:
    """``object``, ``finish_reason`` and null content are there; ``usage`` only when known."""
    answer = ChatCompletionResponse(
        id="chatcmpl-1",
        created=1,
        model="m",
        choices=[Choice(0, ChatMessage(role="assistant"), "stop")],
        usage=Usage(10, 20, 30),
    )
    assert json.loads(msgspec.json.encode(answer)) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": None},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30},
    }
    bare = ChatCompletionResponse(id="x", created=1, model="m", choices=[])
    assert "usage" not in json.loads(msgspec.json.encode(bare))


def test_a_chunk_is_written_in_openai_s_shape() -> None:
    """``finish_reason`` is null until the last one, an empty delta an empty object."""
    chunk = ChatCompletionChunk(
        id="x", created=1, model="m", choices=[ChunkChoice(0, ChunkDelta())]
    )
    assert json.loads(msgspec.json.encode(chunk)) == {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {}, "finish_reason": None}],
    }


def test_embedding_inputs_of_every_form_are_read() -> None:
    """Text, texts, token ids and lists of token ids."""
    for given in ('"a"', '["a", "b"]', "[1, 2]", "[[1], [2, 3]]"):
        text = f'{{"model": "m", "input": {given}}}'
        read = msgspec.json.decode(text, type=EmbeddingsRequest)
        assert read.input == json.loads(given)


def test_a_model_list_is_written_in_openai_s_shape() -> None:
    """``object`` is ``list``, each entry's ``model``."""
    assert json.loads(msgspec.json.encode(ModelList([ModelEntry("m", created=1)]))) == {
        "object": "list",
        "data": [{"id": "m", "object": "model", "created": 1, "owned_by": ""}],
    }
