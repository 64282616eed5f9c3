"""The relay's quick look at answers and events."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.dialects.views import read_answer, read_chunk
from tests.captures import captured, captured_names

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    *("usage", "choices", "error", "delta", "model", "code", "prompt_tokens"),
                    *("finish_reason", "response", "message", "tool_calls", "object", "type"),
                )
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=100)
@given(_values, st.booleans())
def test_odd_types_never_raise(document: object, escape: bool) -> None:
    """Whatever an engine says, every property of the view answers."""
    body = json.dumps(document, ensure_ascii=escape).encode("utf-8", "replace")
    for view in (read_answer(body), read_chunk(body)):
        valid = isinstance(document, dict) and b"NaN" not in body and b"Infinity" not in body
        assert (view is not None) is valid
        if view is not None:
            _ask(view)


def _ask(view: object) -> None:
    for name in dir(type(view)):
        if not name.startswith("_"):
            getattr(view, name)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b'"x"',
        b"null",
        b'{"a":1',
        b'{"a":1} x',
        b'{"model":5,"a":tru}',
        b'{"choices":5,"a":NaN}',
        b'{"a":"\xff"}',
        b'{"choices":1,"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":' * 100_000,
        b'{"choices":1,"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_json_object_is_none(body: bytes) -> None:
    """Syntax and encoding are checked to the end, also behind fields of odd types."""
    assert read_answer(body) is None
    assert read_chunk(body) is None


def test_a_plain_answer_tells_model_tokens_and_finish_reason() -> None:
    """From a real server's answer."""
    view = read_answer(captured("ollama/chat_nonstream").body)
    assert view is not None
    assert (view.model, view.prompt_tokens, view.completion_tokens) == ("nexus-tiny", 42, 12)
    assert view.finish_reason == "length"
    assert not view.is_error


def test_an_odd_field_does_not_cost_the_others() -> None:
    """A usage whose counts are no integers leaves the model readable, and half a surrogate too."""
    view = read_answer(
        rb'{"model":"m\ud800","usage":{"prompt_tokens":"7","completion_tokens":3},'
        rb'"choices":[5,{"finish_reason":"stop"}]}'
    )
    assert view is not None
    assert view.model == "m\ud800"
    assert (view.prompt_tokens, view.completion_tokens, view.finish_reason) == (None, 3, "stop")


@pytest.mark.parametrize(
    ("data", "status", "code", "message"),
    [
        (b'{"error":{"message":"no","code":503}}', 503, None, "no"),
        (b'{"error":{"message":"no","code":"429"}}', 429, "429", "no"),
        (b'{"error":{"message":"no","code":"overloaded","status":529}}', 529, "overloaded", "no"),
        (b'{"error":"no"}', None, None, "no"),
        (b'{"object":"error","message":"no","code":400}', 400, None, "no"),
        (b'{"type":"error","code":"x","message":"no"}', None, "x", "no"),
        (b'{"error":{"code":5}}', None, None, ""),
        (b'{"error":true}', None, None, ""),
    ],
)
def test_an_error_event_is_known_in_every_shape(
    data: bytes, status: int | None, code: str | None, message: str
) -> None:
    """OpenAI's object, a bare string, SGLang's flat one, the Responses API's."""
    view = read_chunk(data)
    assert view is not None
    assert view.is_error
    assert (view.error_status, view.error_code, view.error_message) == (status, code, message)


@pytest.mark.parametrize("data", [b"{}", b'{"error":null}', b'{"error":{}}', b'{"error":""}'])
def test_an_empty_error_is_none(data: bytes) -> None:
    """``error: null`` stands in every good answer of the Responses API."""
    view = read_chunk(data)
    assert view is not None
    assert not view.is_error


def test_a_chunk_tells_what_it_brings() -> None:
    """Text, reasoning, tool calls, a finish reason, usage: each is seen where it is."""
    seen = []
    for data in (
        b'{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}',
        b'{"choices":[{"delta":{"content":"x"}}]}',
        b'{"choices":[{"delta":{"reasoning":"x"}}]}',
        b'{"choices":[{"text":"x"}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}',
        b'{"choices":[{"delta":{},"finish_reason":"stop"}]}',
        b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}',
    ):
        view = read_chunk(data)
        assert view is not None
        seen.append((view.has_content, view.has_tool_calls, view.finish_reason, view.prompt_tokens))
    assert seen == [
        (False, False, None, None),
        (True, False, None, None),
        (True, False, None, None),
        (True, False, None, None),
        (False, True, None, None),
        (False, False, "stop", None),
        (False, False, None, 1),
    ]


def test_a_responses_event_tells_its_type_and_usage() -> None:
    """The usage stands inside ``response``, in other words."""
    view = read_chunk(
        b'{"type":"response.completed","response":{"usage":{"input_tokens":3,"output_tokens":4}}}'
    )
    assert view is not None
    assert (view.type, view.prompt_tokens, view.completion_tokens) == ("response.completed", 3, 4)


@pytest.mark.parametrize("name", captured_names("*/chat_stream*"))
def test_captured_streams_are_read(name: str) -> None:
    """Every event of every captured stream is JSON without an error, one has a finish reason."""
    events = [
        line.removeprefix(b"data: ").strip()
        for line in captured(name).body.split(b"\n")
        if line.startswith(b"data: {")
    ]
    views = [read_chunk(event) for event in events]
    assert all(view is not None and not view.is_error for view in views)
    assert sum(1 for view in views if view is not None and view.finish_reason) == 1
