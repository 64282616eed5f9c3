"""Real answers with one value replaced: near enough to them to get deep into the readers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from time import process_time
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.core.backend import EngineKind
from nexus.engines.adapter import Answer, Ask, Check, Health
from nexus.engines.fingerprint import fingerprint
from nexus.engines.reading import ENTRIES_MAX, parse
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
    "/metrics": captured("vllm-cpu/get_metrics"),
    "/openapi.json": json_answer({"paths": {"/v1/chat/completions": {}}}),
    "/server_info?config_format=json": json_answer(
        {"vllm_config": {"scheduler_config": {"max_num_seqs": 8}}}
    ),
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
    "/slots": captured("llama-server-router/metrics"),
    "/props?model=alpha&autoload=false": captured("llama-server/get_props"),
    "/slots?model=alpha&autoload=false": captured("llama-server-router/slots"),
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


MANY = 100_000
LISTS = [
    (EngineKind.GENERIC, "/v1/models", {"data": [{"id": f"m{n}"} for n in range(MANY)]}),
    (EngineKind.VLLM, "/v1/models", {"data": [{"id": f"m{n}"} for n in range(MANY)]}),
    (EngineKind.LLAMACPP, "/v1/models", {"data": [{"id": f"m{n}"} for n in range(MANY)]}),
    (EngineKind.OLLAMA, "/api/tags", {"models": [{"name": f"m{n}"} for n in range(MANY)]}),
]


@pytest.mark.parametrize(("kind", "path", "listing"), LISTS)
def test_a_list_without_measure_is_cut(kind: EngineKind, path: str, listing: object) -> None:
    """100,000 models: the first 4,096 are taken, the reason says so, and it takes no second."""
    server = {path: json_answer(listing)}
    began_s = process_time()
    result = run(ADAPTERS[kind].check(spec(kind), ()), server)
    spent_s = process_time() - began_s
    assert result.health is Health.HEALTHY
    assert len(result.models or ()) == ENTRIES_MAX
    assert f"the first {ENTRIES_MAX} are taken" in result.reason
    assert spent_s < 1.0


def test_a_name_beyond_measure_is_no_model() -> None:
    """A name of a megabyte is nobody's; its neighbour is served."""
    listing = json_answer({"data": [{"id": "x" * 1_000_000}, {"id": "m", "owned_by": "o" * 9999}]})
    result = run(ADAPTERS[EngineKind.GENERIC].check(spec("generic"), ()), {"/v1/models": listing})
    (model,) = result.models or ()
    assert (model.id, len(model.owned_by)) == ("m", 100)


@pytest.mark.parametrize("window", [-1, -(2**70), 0, 2**80, 1e400, "4096", True, None, [4096]])
def test_a_window_that_is_none_is_unknown(window: object) -> None:
    """Negative, zero, beyond any count, of a wrong type: unknown, never a number made of it."""
    body = json.dumps({"data": [{"id": "m", "max_model_len": window}]}).encode()
    listing = Answer(status=200, body=body)
    for kind in EngineKind:
        if kind is EngineKind.OLLAMA:
            continue
        result = run(ADAPTERS[kind].check(spec(kind), ()), {"/v1/models": listing})
        assert [model.context_length for model in result.models or ()] == [None]
