"""A real ``transformers serve`` behind a real gateway: an engine that no adapter is for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.real.conftest import StartNexus
from tests.real.heavy_servers import TransformersServe
from tests.real.servers import Nexus
from tests.real.tiny_folder import HUB_NAME

pytestmark = pytest.mark.heavy

CHAT = "/v1/chat/completions"
ASKED: dict[str, Any] = {
    "model": HUB_NAME,
    "messages": [{"role": "user", "content": "tell me of the fleet"}],
    "temperature": 0,
    "max_tokens": 20,
}


@pytest.fixture(scope="module")
def nexus(transformers_server: TransformersServe, nexus_server: StartNexus) -> Nexus:
    """The gateway in front of it; it claims one model more than there is."""
    claim = f'models = ["{HUB_NAME}", "nexus/ghost"]'
    return nexus_server({"transformers": transformers_server.url}, {"transformers": claim})


@pytest.fixture
def client(nexus: Nexus) -> Iterator[openai.OpenAI]:
    """The official client."""
    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_what_is_read_is_what_the_engine_says(
    nexus: Nexus, transformers_server: TransformersServe
) -> None:
    """It is taken as what it is, a server of OpenAI's API: its model with a slash and its creation,
    a fraction there, a whole number here; what it does not tell stays unknown."""
    assert nexus.backend("transformers")["engine"] == "generic"
    (entry,) = transformers_server.get("/v1/models")["data"]
    assert entry["id"] == HUB_NAME
    listed = nexus.get(f"/v1/models/{HUB_NAME}")
    assert listed["id"] == HUB_NAME
    assert isinstance(listed["created"], int)
    model = nexus.models_of("transformers")[HUB_NAME]
    assert model["context_length"] is None
    assert set(model["capabilities"].values()) == {None}


def test_a_stream_without_its_end_gets_one(
    nexus: Nexus, transformers_server: TransformersServe, client: openai.OpenAI
) -> None:
    """The engine ends streams without ``[DONE]``; through Nexus it is there, after the same events,
    and the text is that of the plain answer."""
    streamed = {**ASKED, "stream": True}
    assert "[DONE]" not in transformers_server.post(CHAT, streamed).text
    assert nexus.post(CHAT, streamed).text.endswith("data: [DONE]\n\n")
    plain = client.chat.completions.create(**ASKED)
    chunks = list(client.chat.completions.create(**streamed))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == plain.choices[0].message.content
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason]


def test_its_errors_become_openais(nexus: Nexus) -> None:
    """Its "pinned to another model" (400, ``detail``) is a 404 ``model_not_found``; its validation
    error (422, a list) has OpenAI's shape, and the backend stays in good standing."""
    unknown = nexus.post(CHAT, {**ASKED, "model": "nexus/ghost"})
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "model_not_found"
    # Not policed by us (behaviour § 2.1); the engine wants JSON's own content type.
    text = {"content-type": "text/plain"}
    body = json.dumps(ASKED)
    invalid = httpx.post(f"{nexus.url}{CHAT}", content=body, headers=text, trust_env=False)
    assert invalid.status_code == 422
    assert "dictionary" in invalid.json()["error"]["message"]
    assert nexus.backend("transformers")["status"] == "healthy"
