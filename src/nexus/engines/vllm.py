"""vLLM (its OpenAI-compatible server; measured on 0.32).

One entry per served name and LoRA adapter; ``max_model_len`` is the configured window. What a model
can do is not listed: tools need a parser given at start, vision shows only in an error, so both
stay unknown unless the name tells. Whether it chats or embeds shows in the paths it serves.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nexus.core.backend import (
    BackendSpec,
    Continuation,
    EngineKind,
    EngineTraits,
    Stopping,
)
from nexus.core.model import Capabilities, Model, ModelKind
from nexus.engines.adapter import Answer, Ask, Check, CheckResult, Health, UpstreamError
from nexus.engines.errors import is_loading, read_openai_error
from nexus.engines.evidence import noted
from nexus.engines.generic import MODEL_LIST, NOT_A_LIST
from nexus.engines.listing import first_seen, listed_entries, openai_model, served
from nexus.engines.reading import (
    Object,
    metric_sum,
    metric_values,
    name,
    obj,
    parse,
    positive,
    share,
    word,
)
from nexus.engines.verdict import healthy, refusal, wrong_answer

__all__ = ["VllmAdapter"]

_METRICS = Ask("/metrics")
_PATHS = Ask("/openapi.json")
_SERVER_INFO = Ask("/server_info?config_format=json")
_CHAT = "/v1/chat/completions"
_EMBEDDINGS = "/v1/embeddings"


class VllmAdapter:
    """vLLM."""

    kind = EngineKind.VLLM
    traits = EngineTraits(
        # max_tokens above max_model_len is a 400; prompt and output together over it are cut to fit
        # (older versions: a 400, which is read as a prompt that is too long).
        refuses_output_over_window=True,
        idle_s=4.0,  # uvicorn closes idle connections after 5 s
        continuation=Continuation(
            fields=(("continue_final_message", True), ("add_generation_prompt", False))
        ),
        stopping=Stopping.ALWAYS,
    )

    def check(self, spec: BackendSpec, known: tuple[Model, ...]) -> Check:
        """Health, list, version and load together; ``/health`` needs no key, the list may. What
        cannot change while it runs (its paths, its configuration where it shows that) is asked for
        until a check has listed its models."""
        always = (Ask("/health"), MODEL_LIST, Ask("/version"), _METRICS)
        answers = yield always if known else (*always, _PATHS, _SERVER_INFO)
        health, listing, version, metrics = answers[:4]
        if health.status == 503 and not is_loading(health.body):
            return CheckResult(health=Health.FAILED, reason="its engine is dead (503 at /health)")
        ended = refusal(listing)
        if ended is not None:
            return ended
        found = listed_entries(listing.body)
        if found is None:
            return wrong_answer(listing, *NOT_A_LIST)
        if _asleep(metrics):
            # A call would get its 200 and then hang until somebody wakes it.
            return CheckResult(health=Health.LOADING, reason="asleep (its sleep mode; wake it up)")
        serves: tuple[bool, bool] | None = None
        capacity = None
        if not known:
            serves, capacity = _served_paths(answers[4]), _max_num_seqs(answers[5])
        models = [_with_kind(model, serves, known) for model in _models(found)]
        load = _read_load(metrics)
        told = word(obj(parse(version.body)).get("version")) if version.status == 200 else None
        evidence = {"engine_version": "/version"} if told else {}
        if capacity:
            evidence["capacity"] = "/server_info max_num_seqs"
        return healthy(
            served(first_seen(models, known), spec),
            version=told,
            capacity=capacity,
            load=load,
            evidence=evidence,
        )

    def load(self) -> Check | None:
        """``/metrics``: requests running and waiting, summed over data-parallel engines, and how
        full the fullest KV cache is."""
        return _load()

    def read_error(self, status: int, body: bytes) -> UpstreamError:
        """As every engine's; see ``errors.py``."""
        return read_openai_error(status, body)


def _load() -> Check:
    (answer,) = yield (_METRICS,)
    return refusal(answer) or _read_load(answer)


def _read_load(metrics: Answer) -> CheckResult:
    if metrics.status != 200:
        return CheckResult(health=Health.HEALTHY, reason="tells no load")
    text = metrics.body
    caches = metric_values(text, "vllm:kv_cache_usage_perc")
    caches = caches or metric_values(text, "vllm:gpu_cache_usage_perc")  # before 0.10
    running = metric_sum(text, "vllm:num_requests_running")
    waiting = metric_sum(text, "vllm:num_requests_waiting")
    kv_usage = share(max(caches)) if caches else None
    told = {
        "running": ("num_requests_running", running),
        "waiting": ("num_requests_waiting", waiting),
        "kv_usage": ("kv_cache_usage_perc", kv_usage),
    }
    return CheckResult(
        health=Health.HEALTHY,
        running=running,
        waiting=waiting,
        kv_usage=kv_usage,
        evidence={
            field: f"/metrics vllm:{metric}"
            for field, (metric, value) in told.items()
            if value is not None
        },
    )


def _asleep(metrics: Answer) -> bool:
    """Sleep mode's gauge: ``awake`` 0 at every engine."""
    if metrics.status != 200:
        return False
    awake = metric_values(metrics.body, "vllm:engine_sleep_state", 'sleep_state="awake"')
    return bool(awake) and not any(awake)


def _served_paths(answer: Answer) -> tuple[bool, bool] | None:
    """Whether it serves chat and embeddings; ``None`` where its documentation is switched off."""
    paths = obj(obj(parse(answer.body)).get("paths")) if answer.status == 200 else {}
    found = (_CHAT in paths, _EMBEDDINGS in paths)
    # Older versions serve every path, whatever the model can do: that tells nothing.
    return found if any(found) and not all(found) else None


def _max_num_seqs(answer: Answer) -> int | None:
    """Only shown by a server in development mode (``VLLM_SERVER_DEV_MODE=1``)."""
    if answer.status != 200:
        return None
    config = obj(obj(parse(answer.body)).get("vllm_config"))
    return positive(obj(config.get("scheduler_config")).get("max_num_seqs"))


def _with_kind(model: Model, serves: tuple[bool, bool] | None, known: tuple[Model, ...]) -> Model:
    embeds = None if serves is None else serves[1]
    if embeds is None:
        # Told by an earlier check, which alone asked for it.
        embeds = next(
            (
                old.capabilities.embeddings
                for old in known
                if old.engine_name == model.engine_name
                and old.evidence.get("embeddings") == _PATHS.path
            ),
            None,
        )
    if embeds is None:
        return model
    return msgspec.structs.replace(
        model,
        kind=ModelKind.EMBEDDING if embeds else ModelKind.CHAT,
        capabilities=msgspec.structs.replace(model.capabilities, embeddings=embeds),
        evidence={**model.evidence, "embeddings": _PATHS.path},
    )


def _models(found: list[Object]) -> list[Model]:
    windows: Mapping[str | None, int | None] = {
        name(entry.get("id")): positive(entry.get("max_model_len")) for entry in found
    }
    models = []
    for entry in found:
        model = openai_model(entry)
        # A LoRA adapter lists no window: it runs in its base model's.
        window = model.context_length or windows.get(name(entry.get("parent")))
        changed = msgspec.structs.replace(
            model,
            context_length=window,
            # Guided decoding is always there.
            capabilities=Capabilities(json_mode=True),
            loaded=True,  # a process serves what it has in memory
            evidence={"json_mode": "engine", "loaded": "engine"},
        )
        models.append(noted(changed, MODEL_LIST.path))
    return models
