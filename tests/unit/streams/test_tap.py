from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.dialects.views import read_chunk
from nexus.streams.tap import Tap, Terminal


def event(document: object) -> bytes:
    """One event of a stream."""
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def delta(finish: str | None = None, usage: dict[str, int] | None = None, **said: Any) -> bytes:
    """A chunk of a chat stream."""
    choice = {"index": 0, "delta": said, "finish_reason": finish}
    return event({"object": "chat.completion.chunk", "choices": [choice], "usage": usage})


def chat_tap(**settings: bool) -> Tap:
    return Tap(Terminal.FINISH_REASON, read_chunk, **settings)


DONE = b"data: [DONE]\n\n"


def test_a_chat_stream_is_whole_with_a_finish_reason() -> None:
    """Text alone is not whole; a finish reason makes it so; [DONE] and usage are told apart."""
    tap = chat_tap()
    tap.watch(delta(content="hello"))
    assert (tap.whole, tap.done_seen, tap.events) == (False, False, 1)
    tap.watch(delta(finish="stop"))
    assert (tap.whole, tap.done_seen) == (True, False)
    tap.watch(event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}) + DONE)
    assert (tap.done_seen, tap.prompt_tokens, tap.completion_tokens, tap.events) == (True, 3, 5, 4)


def test_the_responses_api_ends_with_its_own_events() -> None:
    """``response.completed`` ends a Responses stream and brings its usage; deltas do not."""
    tap = Tap(Terminal.RESPONSE_EVENT, read_chunk)
    tap.watch(
        b"event: response.output_text.delta\n" + event({"type": "response.output_text.delta"})
    )
    assert not tap.whole
    usage = {"input_tokens": 4, "output_tokens": 6}
    tap.watch(event({"type": "response.completed", "response": {"usage": usage}}))
    assert (tap.whole, tap.prompt_tokens, tap.completion_tokens) == (True, 4, 6)


def test_a_row_without_terminal_event_is_always_whole() -> None:
    """A clean end is all that such a stream promises."""
    assert Tap(Terminal.END, read_chunk).whole


@pytest.mark.parametrize(
    "block",
    [
        event({"error": {"message": "boom"}}),
        b'event: error\ndata: {"detail":"boom"}\n\n',
        event({"object": "error", "message": "boom", "code": 503}),
    ],
)
def test_error_events_are_seen(block: bytes) -> None:
    """OpenAI's error object, a named error event and SGLang's flat object all count."""
    tap = chat_tap()
    tap.watch(delta(content="a"))
    tap.watch(block)
    assert tap.error_seen


text = st.sampled_from(
    [
        '"finish_reason":"stop"',
        '"finish_reason": "length"',
        "data: [DONE]",
        "\ndata: [DONE]\n\n",
        '{"error":{"message":"x"}}',
        '"usage":{"completion_tokens":9}',
        '"tool_calls"',
        "response.completed",
        "error",
    ]
)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.one_of(text, st.text(max_size=10)), max_size=6).map("".join))
def test_text_is_never_taken_for_structure(content: str) -> None:
    """Whatever a model says, it cannot end, break or bill its own stream."""
    tap = chat_tap(repairs_tool_finish=True)
    block = delta(content=content)
    tap.watch(block)
    assert (tap.finish_seen, tap.done_seen, tap.error_seen) == (False, False, False)
    assert tap.completion_tokens is None
    tap.watch(delta(finish="stop"))
    assert tap.repair(delta(finish="stop")) == delta(finish="stop")
    assert tap.repair(block) == block


def test_premature_done_is_found_where_its_event_begins() -> None:
    """[DONE] without a finish reason is cut at its own line, even after text that looks like it."""
    tap = chat_tap()
    before = delta(content="say data: [DONE] twice: data:[DONE]")
    tap.watch(before + DONE)
    assert tap.premature_done(before + DONE) == len(before)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_premature_done_is_found_under_every_line_end(end: bytes) -> None:
    """CR and CRLF streams are cut at the same place."""
    tap = chat_tap()
    before = b'data: {"choices":[]}' + end + end
    block = before + b"data:[DONE]" + end + end
    tap.watch(block)
    assert tap.premature_done(block) == len(before)


@pytest.mark.parametrize("said", [delta(finish="stop"), event({"error": {"message": "x"}})])
def test_done_after_a_finish_or_an_error_is_not_premature(said: bytes) -> None:
    """After either, [DONE] is the proper end."""
    tap = chat_tap()
    tap.watch(said + DONE)
    assert tap.premature_done(said + DONE) is None


def test_stop_becomes_tool_calls_only_after_tool_calls() -> None:
    """The one event that says ``stop`` after tool calls is mended, nothing else of it changes."""
    tap = chat_tap(repairs_tool_finish=True)
    call = delta(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": "{}"}}])
    tap.watch(call)
    assert tap.repair(call) is call
    last = b'data: {"x":1.50,"choices":[{"finish_reason" : "stop","delta":{"content":"stop"}}]}\n\n'
    tap.watch(last)
    assert tap.repair(last) == last.replace(b': "stop","delta"', b': "tool_calls","delta"')


@pytest.mark.parametrize("empty", [None, []])
def test_empty_tool_calls_are_none(empty: object) -> None:
    """``"tool_calls": null`` or ``[]`` calls no tool: ``stop`` stays."""
    tap = chat_tap(repairs_tool_finish=True)
    tap.watch(delta(content="hi", tool_calls=empty))
    last = delta(finish="stop")
    tap.watch(last)
    assert tap.repair(last) == last


def test_engines_that_need_no_repair_get_none() -> None:
    """Without the trait nothing is ever rewritten."""
    tap = chat_tap()
    tap.watch(delta(tool_calls=[{"index": 0}]) + delta(finish="stop"))
    assert tap.repair(delta(finish="stop")) == delta(finish="stop")


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 8), max_size=8), st.randoms(use_true_random=False))
def test_facts_do_not_depend_on_how_blocks_are_cut(kinds: list[int], rng: Any) -> None:
    """Any grouping of whole events into blocks leads to the same facts."""
    makers = [
        delta(content="a"),
        delta(content="error finish_reason"),
        delta(finish="stop"),
        event({"error": {"message": "x"}}),
        event({"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 1}}),
        b": comment\n\n",
        DONE,
        b"event: ping\ndata: {}\n\n",
        delta(tool_calls=[{"index": 0}]),
    ]
    events = [makers[kind] for kind in kinds]
    one, many = chat_tap(repairs_tool_finish=True), chat_tap(repairs_tool_finish=True)
    one.watch(b"".join(events))
    while events:
        size = rng.randint(1, len(events))
        many.watch(b"".join(events[:size]))
        events = events[size:]
    for fact in (
        "events",
        "finish_seen",
        "done_seen",
        "error_seen",
        "tool_calls_seen",
        "prompt_tokens",
        "completion_tokens",
    ):
        assert getattr(one, fact) == getattr(many, fact), fact


def _chunk(delta: dict[str, Any], finish: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **fields}).encode() + b"\n\n"


@pytest.mark.parametrize("split", [1, 2, 3, 100])
def test_content_events_are_those_that_bring_something(split: int) -> None:
    """Role, finish, usage and ``[DONE]`` bring none, however reads fall together."""
    events = [
        _chunk({"role": "assistant", "content": ""}),
        _chunk({"content": "a"}),
        _chunk({"reasoning_content": "b"}),
        _chunk({"content": "there was an error"}),
        _chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}),
        _chunk({}, "stop"),
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":4}}\n\n',
        b"data: [DONE]\n\n",
    ]
    tap = Tap(Terminal.FINISH_REASON, read_chunk)
    tap.began_silent = True
    for at in range(0, len(events), split):
        tap.watch(b"".join(events[at : at + split]))
    assert tap.content_events == 4


def test_a_finish_that_brings_text_is_a_content_event() -> None:
    """Some engines send the last token and the finish reason together."""
    tap = Tap(Terminal.FINISH_REASON, read_chunk)
    tap.watch(_chunk({"content": "a"}))
    tap.watch(_chunk({"content": "b"}, "length"))
    assert tap.content_events == 2


def test_content_events_of_the_responses_api_are_its_deltas() -> None:
    """Its other events frame them."""
    tap = Tap(Terminal.RESPONSE_EVENT, read_chunk)
    for kind in ("created", "output_text.delta", "output_text.delta", "output_text.done"):
        tap.watch(b'data: {"type":"response.%b"}\n\n' % kind.encode())
    tap.watch(b'data: {"type":"response.completed","response":{}}\n\n')
    assert tap.content_events == 2


def test_streams_without_text_have_no_content_events() -> None:
    """Audio is not counted in tokens."""
    tap = Tap(Terminal.END, read_chunk)
    tap.watch(b'data: {"type":"speech.audio.delta"}\n\n')
    assert tap.content_events == 0
