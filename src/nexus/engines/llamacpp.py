"""llama.cpp's llama-server (tools/server/README.md; measured on builds of 2026).

In single mode one process is one model and the ``model`` field of a request is ignored. In router
mode (``/props`` has ``role: "router"``) it starts a child per model. While it loads, every path
answers 503 ``Loading model``.
"""

from __future__ import annotations

from nexus.core.backend import BackendSpec, EngineKind, EngineTraits
from nexus.core.model import Model
from nexus.engines.adapter import (
    Answer,
    Ask,
    Check,
    CheckResult,
    ErrorMeaning,
    Health,
    UpstreamError,
)
from nexus.engines.errors import read_openai_error
from nexus.engines.generic import MODEL_LIST, NOT_A_LIST
from nexus.engines.listing import first_seen, listed_entries, served
from nexus.engines.llamacpp_models import router_models, single_models
from nexus.engines.reading import entries, obj, parse, positive, text
from nexus.engines.verdict import healthy, refusal, wrong_answer

__all__ = ["LlamaCppAdapter"]


class LlamaCppAdapter:
    """llama-server, one model or router."""

    kind = EngineKind.LLAMACPP
    traits = EngineTraits(
        # With this header a generation outlives its client (resumable streams).
        dropped_headers=frozenset({b"x-conversation-id"}),
        idle_s=4.0,  # it closes idle connections after 5 s
    )

    def check(self, spec: BackendSpec, known: tuple[Model, ...]) -> Check:
        """Health, list and properties together; only ``/health`` answers without a key."""
        health, listing, props = yield (Ask("/health"), MODEL_LIST, Ask("/props"))
        ended = _loading(health) or refusal(listing)
        if ended is not None:
            return ended
        found = listed_entries(listing.body)
        if found is None:
            return wrong_answer(listing, *NOT_A_LIST)
        told = obj(parse(props.body)) if props.status == 200 else {}
        version = text(told.get("build_info"))
        if told.get("role") == "router":
            listed, note = router_models(found, told, known)
            models = served(first_seen(listed, known), spec)
            return healthy(models, version=version, note=note)
        twins = entries(obj(parse(listing.body)).get("models"))
        models = served(first_seen(single_models(found, told, twins), known), spec)
        return healthy(models, version=version, capacity=positive(told.get("total_slots")))

    def load(self) -> Check | None:
        """``/slots``: how many are at work. Not ``/metrics``, whose averages two readers disturb;
        so how many wait stays unknown."""
        return _load()

    def read_error(self, status: int, body: bytes) -> UpstreamError:
        """As every engine's, except for a 500 that blames the request's own JSON."""
        said = read_openai_error(status, body)
        blamed = "[json.exception.parse_error" in said.message
        if said.meaning is ErrorMeaning.SERVER and blamed:
            return UpstreamError(ErrorMeaning.CLIENT, said.message)
        return said


def _loading(health: Answer) -> CheckResult | None:
    told = refusal(health)
    return told if told is not None and told.health is Health.LOADING else None


def _load() -> Check:
    (answer,) = yield (Ask("/slots"),)
    if answer.status in (400, 401, 403, 404, 501):
        # Off (--no-slots), behind the key, or a router, which wants a model's name: not a fault.
        return CheckResult(health=Health.HEALTHY, reason="tells no load")
    ended = refusal(answer)
    if ended is not None:
        return ended
    slots = entries(parse(answer.body))
    if not slots:
        return CheckResult(health=Health.HEALTHY, reason="tells no load")
    return CheckResult(
        health=Health.HEALTHY,
        capacity=len(slots),
        running=sum(slot.get("is_processing") is True for slot in slots),
    )
