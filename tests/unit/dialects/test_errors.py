"""Error bodies: ours, and engines' put into OpenAI's shape."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.errors import ApiError
from nexus.dialects.errors import (
    engine_message,
    error_body,
    error_event,
    normalise_error_body,
    responses_error_event,
)
from tests.captures import captured


def test_an_error_has_all_four_fields() -> None:
    """``param`` is null where it does not apply, never absent."""
    assert json.loads(error_body(ApiError.bad_gateway("All 2 attempts failed"))) == {
        "error": {
            "message": "All 2 attempts failed",
            "type": "server_error",
            "param": None,
            "code": "bad_gateway",
        }
    }


def test_an_error_event_is_one_whole_event() -> None:
    """Line ends in the message do not end the event."""
    event = error_event(ApiError.bad_request("a\n\ndata: [DONE]\r\n"))
    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    assert event.count(b"\n") == 2
    assert b"\r" not in event
    assert json.loads(event[6:])["error"]["message"] == "a\n\ndata: [DONE]\r\n"


def test_the_responses_api_has_an_error_event_of_its_own() -> None:
    """``event: error`` with ``{"type": "error", "error": {...}}``."""
    name, data, *rest = responses_error_event(ApiError.gateway_timeout()).split(b"\n")
    assert name == b"event: error"
    assert rest == [b"", b""]
    document = json.loads(data.removeprefix(b"data: "))
    assert document["type"] == "error"
    assert document["error"]["code"] == "gateway_timeout"


def test_half_a_surrogate_pair_in_a_message_can_be_told() -> None:
    """UTF-8 cannot carry it: a question mark can."""
    body = error_body(ApiError.model_not_found("m\ud800", []))
    assert "'m?'" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"no"}}',
        b'{"error":{"message":"","type":5},"extra":1}',
        b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
        captured("ollama/v1_model_unknown").body,
        captured("llama-server/err_context_oversized").body,
    ],
)
def test_an_openai_shaped_error_is_left_alone(body: bytes) -> None:
    """It goes on byte for byte."""
    assert normalise_error_body(400, body, "application/json") is None


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b'{"error":"model \'x\' not found"}', "application/json", "model 'x' not found"),
        (b'{"object":"error","message":"flat","code":400}', "application/json", "flat"),
        (b'{"detail":"Not Found"}', "application/json", "Not Found"),
        (
            b'{"detail":[{"loc":["body","n"],"msg":"too big"},{"msg":"and so on"}]}',
            "application/json",
            "body.n: too big; and so on",
        ),
        (b'{"message":"just that"}', "application/json", "just that"),
        (b'{"error":{"code":5,"detail":"inner"}}', "application/json", "inner"),
        (b"plain words\n", "text/plain", "plain words"),
        (b'"a JSON string"', "application/json", "a JSON string"),
        (b"\xff\xfe", "text/plain", "\ufffd\ufffd"),
        (b"<html><head><title> 502 &amp; more</title></head>x", "text/html", "502 & more"),
        (b"<p>No <b>title</b></p><script>x()</script>", "text/html", "No title"),
        (b"", "", "The backend answered 418 I'm a Teapot without a message."),
        (b"{}", "application/json", "The backend answered 418 I'm a Teapot without a message."),
        (b"[" * 100_000, "application/json", "[" * 4096),
        (
            captured("ollama/chat_native_images_unsupported").body,
            "application/json",
            (
                "image input is not supported - hint: if this is unexpected, you may need to"
                " provide the mmproj"
            ),
        ),
    ],
)
def test_an_engine_s_text_becomes_the_message(body: bytes, content_type: str, message: str) -> None:
    """Whatever the shape, the engine's own words are told in OpenAI's."""
    normalised = normalise_error_body(418, body, content_type)
    assert normalised is not None
    error = json.loads(normalised)["error"]
    assert error["message"] == message
    assert error.keys() == {"message", "type", "param", "code"}


def test_an_engine_s_own_type_and_code_are_kept_where_they_are_words() -> None:
    """Numbers say nothing there; then the status tells."""
    flat = b'{"object":"error","message":"m","type":"BadRequestError","param":"n","code":400}'
    normalised = normalise_error_body(400, flat)
    assert normalised is not None
    assert json.loads(normalised)["error"] == {
        "message": "m",
        "type": "BadRequestError",
        "param": "n",
        "code": "invalid_request_error",
    }


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "authentication_error", "invalid_api_key"),
        (404, "invalid_request_error", "not_found"),
        (429, "rate_limit_error", "rate_limit_exceeded"),
        (503, "server_error", "upstream_error"),
        (999, "server_error", "upstream_error"),
    ],
)
def test_the_status_tells_type_and_code(status: int, kind: str, code: str) -> None:
    """Clients choose their exception by them."""
    normalised = normalise_error_body(status, b"")
    assert normalised is not None
    error = json.loads(normalised)["error"]
    assert (error["type"], error["code"]) == (kind, code)


def test_messages_are_bounded() -> None:
    """4 KiB for the client, 500 bytes for the list of attempts, cut between characters."""
    body = json.dumps({"error": "ü" * 10_000}).encode()
    normalised = normalise_error_body(500, body)
    assert normalised is not None
    assert json.loads(normalised)["error"]["message"] == "ü" * 2048
    assert engine_message(body) == "ü" * 250


def test_the_engine_s_message_is_found_in_the_openai_shape_too() -> None:
    """For the list of attempts the words alone are wanted."""
    assert engine_message(captured("ollama/v1_busy_503").body) == (
        "server busy, please try again.  maximum pending requests exceeded"
    )
    assert engine_message(b"") == ""


@settings(deadline=None, max_examples=100)
@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=8) | st.just('{"error":"{"'),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "message", "detail", "loc", "msg", "code"]), inner
            )
        ),
        max_leaves=10,
    ).map(lambda document: json.dumps(document).encode()),
    st.integers(100, 999),
)
def test_any_error_body_can_be_told(body: bytes, status: int) -> None:
    """What an engine sends never raises, and the outcome is always a proper error object."""
    normalised = normalise_error_body(status, body)
    error = json.loads(body if normalised is None else normalised)["error"]
    assert isinstance(error["message"], str)
    if normalised is not None:
        assert error["message"]
    assert isinstance(engine_message(body), str)
