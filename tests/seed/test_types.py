"""Seed T03: requests and responses as typed values."""

from __future__ import annotations

import msgspec

from nexus.dialects.openai import (
    ChatCompletionChunk,
    ChatCompletionRequest,
    ChatCompletionResponse,
    ChatMessage,
    Usage,
)


def test_chat_message_deserialize_text() -> None:
    """A message of plain text keeps role and content."""
    message = msgspec.json.decode(b'{"role": "user", "content": "Hello"}', type=ChatMessage)
    assert message.role == "user"
    assert message.content == "Hello"


def test_chat_message_deserialize_multimodal() -> None:
    """A message of text and image keeps both parts."""
    message = msgspec.json.decode(
        b"""{"role": "user", "content": [
            {"type": "text", "text": "What's in this image?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}
        ]}""",
        type=ChatMessage,
    )
    assert message.role == "user"
    assert isinstance(message.content, list)
    text, image = message.content
    assert (text.type, text.text) == ("text", "What's in this image?")
    assert image.type == "image_url"
    assert image.image_url is not None
    assert image.image_url.url == "data:image/png;base64,..."


def test_chat_request_deserialize_minimal() -> None:
    """Model and messages are enough; nothing is streamed then."""
    request = msgspec.json.decode(
        b'{"model": "llama3:70b", "messages": [{"role": "user", "content": "Hi"}]}',
        type=ChatCompletionRequest,
    )
    assert request.model == "llama3:70b"
    assert [message.content for message in request.messages] == ["Hi"]
    assert request.stream is False
    assert request.temperature is None


def test_chat_request_deserialize_full() -> None:
    """``stream`` and the sampling fields are read."""
    request = msgspec.json.decode(
        b"""{"model": "llama3:70b", "messages": [{"role": "user", "content": "Hi"}],
            "stream": true, "temperature": 0.7, "max_tokens": 1000, "top_p": 0.9}""",
        type=ChatCompletionRequest,
    )
    assert request.stream is True
    assert request.temperature == 0.7
    assert request.max_tokens == 1000
    assert request.top_p == 0.9


def test_chat_request_stream_default_false() -> None:
    """``stream`` is false by default, with empty messages too."""
    request = msgspec.json.decode(b'{"model": "test", "messages": []}', type=ChatCompletionRequest)
    assert request.messages == []
    assert request.stream is False


def test_chat_response_serialize() -> None:
    """A response without choices and usage is one, and says ``chat.completion``."""
    response = ChatCompletionResponse(
        id="chatcmpl-123", created=1699999999, model="llama3:70b", choices=[]
    )
    assert msgspec.json.decode(msgspec.json.encode(response)) == {
        "id": "chatcmpl-123",
        "object": "chat.completion",
        "created": 1699999999,
        "model": "llama3:70b",
        "choices": [],
    }


def test_chat_chunk_serialize() -> None:
    """A chunk says ``chat.completion.chunk``."""
    chunk = ChatCompletionChunk(
        id="chatcmpl-123", created=1699999999, model="llama3:70b", choices=[]
    )
    assert msgspec.json.decode(msgspec.json.encode(chunk)) == {
        "id": "chatcmpl-123",
        "object": "chat.completion.chunk",
        "created": 1699999999,
        "model": "llama3:70b",
        "choices": [],
    }


def test_usage_serialize() -> None:
    """The three counts are kept."""
    usage = Usage(prompt_tokens=10, completion_tokens=20, total_tokens=30)
    assert msgspec.json.decode(msgspec.json.encode(usage)) == {
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "total_tokens": 30,
    }
