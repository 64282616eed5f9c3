"""JSON bodies: what is refused, what is kept, and edits that touch nothing else."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.errors import ApiError
from nexus.dialects.body import (
    add_field,
    copy_field,
    read_object,
    replace_string,
    replace_value,
)
from nexus.dialects.scan import scan_members

_PADDING = b" " * 10_000
"""Behind a body it makes a long one, which is looked at in another way."""

_blank = st.text(" \t\n\r", max_size=2)
_scalar = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**30, max_value=10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["model", '"model"', '"model":', "stream", '\\"stream"', "\\u006d", "ü"]),
)
_name = st.one_of(
    st.sampled_from(["model", "stream", "messages", "max_tokens", "x", 'a"model', "n"]),
    st.text(max_size=6),
)


def _spell(draw: st.DrawFn, text: str) -> str:
    """The string as JSON, some characters escaped that need not be."""
    quoted = json.dumps(text, ensure_ascii=draw(st.booleans()))
    if text and text.isascii() and text.isalpha() and draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(text) - 1))
        return f'"{text[:at]}\\u{ord(text[at]):04x}{text[at + 1 :]}"'
    return quoted


@st.composite
def _json_text(draw: st.DrawFn, depth: int = 2) -> str:
    kind = draw(st.integers(0, 4 if depth else 1))
    if kind < 2:
        value = draw(_scalar)
        return _spell(draw, value) if isinstance(value, str) else json.dumps(value)
    if kind == 2:
        items = draw(st.lists(_json_text(depth - 1), max_size=3))
        return "[" + ",".join(items) + "]"
    return _object_text(draw, depth - 1)


def _object_text(draw: st.DrawFn, depth: int) -> str:
    members = [
        f"{draw(_blank)}{_spell(draw, name)}{draw(_blank)}:{draw(_blank)}"
        f"{draw(_json_text(depth))}{draw(_blank)}"
        for name in draw(st.lists(_name, max_size=5))
    ]
    return "{" + (",".join(members) or draw(_blank)) + "}"


@st.composite
def _bodies(draw: st.DrawFn) -> bytes:
    text = draw(_blank) + _object_text(draw, 2) + draw(_blank)
    return text.encode("utf-8")


def _damage(body: bytes) -> bytes:
    """The body with its middle byte turned into something else."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 0x15]) + body[middle + 1 :]


def _pairs(body: bytes) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = json.loads(body.decode(), object_pairs_hook=list)
    return found


def _repeats(body: bytes) -> bool:
    folded = [name.casefold() for name, _ in _pairs(body)]
    return folded.count("model") > 1 or folded.count("stream") > 1


@settings(deadline=None, max_examples=100)
@given(_bodies(), st.sampled_from([b"", _PADDING]))
def test_bodies_are_read_as_the_standard_library_reads_them(body: bytes, padding: bytes) -> None:
    """Refused exactly when ``model`` or ``stream`` repeats; else each value is its own."""
    body += padding
    if _repeats(body):
        with pytest.raises(ApiError) as caught:
            read_object(body)
        assert caught.value.status == 400
        assert caught.value.param in ("model", "stream")
        return
    fields = read_object(body)
    expected = dict(_pairs(body))
    assert fields.keys() == expected.keys()
    for name, raw in fields.items():
        assert json.loads(bytes(raw), object_pairs_hook=list) == expected[name]


@settings(deadline=None, max_examples=100)
@given(_bodies(), st.sampled_from([b"", _PADDING]), st.text(max_size=12))
def test_a_replaced_value_changes_nothing_else(body: bytes, padding: bytes, new: str) -> None:
    """After an edit the body differs in the one value only, and every other byte stands."""
    body += padding
    if _repeats(body):
        return
    fields = read_object(body)
    for name in fields:
        edited = replace_string(body, name, fields, new)
        before, after = _pairs(body), _pairs(edited)
        last = max(at for at, (key, _) in enumerate(before) if key == name)
        assert after[last] == (name, new)
        before[last] = after[last]
        assert before == after
        member = scan_members(body)[last]
        assert edited.startswith(body[: member.start])
        assert edited.endswith(body[member.end :])
        # What was read before an edit serves for the next one, too.
        again = replace_string(edited, name, fields, "")
        assert again == replace_string(body, name, fields, "")


@settings(deadline=None, max_examples=100)
@given(_bodies(), _json_text())
def test_an_added_field_changes_nothing_else(body: bytes, value: str) -> None:
    """A new member stands last, before the closing brace, and no other byte moves."""
    edited = add_field(body, "added_field", value.encode())
    assert _pairs(edited)[:-1] == _pairs(body)
    assert _pairs(edited)[-1] == ("added_field", json.loads(value, object_pairs_hook=list))
    cut = edited.index(b'"added_field"')
    inserted = len(edited) - len(body)
    start = cut - 1 if edited[cut - 1 : cut] == b"," else cut
    assert edited[:start] + edited[start + inserted :] == body


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=40) | _bodies().map(lambda body: body[:-1]) | _bodies().map(_damage))
def test_what_is_accepted_is_json_and_what_is_refused_is_400(body: bytes) -> None:
    """No bytes raise anything but a 400, and none are accepted that strict JSON refuses."""
    refusal = None
    try:
        fields = read_object(body)
    except ApiError as error:
        refusal = error
    if refusal is not None:
        assert (refusal.status, refusal.code) == (400, "invalid_request_error")
        return
    assert fields.keys() == dict(json.loads(body.decode("utf-8"))).keys()


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"a"}',
        b'{"model":"a","Model":"b"}',
        b'{"MODEL":"a","mOdel":"b"}',
        rb'{"model":"a","mod\u0065l":"b"}',
        rb'{"mod\u0065l":"a","mod\u0065l":"b"}',
        b'{"model":"model","x":1,"model":"model"}',
        b'{"x":{"model":1},"model":{"model":2},"model":3}',
        b'{"stream":true,"model":"a","Stream":false}',
        '{"model":"a","stream":true,"\u017ftream":false}'.encode(),
        rb'{"Stream":true,"\u0053tream":false}',
        rb'{"model":"\ud800","model":"b"}',
        b'{"model":12,"model":1}',
        b'{"x":1,"model":"a","x":1,"model":"a"}',
        b'{"stream" : true , "x":[1], "model":"a","x":[1], "stream" : true }',
        b'{"model":"a","picture":"%b","model":"a"}' % (b"iVBOR/+=" * 10_000),
    ],
)
def test_model_or_stream_twice_is_refused(body: bytes) -> None:
    """However the second one is spelled, whoever runs it could read another value than we did."""
    for one in (body, body + _PADDING):
        with pytest.raises(ApiError, match="times"):
            read_object(one)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"model"}',
        b'{"model":"stream","x":[{"model":1,"stream":2},"model"]}',
        b'{"x":{"model":1},"x":2,"model":"a"}',
        rb'{"model":"a","text":"\u006d\u006f"}',
        b'{"model":"a","a\\"model":2,"models":3,"stream_options":{"stream":1}}',
        b'{"model":"a","x":1,"x":2}',
        b'{"model":"a","x":12,"x":1}',
        b' { "x" : "},{" , "model" : "a" , "stream" : true } ',
    ],
)
def test_the_words_elsewhere_are_no_repetition(body: bytes) -> None:
    """Nested members, values and longer names may say ``model`` as often as they like."""
    for one in (body, body + _PADDING):
        assert "model" in read_object(one)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "byte 0"),
        (b"not json", "byte 0"),
        (b'{"model": "a",}', "byte 14"),
        (b'{"model": tru}', "byte 10"),
        (b'{"model": NaN}', "NaN is not JSON"),
        (b'{"x": -Infinity}', "-Infinity is not JSON"),
        (b'{"x": "a\nb"}', "byte 8"),
        (b'{"x": 1} 2', "byte 9"),
        ('{"ü": 1} 2'.encode(), "byte 10"),
        (b"[1]", "must be a JSON object"),
        (b'"model"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"x": "\xff"}', "UTF-8 (byte 7)"),
        (b'{"x": {"y": "\xed\xa0\x80"}}', "UTF-8 (byte 13)"),
        (b'\xef\xbb\xbf{"x": 1}', "byte 0"),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    ],
)
def test_a_refusal_says_where(body: bytes, says: str) -> None:
    """What is not a JSON object in UTF-8 is a 400 that names the place."""
    with pytest.raises(ApiError) as caught:
        read_object(body)
    assert caught.value.status == 400
    assert says in caught.value.message


@pytest.mark.parametrize(
    "value",
    [
        rb'"\ud83d"',
        rb'{"deep": ["\udc00 \ud800\ud800"]}',
        b"9" * 5000,
        b"-" + b"1" * 10_000,
        b"1e999",
        b"-0.0",
        b"1E+2",
        '"\U0001f600\u2028"'.encode(),
    ],
)
def test_odd_but_valid_values_are_kept_byte_for_byte(value: bytes) -> None:
    """Lone surrogates (Node emits them) and numbers no machine holds are JSON all the same."""
    fields = read_object(b'{"model": "a", "x": ' + value + b"}")
    assert bytes(fields["x"]) == value


def test_odd_values_do_not_hinder_an_edit() -> None:
    """A body that only the slow reader takes is edited like any other."""
    body = rb'{"x": "\ud800", "mod\u0065l" : "a", "y": {"model": 1}}'
    edited = replace_string(body, "model", read_object(body), 'b"\u00fc')
    assert edited == rb'{"x": "\ud800", "mod\u0065l" : "b\"\u00fc", "y": {"model": 1}}'


def test_a_field_is_copied_when_the_client_sent_it_alone() -> None:
    """``max_tokens`` gets the value of ``max_completion_tokens``, spelled as it was."""
    assert _copied(b'{"max_completion_tokens": 1e2 }') == (
        b'{"max_completion_tokens": 1e2,"max_tokens":1e2 }'
    )


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "a"}',
        b'{"max_completion_tokens": null}',
        b'{"max_completion_tokens": 5, "max_tokens": 6}',
        b'{"max_tokens": 6}',
    ],
)
def test_a_field_is_not_copied_over_what_the_client_said(body: bytes) -> None:
    """With both given, or nothing to copy, the body stays as it is."""
    assert _copied(body) == body


def test_a_null_target_takes_the_value() -> None:
    """``max_tokens: null`` counts as not sent: it is filled, not given twice."""
    assert _copied(b'{"max_tokens": null, "max_completion_tokens": 5}') == (
        b'{"max_tokens": 5, "max_completion_tokens": 5}'
    )


def test_a_name_with_a_slash_is_found_under_its_other_spelling() -> None:
    """``\\/`` is an escape without ``\\u``: the nested member of that name stays as it is."""
    body = rb'{"x":{"a/b":1},"a\/b":1}'
    assert replace_value(body, "a/b", read_object(body), b"2") == rb'{"x":{"a/b":1},"a\/b":2}'


def test_a_body_of_ten_megabytes_is_read() -> None:
    """Size alone is no reason to refuse; a big value that says ``model`` is no repetition."""
    messages = [{"model": "model"}] * 500_000
    big = json.dumps({"messages": messages, "x": {"model": 1}, "model": "a"}).encode()
    assert bytes(read_object(big)["model"]) == b'"a"'


def _copied(body: bytes) -> bytes:
    fields: dict[str, msgspec.Raw] = read_object(body)
    return copy_field(body, fields, "max_completion_tokens", "max_tokens")


@pytest.mark.parametrize("more", [b"", b'"\\u006d":0,', b'"x":"\\ud800",', b'"a":1,' * 9_000])
def test_fields_are_bounded(more: bytes) -> None:
    """Ten thousand are read. Where there are more, the body is refused before they cost seconds,
    however they are spelled: with escapes, half pairs, one name again and again."""

    def body(count: int) -> bytes:
        names = b",".join(b'"\\u006b%d":1' % number for number in range(count))
        return b'{"model":"m",' + more + names + b"}"

    given = 1 + more.count(b":")
    assert bytes(read_object(body(10_000 - given))["model"]) == b'"m"'
    with pytest.raises(ApiError, match="more than 10000 fields") as refused:
        read_object(body(10_001 - given))
    assert refused.value.status == 400
