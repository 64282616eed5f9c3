"""llama-server's answers about its models: ``/v1/models`` and ``/props``, single and router."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import msgspec

from nexus.core.model import Capabilities, Model
from nexus.engines.evidence import noted
from nexus.engines.reading import Object, flag, name, obj, positive, text, texts, whole, word

__all__ = ["router_models", "single_models"]

_LIST = "/v1/models"
_PROPS = "/props"
_NOT_READY_TO_SERVE = frozenset({"downloading", "failed"})


def single_models(found: list[Object], props: Object, twins: list[Object]) -> list[Model]:
    """The one model of a single-mode server. ``twins`` is the Ollama-shaped ``models`` array
    beside ``data``: it knows of vision and embeddings where ``/props`` is closed."""
    can = {ability for twin in twins for ability in texts(twin.get("capabilities"))}
    asleep = flag(props.get("is_sleeping"))
    models = []
    for entry in found:
        model = _with_props(_listed(entry), props)
        flags = model.capabilities
        if flags.vision is None and "multimodal" in can:
            flags = msgspec.structs.replace(flags, vision=True)
        if "embedding" in can:
            flags = msgspec.structs.replace(flags, embeddings=True)
        loaded = {"loaded": "engine" if asleep is None else f"{_PROPS} is_sleeping"}
        model = msgspec.structs.replace(
            model, capabilities=flags, loaded=not asleep, evidence={**model.evidence, **loaded}
        )
        models.append(noted(model, _LIST))
    return models


def _with_props(model: Model, props: Object) -> Model:
    """``model`` with what ``/props`` of its process says."""
    window = positive(obj(props.get("default_generation_settings")).get("n_ctx"))
    vision = flag(obj(props.get("modalities")).get("vision"))
    tools = flag(obj(props.get("chat_template_caps")).get("supports_tools"))
    quantization = model.quantization or word(props.get("model_ftype"))
    evidence = dict(model.evidence)
    if window:
        evidence["context_length"] = _PROPS
    if vision is not None:
        evidence["vision"] = f"{_PROPS} modalities"
    if tools is not None:
        evidence["tools"] = f"{_PROPS} chat_template_caps"
    if quantization and not model.quantization:
        evidence["quantization"] = f"{_PROPS} model_ftype"
    can = model.capabilities
    return msgspec.structs.replace(
        model,
        context_length=window or model.context_length,
        capabilities=msgspec.structs.replace(
            can,
            vision=can.vision if vision is None else vision,
            tools=can.tools if tools is None else tools,
        ),
        quantization=quantization,
        evidence=evidence,
    )


def router_models(
    found: list[Object],
    props: Object,
    known: tuple[Model, ...],
    children: Mapping[str, Object],
) -> tuple[list[Model], str]:
    """The models a router can serve, and a note on those it cannot. ``children`` has the ``/props``
    of loaded ones.

    With autoload off only the loaded ones answer (400 ``model is not loaded`` otherwise).
    """
    autoload = flag(props.get("models_autoload")) is not False
    before = {model.engine_name: model for model in known}
    models = []
    left_out = 0
    for entry in found:
        status = obj(entry.get("status"))
        state = text(status.get("value")) or ""
        loaded = state in ("loaded", "sleeping")
        usable = state not in _NOT_READY_TO_SERVE and (autoload or loaded or state == "loading")
        if not usable:
            left_out += 1
            continue
        model = _routed(entry, status, before.get(name(entry.get("id")) or ""), loaded=loaded)
        model = _with_props(model, children.get(model.engine_name, {}))
        model = msgspec.structs.replace(model, loaded=state == "loaded")
        models.append(noted(model, f"{_LIST} status" if "status" in entry else _LIST))
    note = f"{left_out} more not loaded, and it does not load by itself" if left_out else ""
    return models, note


def _routed(entry: Object, status: Object, old: Model | None, *, loaded: bool) -> Model:
    """A router's entry, as far as the list itself tells; ``old`` is what was known of it."""
    model = _listed(entry)
    window, source = model.context_length, _LIST
    if window is None:
        window, source = _args_window(texts(status.get("args"))), f"{_LIST} status.args"
    if window is None and old is not None:
        window, source = old.context_length, f"{_LIST}, when it was last loaded"
    evidence = dict(model.evidence)
    if window:
        evidence["context_length"] = source
    inputs = texts(obj(entry.get("architecture")).get("input_modalities"))
    # "text" alone is a firm no only of a loaded model.
    vision = True if "image" in inputs else False if inputs and loaded else None
    if vision is not None:
        evidence["vision"] = f"{_LIST} architecture"
    tools = None
    if not loaded and old is not None and old.capabilities.tools is not None:
        tools, evidence["tools"] = old.capabilities.tools, f"{_PROPS}, when it was last loaded"
    return msgspec.structs.replace(
        model,
        context_length=window,
        capabilities=msgspec.structs.replace(model.capabilities, vision=vision, tools=tools),
        evidence=evidence,
    )


def _args_window(args: tuple[str, ...]) -> int | None:
    """The window per slot that a child is to be started with: ``--ctx-size`` is shared out among
    ``--parallel`` slots where that is given; without it the slots share the whole."""
    options = dict(pairwise(args))
    size = _count(options.get("--ctx-size"))
    if not size:
        return None  # 0 or absent: the model's own, unknown until it is loaded
    return size // max(_count(options.get("--parallel")), 1) or None


def _count(value: str | None) -> int:
    digits = value is not None and len(value) <= 12 and value.isascii() and value.isdecimal()
    return int(value) if value is not None and digits else 0


def _listed(entry: Object) -> Model:
    own = name(entry.get("id")) or ""
    meta = obj(entry.get("meta"))
    model = Model(
        id=own,
        engine_name=own,
        aliases=tuple(alias for alias in texts(entry.get("aliases")) if alias != own),
        # n_ctx_train, beside it, is the trained maximum: never the window.
        context_length=positive(meta.get("n_ctx")),
        capabilities=Capabilities(json_mode=True),  # its grammars work with every model
        created=whole(entry.get("created")) or 0,
        owned_by=word(entry.get("owned_by")) or "",
        size_bytes=positive(meta.get("size")),
        quantization=word(meta.get("ftype")),
        evidence={"json_mode": "engine"},
    )
    return noted(model, _LIST)
