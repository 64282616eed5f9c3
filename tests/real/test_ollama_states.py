"""What Ollama does besides answering: cold and resident models, a full queue, a runner that dies,
prompts it would cut and fields it would ignore, all through a real gateway."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from typing import Any

import httpx
import pytest

from tests.harness import eventually
from tests.processes import children_of, until
from tests.real.conftest import StartLlamaCpp, StartNexus
from tests.real.servers import Nexus, Ollama

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "tell me of the fleet"}]
TINY = "nexus-tiny:latest"
WATCHFUL = "[health_check]\ninterval_seconds = 1"


@pytest.fixture(scope="module")
def nexus(ollama_server: Ollama, nexus_server: StartNexus) -> Nexus:
    """A gateway in front of Ollama alone that looks at it every second."""
    return nexus_server({"ollama": ollama_server.url}, settings=WATCHFUL)


def ask(model: str = "nexus-tiny", **fields: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": model, "messages": QUESTION, "temperature": 0, **fields}


def unload(ollama: Ollama, model: str) -> None:
    """Has the engine drop ``model`` from memory, which it does in its own time."""
    assert ollama.post("/api/chat", {"model": model, "keep_alive": 0}).status_code == 200
    until(lambda: model not in resident(ollama), "it is unloaded")


def resident(ollama: Ollama) -> dict[str, dict[str, Any]]:
    """``/api/ps`` by name."""
    return {
        entry["name"].removesuffix(":latest"): entry for entry in ollama.get("/api/ps")["models"]
    }


def test_what_is_read_is_what_the_engine_says(ollama_server: Ollama, nexus: Nexus) -> None:
    """Version, and of every model size, quantisation, family, window and abilities: those of its
    own answers."""
    told = nexus.backend("ollama")
    assert told["engine_version"] == ollama_server.get("/api/version")["version"]
    tags = {entry["name"]: entry for entry in ollama_server.get("/api/tags")["models"]}
    models = nexus.models_of("ollama")
    assert set(models) == set(tags)
    for name, tag in tags.items():
        shown = ollama_server.post("/api/show", {"model": name}).json()
        window = re.search(r"num_ctx +(\d+)", shown["parameters"])
        assert window is not None
        model, can = models[name], models[name]["capabilities"]
        assert model["context_length"] == int(window[1])
        assert model["size_bytes"] == tag["size"]
        assert model["quantization"] == tag["details"]["quantization_level"]
        assert model["family"] == tag["details"]["family"]
        assert can["vision"] == ("vision" in shown["capabilities"])
        assert bool(can["reasoning"]) == ("thinking" in shown["capabilities"])
        if "tools" in shown["capabilities"]:
            assert can["tools"] is True
        assert model["evidence"]["template"].startswith("/api/show")


def test_a_cold_model_is_loaded_and_an_unloaded_one_is_known(
    ollama_server: Ollama, nexus: Nexus
) -> None:
    """Served, a model is resident with the window that ``/api/ps`` tells; unloaded, it is cold and
    keeps the window of its Modelfile; asked again, it is served all the same."""

    def known() -> tuple[bool, int]:
        model = nexus.models_of("ollama")[TINY]
        return model["loaded"], model["context_length"]

    for _ in range(2):
        unload(ollama_server, "nexus-tiny")
        until(lambda: known() == (False, 4096), "it is known to be cold")
        assert nexus.post(CHAT, ask(max_tokens=4)).status_code == 200
        assert resident(ollama_server)["nexus-tiny"]["context_length"] == 4096
        until(lambda: known() == (True, 4096), "it is known to be resident")
    evidence = nexus.models_of("ollama")[TINY]["evidence"]
    assert evidence["context_length"] == "/api/ps"


async def test_a_full_queue_is_told_and_passes(
    busy_ollama: Ollama, nexus_server: StartNexus
) -> None:
    """The engine's 503 "server busy" comes back as a 503 with its words, at once; the backend stays
    healthy, and with the queue free the next request is served."""
    nexus = nexus_server({"busy": busy_ollama.url})
    refused = await _answer_of_a_full_queue(busy_ollama, nexus)
    assert refused.status_code == 503
    error = refused.json()["error"]
    assert error["type"] == "server_error"
    assert "server busy" in error["message"]
    assert nexus.backend("busy")["status"] == "healthy"
    await eventually(
        lambda: nexus.post(CHAT, ask("nexus-other", max_tokens=1)).status_code == 200,
        "the next is served",
        20.0,
    )


async def test_a_full_queue_sends_the_call_elsewhere(
    busy_ollama: Ollama, llamacpp_server: StartLlamaCpp, nexus_server: StartNexus
) -> None:
    """With the same model on another engine, the refused request is answered there."""
    spare = llamacpp_server("spare", "--alias", "nexus-other")
    both = {"busy": busy_ollama.url, "spare": spare.url}
    nexus = nexus_server(both, {"busy": "priority = 1"})
    served = await _answer_of_a_full_queue(busy_ollama, nexus)
    assert (served.status_code, served.headers["x-nexus-backend"]) == (200, "spare")
    assert served.headers["x-nexus-attempts"] == "2"


async def _answer_of_a_full_queue(busy: Ollama, nexus: Nexus) -> httpx.Response:
    """The first answer among requests for a model that cannot be loaded while the one in memory is
    at work: one is looked at, one is queued, the others are refused at once. All are left then."""
    long = {**ask("nexus-slow", max_tokens=8000), "stream": True}
    other = ask("nexus-other", max_tokens=1)
    async with (
        httpx.AsyncClient(timeout=60.0, trust_env=False) as client,
        client.stream("POST", f"{busy.url}{CHAT}", json=long) as working,
    ):
        reader = working.aiter_bytes()  # kept: dropped, it would close the answer
        await anext(reader)
        calls = [
            asyncio.create_task(client.post(f"{nexus.url}{CHAT}", json=other)) for _ in range(4)
        ]
        try:
            done, _ = await asyncio.wait(calls, timeout=20.0, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)


def test_a_runner_that_dies_ends_the_stream_with_an_error(
    ollama_server: Ollama, nexus: Nexus
) -> None:
    """Ollama ends such a stream as if nothing were amiss; the client gets what was said, an error
    event and ``[DONE]``, and nothing after it."""
    body = {**ask(max_tokens=3500), "stream": True}
    text = ""
    with httpx.stream("POST", f"{nexus.url}{CHAT}", json=body, timeout=30.0, trust_env=False) as it:
        for piece in it.iter_text():
            if not text:
                for runner in children_of(ollama_server.process.pid):
                    os.kill(runner, signal.SIGKILL)
            text += piece
    *events, broken, done = [line for line in text.split("\n") if line.startswith("data: ")]
    assert done == "data: [DONE]"
    assert text.endswith("data: [DONE]\n\n")
    error = json.loads(broken.removeprefix("data: "))["error"]
    assert error["message"]
    said = [json.loads(event.removeprefix("data: "))["choices"] for event in events]
    assert said[0][0]["delta"]["content"]
    assert not any(choice["finish_reason"] for choices in said for choice in choices)
    assert nexus.post(CHAT, ask(max_tokens=4)).status_code == 200, "the next one is served"


def test_a_prompt_over_the_window_is_refused_before_it_is_cut(
    ollama_server: Ollama, nexus: Nexus
) -> None:
    """Ollama answers 200 to a prompt that it has cut to its window; Nexus refuses it with 400, and
    the window that counts is each model's own."""
    words = [{"role": "user", "content": f"part {part} " + "fleet " * 700} for part in range(9)]
    direct = ollama_server.post(CHAT, {**ask(max_tokens=1), "messages": words})
    assert direct.status_code == 200
    assert direct.json()["usage"]["prompt_tokens"] < 4096 < 9 * 700
    refused = nexus.post(CHAT, {**ask(max_tokens=1), "messages": words})
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["code"] == "unsupported_capability"
    assert "context" in error["message"]
    some = {"messages": words[:2], "max_tokens": 1}  # 8 kB, by estimate 2,100 tokens
    assert nexus.post(CHAT, {**ask("nexus-tiny"), **some}).status_code == 200
    assert nexus.post(CHAT, {**ask("nexus-think"), **some}).status_code == 400


def test_a_prompt_that_was_cut_is_noticed(ollama_server: Ollama, nexus_server: StartNexus) -> None:
    """Where the window is taken for larger than it is, the usage tells that the prompt was cut: the
    answer says so."""
    claim = f'[models."{TINY}"]\ncontext_length = 100000'
    nexus = nexus_server({"ollama": ollama_server.url}, {"ollama": claim})
    words = [{"role": "user", "content": f"part {part} " + "fleet " * 4000} for part in range(9)]
    answer = nexus.post(CHAT, {**ask(max_tokens=1), "messages": words})
    assert answer.status_code == 200
    assert answer.json()["usage"]["prompt_tokens"] < 4096
    assert answer.headers["x-nexus-warning"] == "prompt-truncated"
    short = nexus.post(CHAT, ask(max_tokens=1))
    assert "x-nexus-warning" not in short.headers


def test_max_completion_tokens_would_run_on_by_itself(ollama_server: Ollama, nexus: Nexus) -> None:
    """Asked directly, the engine passes over ``max_completion_tokens``; through Nexus it is the
    end, streamed too."""
    body = {**ask(max_completion_tokens=5), "stream": True}

    def pieces(url: str, enough: int) -> int:
        count = 0
        with httpx.stream("POST", f"{url}{CHAT}", json=body, timeout=30.0, trust_env=False) as it:
            for line in it.iter_lines():
                count += '"content":' in line and '"finish_reason":null' in line
                if count >= enough:
                    break
        return count

    assert pieces(ollama_server.url, 60) == 60
    assert pieces(nexus.url, 60) <= 5


def test_fields_it_ignores_are_named(nexus: Nexus) -> None:
    """``n`` and ``logit_bias`` change nothing in Ollama: the answer's head says which were lost."""
    answer = nexus.post(CHAT, ask(max_tokens=1, n=2, logit_bias={"5": 1}))
    assert answer.status_code == 200
    assert len(answer.json()["choices"]) == 1
    ignored = {name.strip() for name in answer.headers["x-nexus-ignored"].split(",")}
    assert ignored == {"n", "logit_bias"}


def test_embeddings_of_a_model_that_makes_none(ollama_server: Ollama, nexus: Nexus) -> None:
    """Ollama's 501 is a clear 400 of the request, and no mark against the backend."""
    body = {"model": "nexus-tiny", "input": "hello fleet"}
    assert ollama_server.post("/v1/embeddings", body).status_code == 501
    for _ in range(5):
        refused = nexus.post("/v1/embeddings", body)
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert error["code"] == "unsupported_capability"
        assert "embeddings" in error["message"]
    told = nexus.backend("ollama")
    assert (told["status"], told["breaker"]) == ("healthy", "closed")
