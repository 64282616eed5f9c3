"""Request body → profile."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.call import RequestProfile
from nexus.core.errors import ApiError
from nexus.routing.profile import BodyView, read_profile


def _read(
    body: bytes | dict[str, Any], *, requires_messages: bool = True
) -> tuple[RequestProfile, BodyView]:
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    return read_profile(
        body, "/v1/chat/completions", requires_messages=requires_messages, pin="here"
    )


def _profile(**fields: Any) -> RequestProfile:
    return _read({"model": "m", "messages": [], **fields})[0]


def _text_bytes(*messages: Any) -> int:
    return _profile(messages=list(messages)).text_bytes


def test_a_plain_chat_is_read() -> None:
    """The usual request, whole."""
    profile, view = _read(
        b'{"model" : "llama3", "messages":[{"role":"system","content":"four"},'
        b'{"role":"user","content":"\\u00fc\\n"}], "temperature":0, "stream" : true,'
        b'"stream_options":{"include_usage":true}, "max_tokens":100}'
    )
    assert profile == RequestProfile(
        endpoint="/v1/chat/completions",
        model="llama3",
        stream=True,
        text_bytes=7,
        max_output_tokens=100,
        fields=frozenset({"temperature", "stream_options", "max_tokens"}),
        pin="here",
    )
    assert bytes(view.fields["model"]) == b'"llama3"'
    assert view.include_usage
    assert view.fields.keys() == {
        *("model", "messages", "temperature", "stream", "stream_options", "max_tokens")
    }


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ("{}", "model"),
        ('{"Model":"a","messages":[]}', "model"),
        ('{"model":5,"messages":[]}', "model"),
        ('{"model":null,"messages":[]}', "model"),
        ('{"model":["a"],"messages":[]}', "model"),
        ('{"model":"","messages":[]}', "model"),
        (r'{"model":"a\ud800","messages":[]}', "model"),
        ('{"model":"a","model":"b","messages":[]}', "model"),
        ('{"model":"a"}', "messages"),
        ('{"model":"a","messages":null}', "messages"),
        ('{"model":"a","messages":"hi"}', "messages"),
        ('{"model":"a","messages":{}}', "messages"),
        ('{"model":"a","messages":[],"stream":1}', "stream"),
        ('{"model":"a","messages":[],"stream":"true"}', "stream"),
        ('{"model":"a","messages":[],"stream":true,"Stream":false}', "stream"),
        ("not json", None),
    ],
)
def test_what_is_refused(body: str, param: str | None) -> None:
    """A 400 names the field at fault."""
    with pytest.raises(ApiError) as caught:
        _read(body.encode())
    assert (caught.value.status, caught.value.param) == (400, param)


def test_messages_are_not_required_elsewhere() -> None:
    """Embeddings and completions have none."""
    profile, _ = _read({"model": "m", "input": ["ab", "cde"]}, requires_messages=False)
    assert profile.text_bytes == 5


def test_messages_nested_too_deeply_for_python_are_still_a_list() -> None:
    """They can be passed on, if not measured."""
    outcomes = set()
    for depth in range(600, 1000):
        messages = b"[" * depth + b"]" * depth
        try:
            outcomes.add(_read(b'{"model":"m","messages":' + messages + b"}")[0].model)
        except ApiError as error:
            outcomes.add(error.message)
    assert outcomes == {"m", "Request body is nested too deeply."}


@pytest.mark.parametrize("stream", ["false", "null"])
def test_stream_null_is_false(stream: str) -> None:
    """Clients send null for what they do not want."""
    body = f'{{"model":"m","messages":[],"stream":{stream}}}'.encode()
    assert _read(body)[0].stream is False


@pytest.mark.parametrize("kind", ["image_url", "input_image", "image"])
def test_an_image_counts_one_and_none_of_its_bytes(kind: str) -> None:
    """Base64 is no text."""
    profile = _profile(
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": kind, "image_url": {"url": "data:image/png;base64," + "A" * 9999}},
                    {"type": kind, "text": "x" * 99},
                ],
            }
        ]
    )
    assert (profile.needs_vision, profile.images, profile.text_bytes) == (True, 2, 4)


def test_sound_and_files_are_no_text() -> None:
    """Their bytes are not counted either."""
    part = {"type": "input_audio", "input_audio": {"data": "A" * 999, "format": "wav"}}
    assert _text_bytes({"role": "user", "content": [part, {"type": "text", "text": "ab"}]}) == 2


def test_tool_calls_and_their_results_are_text() -> None:
    """They fill the window like any other text."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    assert (
        _text_bytes(
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "assistant", "content": "abc", "tool_calls": [call]},
            {"role": "tool", "content": "42", "tool_call_id": "c1"},
        )
        == 7 + 3 + 7 + 2
    )


def test_the_responses_api_s_input_is_measured() -> None:
    """Items with parts of their own, and the instructions."""
    profile, _ = _read(
        {
            "model": "m",
            "instructions": "abc",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "de"}]},
                {"role": "user", "content": [{"type": "input_image", "image_url": "x"}]},
                {"type": "function_call_output", "call_id": "c", "output": "f"},
            ],
            "text": {"format": {"type": "json_schema"}},
            "max_output_tokens": 9,
        },
        requires_messages=False,
    )
    assert (profile.text_bytes, profile.images, profile.needs_json) == (6, 1, True)
    assert profile.max_output_tokens == 9


def test_token_ids_weigh_four_bytes_each() -> None:
    """A prompt may come as tokens, or as lists of them."""
    for prompt in ([1, 2, 3], [[1], [2, 3]]):
        profile, _ = _read({"model": "m", "prompt": prompt}, requires_messages=False)
        assert profile.text_bytes == 12


def test_tools_are_needed_when_there_are_any() -> None:
    """An empty list asks for nothing; the schemas count as text as they are spelled."""
    assert _profile(tools=[]).needs_tools is False
    assert _profile(tools=None).needs_tools is False
    assert _profile(tools="odd").needs_tools is False
    profile = _profile(tools=[{"type": "function"}])
    assert (profile.needs_tools, profile.text_bytes) == (True, len('[{"type": "function"}]'))
    assert _profile(functions=[{"name": "f"}]).needs_tools is True


@pytest.mark.parametrize(
    ("response_format", "needed"),
    [
        ({"type": "json_object"}, True),
        ({"type": "json_schema", "json_schema": {}}, True),
        ({"type": "text"}, False),
        ({"type": ["json_object"]}, False),
        ("json_object", False),
        (None, False),
    ],
)
def test_json_is_needed_when_asked_for(response_format: Any, needed: bool) -> None:
    """Both JSON formats, no other."""
    assert _profile(response_format=response_format).needs_json is needed


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_completion_tokens": None, "max_tokens": 5}, 5),
        ({"max_tokens": -1}, None),
        ({"max_tokens": "5"}, None),
        ({"max_tokens": 10**50}, None),
        ({}, None),
    ],
)
def test_requested_output_is_read(fields: dict[str, Any], tokens: int | None) -> None:
    """The newer name wins; nonsense is the engine's to judge."""
    assert _profile(**fields).max_output_tokens == tokens


def test_neutral_fields_count_as_absent() -> None:
    """They ask for nothing, so that an engine that ignores them drops nothing."""
    neutral = (
        b'{"model":"m","messages":[],"a":null,"b":"","c":[],"d":{},"e":false,"n":1,'
        b'"tool_choice":"auto","f":[ \n],"g":{ },"stream":true}'
    )
    assert _read(neutral)[0].fields == frozenset()
    named = {"a": 0, "b": " ", "c": [None], "d": {"x": 1}, "e": True, "n": 2}
    assert _profile(**named, tool_choice="none", f=1).fields == {*named, "tool_choice", "f"}


@pytest.mark.parametrize(
    "messages",
    [
        [None],
        [5, "x", []],
        [{}],
        [{"content": 5}],
        [{"content": {"type": {}}}],
        [{"content": [None, 5, [{"type": []}], {"text": 5}]}],
        [{"content": None, "tool_calls": 5}],
        [{"content": "x", "tool_calls": [{"function": 5}]}],
    ],
)
def test_content_without_sense_is_the_engine_s_business(messages: Any) -> None:
    """It is never refused here."""
    assert _profile(messages=messages).images == 0


def test_half_a_surrogate_pair_in_a_message_is_measured() -> None:
    """Node's JSON.stringify emits them; engines take them."""
    assert _text_bytes({"role": "user", "content": "ab\ud800"}) == 5


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["content", "type", "text", "function", "tool_calls", "format"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)
_names = st.sampled_from(
    (
        *("model", "messages", "stream", "tools", "functions", "prompt", "input"),
        *("response_format", "max_tokens", "stream_options", "n", "tool_choice", "text", "Model"),
    )
)


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(_names, _values), st.booleans(), st.booleans())
def test_no_body_raises_anything_but_a_refusal(
    fields: dict[str, Any], valid: bool, requires_messages: bool
) -> None:
    """Whatever stands in the fields, a profile or a 400."""
    if valid:
        fields = {**fields, "model": "m", "messages": [fields.get("messages")]}
        fields.pop("Model", None)
    status = 200
    profile = None
    try:
        profile, _ = _read(fields, requires_messages=requires_messages)
    except ApiError as error:
        status = error.status
    if profile is None:
        assert status == 400
    else:
        assert profile.model == fields["model"]
        assert profile.text_bytes >= 0


_USUAL = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["m", "é", "", "llama3:70b"]),
        "messages": st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["user", "system"]), "content": st.text(max_size=20)}
            ),
            max_size=3,
        ),
    },
    optional={
        "stream": st.sampled_from([True, False, None]),
        "stream_options": st.sampled_from([None, {}, {"include_usage": True}, {"x": 1}]),
        "max_tokens": st.sampled_from([None, 0, 5, -1, 1.5, "5"]),
        "max_completion_tokens": st.sampled_from([None, 7, -1]),
        "temperature": st.sampled_from([None, 0, 0.7, False]),
        "stop": st.sampled_from([None, [], "a", ["a"], '"model":']),
        "user": st.sampled_from(["", "u", '"Model"', '"stream"']),
        "n": st.just(2),
    },
)


@given(
    body=_USUAL, ascii_only=st.booleans(), spoil=st.sampled_from(["", '"Model":1,', '"stream":0,'])
)
def test_the_short_way_reads_what_the_long_way_reads(
    body: dict[str, Any], ascii_only: bool, spoil: str
) -> None:
    """A usual chat request is read in one go, with the same profile, view and refusals."""
    raw = ("{" + spoil + json.dumps(body, ensure_ascii=ascii_only)[1:]).encode()

    def read() -> object:
        try:
            profile, view = read_profile(raw, "/v1/chat/completions", requires_messages=True)
        except ApiError as error:
            return error.message
        return profile, view.include_usage, bytes(view.fields["model"]), sorted(view.fields)

    short = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nexus.routing.profile._read_usual", lambda _: None)
        assert short == read()


@pytest.mark.parametrize("piece", [{"type": "text", "text": "ab"}, "ab", {}])
def test_counting_ends(piece: Any) -> None:
    """Millions of tiny parts hold up nobody: what is told is at least there."""
    parts = [piece] * 300_000
    for messages in ([{"content": parts}], parts, [{"content": "", "tool_calls": parts}]):
        assert 0 <= _text_bytes(*messages) <= 200_000
