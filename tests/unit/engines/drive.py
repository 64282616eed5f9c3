"""Drives an adapter's generators from answers at hand, as ``health/checker.py`` does from a net."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TypeVar

import msgspec
from hypothesis import strategies as st

from nexus.core.backend import BackendSpec
from nexus.core.model import Model
from nexus.engines.adapter import Answer, Ask, Check, CheckResult
from nexus.engines.table import ADAPTERS
from tests.captures import captured

__all__ = [
    "REFUSED",
    "Script",
    "answers",
    "asked_paths",
    "bodies",
    "by_id",
    "check",
    "json_answer",
    "run",
    "spec",
]

Script = Mapping[str, Answer | str] | Callable[[Ask], Answer]
"""Path → answer, or the name of a capture; a path that is missing is a 404 without words."""

Result = TypeVar("Result")

REFUSED = Answer(status=0, error="connection refused", refused=True)


def run(
    asking: Generator[tuple[Ask, ...], tuple[Answer, ...], Result],
    script: Script,
    asked: list[Ask] | None = None,
) -> Result:
    """The generator's result; every Ask is noted in ``asked``."""
    try:
        asks = next(asking)
        while True:
            if asked is not None:
                asked += asks
            asks = asking.send(tuple(_answer(ask, script) for ask in asks))
    except StopIteration as stopped:
        result: Result = stopped.value
        return result


def _answer(ask: Ask, script: Script) -> Answer:
    if callable(script):
        return script(ask)
    found = script.get(ask.path, Answer(status=404))
    return captured(found) if isinstance(found, str) else found


def spec(engine: str = "generic", **fields: object) -> BackendSpec:
    """A backend of ``engine`` as an operator would name it."""
    known = {"name": "b", "url": "http://127.0.0.1:1", "engine": engine}
    return msgspec.convert(known | fields, BackendSpec)


def check(
    engine: str,
    script: Script,
    known: tuple[Model, ...] = (),
    asked: list[Ask] | None = None,
    **fields: object,
) -> CheckResult:
    """One check of a backend of ``engine``."""
    backend = spec(engine, **fields)
    assert backend.engine is not None
    checking: Check = ADAPTERS[backend.engine].check(backend, known)
    return run(checking, script, asked)


def by_id(result: CheckResult) -> dict[str, Model]:
    """The models found, by id."""
    assert result.models is not None, result.reason
    return {model.id: model for model in result.models}


def asked_paths(engine: str, script: Script, known: tuple[Model, ...] = ()) -> list[str]:
    """The paths that one check asks for."""
    asked: list[Ask] = []
    check(engine, script, known, asked)
    return [ask.path for ask in asked]


def json_answer(value: object, status: int = 200, **headers: str) -> Answer:
    """An answer with ``value`` as its JSON body."""
    return Answer(
        status=status,
        body=msgspec.json.encode(value),
        headers={name.replace("_", "-"): text for name, text in headers.items()},
    )


_KEYS = st.sampled_from(
    [
        "object",
        "data",
        "id",
        "created",
        "owned_by",
        "models",
        "name",
        "model",
        "digest",
        "size",
        "details",
        "capabilities",
        "error",
        "message",
        "type",
        "code",
        "detail",
        "status",
        "version",
        "role",
        "meta",
        "n_ctx",
        "parent",
        "max_model_len",
        "loads",
        "key",
        "loaded_instances",
        "config",
        "instances",
        "shardAssignments",
        "modelId",
        "runnerToShard",
        "parameters",
        "template",
        "model_info",
        "modified_at",
        "default_generation_settings",
        "modalities",
        "aliases",
        "architecture",
        "paths",
        "vllm_config",
        "scheduler_config",
        "max_num_seqs",
        "num_running_reqs",
        "max_running_requests",
        "token_usage",
        "is_processing",
        "total_slots",
        "build_info",
        "storage_size_megabytes",
    ]
)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.floats(0, 2)
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(["list", "library", "vllm", "router", "loaded", "x:latest", "[", '{"error":'])
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=20,
)
_HEADERS = st.dictionaries(
    st.sampled_from(["server", "content-type", "x-powered-by", "x-litellm-version"]),
    st.sampled_from(["uvicorn", "llama.cpp", "Express", "text/html", ""]),
    max_size=2,
)
bodies = st.binary(max_size=60) | _VALUES.map(msgspec.json.encode)
answers = st.builds(
    Answer,
    status=st.sampled_from([0, 200, 200, 200, 200, 204, 302, 400, 401, 403, 404, 429, 500, 501])
    | st.integers(0, 999),
    body=bodies,
    headers=_HEADERS,
    error=st.sampled_from(["", "timed out"]),
    refused=st.booleans(),
)
"""Anything a server might say, mostly in shapes that come near to the real ones."""
