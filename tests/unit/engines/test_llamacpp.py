"""llama.cpp's adapter, against the answers of real llama-servers, single and router."""

from __future__ import annotations

import pytest

from nexus.engines.adapter import Answer, CheckResult, ErrorMeaning, Health
from nexus.engines.llamacpp import LlamaCppAdapter
from tests.captures import captured
from tests.unit.engines.drive import Script, asked_paths, by_id, check, json_answer, run

SINGLE = {
    "/health": "llama-server/get_health",
    "/v1/models": "llama-server/get_v1_models",
    "/props": "llama-server/get_props",
}
ROUTER = {
    "/health": "llama-server-router/health",
    "/v1/models": "llama-server-router/models_loaded",
    "/props": "llama-server-router/props",
}
AUTOLOADING = json_answer({"role": "router", "models_autoload": True, "build_info": "b1"})


def load(script: Script) -> CheckResult:
    """One load poll."""
    polling = LlamaCppAdapter().load()
    assert polling is not None
    return run(polling, script)


def test_a_real_server_tells_window_slots_and_abilities() -> None:
    """n_ctx per slot (not the trained 4096), total_slots, template and modalities are read."""
    result = check("llamacpp", SINGLE)
    assert (result.health, result.engine_version, result.capacity) == (
        Health.HEALTHY,
        "b1-0c1e570",
        2,
    )
    model = by_id(result)["nexus-tiny"]
    assert (model.context_length, model.loaded, model.quantization) == (2048, True, "F16")
    assert model.aliases == ()
    assert model.size_bytes == 352256
    capabilities = model.capabilities
    assert (capabilities.tools, capabilities.vision, capabilities.json_mode) == (True, False, True)


def test_a_newer_build_reads_the_same() -> None:
    """b11549 answers the same questions alike."""
    result = check(
        "llamacpp",
        {path: name.replace("llama-server", "llamacpp-xllamacpp") for path, name in SINGLE.items()},
    )
    assert by_id(result)["nexus-tiny"].context_length == 2048


def test_without_props_the_list_still_tells_the_window() -> None:
    """Props closed: window from meta, vision from the Ollama-shaped twin, tools unknown."""
    listing = json_answer(
        {
            "data": [{"id": "m", "meta": {"n_ctx": 512, "n_ctx_train": 4096}}],
            "models": [{"name": "m", "capabilities": ["completion", "multimodal"]}],
        }
    )
    model = by_id(check("llamacpp", {"/v1/models": listing}))["m"]
    assert model.context_length == 512
    assert (model.capabilities.vision, model.capabilities.tools) == (True, None)


def test_an_older_list_without_meta_leaves_the_window_unknown() -> None:
    """``meta: null``: unknown, not 0."""
    listing = json_answer({"data": [{"id": "m", "meta": None}]})
    assert by_id(check("llamacpp", {"/v1/models": listing}))["m"].context_length is None


def test_loading_is_not_yet() -> None:
    """Every path answers 503 ``Loading model``."""
    result = check("llamacpp", lambda _: captured("llama-server-lifecycle/loading_models"))
    assert (result.health, result.reason) == (Health.LOADING, "loading: Loading model")


def test_a_missing_key_is_told() -> None:
    """Health is open, the list wants the key."""
    result = check(
        "llamacpp",
        {
            "/health": "llama-server-lifecycle/apikey_health_without",
            "/v1/models": "llama-server-lifecycle/apikey_models_without",
        },
    )
    assert result.health is Health.CREDENTIALS


def test_a_router_without_autoload_serves_what_is_loaded() -> None:
    """An unloaded model would be a 400 ``model is not loaded``: it is left out, and said so."""
    result = check("llamacpp", ROUTER)
    assert set(by_id(result)) == {"alpha"}
    alpha = by_id(result)["alpha"]
    assert (alpha.loaded, alpha.context_length) == (True, 2048)
    assert "1 more not loaded" in result.reason


def test_a_router_with_autoload_serves_all() -> None:
    """Unloaded models are served, told apart, with the window they are to be started with."""
    models = by_id(check("llamacpp", {**ROUTER, "/props": AUTOLOADING}))
    assert {name: model.loaded for name, model in models.items()} == {"alpha": True, "beta": False}
    assert models["beta"].context_length == 2048
    assert models["beta"].evidence["context_length"] == "/v1/models status.args"


@pytest.mark.parametrize(
    ("args", "window"),
    [
        (["--ctx-size", "8192", "--parallel", "4"], 2048),
        (["--ctx-size", "8192"], 8192),
        (["--ctx-size", "0"], None),
        (["--ctx-size"], None),
        (["--ctx-size", "many", "--parallel", "²"], None),
        ([], None),
    ],
)
def test_a_childs_window_is_its_share(args: list[str], window: int | None) -> None:
    """Slots that are given share the window out; nonsense is unknown."""
    entry = {"id": "m", "status": {"value": "unloaded", "args": args}}
    script = {"/v1/models": json_answer({"data": [entry]}), "/props": AUTOLOADING}
    assert by_id(check("llamacpp", script))["m"].context_length == window


def test_an_unloaded_model_keeps_the_window_it_had() -> None:
    """Seen loaded, then unloaded without telling: the last window stays."""
    loaded = {"id": "m", "status": {"value": "loaded"}, "meta": {"n_ctx": 1024}}
    gone = {"id": "m", "status": {"value": "unloaded"}}
    known = check(
        "llamacpp", {"/v1/models": json_answer({"data": [loaded]}), "/props": AUTOLOADING}
    ).models
    result = check(
        "llamacpp",
        {"/v1/models": json_answer({"data": [gone]}), "/props": AUTOLOADING},
        known or (),
    )
    assert (by_id(result)["m"].context_length, by_id(result)["m"].loaded) == (1024, False)


CHILD = "model=alpha&autoload=false"


def test_a_router_tells_of_each_model_it_has_loaded() -> None:
    """Properties and slots of the loaded model's own process: abilities, capacity, load."""
    result = check(
        "llamacpp",
        {
            **ROUTER,
            f"/props?{CHILD}": "llama-server/get_props",
            f"/slots?{CHILD}": "llama-server-lifecycle/slots_busy",
        },
    )
    alpha = by_id(result)["alpha"]
    assert (alpha.capabilities.tools, alpha.capabilities.vision) == (True, False)
    assert alpha.evidence["tools"] == "/props chat_template_caps"
    assert (result.capacity, result.running) == (2, 1)


def test_a_router_is_never_made_to_load_by_a_check() -> None:
    """Only of loaded models is anything asked, and even then with autoload off."""
    paths = asked_paths("llamacpp", {**ROUTER, "/props": AUTOLOADING})
    assert not any("beta" in path for path in paths)
    assert all("autoload=false" in path for path in paths if "model=" in path)


def test_a_routers_load_is_that_of_its_processes() -> None:
    """``/slots`` alone is a 400 there; each loaded model's own is asked then."""
    told = load(
        {
            "/slots": "llama-server-router/metrics",
            "/v1/models": "llama-server-router/models_loaded",
            f"/slots?{CHILD}": "llama-server-lifecycle/slots_busy",
        }
    )
    assert (told.capacity, told.running) == (2, 1)


def test_tools_of_a_model_once_loaded_are_remembered() -> None:
    """Unloaded since: what its process said still holds."""
    first = check(
        "llamacpp",
        {**ROUTER, "/props": AUTOLOADING, f"/props?{CHILD}": "llama-server/get_props"},
    )
    script: Script = {
        "/v1/models": "llama-server-router/models_unloaded",
        "/props": AUTOLOADING,
    }
    alpha = by_id(check("llamacpp", script, first.models or ()))["alpha"]
    assert (alpha.loaded, alpha.capabilities.tools) == (False, True)
    assert alpha.evidence["tools"] == "/props, when it was last loaded"


def test_busy_slots_are_counted() -> None:
    """One of two slots at work, in a real answer; how many wait is unknown."""
    told = load({"/slots": "llama-server-lifecycle/slots_busy"})
    assert (told.running, told.waiting, told.capacity) == (1, None, 2)


@pytest.mark.parametrize("status", [400, 401, 404, 501])
def test_slots_that_are_not_shown_tell_nothing(status: int) -> None:
    """--no-slots, a key, or a router: load unknown, and no fault of the backend."""
    told = load({"/slots": Answer(status=status)})
    assert (told.health, told.running) == (Health.HEALTHY, None)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("llama-server/chat_image_url", ErrorMeaning.CANNOT),
        ("llama-server/embeddings", ErrorMeaning.CANNOT),
        ("llama-server/err_context_oversized", ErrorMeaning.PROMPT_TOO_LONG),
        ("llama-server/err_context_oversized_stream", ErrorMeaning.PROMPT_TOO_LONG),
        ("llama-server/err_bad_json", ErrorMeaning.CLIENT),
        ("llama-server/err_empty_body", ErrorMeaning.CLIENT),
        ("llama-server/err_no_messages", ErrorMeaning.CLIENT),
        ("llama-server/err_wrong_type", ErrorMeaning.CLIENT),
        ("llamacpp-xllamacpp/err_bad_json", ErrorMeaning.CLIENT),
        ("llama-server-router/chat_not_loaded", ErrorMeaning.MODEL_NOT_HERE),
        ("llama-server-router/chat_unknown", ErrorMeaning.MODEL_NOT_HERE),
        ("llama-server-lifecycle/loading_chat", ErrorMeaning.LOADING),
        ("llama-server-lifecycle/apikey_chat_wrong", ErrorMeaning.CREDENTIALS),
        ("llama-server/get_nope", ErrorMeaning.CANNOT),
    ],
)
def test_its_real_errors_mean(name: str, meaning: ErrorMeaning) -> None:
    """Each captured error has its meaning, whatever its status."""
    answer = captured(name)
    assert LlamaCppAdapter().read_error(answer.status, answer.body).meaning is meaning


def test_an_overflow_is_known_by_its_type() -> None:
    """Builds of 2025 said it with status 500: the type decides."""
    body = b'{"error":{"code":500,"message":"too big","type":"exceed_context_size_error"}}'
    assert LlamaCppAdapter().read_error(500, body).meaning is ErrorMeaning.PROMPT_TOO_LONG


def test_what_makes_generations_outlive_their_client_is_dropped() -> None:
    """X-Conversation-Id stays here; idle connections end before the engine ends them."""
    assert b"x-conversation-id" in LlamaCppAdapter.traits.dropped_headers
    assert LlamaCppAdapter.traits.idle_s < 5
