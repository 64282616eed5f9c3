"""The common error reader: bodies of every shape, patterns of every engine."""

from __future__ import annotations

import msgspec
import pytest

from nexus.engines.adapter import ErrorMeaning
from nexus.engines.errors import error_text, read_openai_error
from nexus.engines.lmstudio import LMStudioAdapter


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"boom","type":"t","code":1}}', "boom"),
        (b'{"error":"boom"}', "boom"),
        (b'{"object":"error","message":"boom","type":"BadRequest","code":400}', "boom"),
        (b'{"detail":"boom"}', "boom"),
        (b'{"detail":[{"loc":["body","x",3],"msg":"boom"}]}', "body.x.3: boom"),
        (b'{"detail":{"message":"boom"}}', "boom"),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"boom"}}', "boom"),
        (b'{"error":"{\\"error\\":{\\"message\\":\\"boom\\"}}"}', "boom"),
        (b'{"status":"boom"}', "boom"),
        (b'"boom"', "boom"),
        (b"boom\n", "boom"),
        (b"<html>boom</html>", ""),
        (b"", ""),
        (b"[]", ""),
        (b'{"error":null}', ""),
        (b'{"error":{"message":null}}', ""),
        (b'{"error":{"message":"\\ud800 boom"}}', "? boom"),
        (b'\xef\xbb\xbf{"error":"boom"}', "boom"),
    ],
)
def test_the_text_is_found_in_any_shape(body: bytes, message: str) -> None:
    """Each shape that some engine uses gives up its words."""
    assert error_text(body).message == message


@pytest.mark.parametrize(
    ("status", "message", "meaning"),
    [
        (400, "This model's maximum context length is 8 tokens. However, ...", "prompt_too_long"),
        (400, "The input (9 tokens) is longer than the model's context length (8 tokens).",
         "prompt_too_long"),
        (400, "Requested token count exceeds the model's maximum context length",
         "prompt_too_long"),
        (400, "the input length exceeds the context length", "prompt_too_long"),
        (400, "the prompt is longer than the context length currently available",
         "prompt_too_long"),
        (400, "Trying to keep the first 9 tokens when context the overflows.", "prompt_too_long"),
        (400, "prompt is too long: 9 tokens > 8 maximum", "prompt_too_long"),
        (400, "Invalid content type. image_url is only supported by certain models.", "cannot"),
        (400, "This model does not appear to be an embedding model by default.", "cannot"),
        (404, 'model "x" not found, try pulling it first', "model_not_here"),
        (404, "No instance found for model X", "model_not_here"),
        (404, "No models loaded. Please load a model", "model_not_here"),
        (400, "Server is pinned to 'a/b'; requested 'c'.", "model_not_here"),
        (400, "Invalid model name passed in model=x", "model_not_here"),
        (404, "The model `x` does not exist or you do not have access to it.", "model_not_here"),
        (404, "Response with id 'resp_1' not found.", "client"),
        (404, "404 page not found", "cannot"),
        (404, "Not Found", "cannot"),
        (405, "Method Not Allowed", "cannot"),
        (400, '"x" does not support tools', "cannot"),
        (400, '"x" does not support image input', "cannot"),
        (500, "image input is not supported - hint: you may need to provide the mmproj", "cannot"),
        (501, "anything", "cannot"),
        (503, "Loading model", "loading"),
        (503, "The engine is currently busy", "overloaded"),
        (503, "The request queue is full.", "overloaded"),
        (529, "Overloaded", "overloaded"),
        (429, "Request too large: maximum context length tokens per min", "overloaded"),
        (401, "Unauthorized", "credentials"),
        (403, "model not found", "credentials"),
        (500, "model requires more system memory (9 GiB) than is available", "server"),
        (500, "model 'x' not found in the cache", "server"),
        (502, "", "server"),
        (408, "", "server"),
        (409, "", "server"),
        (499, "request canceled", "server"),
        (400, "temperature must be in [0, 2]", "client"),
        (413, "payload too large", "client"),
        (422, "validation", "client"),
    ],
)  # fmt: skip
def test_the_meaning_is_read_from_text_and_status(status: int, message: str, meaning: str) -> None:
    """The engines' own sentences, each with what it means."""
    body = msgspec.json.encode({"error": {"message": message}})
    assert read_openai_error(status, body).meaning is ErrorMeaning(meaning)


def test_codes_speak_where_texts_do_not() -> None:
    """``context_length_exceeded`` and ``model_not_found`` suffice."""
    long = b'{"error":{"message":"no","code":"context_length_exceeded"}}'
    gone = b'{"error":{"message":"no","code":"model_not_found"}}'
    assert read_openai_error(400, long).meaning is ErrorMeaning.PROMPT_TOO_LONG
    assert read_openai_error(404, gone).meaning is ErrorMeaning.MODEL_NOT_HERE


def test_an_error_in_a_200_has_the_status_it_names() -> None:
    """SGLang's full queue: 200 and an event whose code is 503."""
    event = b'{"error":{"object":"error","message":"queue full","code":503}}'
    assert read_openai_error(200, event).meaning is ErrorMeaning.OVERLOADED
    assert read_openai_error(200, b'{"error":{"message":"x"}}').meaning is ErrorMeaning.SERVER


def test_an_answer_without_words_names_its_status() -> None:
    """No text: the message is ours, and says so."""
    assert read_openai_error(502, b"<html>").message == "the backend answered 502"


def test_a_long_message_is_bounded() -> None:
    """A megabyte of message is cut."""
    assert len(read_openai_error(500, b"x" * 1_000_000).message) == 4000


def test_lm_studios_own_words_for_overflow() -> None:
    """Any mention of the context length is an overflow there."""
    body = b'{"error":"The number of tokens to keep from the prompt exceeds context length"}'
    assert LMStudioAdapter().read_error(400, body).meaning is ErrorMeaning.PROMPT_TOO_LONG
    assert read_openai_error(400, body).meaning is ErrorMeaning.CLIENT
