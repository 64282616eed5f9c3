"""Ollama's answers about its models: ``/api/tags``, ``/api/ps``, ``/api/show`` (docs/api.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

import msgspec

from nexus.core.model import Capabilities, Model, ModelKind
from nexus.engines.evidence import noted
from nexus.engines.reading import (
    Object,
    entries,
    name,
    obj,
    parse,
    positive,
    text,
    texts,
    whole,
    word,
)

__all__ = ["PS", "PS_EARLIER", "SHOW", "TAGS", "read_ps", "read_show", "read_tags", "resident"]

TAGS = "/api/tags"
PS = "/api/ps"
PS_EARLIER = "/api/ps, when it was last loaded"
SHOW = "/api/show"

_NUM_CTX = re.compile(r"^num_ctx\s+(\d{1,12})\s*$", re.MULTILINE)


def read_tags(body: bytes) -> list[Model] | None:
    """The models in an answer to ``/api/tags``; ``None`` when it is no such answer."""
    top = obj(parse(body))
    found = top.get("models")
    if "models" not in top or not (found is None or isinstance(found, list)):
        return None
    models = {}
    for entry in entries(found):
        own = name(entry.get("name")) or name(entry.get("model"))
        if own:
            models[own] = _listed(own, entry)
    return list(models.values())


def _listed(own: str, entry: Object) -> Model:
    details = obj(entry.get("details"))
    can = texts(entry.get("capabilities"))
    model = Model(
        id=own,
        engine_name=own,
        aliases=_aliases(own),
        created=_unix_time(entry.get("modified_at")),
        owned_by=_owner(own),
        size_bytes=positive(entry.get("size")),
        quantization=word(details.get("quantization_level")),
        family=word(details.get("family")),
        digest=word(entry.get("digest")),
    )
    model = noted(model, TAGS)
    cloud = word(entry.get("remote_host")) or word(entry.get("remote_model"))
    if not cloud and own.partition(":")[2].endswith("cloud"):
        cloud = "the tag"  # "gpt-oss:120b-cloud", "glm-4.6:cloud"
    evidence = {"cloud": f"{TAGS}: {cloud}"} if cloud else {}
    # A list without "tools" is only a hint here: the template that decides is in show.
    return _with_capabilities(model, can, TAGS, evidence, tools_if_unlisted=None)


def _with_capabilities(
    model: Model,
    can: tuple[str, ...],
    source: str,
    evidence: Mapping[str, str],
    *,
    tools_if_unlisted: bool | None,
) -> Model:
    """``model`` with what a capabilities list says; older versions send none: all unknown."""
    if not can:
        return msgspec.structs.replace(model, evidence={**model.evidence, **evidence})
    talks = "completion" in can
    weak_no = tools_if_unlisted if talks else False
    capabilities = Capabilities(
        vision="vision" in can,
        tools=True if "tools" in can else weak_no,
        json_mode=talks,  # "format" is a grammar of the runner's own, whatever the model
        # Not listed is no firm no: older versions embed with chat models too.
        embeddings=True if "embedding" in can else None,
        reasoning=True if "thinking" in can else weak_no,
    )
    told = {
        field: source
        for field in Capabilities.__struct_fields__
        if getattr(capabilities, field) is not None
    }
    return msgspec.structs.replace(
        model,
        capabilities=capabilities,
        kind=ModelKind.EMBEDDING if "embedding" in can and not talks else ModelKind.CHAT,
        evidence={**model.evidence, **told, **evidence},
    )


def _aliases(own: str) -> tuple[str, ...]:
    """The further names Ollama takes: the bare one for ``:latest``, and lower case, since it
    compares without case."""
    names = [own]
    if own.lower().endswith(":latest"):
        names.append(own[: -len(":latest")])
    names += [other.lower() for other in names]
    return tuple(dict.fromkeys(other for other in names if other and other != own))


def _owner(own: str) -> str:
    """As Ollama's ``/v1/models`` says it: the name's namespace, ``library`` without one."""
    return own.rpartition("/")[0].rpartition("/")[2] or "library"


def _unix_time(value: object) -> int:
    try:
        at = datetime.fromisoformat(text(value) or "")
        return max(int(at.timestamp()), 0) if at.tzinfo is not None else 0
    except (ValueError, OverflowError, OSError):
        return 0


def read_ps(body: bytes) -> dict[str, int | None] | None:
    """Resident models: name → the window in force; ``None`` when the answer is not one."""
    top = obj(parse(body))
    if "models" not in top:
        return None
    return {
        own: positive(entry.get("context_length"))
        for entry in entries(top["models"])
        if (own := name(entry.get("name")) or name(entry.get("model")))
    }


def resident(model: Model, residents: Mapping[str, int | None] | None) -> Model:
    """``model`` with its loaded flag and, while it is resident, the window in force."""
    if residents is None:
        return model
    if model.engine_name not in residents:
        evidence = {**model.evidence, "loaded": PS}
        return msgspec.structs.replace(model, loaded=False, evidence=evidence)
    window = residents[model.engine_name]
    evidence = {**model.evidence, "loaded": PS}
    if window:
        evidence["context_length"] = PS
    return msgspec.structs.replace(model, loaded=True, context_length=window, evidence=evidence)


def read_show(model: Model, body: bytes, before: Model | None) -> Model:
    """``model`` with what ``/api/show`` says; ``before`` is what was known of the same digest."""
    top = obj(parse(body))
    if not top:
        return model
    template = text(top.get("template")) or ""
    kind = "Jinja" if "{%" in template else "Go" if "{{" in template else "none of its own"
    evidence = {"template": f"{SHOW}: {kind}"}
    can = texts(top.get("capabilities")) or _older_capabilities(top, template)
    # Measured: a GGUF whose own (Jinja) template renders tools listed only "completion".
    unlisted = None if kind == "Jinja" or ".Tools" in template else False
    if can:
        model = _with_capabilities(model, can, SHOW, evidence, tools_if_unlisted=unlisted)
    else:
        model = msgspec.structs.replace(model, evidence={**model.evidence, **evidence})
    if model.loaded and model.context_length:
        return model
    window = _num_ctx(top)
    source = SHOW
    if window is None and before is not None and before.context_length:
        window, source = before.context_length, PS_EARLIER
    if window is None:
        return model
    return msgspec.structs.replace(
        model, context_length=window, evidence={**model.evidence, "context_length": source}
    )


def _older_capabilities(top: Object, template: str) -> tuple[str, ...]:
    """What older versions, which list no capabilities, show in other ways; only certain ones."""
    can = []
    families = texts(obj(top.get("details")).get("families"))
    if obj(top.get("projector_info")) or {"clip", "mllama"} & set(families):
        can.append("vision")
    if ".Tools" in template:
        can.append("tools")
    return ("completion", *can) if can else ()


def _num_ctx(top: Object) -> int | None:
    """The Modelfile's window, clamped to the trained one as the engine does."""
    found = _NUM_CTX.search(text(top.get("parameters")) or "")
    window = positive(int(found[1])) if found else None
    info = obj(top.get("model_info"))
    family = text(info.get("general.architecture")) or ""
    trained = whole(info.get(f"{family}.context_length"))
    return min(window, trained) if window and trained else window
