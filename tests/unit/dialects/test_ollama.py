"""Ollama's native answers in OpenAI's words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.dialects.ollama import OllamaStream, is_ollama_object, translate_answer
from nexus.dialects.table import recognise
from tests.captures import captured


def _stream(*, include_usage: bool = False, chat: bool = True) -> OllamaStream:
    return OllamaStream("m", created=7, call_id="id", include_usage=include_usage, chat=chat)


def _line(message: dict[str, Any] | None = None, **fields: Any) -> bytes:
    whole = {"model": "x", "created_at": "2026-11-23T01:27:29Z", "done": False, **fields}
    return json.dumps({**whole, "message": message} if message is not None else whole).encode()


def _chunks(events: bytes) -> list[Any]:
    assert events == b"" or events.endswith(b"\n\n")
    parts = events.split(b"\n\n")[:-1]
    assert all(part.startswith(b"data: ") and b"\n" not in part for part in parts)
    return [
        part[6:].decode() if part == b"data: [DONE]" else json.loads(part[6:]) for part in parts
    ]


def _play(stream: OllamaStream, lines: list[bytes]) -> list[Any]:
    return [chunk for line in lines for chunk in _chunks(stream.feed(line))]


def _lines(name: str) -> list[bytes]:
    return captured(f"ollama/{name}").body.split(b"\n")[:-1]


def test_a_captured_chat_becomes_chunks() -> None:
    """Role first, then text, the finish reason, usage if asked, ``[DONE]``."""
    stream = _stream(include_usage=True)
    *chunks, done = _play(stream, _lines("chat_native_stream"))
    assert done == "[DONE]"
    assert all(
        (c["id"], c["object"], c["created"], c["model"])
        == ("chatcmpl-id", "chat.completion.chunk", 7, "m")
        for c in chunks
    )
    first, *texts, last, usage = chunks
    assert first["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    ]
    assert [c["choices"][0]["delta"] for c in texts] == [
        {"content": text} for text in (" of", " get", " get", " get", " get", " get")
    ]
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 25, "completion_tokens": 6, "total_tokens": 31}
    assert (stream.finished, stream.error, stream.finish_reason) == (True, None, "length")
    assert (stream.prompt_tokens, stream.completion_tokens) == (25, 6)


def test_usage_is_told_only_when_asked() -> None:
    """Some clients index ``choices[0]`` blindly."""
    chunks = _play(_stream(), _lines("chat_native_stream"))
    assert all(chunk == "[DONE]" or chunk["choices"] for chunk in chunks)


def test_a_captured_thinking_chat_keeps_the_reasoning() -> None:
    """``thinking`` goes under both names in use."""
    chunks = _play(_stream(), _lines("chat_native_thinking_stream"))
    deltas = [c["choices"][0]["delta"] for c in chunks[1:-2]]
    assert deltas[0] == {"reasoning_content": "of", "reasoning": "of"}
    assert len(deltas) == 6


def test_a_captured_generate_becomes_completion_chunks() -> None:
    """``/v1/completions`` has ``text`` instead of a delta, and no role."""
    *chunks, done = _play(_stream(chat=False, include_usage=True), _lines("generate_stream"))
    assert done == "[DONE]"
    assert chunks[0] == {
        "id": "cmpl-id",
        "object": "text_completion",
        "created": 7,
        "model": "m",
        "choices": [{"index": 0, "text": " of", "finish_reason": None}],
    }
    assert "".join(c["choices"][0]["text"] for c in chunks[:-1]) == " of get get get"
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["total_tokens"] == 28


def test_a_runner_killed_in_the_middle_is_an_error() -> None:
    """The captured error line ends the stream without an end, in the engine's own words."""
    stream = _stream()
    chunks = _play(stream, _lines("runner_killed_native_stream"))
    assert len(chunks) == 17
    assert "[DONE]" not in chunks
    assert not stream.finished
    assert stream.error == "an error was encountered while running the model: unexpected EOF"
    assert stream.feed(_line({"content": "more"})) == b""


@pytest.mark.parametrize("line", [b"garbage", b"[]", b'{"x":1}', b'{"message":5,"done":"no"}', b""])
def test_a_line_that_is_no_answer_breaks_the_stream(line: bytes) -> None:
    """It is never passed on."""
    stream = _stream()
    assert stream.feed(line) == b""
    assert stream.error is not None


@pytest.mark.parametrize("in_last_line", [True, False])
def test_tool_calls_become_openai_s(in_last_line: bool) -> None:
    """Arguments as JSON text, ids made where there are none, one running index, and the finish
    reason that clients look for; wherever they come."""
    calls = [
        {"function": {"index": 0, "name": "f", "arguments": {"a": 1.50, "b": "ü"}}},
        {"id": "call_x", "function": {"name": "g", "arguments": '{"text":1}'}},
        {"id": "", "function": {"name": "h"}},
    ]
    done = {"done": True, "done_reason": "stop"}
    lines = (
        [_line({"content": "", "tool_calls": calls}, **done)]
        if in_last_line
        else [
            _line({"content": "", "tool_calls": calls[:1]}),
            _line({"content": "", "tool_calls": calls[1:]}),
            _line({"content": ""}, **done),
        ]
    )
    _, *chunks, last, _ = _play(_stream(), lines)
    got = [call for c in chunks for call in c["choices"][0]["delta"]["tool_calls"]]
    assert [(c["index"], c["id"], c["type"], c["function"]["name"]) for c in got] == [
        (0, "call_id_0", "function", "f"),
        (1, "call_x", "function", "g"),
        (2, "call_id_2", "function", "h"),
    ]
    assert json.loads(got[0]["function"]["arguments"]) == {"a": 1.5, "b": "ü"}
    assert got[1]["function"]["arguments"] == '{"text":1}'
    assert got[2]["function"]["arguments"] == "{}"
    assert last["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("stop", "stop"), ("length", "length"), ("load", "stop"), ("unload", "stop"), (None, "stop")],
)
def test_done_reasons_are_mapped(reason: str | None, finish: str) -> None:
    """OpenAI knows no ``load``."""
    stream = _stream()
    stream.feed(_line({"content": ""}, done=True, done_reason=reason))
    assert stream.finish_reason == finish


def test_missing_counts_are_unknown() -> None:
    """A count of nought is left out by Ollama: the record says unknown, the client nought."""
    stream = _stream(include_usage=True)
    chunks = _play(stream, [_line({"content": ""}, done=True, eval_count=3)])
    assert stream.prompt_tokens is None
    assert chunks[-2]["usage"] == {"prompt_tokens": 0, "completion_tokens": 3, "total_tokens": 3}


def test_half_a_surrogate_pair_does_not_stop_a_stream() -> None:
    """UTF-8 cannot carry it: a question mark goes out."""
    line = _line({"content": "a\ud800"})
    assert rb"\ud800" in line
    assert _play(_stream(), [line])[1]["choices"][0]["delta"] == {"content": "a?"}


def test_logprobs_are_kept() -> None:
    """They stand under ``content``, as chat has them."""
    entry = {"token": "a", "logprob": -0.1, "bytes": [97]}
    chunks = _play(_stream(), [_line({"content": "a"}, logprobs=[entry])])
    assert chunks[1]["choices"][0]["logprobs"] == {"content": [entry]}


def test_a_captured_plain_chat_is_translated() -> None:
    """One object in, one ``chat.completion`` out."""
    body = captured("ollama/chat_native").body
    translated = translate_answer(body, model="m", created=7, call_id="id")
    assert translated is not None
    assert json.loads(translated) == {
        "id": "chatcmpl-id",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": " of get get get get get"},
                "finish_reason": "length",
            }
        ],
        "usage": {"prompt_tokens": 25, "completion_tokens": 6, "total_tokens": 31},
    }


def test_plain_tool_calls_are_translated() -> None:
    """Content is null beside them, and there is no index."""
    calls = [{"function": {"name": "f", "arguments": {}}}]
    line = _line({"content": "", "thinking": "hm", "tool_calls": calls}, done=True)
    translated = translate_answer(line, model="m", created=7, call_id="id")
    assert translated is not None
    choice = json.loads(translated)["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "reasoning": "hm",
        "tool_calls": [
            {
                "id": "call_id_0",
                "type": "function",
                "function": {"name": "f", "arguments": "{}"},
            }
        ],
    }


def test_a_plain_generate_is_translated() -> None:
    """``/v1/completions`` gets its text."""
    translated = translate_answer(
        _line(response="hi", done=True, done_reason="stop"),
        model="m",
        created=7,
        call_id="id",
        chat=False,
    )
    assert translated is not None
    document = json.loads(translated)
    assert document["object"] == "text_completion"
    assert document["choices"] == [{"index": 0, "text": "hi", "finish_reason": "stop"}]


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":"no"}',
        b"garbage",
        b'{"id":"x","choices":[]}',
        b'{"response":"no done"}',
        b"[" * 100_000,
        captured("ollama/chat_nonstream").body,
    ],
)
def test_what_is_not_ollama_s_is_not_translated(body: bytes) -> None:
    """``None`` says: not this dialect."""
    assert translate_answer(body, model="m", created=7, call_id="id") is None
    assert not is_ollama_object(body)
    assert recognise(body) is None


def test_the_table_knows_ollama_s_objects() -> None:
    """Both endpoints', streamed or not."""
    for line in (*_lines("chat_native_stream"), *_lines("generate_stream")):
        dialect = recognise(line)
        assert dialect is not None
        assert dialect.name == "ollama"


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["message", "response", "done", "error", "eval_count", "logprobs"]),
            st.none()
            | st.booleans()
            | st.integers()
            | st.text(max_size=4)
            | st.dictionaries(
                st.sampled_from(["content", "thinking", "tool_calls"]),
                st.text(max_size=4)
                | st.lists(st.none() | st.dictionaries(st.just("id"), st.none())),
            ),
        ),
        max_size=5,
    )
)
def test_any_lines_come_to_whole_events_or_an_error(lines: list[dict[str, Any]]) -> None:
    """Nothing raises, every event is whole, and ``[DONE]`` comes once and last."""
    stream = _stream(include_usage=True)
    chunks = _play(stream, [json.dumps(line).encode() for line in lines])
    assert chunks.count("[DONE]") == int(stream.finished)
    assert not stream.finished or chunks[-1] == "[DONE]"
    assert not (stream.finished and stream.error)
