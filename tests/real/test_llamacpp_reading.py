"""What Nexus reads of real llama.cpp servers, beside their own answers: two model files, one for
chat with a template that knows tools, one for embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import eventually
from tests.real.conftest import StartLlamaCpp, StartNexus
from tests.real.servers import LlamaCpp, Nexus
from tests.real.tiny_model import TINY_NAME

EMBED = "nexus-embed"


@pytest.fixture(scope="module")
def chat(llamacpp_server: StartLlamaCpp) -> LlamaCpp:
    """A chat model: 6000 tokens shared out among three slots."""
    return llamacpp_server("chat", "--context", "6000", "--slots", "3")


@pytest.fixture(scope="module")
def embed(llamacpp_server: StartLlamaCpp, embed_gguf: Path) -> LlamaCpp:
    """A model for embeddings, one slot."""
    arguments = ("--alias", EMBED, "--embeddings", "--context", "1024", "--slots", "1")
    return llamacpp_server("embed", *arguments, gguf=embed_gguf)


@pytest.fixture(scope="module")
def nexus(chat: LlamaCpp, embed: LlamaCpp, nexus_server: StartNexus) -> Nexus:
    """The gateway in front of both."""
    return nexus_server({one.name: one.url for one in (chat, embed)})


@pytest.mark.parametrize("name", ["chat", "embed"])
def test_what_is_read_is_what_the_engine_says(
    request: pytest.FixtureRequest, nexus: Nexus, name: str
) -> None:
    """Version, capacity, the window of one slot, size, quantisation, vision and tools: those of
    ``/props``, ``/slots`` and ``/v1/models``."""
    engine: LlamaCpp = request.getfixturevalue(name)
    props, slots = engine.props(), engine.get("/slots")
    (entry,) = engine.get("/v1/models")["data"]
    told = nexus.backend(name)
    assert told["engine_version"] == props["build_info"]
    assert told["capacity"] == props["total_slots"] == len(slots)
    ((model_id, model),) = nexus.models_of(name).items()
    assert model_id == entry["id"]
    window = props["default_generation_settings"]["n_ctx"]
    assert model["context_length"] == window == slots[0]["n_ctx"]
    assert window < entry["meta"]["n_ctx_train"]
    assert model["size_bytes"] == entry["meta"]["size"]
    assert model["quantization"] == entry["meta"]["ftype"]
    assert model["loaded"] is True
    can = model["capabilities"]
    assert can["vision"] == props["modalities"]["vision"]
    assert can["tools"] == props["chat_template_caps"]["supports_tools"]
    assert {"context_length", "vision", "tools"} <= set(model["evidence"])


def test_the_embedding_model_is_one_by_its_name(nexus: Nexus) -> None:
    """llama.cpp does not list that it embeds: the name tells, and the evidence says so."""
    (model,) = nexus.models_of("embed").values()
    assert model["kind"] == "embedding"
    assert model["capabilities"]["embeddings"] is True
    assert model["evidence"]["embeddings"] == "name"
    (other,) = nexus.models_of("chat").values()
    assert other["kind"] == "chat"
    assert other["capabilities"]["embeddings"] is not True


def test_embeddings_are_the_engines_own(nexus: Nexus, embed: LlamaCpp) -> None:
    """The vectors through Nexus are those of the engine; the chat model's engine is not asked."""
    body = {"model": EMBED, "input": ["hello fleet", "token"]}
    direct = embed.post("/v1/embeddings", body).json()
    through = nexus.post("/v1/embeddings", body)
    assert through.headers["x-nexus-backend"] == "embed"
    vectors = [entry["embedding"] for entry in through.json()["data"]]
    assert [len(vector) for vector in vectors] == [96, 96]
    assert vectors == [entry["embedding"] for entry in direct["data"]]


def test_a_model_that_does_not_embed_is_refused_clearly(nexus: Nexus, chat: LlamaCpp) -> None:
    """The engine's 501 is a 400 that says why, and no mark against the backend."""
    body = {"model": TINY_NAME, "input": "hello fleet"}
    assert chat.post("/v1/embeddings", body).status_code == 501
    refused = nexus.post("/v1/embeddings", body)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "unsupported_capability"
    assert nexus.backend("chat")["breaker"] == "closed"


async def test_the_live_load_is_what_the_slots_say(
    llamacpp_server: StartLlamaCpp, slow_gguf: Path, nexus_server: StartNexus
) -> None:
    """Two streams through Nexus and one past it: the backend's load is the three busy slots that
    the engine counts, its own share two; when they are left nothing stays behind."""
    arguments = ("--alias", "nexus-slow", "--context", "9000", "--slots", "3")
    slow = llamacpp_server("slow", *arguments, gguf=slow_gguf)
    nexus = nexus_server({"slow": slow.url}, settings="[health_check]\nload_interval_seconds = 0.1")

    def load() -> tuple[Any, Any]:
        told = nexus.backend("slow")
        return told["load"]["running"], told["in_flight"]

    body = {
        "model": "nexus-slow",
        "messages": [{"role": "user", "content": "tell me of the fleet"}],
        "temperature": 0,
        "max_tokens": 2900,
        "stream": True,
    }
    path = "/v1/chat/completions"
    async with httpx.AsyncClient(timeout=30.0, trust_env=False) as http:
        async with (
            http.stream("POST", f"{nexus.url}{path}", json=body) as first,
            http.stream("POST", f"{nexus.url}{path}", json=body) as second,
            http.stream("POST", f"{slow.url}{path}", json=body) as third,
        ):
            # Kept: an iterator that is dropped closes its answer.
            readers = [answer.aiter_bytes() for answer in (first, second, third)]
            for reader in readers:
                await anext(reader)
            await eventually(lambda: load() == (3, 2), "three at work, two of them ours")
            assert slow.busy_slots() == 3
        await eventually(lambda: load()[1] == 0, "nothing of ours in flight")
        await eventually(lambda: slow.busy_slots() == 0, "no slot busy")
