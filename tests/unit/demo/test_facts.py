"""Every adapter reads all that its fake engine tells; a fingerprint knows each for what it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nexus.core.backend import EngineKind
from nexus.core.model import Capabilities, Model, ModelKind
from nexus.demo.table import DIALECTS, DialectName
from nexus.engines.adapter import Ask, ErrorMeaning, Health
from nexus.engines.fingerprint import fingerprint
from nexus.engines.table import adapter_for
from tests.unit.demo.played import MODELS, Played
from tests.unit.engines.drive import by_id, check, run

KINDS: dict[DialectName, EngineKind] = {
    "openai": EngineKind.OPENAI,
    "generic": EngineKind.GENERIC,
    "ollama": EngineKind.OLLAMA,
    "llamacpp": EngineKind.LLAMACPP,
    "llamacpp-router": EngineKind.LLAMACPP,
    "vllm": EngineKind.VLLM,
    "lmstudio": EngineKind.LMSTUDIO,
    "sglang": EngineKind.SGLANG,
    "exo": EngineKind.EXO,
}


@pytest.mark.parametrize(("dialect", "kind"), KINDS.items())
def test_a_fingerprint_knows_it(dialect: DialectName, kind: EngineKind) -> None:
    """Three GETs at most tell which engine is played."""
    asked: list[Ask] = []
    found = run(fingerprint(), Played(dialect), asked)
    # OpenAI itself says so in a header, those that only speak its API do not.
    assert found.engine is kind
    assert len(asked) <= 3


def read(dialect: DialectName, played: Played | None = None) -> Any:
    """What one check learns."""
    return check(KINDS[dialect].value, played or Played(dialect))


WINDOW = {"context_length": 4096}
EVERY: dict[DialectName, dict[str, Any]] = {
    "openai": {},
    "generic": {},
    "ollama": {
        **WINDOW,
        "quantization": "Q4_K_M",
        "family": "llama",
        "size_bytes": 4_920_753_328,
    },
    "llamacpp": {**WINDOW, "quantization": "F16", "size_bytes": 352_256, "loaded": True},
    "llamacpp-router": {},
    "vllm": WINDOW,
    "lmstudio": {"quantization": "Q4_K_M", "family": "llama", "size_bytes": 4_920_753_328},
    "sglang": WINDOW,
    "exo": {**WINDOW, "quantization": "4bit", "family": "llama"},
}
"""What is told of every model."""
FIRST: dict[DialectName, dict[str, Any]] = {
    "ollama": {"loaded": True},
    "llamacpp-router": {**WINDOW, "loaded": True, "quantization": "F16", "size_bytes": 352_256},
    "lmstudio": {**WINDOW, "loaded": True},
    "exo": {"loaded": True},
}
"""And of the one that is loaded."""
CAN: dict[DialectName, dict[str, bool | None]] = {
    "ollama": {"vision": False, "tools": True, "json_mode": True, "reasoning": False},
    "llamacpp": {"vision": False, "tools": True, "json_mode": True},
    "llamacpp-router": {"vision": False, "tools": True, "json_mode": True},
    "vllm": {"json_mode": True},
    "lmstudio": {"vision": False, "tools": True, "embeddings": False},
    "sglang": {"vision": False, "tools": True, "json_mode": True, "embeddings": False},
    "exo": {"json_mode": False},
}
"""What the first model can do."""


@pytest.mark.parametrize("dialect", DIALECTS)
def test_all_that_is_told_is_read(dialect: DialectName) -> None:
    """Health, models, and of each the window, size, quantisation, family, presence and abilities
    that the engine has answers for; the rest stays unknown."""
    result = read(dialect)
    assert result.health is Health.HEALTHY
    models = by_id(result)
    ids = {name.removesuffix(":latest"): model for name, model in models.items()}
    assert set(ids) == set(MODELS), "what it cannot serve is not listed"
    for model in ids.values():
        for field, value in EVERY[dialect].items():
            assert getattr(model, field) == value, field
    for field, value in FIRST.get(dialect, {}).items():
        assert getattr(ids["demo-llama"], field) == value, field
    assert ids["demo-llama"].capabilities == Capabilities(**CAN.get(dialect, {}))


def test_other_models_are_what_they_are() -> None:
    """Where an engine tells of each model, one sees and one embeds; those that are at rest are
    known to be."""
    for dialect in ("ollama", "lmstudio"):
        models: dict[str, Model] = by_id(read(dialect))
        ids = {name.removesuffix(":latest"): model for name, model in models.items()}
        assert ids["demo-vision"].capabilities.vision is True
        assert ids["demo-embed"].kind is ModelKind.EMBEDDING
        assert ids["demo-embed"].loaded is False


def test_what_one_model_server_is_for() -> None:
    """SGLang says whether its model embeds or sees; llama.cpp that it sees."""
    embed = by_id(read("sglang", Played("sglang", ("demo-embed",))))["demo-embed"]
    assert (embed.kind, embed.capabilities.embeddings) == (ModelKind.EMBEDDING, True)
    for dialect in ("sglang", "llamacpp"):
        sees = by_id(read(dialect, Played(dialect, ("demo-vision",))))["demo-vision"]
        assert sees.capabilities.vision is True


VERSIONS: dict[DialectName, str] = {
    "ollama": "0.33.0",
    "llamacpp": "b1-demo",
    "llamacpp-router": "b1-demo",
    "vllm": "0.32.0",
    "sglang": "0.5.23",
}
CAPACITY: dict[DialectName, int] = {
    "llamacpp": 3,
    "llamacpp-router": 3,
    "lmstudio": 3,
    "sglang": 3,
}
LOAD: dict[DialectName, tuple[int | None, int | None]] = {
    "llamacpp": (2, None),
    "llamacpp-router": (2, None),
    "vllm": (2, 1),
    "sglang": (2, 1),
    "exo": (2, 1),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_version_capacity_and_load(dialect: DialectName) -> None:
    """Those that tell them are believed; the others' stay unknown."""
    played = Played(dialect)
    result = read(dialect, played)
    assert result.engine_version == VERSIONS.get(dialect)
    assert result.capacity == CAPACITY.get(dialect)
    polling = adapter_for(KINDS[dialect]).load()
    if polling is None:
        assert dialect not in LOAD
        return
    played.profile.running, played.profile.waiting = 2, 1
    polled = run(polling, played)
    assert (polled.running, polled.waiting) == LOAD.get(dialect, (None, None))


CHAT = "/v1/chat/completions"
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("meaning", "path", "change"),
    [
        (ErrorMeaning.MODEL_NOT_HERE, CHAT, {"model": "nope"}),
        (ErrorMeaning.CANNOT, CHAT, {"messages": [{"role": "user", "content": [PICTURE]}]}),
        (ErrorMeaning.CANNOT, CHAT, {"tools": [{"type": "function"}]}),
        (ErrorMeaning.CANNOT, "/v1/embeddings", {"input": "x"}),
        (ErrorMeaning.PROMPT_TOO_LONG, CHAT, {"user": "x" * 20_000}),
    ],
)
def test_its_refusals_are_understood(
    dialect: DialectName, meaning: ErrorMeaning, path: str, change: dict[str, Any]
) -> None:
    """What each engine says of a model that it does not have, of what it cannot do and of a prompt
    that is too long is read as just that."""
    if dialect in ("llamacpp", "sglang") and meaning is ErrorMeaning.MODEL_NOT_HERE:
        return  # they answer to any name
    played = Played(dialect)
    played.profile.enforces_context = True
    played.profile.tools = played.profile.embeddings = False
    asked = {"model": "demo-llama", "messages": [{"role": "user", "content": "x"}], **change}
    answer = played(Ask(path, body=json.dumps(asked).encode()))
    assert answer.status >= 400
    said = adapter_for(KINDS[dialect]).read_error(answer.status, answer.body)
    assert said.meaning is meaning, said.message
