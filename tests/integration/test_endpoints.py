"""Every relayed endpoint reaches the backend's path of the same name and comes back (§ 2)."""

from __future__ import annotations

import json

import pytest

from tests.harness import running
from tests.integration.scripted import Scripted, head, plain, playing
from tests.integration.test_bad_bodies import form

JSON_PATHS = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/rerank",
    "/v1/images/generations",
    "/v1/audio/speech",
]
FORM_PATHS = [
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/images/edits",
    "/v1/images/variations",
]
ANSWER = b'{"of":"the engine"}'


@pytest.mark.parametrize("base", ["", "/openai"])
@pytest.mark.parametrize("path", JSON_PATHS + FORM_PATHS)
async def test_an_endpoint_is_relayed(path: str, base: str) -> None:
    """Path below the backend's base path, query, body and type go there as they were; the answer
    comes back."""
    if path in FORM_PATHS:
        body, headers = form("demo-model")
    else:
        body = json.dumps({"model": "demo-model", "messages": [], "input": "x"}).encode()
        headers = {"content-type": "application/json"}
    async with Scripted(playing(plain(ANSWER))) as upstream:
        spec = upstream.spec(url=f"http://127.0.0.1:{upstream.port}{base}/v1")
        async with running(spec) as gateway:
            answer = await gateway.client.post(f"{path}?a=1", content=body, headers=headers)
            assert (answer.status_code, answer.content) == (200, ANSWER)
    [talk] = upstream.talks
    assert talk.target == f"{base}{path}?a=1"
    assert talk.body == body
    assert talk.field("content-type") == [headers["content-type"]]


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/audio/transcriptions"])
async def test_bytes_come_back_as_they_are(path: str) -> None:
    """What is no JSON keeps its bytes and its type at an endpoint whose answers are bytes."""
    sound = bytes(range(256))
    answer = head("content-type: audio/mpeg", f"content-length: {len(sound)}") + sound
    body, headers = form("demo-model")
    if path == "/v1/audio/speech":
        body, headers = b'{"model":"demo-model"}', {}
    async with Scripted(playing(answer)) as upstream, running(upstream.spec()) as gateway:
        got = await gateway.client.post(path, content=body, headers=headers)
        assert (got.status_code, got.content) == (200, sound)
        assert got.headers["content-type"] == "audio/mpeg"
