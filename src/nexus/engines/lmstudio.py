"""LM Studio (docs of 0.4, not run: closed source).

It answers **200 to any path** with ``{"error": "Unexpected endpoint or method. (GET /x)"}``, so
only bodies count. Three generations of lists: ``/api/v1/models`` (0.4), ``/api/v0/models``, and the
OpenAI one, which shows what a request may name just now (all downloaded models when it loads on
demand, else the loaded ones).
"""

from __future__ import annotations

from nexus.core.backend import (
    BackendSpec,
    EngineKind,
    EngineTraits,
    FieldCopy,
    Stopping,
)
from nexus.core.model import Capabilities, Model, ModelKind
from nexus.engines.adapter import Ask, Check, ErrorMeaning, UpstreamError
from nexus.engines.errors import read_openai_error
from nexus.engines.evidence import noted
from nexus.engines.generic import MODEL_LIST, NOT_A_LIST
from nexus.engines.listing import first_seen, listed_entries, openai_model, served
from nexus.engines.reading import Object, entries, flag, name, obj, parse, positive, texts, word
from nexus.engines.verdict import healthy, refusal, wrong_answer

__all__ = ["LMStudioAdapter"]

_V1 = "/api/v1/models"
_V0 = "/api/v0/models"


class LMStudioAdapter:
    """LM Studio's local server, or its headless ``lms``."""

    kind = EngineKind.LMSTUDIO
    traits = EngineTraits(
        # Not in the list of supported fields (docs, "OpenAI compatibility").
        ignored_fields=frozenset({"n", "logprobs", "top_logprobs", "parallel_tool_calls"}),
        field_copies=(FieldCopy(field="max_completion_tokens", target="max_tokens"),),
        truncates_prompts=True,  # its default policy cuts the middle
        idle_s=4.0,  # Node closes idle connections after 5 s
        paths=frozenset(
            {
                "/v1/chat/completions",
                "/v1/completions",
                "/v1/embeddings",
                "/v1/models",
                "/v1/responses",
                "/v1/messages",
            }
        ),
        continuation=None,  # undocumented
        stopping=Stopping.ALWAYS,  # after the prompt has been read
    )

    def check(self, spec: BackendSpec, known: tuple[Model, ...]) -> Check:
        """The newest list and the OpenAI one; the older one where the newest is missing."""
        newest, listing = yield (Ask(_V1), MODEL_LIST)
        ended = refusal(listing)
        if ended is not None:
            return ended
        found = listed_entries(listing.body)
        if found is None:
            return wrong_answer(listing, *NOT_A_LIST)
        names = {name(entry.get("id")) for entry in found}
        details, capacity = _read_v1(newest.body)
        if not details:
            (older,) = yield (Ask(_V0),)
            details = _read_v0(older.body)
        by_name = {one: model for model in details for one in (model.id, *model.aliases)}
        # A name that only the OpenAI list has is served too; two names of one model are one.
        listed = {
            model.id: model
            for entry in found
            if (model := by_name.get(name(entry.get("id")) or "") or openai_model(entry))
        }
        listed |= {model.id: model for model in details if model.loaded and not names}
        models = served(first_seen(listed.values(), known), spec)
        source = f"{_V1} loaded_instances parallel"
        evidence = {"capacity": source} if capacity else {}
        return healthy(models, capacity=capacity, evidence=evidence)

    def load(self) -> Check | None:
        """Its queue shows only on its own WebSocket: our own in flight is the truth."""
        return None

    def read_error(self, status: int, body: bytes) -> UpstreamError:
        """As every engine's; its overflow messages vary, all of them with these words."""
        said = read_openai_error(status, body)
        unsure = said.meaning in (ErrorMeaning.CLIENT, ErrorMeaning.SERVER)
        if unsure and "context length" in said.message.lower():
            return UpstreamError(ErrorMeaning.PROMPT_TOO_LONG, said.message)
        return said


def _read_v1(body: bytes) -> tuple[list[Model], int | None]:
    """``{"models": [{type, key, loaded_instances: [{id, config}], capabilities, ...}]}``: the
    models, and how many requests all loaded instances take at once."""
    models = []
    slots = 0
    for entry in entries(obj(parse(body)).get("models")):
        key = name(entry.get("key"))
        if key is None:
            continue
        instances = entries(entry.get("loaded_instances"))
        configs = [obj(instance.get("config")) for instance in instances]
        slots += sum(positive(config.get("parallel")) or 0 for config in configs)
        # A request by key may reach any instance: the smallest window is safe.
        windows = [size for config in configs if (size := positive(config.get("context_length")))]
        told = obj(entry.get("capabilities"))
        models.append(
            _model(
                key,
                entry,
                aliases=texts([instance.get("id") for instance in instances]),
                window=min(windows, default=None),
                vision=flag(told.get("vision")),
                tools=flag(told.get("trained_for_tool_use")),
                reasoning=True if obj(told.get("reasoning")) else None,
                quantization=word(obj(entry.get("quantization")).get("name")),
                family=word(entry.get("architecture")),
                loaded=bool(instances),
                source=_V1,
            )
        )
    return models, slots or None


def _read_v0(body: bytes) -> list[Model]:
    """``{"data": [{id, type, state, loaded_context_length?, capabilities?: ["tool_use"]}]}``."""
    return [
        _model(
            own,
            entry,
            aliases=(),
            window=positive(entry.get("loaded_context_length")),
            vision=True if entry.get("type") == "vlm" else None,
            tools="tool_use" in texts(entry.get("capabilities")),
            reasoning=None,
            quantization=word(entry.get("quantization")),
            family=word(entry.get("arch")),
            loaded=entry.get("state") == "loaded",
            source=_V0,
        )
        for entry in entries(obj(parse(body)).get("data"))
        if (own := name(entry.get("id"))) and "state" in entry
    ]


def _model(
    own: str,
    entry: Object,
    *,
    aliases: tuple[str, ...],
    window: int | None,
    vision: bool | None,
    tools: bool | None,
    reasoning: bool | None,
    quantization: str | None,
    family: str | None,
    loaded: bool,
    source: str,
) -> Model:
    embeds = entry.get("type") in ("embedding", "embeddings")
    told = {
        "vision": vision,
        # Untrained models get a general tool prompt: not trained is no "no".
        "tools": True if tools else None,
        "embeddings": embeds,
        "reasoning": reasoning,
    }
    model = Model(
        id=own,
        engine_name=own,
        aliases=tuple(alias for alias in dict.fromkeys(aliases) if alias != own),
        kind=ModelKind.EMBEDDING if embeds else ModelKind.CHAT,
        context_length=window,
        capabilities=Capabilities(**told),
        loaded=loaded,
        owned_by=word(entry.get("publisher")) or "",
        size_bytes=positive(entry.get("size_bytes")),
        quantization=quantization,
        family=family,
    )
    return noted(model, source)
