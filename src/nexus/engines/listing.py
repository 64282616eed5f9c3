"""The OpenAI model list, and what the operator's own names make of any list.

``GET /v1/models`` → ``{"object": "list", "data": [{"id", "object", "created", "owned_by"}]}``
(OpenAI API reference, "List models"). Read from real servers: ``created`` may be missing, a float
or the present moment, ``data`` may be null, and a 200 may hold no list at all (LM Studio answers
200 to any path).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from nexus.core.backend import BackendSpec
from nexus.core.model import Capabilities, Model
from nexus.engines.evidence import noted
from nexus.engines.heuristics import with_guesses
from nexus.engines.reading import Object, entries, flag, name, obj, parse, positive, whole, word

__all__ = ["first_seen", "listed_entries", "openai_model", "served"]


def listed_entries(body: bytes) -> list[Object] | None:
    """The entries of an OpenAI model list that have an id, ``None`` when ``body`` is not one.

    Also taken: ``data: null`` with ``object: "list"`` (no models), and the bare array that some
    clouds send.
    """
    value = parse(body)
    if isinstance(value, list):
        found = [entry for entry in entries(value) if name(entry.get("id"))]
        return found if found or not value else None
    top = obj(value)
    data = top.get("data")
    if isinstance(data, list):
        return [entry for entry in entries(data) if name(entry.get("id"))]
    return [] if top.get("object") == "list" and data is None else None


def openai_model(entry: Object, *, source: str = "/v1/models") -> Model:
    """A list entry as a model, with what some servers add: the configured window (vLLM
    ``max_model_len``, OpenRouter and Nexus ``context_length``, Groq ``context_window``, llama.cpp
    ``meta.n_ctx``, TabbyAPI ``parameters.max_seq_len``) and capability flags."""
    own = name(entry.get("id")) or ""
    window = (
        positive(entry.get("max_model_len"))
        or positive(entry.get("context_length"))
        or positive(entry.get("context_window"))
        or positive(obj(entry.get("meta")).get("n_ctx"))
        or positive(obj(entry.get("parameters")).get("max_seq_len"))
    )
    told = obj(entry.get("capabilities"))
    capabilities = Capabilities(
        vision=flag(told.get("vision")),
        tools=_first(flag(told.get("tools")), flag(told.get("function_calling"))),
        json_mode=flag(told.get("json_mode")),
        embeddings=flag(told.get("embeddings")),
        reasoning=flag(told.get("reasoning")),
    )
    model = Model(
        id=own,
        engine_name=own,
        context_length=window,
        capabilities=capabilities,
        created=whole(entry.get("created")) or 0,
        owned_by=word(entry.get("owned_by")) or "",
    )
    return noted(model, source)


def _first(*values: bool | None) -> bool | None:
    return next((value for value in values if value is not None), None)


def first_seen(models: Iterable[Model], known: tuple[Model, ...]) -> list[Model]:
    """``models`` with the ``created`` of their first listing: vLLM and llama.cpp put the present
    moment there, and ours is stable between calls (behaviour § 2.4)."""
    before = {model.engine_name: model.created for model in known if model.created}
    return [
        msgspec.structs.replace(model, created=before.get(model.engine_name, model.created))
        for model in models
    ]


def served(models: Iterable[Model], spec: BackendSpec) -> tuple[Model, ...]:
    """What clients can ask for: the engine's models under the names the operator gave them, and
    those the operator named although the engine does not list them. Ids are unique.

    ``spec.model_names`` maps a served name to the engine's; a mapped model goes by its served name
    only. Names suggest what nobody told (``heuristics``).
    """
    renamed: dict[str, list[str]] = {}
    for served_name, engine_name in spec.model_names.items():
        renamed.setdefault(engine_name, []).append(served_name)
    mapped: list[Model] = []
    plain: list[Model] = []
    for model in models:
        own = (model.engine_name, *model.aliases)
        names = [one for engine_name in own for one in renamed.get(engine_name, ())]
        if names:
            mapped += [msgspec.structs.replace(model, id=one, aliases=()) for one in names]
        else:
            plain.append(model)
    result = {model.id: model for model in plain} | {model.id: model for model in mapped}
    taken = set(result).union(*(model.aliases for model in result.values()))
    for one in spec.models:
        if one not in taken:
            engine_name = spec.model_names.get(one, one)
            result[one] = Model(id=one, engine_name=engine_name, evidence={"id": "configuration"})
    return tuple(with_guesses(model) for model in result.values())
