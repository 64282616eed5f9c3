"""llama.cpp's llama-server (tools/server/README.md; measured on builds of 2026).

In single mode one process is one model and the ``model`` field of a request is ignored. In router
mode (``/props`` has ``role: "router"``) it starts a child per model. While it loads, every path
answers 503 ``Loading model``.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from nexus.core.backend import (
    BackendSpec,
    Continuation,
    EngineKind,
    EngineTraits,
    Stopping,
)
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
from nexus.engines.reading import Object, entries, name, obj, parse, positive, word
from nexus.engines.verdict import healthy, refusal, wrong_answer

__all__ = ["LlamaCppAdapter"]

_SLOTS = Ask("/slots")
_PER_MODEL = ("/props", "/slots")
_CHILDREN_MAX = 8
"""A router keeps four models loaded unless told otherwise."""


class LlamaCppAdapter:
    """llama-server, one model or router."""

    kind = EngineKind.LLAMACPP
    traits = EngineTraits(
        # With this header a generation outlives its client (resumable streams).
        dropped_headers=frozenset({b"x-conversation-id"}),
        idle_s=4.0,  # it closes idle connections after 5 s
        continuation=Continuation(
            # Older builds ignore the fields, go on all the same, and repeat the text first.
            fields=(("continue_final_message", True), ("add_generation_prompt", False)),
            may_echo=True,
        ),
        # Measured: a plain call's end is noticed only when no other call is answered for a second.
        stopping=Stopping.STREAMS,
    )

    def check(self, spec: BackendSpec, known: tuple[Model, ...]) -> Check:
        """Health, list, properties and slots together; only ``/health`` answers without a key. A
        router tells the same of each model that it has loaded."""
        health, listing, props, slots = yield (Ask("/health"), MODEL_LIST, Ask("/props"), _SLOTS)
        ended = _loading(health) or refusal(listing)
        if ended is not None:
            return ended
        found = listed_entries(listing.body)
        if found is None:
            return wrong_answer(listing, *NOT_A_LIST)
        told = obj(parse(props.body)) if props.status == 200 else {}
        version = word(told.get("build_info"))
        evidence = {"engine_version": "/props build_info"} if version else {}
        if told.get("role") == "router":
            names = _loaded_names(found)
            answers = yield tuple(_of_model(path, one) for path in _PER_MODEL for one in names)
            half = len(names)
            children = {
                one: obj(parse(answer.body))
                for one, answer in zip(names, answers[:half], strict=True)
                if answer.status == 200
            }
            listed, note = router_models(found, told, known, children)
            return healthy(
                served(first_seen(listed, known), spec),
                version=version,
                load=_read_slots(answers[half:]),
                evidence=evidence,
                note=note,
            )
        twins = entries(obj(parse(listing.body)).get("models"))
        models = served(first_seen(single_models(found, told, twins), known), spec)
        load = _read_slots((slots,))
        capacity = positive(told.get("total_slots"))
        if capacity:
            evidence["capacity"] = "/props total_slots"
        return healthy(models, version=version, capacity=capacity, load=load, evidence=evidence)

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
    (answer,) = yield (_SLOTS,)
    if answer.status == 400:
        # A router, which wants a model's name.
        (listing,) = yield (MODEL_LIST,)
        names = _loaded_names(listed_entries(listing.body) or [])
        answers = yield tuple(_of_model(_SLOTS.path, one) for one in names)
        return _read_slots(answers)
    if answer.status in (401, 403, 404, 501):
        # Off (--no-slots), or behind the key: not a fault.
        return CheckResult(health=Health.HEALTHY, reason="tells no load")
    return refusal(answer) or _read_slots((answer,))


def _read_slots(answers: Sequence[Answer]) -> CheckResult:
    """``[{"id", "is_processing"}]`` of each process: how many there are, and how many at work."""
    slots = [
        slot
        for answer in answers
        if answer.status == 200
        for slot in entries(parse(answer.body))
        if "is_processing" in slot
    ]
    if not slots:
        return CheckResult(health=Health.HEALTHY, reason="tells no load")
    return CheckResult(
        health=Health.HEALTHY,
        capacity=len(slots),
        running=sum(slot["is_processing"] is True for slot in slots),
        evidence=dict.fromkeys(("capacity", "running"), _SLOTS.path),
    )


def _loaded_names(found: list[Object]) -> list[str]:
    """The models whose process is up: only of those may be asked, others would be loaded by it."""
    names = [
        one
        for entry in found
        if obj(entry.get("status")).get("value") == "loaded" and (one := name(entry.get("id")))
    ]
    return names[:_CHILDREN_MAX]


def _of_model(path: str, model: str) -> Ask:
    return Ask(f"{path}?model={quote(model, safe='')}&autoload=false")
