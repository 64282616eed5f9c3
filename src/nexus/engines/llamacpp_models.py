"""llama-server's answers about its models: ``/v1/models`` and ``/props``, single and router."""

from __future__ import annotations

from itertools import pairwise

from nexus.core.model import Capabilities, Model
from nexus.engines.reading import Object, flag, obj, positive, text, texts, whole

__all__ = ["router_models", "single_models"]

_LIST = "/v1/models"
_PROPS = "/props"
_NOT_READY_TO_SERVE = frozenset({"downloading", "failed"})


def single_models(found: list[Object], props: Object, twins: list[Object]) -> list[Model]:
    """The one model of a single-mode server. ``twins`` is the Ollama-shaped ``models`` array
    beside ``data``: it knows of vision and embeddings where ``/props`` is closed."""
    window = positive(obj(props.get("default_generation_settings")).get("n_ctx"))
    vision = flag(obj(props.get("modalities")).get("vision"))
    tools = flag(obj(props.get("chat_template_caps")).get("supports_tools"))
    can = {word for twin in twins for word in texts(twin.get("capabilities"))}
    evidence = {"json_mode": "engine"}
    if vision is not None:
        evidence["vision"] = f"{_PROPS} modalities"
    elif "multimodal" in can:
        vision, evidence["vision"] = True, _LIST
    if tools is not None:
        evidence["tools"] = f"{_PROPS} chat_template_caps"
    embeddings = True if "embedding" in can else None
    if embeddings:
        evidence["embeddings"] = _LIST
    capabilities = Capabilities(
        vision=vision,
        tools=tools,
        json_mode=True,  # its grammars work with every model
        embeddings=embeddings,
    )
    asleep = flag(props.get("is_sleeping"))
    models = []
    for entry in found:
        meta = obj(entry.get("meta"))
        # n_ctx_train, beside it, is the trained maximum: never the window.
        per_slot = window or positive(meta.get("n_ctx"))
        source = {"context_length": _PROPS if window else _LIST} if per_slot else {}
        models.append(
            _model(
                entry,
                window=per_slot,
                capabilities=capabilities,
                loaded=not asleep,
                evidence=evidence | source,
                quantization=text(props.get("model_ftype")),
            )
        )
    return models


def router_models(
    found: list[Object], props: Object, known: tuple[Model, ...]
) -> tuple[list[Model], str]:
    """The models a router can serve, and a note on those it cannot.

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
        name = text(entry.get("id")) or ""
        window = positive(obj(entry.get("meta")).get("n_ctx"))
        source = _LIST
        if window is None:
            window, source = _args_window(texts(status.get("args"))), f"{_LIST} status.args"
        if window is None and (old := before.get(name)) is not None:
            window, source = old.context_length, f"{_LIST}, when it was last loaded"
        inputs = texts(obj(entry.get("architecture")).get("input_modalities"))
        evidence = {"json_mode": "engine"}
        if window:
            evidence["context_length"] = source
        # "text" alone is a firm no only of a loaded model.
        vision = True if "image" in inputs else False if inputs and loaded else None
        if vision is not None:
            evidence["vision"] = f"{_LIST} architecture"
        models.append(
            _model(
                entry,
                window=window,
                capabilities=Capabilities(vision=vision, json_mode=True),
                loaded=state == "loaded",
                evidence=evidence,
            )
        )
    note = f"{left_out} more not loaded, and it does not load by itself" if left_out else ""
    return models, note


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


def _model(
    entry: Object,
    *,
    window: int | None,
    capabilities: Capabilities,
    loaded: bool,
    evidence: dict[str, str],
    quantization: str | None = None,
) -> Model:
    name = text(entry.get("id")) or ""
    meta = obj(entry.get("meta"))
    return Model(
        id=name,
        engine_name=name,
        aliases=tuple(alias for alias in texts(entry.get("aliases")) if alias != name),
        context_length=window,
        capabilities=capabilities,
        loaded=loaded,
        created=whole(entry.get("created")) or 0,
        owned_by=text(entry.get("owned_by")) or "",
        size_bytes=positive(meta.get("size")),
        quantization=text(meta.get("ftype")) or quantization,
        evidence=evidence,
    )
