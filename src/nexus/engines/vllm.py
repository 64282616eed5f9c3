"""vLLM (its OpenAI-compatible server; measured on 0.32).

One entry per served name and LoRA adapter; ``max_model_len`` is the configured window. What a model
can do is not listed: tools need a parser given at start, vision shows only in an error, so both
stay unknown unless the name tells.
"""

from __future__ import annotations

import msgspec

from nexus.core.backend import BackendSpec, EngineKind, EngineTraits
from nexus.core.model import Capabilities, Model
from nexus.engines.adapter import Ask, Check, CheckResult, Health, UpstreamError
from nexus.engines.errors import is_loading, read_openai_error
from nexus.engines.generic import MODEL_LIST, NOT_A_LIST
from nexus.engines.listing import first_seen, listed_entries, openai_model, served
from nexus.engines.reading import Object, metric_sum, obj, parse, positive, text
from nexus.engines.verdict import healthy, refusal, wrong_answer

__all__ = ["VllmAdapter"]


class VllmAdapter:
    """vLLM."""

    kind = EngineKind.VLLM
    # max_tokens above max_model_len is a 400. Idle connections: uvicorn closes them after 5 s.
    traits = EngineTraits(refuses_long_output=True, idle_s=4.0)

    def check(self, spec: BackendSpec, known: tuple[Model, ...]) -> Check:
        """Health, list and version together; ``/health`` needs no key, the list may."""
        health, listing, version = yield (Ask("/health"), MODEL_LIST, Ask("/version"))
        if health.status == 503 and not is_loading(health.body):
            return CheckResult(health=Health.FAILED, reason="its engine is dead (503 at /health)")
        ended = refusal(listing)
        if ended is not None:
            return ended
        found = listed_entries(listing.body)
        if found is None:
            return wrong_answer(listing, *NOT_A_LIST)
        models = served(first_seen(_models(found), known), spec)
        told = text(obj(parse(version.body)).get("version")) if version.status == 200 else None
        return healthy(models, version=told)

    def load(self) -> Check | None:
        """``/metrics``: requests running and waiting, summed over data-parallel engines."""
        return _load()

    def read_error(self, status: int, body: bytes) -> UpstreamError:
        """As every engine's; see ``errors.py``."""
        return read_openai_error(status, body)


def _load() -> Check:
    (answer,) = yield (Ask("/metrics"),)
    ended = refusal(answer)
    if ended is not None:
        return ended
    return CheckResult(
        health=Health.HEALTHY,
        running=metric_sum(answer.body, "vllm:num_requests_running"),
        waiting=metric_sum(answer.body, "vllm:num_requests_waiting"),
    )


def _models(found: list[Object]) -> list[Model]:
    windows = {text(entry.get("id")): positive(entry.get("max_model_len")) for entry in found}
    models = []
    for entry in found:
        model = openai_model(entry)
        parent = text(entry.get("parent"))
        # A LoRA adapter lists no window: it runs in its base model's.
        window = model.context_length or windows.get(parent)
        evidence = {**model.evidence, "json_mode": "engine"}
        if window:
            evidence["context_length"] = MODEL_LIST.path
        models.append(
            msgspec.structs.replace(
                model,
                context_length=window,
                # Guided decoding is always there.
                capabilities=Capabilities(json_mode=True),
                evidence=evidence,
            )
        )
    return models
