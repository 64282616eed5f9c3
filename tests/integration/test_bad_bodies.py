"""Bodies that Nexus refuses, and odd ones that it must not (behaviour § 2.2; traps: JSON)."""

from __future__ import annotations

import json

import pytest

from nexus.demo.engine import FakeEngine
from tests.harness import chat, running
from tests.integration.http.wire import CHAT_BODY

PATH = "/v1/chat/completions"

REFUSED: dict[str, tuple[bytes, str, str | None]] = {
    # body, what the message says, param
    "nothing": (b"", "byte 0", None),
    "no JSON": (b"not json", "byte 0", None),
    "half of it": (CHAT_BODY[:-1], "byte", None),
    "more than it": (CHAT_BODY + b"{}", "byte", None),
    "a list": (b"[]", "object", None),
    "a string": (b'"demo-model"', "object", None),
    "NaN": (b'{"model":"demo-model","messages":[],"x":NaN}', "NaN", None),
    "too deep": (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested", None),
    "no UTF-8": (b'{"model":"demo-model","messages":[],"x":"\xff"}', "UTF-8", None),
    "no model": (b'{"messages":[]}', "model", "model"),
    "model is null": (b'{"model":null,"messages":[]}', "model", "model"),
    "model is a number": (b'{"model":1,"messages":[]}', "model", "model"),
    "no messages": (b'{"model":"demo-model"}', "messages", "messages"),
    "messages is null": (b'{"model":"demo-model","messages":null}', "messages", "messages"),
    "messages is a text": (b'{"model":"demo-model","messages":"Hi"}', "messages", "messages"),
    "stream is a text": (b'{"model":"demo-model","messages":[],"stream":"yes"}', "stream", None),
    "model twice": (b'{"model":"demo-model","model":"demo-model","messages":[]}', "model", None),
    "model in two cases": (b'{"model":"demo-model","Model":"x","messages":[]}', "model", None),
    "model escaped": (rb'{"model":"demo-model","mod\u0065l":"x","messages":[]}', "model", None),
    "stream twice": (
        b'{"model":"demo-model","messages":[],"stream":true,"STREAM":false}',
        "stream",
        None,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_bad_body_is_400_and_says_where(name: str) -> None:
    """400 ``invalid_request_error`` that names the place; no engine hears of it; the next call is
    served."""
    body, says, param = REFUSED[name]
    async with FakeEngine() as engine, running(engine) as gateway:
        answer = await gateway.client.post(PATH, content=body)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_request_error")
        assert says in error["message"]
        if param is not None:
            assert error["param"] == param
        assert engine.calls == []
        assert (await gateway.client.post(PATH, json=chat())).status_code == 200


ODD = {
    "half a surrogate pair": rb'{"model":"demo-model","messages":[],"x":"\ud83d"}',
    "an integer of 5000 digits": b'{"model":"demo-model","messages":[],"x":' + b"9" * 5000 + b"}",
    "stream is null": b'{"model":"demo-model","messages":[],"stream":null}',
    "model escaped once": rb'{"mod\u0065l":"demo-model","messages":[]}',
    "no messages in it": b'{"model":"demo-model","messages":[]}',
    "model elsewhere": b'{"model":"demo-model","messages":[],"x":{"model":1,"Model":2}}',
}


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_body_reaches_the_engine_as_it_is(name: str) -> None:
    """What is JSON with one clear model is served, whatever else it holds."""
    async with FakeEngine() as engine, running(engine) as gateway:
        headers = {"content-type": "text/plain"}
        answer = await gateway.client.post(PATH, content=ODD[name], headers=headers)
        assert answer.status_code == 200, answer.text
        assert [call.body for call in engine.calls] == [ODD[name]]


def form(*models: str) -> tuple[bytes, dict[str, str]]:
    """A form with these ``model`` fields and a file, and its content type."""
    parts = [f'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\n{m}' for m in models]
    file = '--XX\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nsound'
    body = "\r\n".join((*parts, file, "--XX--", ""))
    return body.encode(), {"content-type": "multipart/form-data; boundary=XX"}


@pytest.mark.parametrize(
    ("models", "says"),
    [((), "missing"), (("demo-model",) * 2, "2 times"), (("nick",), "another name")],
)
async def test_a_bad_form_is_400(models: tuple[str, ...], says: str) -> None:
    """A form without one clear model, or with an alias, which cannot be applied there."""
    routing = {"aliases": {"nick": "demo-model"}}
    async with FakeEngine() as engine, running(engine, routing=routing) as gateway:
        body, headers = form(*models)
        answer = await gateway.client.post(
            "/v1/audio/transcriptions", content=body, headers=headers
        )
        error = answer.json()["error"]
        assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
        assert says in error["message"]
        assert engine.calls == []


async def test_what_no_backend_can_do_is_told() -> None:
    """An image for a model that is known not to see is 400 ``unsupported_capability``."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    body = {"model": "demo-model", "messages": [{"role": "user", "content": [image]}]}
    async with FakeEngine(dialect="llamacpp") as engine, running(engine) as gateway:
        answer = await gateway.client.post(PATH, content=json.dumps(body))
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "unsupported_capability")
        assert "vision" in error["message"]
        assert engine.calls == []


async def test_an_unknown_model_is_404_and_told_what_there_is() -> None:
    """404 ``model_not_found`` with ``param`` and the names; without any, that there are none."""
    async with FakeEngine(models=["b", "a"]) as engine, running(engine) as gateway:
        answer = await gateway.client.post(PATH, json=chat("nope"))
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (404, "model_not_found")
        assert error["type"] == "invalid_request_error"
        assert error["param"] == "model"
        assert error["message"].startswith("Model 'nope' not found. Available: ")
    async with running() as gateway:
        answer = await gateway.client.post(PATH, json=chat("nope"))
        assert answer.status_code == 404
        assert "No models available" in answer.json()["error"]["message"]
