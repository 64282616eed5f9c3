"""Seed T02: OpenAI's formats, as the wire views and the error bodies keep them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nexus.core.errors import ApiError
from nexus.dialects.errors import error_body
from nexus.dialects.openai import (
    ChatCompletionChunk,
    ChatCompletionRequest,
    ChatCompletionResponse,
    ModelList,
)


def error_of(error: ApiError) -> dict[str, Any]:
    """The error object on the wire, which must be all there is."""
    document: dict[str, dict[str, Any]] = msgspec.json.decode(error_body(error))
    assert list(document) == ["error"]
    assert set(document["error"]) == {"message", "type", "param", "code"}
    return document["error"]


def through(view: type[Any], document: Any) -> Any:
    """``document`` read into ``view`` and written again."""
    return msgspec.json.decode(
        msgspec.json.encode(msgspec.json.decode(msgspec.json.encode(document), type=view))
    )


def test_contract_completions_request_format() -> None:
    """A request has ``model`` and ``messages``, and is none without them."""
    document = {"model": "llama3:70b", "messages": [{"role": "user", "content": "Hello"}]}
    assert through(ChatCompletionRequest, document) == document
    for name in document:
        rest = {key: value for key, value in document.items() if key != name}
        with pytest.raises(msgspec.ValidationError, match=name):
            through(ChatCompletionRequest, rest)


def test_contract_completions_response_format() -> None:
    """A response is a ``chat.completion`` with id, created, model and an array of choices."""
    document = {
        "id": "chatcmpl-abc123",
        "object": "chat.completion",
        "created": 1699999999,
        "model": "llama3:70b",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello!"},
                "finish_reason": "stop",
            }
        ],
    }
    written = through(ChatCompletionResponse, document)
    assert written == document
    assert written["object"] == "chat.completion"
    assert isinstance(written["choices"], list)
    with pytest.raises(msgspec.ValidationError, match="object"):
        through(ChatCompletionResponse, {**document, "object": "text_completion"})


def test_contract_completions_streaming_format() -> None:
    """A chunk is a ``chat.completion.chunk`` whose choices have a delta."""
    document = {
        "id": "chatcmpl-abc123",
        "object": "chat.completion.chunk",
        "created": 1699999999,
        "model": "llama3:70b",
        "choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}],
    }
    written = through(ChatCompletionChunk, document)
    assert written == document
    assert written["object"] == "chat.completion.chunk"
    with pytest.raises(msgspec.ValidationError, match="delta"):
        through(ChatCompletionChunk, {**document, "choices": [{"index": 0}]})


def test_contract_models_response_format() -> None:
    """A listing is a ``list`` whose ``data`` is an array of models."""
    written = through(ModelList, {"object": "list", "data": [{"id": "a", "object": "model"}]})
    assert written["object"] == "list"
    assert isinstance(written["data"], list)
    assert (written["data"][0]["id"], written["data"][0]["object"]) == ("a", "model")


def test_contract_error_400_format() -> None:
    """A bad request has a message; type and code are ``invalid_request_error``."""
    assert error_of(ApiError.bad_request("Invalid request")) == {
        "message": "Invalid request",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_request_error",
    }


def test_contract_error_404_format() -> None:
    """An unknown model is ``model_not_found`` and points at ``model``."""
    error = error_of(ApiError.model_not_found("nonexistent", []))
    assert error["message"].startswith("Model 'nonexistent' not found")
    assert (error["type"], error["param"], error["code"]) == (
        "invalid_request_error",
        "model",
        "model_not_found",
    )


def test_contract_error_502_format() -> None:
    """A backend's failure is ``bad_gateway``, a server error."""
    error = error_of(ApiError.bad_gateway("Backend returned invalid response"))
    assert error["message"] == "Backend returned invalid response"
    assert (error["type"], error["code"]) == ("server_error", "bad_gateway")


def test_contract_error_503_format() -> None:
    """Nobody to serve is ``service_unavailable``, a server error."""
    error = error_of(ApiError.service_unavailable("No healthy backends available"))
    assert error["message"] == "No healthy backends available"
    assert (error["type"], error["code"]) == ("server_error", "service_unavailable")
