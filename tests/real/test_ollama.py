"""A real Ollama behind a real gateway, alone and beside a real llama.cpp server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.processes import children_of, until
from tests.real.conftest import StartLlamaCpp, StartNexus
from tests.real.servers import LlamaCpp, Nexus, Ollama

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "tell me of the fleet"}]
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "YPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def engine(llamacpp_server: StartLlamaCpp) -> LlamaCpp:
    """A llama.cpp server that has one model in common with Ollama, under its bare name."""
    return llamacpp_server("llamacpp")


@pytest.fixture(scope="module")
def other(llamacpp_server: StartLlamaCpp) -> LlamaCpp:
    """A llama.cpp server with a model of its own, which embeds."""
    return llamacpp_server("other", "--alias", "other-embed", "--embeddings")


@pytest.fixture(scope="module")
def nexus(ollama_server: Ollama, nexus_server: StartNexus) -> Nexus:
    """A gateway in front of Ollama alone."""
    return nexus_server({"ollama": ollama_server.url})


@pytest.fixture
def client(nexus: Nexus) -> Iterator[openai.OpenAI]:
    """The official client."""
    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def mixed(
    ollama_server: Ollama, engine: LlamaCpp, other: LlamaCpp, nexus_server: StartNexus
) -> Nexus:
    """A gateway in front of Ollama and both llama.cpp servers; it prefers ``llamacpp``."""
    backends = {one.name: one.url for one in (ollama_server, engine, other)}
    return nexus_server(backends, {"llamacpp": "priority = 1"})


def test_the_engine_is_found_out_by_asking_it(nexus: Nexus) -> None:
    """Without a ``type`` the backend is known to be Ollama, with its version."""
    told = nexus.backend("ollama")
    assert told["engine"] == "ollama"
    assert told["engine_version"]


def test_models_and_what_they_can_do(nexus: Nexus, client: openai.OpenAI) -> None:
    """All models are listed with the window of their Modelfile; what a model can do is told as
    true or false where Ollama says so and as null where it does not."""
    listed = {model.id for model in client.models.list()}
    assert {"nexus-tiny:latest", "nexus-tools:latest", "nexus-think:latest"} <= listed
    told = {name: nexus.model(f"nexus-{name}:latest") for name in ("tiny", "tools", "think")}
    windows = {name: model["context_length"] for name, model in told.items()}
    assert windows == {"tiny": 4096, "tools": 2048, "think": 1024}
    can = {name: model["capabilities"] for name, model in told.items()}
    assert all(one["vision"] is False for one in can.values())
    assert all(one["embeddings"] is None for one in can.values()), "chat models embed too"
    assert can["tools"]["tools"] is True
    assert can["tiny"]["tools"] is True, "in the GGUF's own template; /api/tags leaves it out"
    assert can["think"]["tools"] is False
    assert can["think"]["reasoning"] is True


@pytest.mark.parametrize("model", ["nexus-tiny", "nexus-tiny:latest"])
def test_both_names_of_a_model_are_served(client: openai.OpenAI, model: str) -> None:
    """A model answers to its full name and without ``:latest``, plain and streamed alike."""
    asked: dict[str, Any] = {
        "model": model,
        "messages": QUESTION,
        "temperature": 0,
        "max_tokens": 20,
    }
    plain = client.chat.completions.create(**asked)
    assert plain.choices[0].finish_reason == "length"
    assert plain.usage is not None
    assert plain.usage.completion_tokens == 20
    text, reason, usage = "", None, None
    stream = client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    assert text == plain.choices[0].message.content
    assert reason == "length"
    assert usage is not None
    assert usage.completion_tokens == 20
    assert client.models.retrieve(model).id.startswith("nexus-tiny")


def test_max_completion_tokens_is_honoured(client: openai.OpenAI) -> None:
    """Ollama, which by itself runs past ``max_completion_tokens``, keeps it through Nexus."""
    answer = client.chat.completions.create(
        model="nexus-tiny", messages=QUESTION, temperature=0, max_completion_tokens=11
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 11
    assert answer.choices[0].finish_reason == "length"


def test_an_image_that_no_model_can_see_is_refused(nexus: Nexus) -> None:
    """An image for a model without vision is a 400 that says so; the backend does not suffer."""
    _refuses_images(nexus)


def test_an_image_that_only_ollama_refuses_is_refused(
    ollama_server: Ollama, nexus_server: StartNexus
) -> None:
    """Ollama says with a 500 that a model cannot see. Where the configuration claims it can, the
    client gets the same 400 and the backend does not suffer either."""
    claim = '[models."nexus-tiny:latest"]\nvision = true'
    _refuses_images(nexus_server({"ollama": ollama_server.url}, {"ollama": claim}))


def _refuses_images(nexus: Nexus) -> None:
    picture = [
        {"type": "text", "text": "what is it"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]
    body = {"model": "nexus-tiny", "messages": [{"role": "user", "content": picture}]}
    for _ in range(5):
        refused = nexus.post("/v1/chat/completions", body)
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert error["code"] == "unsupported_capability"
        assert "image" in error["message"] or "vision" in error["message"]
    told = nexus.backend("ollama")
    assert told["status"] == "healthy"
    assert told["breaker"] == "closed"


def test_tools_go_to_the_model_that_calls_them(client: openai.OpenAI) -> None:
    """A request with tools is served by a model whose template knows them, and refused with 400
    by the one whose template does not."""
    tools: list[Any] = [{"type": "function", "function": {"name": "count_nodes"}}]
    served = client.chat.completions.create(
        model="nexus-tools", messages=QUESTION, tools=tools, max_tokens=8
    )
    assert served.choices
    with pytest.raises(openai.BadRequestError, match="tools") as refused:
        client.chat.completions.create(
            model="nexus-think", messages=QUESTION, tools=tools, max_tokens=8
        )
    assert refused.value.code == "unsupported_capability"


def test_thoughts_are_relayed(client: openai.OpenAI) -> None:
    """A thinking model's ``reasoning`` deltas, unknown to OpenAI's schema, come through."""
    stream = client.chat.completions.create(
        model="nexus-think", messages=QUESTION, temperature=0, max_tokens=12, stream=True
    )
    thoughts = [
        choice.delta.model_extra["reasoning"]
        for chunk in stream
        for choice in chunk.choices
        if choice.delta.model_extra and "reasoning" in choice.delta.model_extra
    ]
    assert len(thoughts) > 3


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    """A model that is nowhere is a 404 that names those there are."""
    with pytest.raises(openai.NotFoundError, match="nexus-tiny") as refused:
        client.chat.completions.create(model="nexus-tinny", messages=QUESTION)
    assert refused.value.code == "model_not_found"


def test_a_dead_runner_is_told(ollama_server: Ollama, nexus: Nexus, client: openai.OpenAI) -> None:
    """Ollama hides that its runner died in the middle of a stream; through Nexus it is an error,
    and the next request is served."""
    stream = client.chat.completions.create(
        model="nexus-tiny", messages=QUESTION, temperature=0, max_tokens=3500, stream=True
    )
    next(iter(stream))
    runners = children_of(ollama_server.process.pid)
    assert runners
    for runner in runners:
        os.kill(runner, signal.SIGKILL)
    with pytest.raises(openai.APIError):
        list(stream)
    answer = client.chat.completions.create(model="nexus-tiny", messages=QUESTION, max_tokens=4)
    assert answer.choices[0].message.content


def test_a_mixed_fleet_lists_every_model_once(mixed: Nexus) -> None:
    """Models of both engines are one list: the engines' own names, each id once."""
    ids = [model["id"] for model in mixed.get("/v1/models")["data"]]
    assert sorted(ids) == sorted(set(ids))
    assert {"nexus-tiny", "nexus-tiny:latest", "nexus-tools:latest", "other-embed"} <= set(ids)


def test_each_model_is_served_where_it_is(mixed: Nexus) -> None:
    """Requests go to the engine that has the model; embeddings to the one that makes them."""
    chat = {"messages": QUESTION, "max_tokens": 4}
    tools = mixed.post("/v1/chat/completions", {"model": "nexus-tools", **chat})
    assert (tools.status_code, tools.headers["x-nexus-backend"]) == (200, "ollama")
    embedded = mixed.post("/v1/embeddings", {"model": "other-embed", "input": "hello fleet"})
    assert (embedded.status_code, embedded.headers["x-nexus-backend"]) == (200, "other")
    with openai.OpenAI(base_url=f"{mixed.url}/v1", api_key="none") as client:
        vector = client.embeddings.create(model="other-embed", input=["hello", "fleet"]).data
    assert [len(entry.embedding) for entry in vector] == [64, 64]


def test_ollama_takes_over_for_llamacpp(mixed: Nexus, engine: LlamaCpp) -> None:
    """The same model on both engines: the preferred one serves, and when it is killed the other
    does, without a failed request, by the name it has there."""
    body = {"model": "nexus-tiny", "messages": QUESTION, "max_tokens": 4}
    first = mixed.post("/v1/chat/completions", body)
    assert (first.status_code, first.headers["x-nexus-backend"]) == (200, "llamacpp")
    engine.process.kill()
    served = [mixed.post("/v1/chat/completions", body) for _ in range(8)]
    assert [answer.status_code for answer in served] == [200] * 8
    assert {answer.headers["x-nexus-backend"] for answer in served} == {"ollama"}
    assert served[0].headers["x-nexus-attempts"] == "2"
    until(lambda: mixed.backend("llamacpp")["status"] == "unhealthy", "it is known to be gone")
    engine.start()
    until(lambda: mixed.backend("llamacpp")["status"] == "healthy", "it is back", 15.0)
    again = mixed.post("/v1/chat/completions", body)
    assert again.headers["x-nexus-backend"] == "llamacpp"
