"""Which program answers at an unknown address, in at most three GETs.

The first is ``/v1/models``: its ``owned_by``, the ``Server`` header or the shape of its refusal
name a suspect; the second round confirms it by a path that only this engine has. **Bodies and
keys count, never a status alone**: LM Studio answers 200 to any path, SGLang, LocalAI and KoboldCpp
imitate Ollama's ``/api/*``, TabbyAPI has llama.cpp's ``/props``, transformers puts a model's
organisation (which may be called ``vllm`` or ``nexus``) into ``owned_by``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

import msgspec

from nexus.core.backend import EngineKind
from nexus.engines.adapter import Answer, Ask
from nexus.engines.errors import error_text, is_loading
from nexus.engines.listing import listed_entries
from nexus.engines.reading import Object, obj, parse, text, whole

__all__ = ["Fingerprint", "Fingerprinting", "fingerprint"]


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """What was found.

    ``engine`` is ``None`` when nothing there can be a backend; ``label`` names the program for
    people. ``evidence`` lists what it was told by. ``nexus``: another Nexus (never a backend that
    is found by itself, calls would circle). ``loading``: known, and not ready yet. ``needs_key``:
    it refuses without a key. ``silent``: no HTTP answer came at all, be it that it is no server of
    that kind or too busy.
    """

    engine: EngineKind | None
    label: str
    reason: str
    evidence: tuple[str, ...] = ()
    loading: bool = False
    needs_key: bool = False
    nexus: bool = False
    silent: bool = False


Fingerprinting = Generator[tuple[Ask, ...], tuple[Answer, ...], Fingerprint]

_LITELLM_CREATED = 1677610602
_OWNERS: dict[str, tuple[EngineKind, str]] = {
    "vllm": (EngineKind.VLLM, "vLLM"),
    "sglang": (EngineKind.SGLANG, "SGLang"),
    "llamacpp": (EngineKind.LLAMACPP, "llama.cpp"),
    "exo": (EngineKind.EXO, "exo"),
    "organization_owner": (EngineKind.LMSTUDIO, "LM Studio"),
}
_GENERIC_OWNERS = {
    "tabbyAPI": "TabbyAPI",
    "koboldcpp": "KoboldCpp",
    "me": "llama-cpp-python",
    "llamafile": "llamafile",
}


def fingerprint() -> Fingerprinting:
    """Asks ``/v1/models``, then what confirms or settles the suspicion."""
    (listing,) = yield (Ask("/v1/models"),)
    if listing.status == 0:
        return _nothing(listing.error or "no answer", silent=True)
    found = listed_entries(listing.body) if listing.status == 200 else None
    if _is_nexus(listing, found or []):
        return Fingerprint(
            engine=None,
            label="Nexus",
            reason="another Nexus, or this one",
            evidence=("/v1/models",),
            nexus=True,
        )
    if listing.status == 503 and is_loading(listing.body):
        return _loading(listing)
    if listing.status in (401, 403):
        return (yield from _behind_a_key(listing))
    if found:
        return (yield from _by_owner(listing, found))
    if _server(listing).startswith("llama.cpp"):
        return (yield from _confirm(EngineKind.LLAMACPP, "llama.cpp", listing, {}))
    if found is not None or listing.status in (404, 405) or _is_json(listing):
        return (yield from _unsettled(listing, listed=found is not None))
    what = "a web page" if listing.body.lstrip()[:1] == b"<" else "something else"
    return _nothing(f"/v1/models answered {listing.status} with {what}, not with a model list")


def _nothing(reason: str, *, silent: bool = False) -> Fingerprint:
    return Fingerprint(engine=None, label="not an LLM server", reason=reason, silent=silent)


def _server(answer: Answer) -> str:
    return answer.headers.get("server", "").lower()


def _is_json(answer: Answer) -> bool:
    return answer.status == 200 and bool(obj(parse(answer.body)))


def _is_nexus(answer: Answer, found: list[Object]) -> bool:
    if _server(answer).startswith("nexus") or any(
        name.startswith("x-nexus-") for name in answer.headers
    ):
        return True
    # Behind another server's header an owner of this name is no proof: "nexus/tiny" of
    # transformers serve has it too. Our own entries tell their capabilities.
    return any(
        entry.get("owned_by") == "nexus"
        and isinstance(entry.get("created", 0), int)
        and (not _server(answer) or isinstance(entry.get("capabilities"), dict))
        for entry in found
    )


def _loading(listing: Answer) -> Fingerprint:
    llamacpp = _server(listing).startswith("llama.cpp") or (
        error_text(listing.body).message == "Loading model"
    )
    return Fingerprint(
        engine=EngineKind.LLAMACPP if llamacpp else EngineKind.GENERIC,
        label="llama.cpp" if llamacpp else "OpenAI-compatible server",
        reason="loading its model",
        evidence=("/v1/models 503",),
        loading=True,
    )


def _behind_a_key(listing: Answer) -> Fingerprinting:
    """Each program refuses in its own words."""
    refusal = obj(parse(listing.body))
    error = refusal.get("error")
    fields = obj(error)
    if any(name.startswith("x-litellm-") for name in listing.headers) or (
        fields and fields.get("code") in ("401", "403")
    ):
        return _keyed(EngineKind.OPENAI, "LiteLLM")
    if fields.get("type") == "authentication_error" and whole(fields.get("code")) == 401:
        return _keyed(EngineKind.LLAMACPP, "llama.cpp")
    if error == "Unauthorized":
        (version,) = yield (Ask("/version"),)
        if _has_version(version):
            return _keyed(EngineKind.VLLM, "vLLM", "/version")
        if version.status == 401 and obj(parse(version.body)).get("error") == "Unauthorized":
            return _keyed(EngineKind.SGLANG, "SGLang", "/version refused too")
        return _keyed(EngineKind.GENERIC, "OpenAI-compatible server")
    if text(fields.get("message")):
        return _keyed(EngineKind.GENERIC, "OpenAI-compatible server")
    if "detail" in refusal:
        # Any FastAPI program refuses like this; TabbyAPI says who it is without a key.
        (service,) = yield (Ask("/.well-known/serviceinfo"),)
        if obj(obj(parse(service.body)).get("software")).get("name") == "TabbyAPI":
            return _keyed(EngineKind.GENERIC, "TabbyAPI", "/.well-known/serviceinfo")
    return _nothing(f"/v1/models answered {listing.status}, not in an LLM server's way")


def _keyed(engine: EngineKind, label: str, *evidence: str) -> Fingerprint:
    return Fingerprint(
        engine=engine,
        label=label,
        reason=f"{label} that wants a key",
        evidence=("/v1/models 401", *evidence),
        needs_key=True,
    )


def _by_owner(listing: Answer, found: list[Object]) -> Fingerprinting:
    first = found[0]
    owner = text(first.get("owned_by")) or ""
    litellm_headers = any(name.startswith("x-litellm-") for name in listing.headers)
    if litellm_headers or all(entry.get("created") == _LITELLM_CREATED for entry in found):
        return Fingerprint(
            engine=EngineKind.OPENAI,
            label="LiteLLM",
            reason="LiteLLM proxy: it may answer from a cloud",
            evidence=("/v1/models created",),
        )
    if "openai-version" in listing.headers:
        return _known(EngineKind.OPENAI, "OpenAI", "its openai-version header")
    if owner in _GENERIC_OWNERS:
        label = _GENERIC_OWNERS[owner]
        return Fingerprint(
            engine=EngineKind.GENERIC,
            label=label,
            reason=f"{label}, by its model list",
            evidence=(f"/v1/models owned_by {owner}",),
        )
    # transformers serve writes a float: its owner is only an organisation's name.
    suspect = None if isinstance(first.get("created"), float) else _OWNERS.get(owner)
    if suspect is not None:
        return (yield from _confirm(*suspect, listing, first))
    if _server(listing).startswith("llama.cpp"):
        return (yield from _confirm(EngineKind.LLAMACPP, "llama.cpp", listing, first))
    return (yield from _unsettled(listing, listed=True, owner=owner))


def _confirm(kind: EngineKind, label: str, listing: Answer, entry: Object) -> Fingerprinting:
    path, confirms = _CONFIRM[kind]
    (answer,) = yield (Ask(path),)
    evidence = (f"/v1/models owned_by {text(entry.get('owned_by')) or 'absent'}",)
    if confirms(answer):
        return _known(kind, label, *evidence, path)
    # A proxy in front may let only /v1 through; the entry's own keys then decide.
    mark = next((key for key in _MARKS[kind] if key in entry), None)
    if mark is not None:
        return _known(kind, label, *evidence, f"/v1/models {mark}")
    if answer.status == 503 and is_loading(answer.body):
        return _loading(answer)
    if kind is EngineKind.LMSTUDIO and "express" in listing.headers.get("x-powered-by", "").lower():
        return _known(kind, label, *evidence, "X-Powered-By Express")
    if entry or listed_entries(listing.body) is not None:
        return _compatible(f"looks like {label}, but {path} does not confirm it")
    return _nothing(f"looks like {label}, but has no model list")


def _known(kind: EngineKind, label: str, *evidence: str) -> Fingerprint:
    return Fingerprint(
        engine=kind, label=label, reason=f"{label}, by {' and '.join(evidence)}", evidence=evidence
    )


def _compatible(reason: str) -> Fingerprint:
    return Fingerprint(
        engine=EngineKind.GENERIC,
        label="OpenAI-compatible server",
        reason=reason,
        evidence=("/v1/models",),
    )


def _unsettled(listing: Answer, *, listed: bool, owner: str = "") -> Fingerprinting:
    """The list told nothing (empty, an unknown owner, or none): two more GETs."""
    if "express" in listing.headers.get("x-powered-by", "").lower() or (
        "unexpected endpoint or method" in error_text(listing.body).message.lower()
    ):
        (greeting,) = yield (Ask("/lmstudio-greeting"),)
        if _greets(greeting):
            return _known(EngineKind.LMSTUDIO, "LM Studio", "/lmstudio-greeting")
    else:
        version, root = yield (Ask("/api/version"), Ask("/"))
        # SGLang can be made to say the same words, but as JSON, in quotes.
        if _has_version(version) and root.body.strip() == b"Ollama is running":
            return _known(EngineKind.OLLAMA, "Ollama", "/api/version", "/")
        if _has_version(version) and owner == "library":
            return _known(EngineKind.OLLAMA, "Ollama", "/api/version", "owned_by library")
        if parse(root.body) == "SGLang is running":
            return _known(EngineKind.SGLANG, "SGLang", "/")
    if listed:
        return _compatible("it lists models, and is none of the engines known by more")
    return _nothing(f"/v1/models answered {listing.status} without a model list")


def _has_version(answer: Answer) -> bool:
    return answer.status == 200 and text(obj(parse(answer.body)).get("version")) is not None


def _greets(answer: Answer) -> bool:
    return obj(parse(answer.body)).get("lmstudio") is True


def _is_llamacpp(answer: Answer) -> bool:
    props = obj(parse(answer.body))
    # TabbyAPI's /props has total_slots and a template, but no build_info.
    return "build_info" in props and ("total_slots" in props or props.get("role") == "router")


def _is_sglang(answer: Answer) -> bool:
    info = obj(parse(answer.body))
    return "model_path" in info and "is_generation" in info


def _is_exo(answer: Answer) -> bool:
    return answer.status == 200 and isinstance(parse(answer.body), str)


_CONFIRM: dict[EngineKind, tuple[str, Callable[[Answer], bool]]] = {
    EngineKind.VLLM: ("/version", _has_version),
    EngineKind.SGLANG: ("/model_info", _is_sglang),
    EngineKind.LLAMACPP: ("/props", _is_llamacpp),
    EngineKind.EXO: ("/node_id", _is_exo),
    EngineKind.LMSTUDIO: ("/lmstudio-greeting", _greets),
}

_MARKS: dict[EngineKind, tuple[str, ...]] = {
    EngineKind.VLLM: ("max_model_len",),
    EngineKind.SGLANG: ("max_model_len",),
    EngineKind.LLAMACPP: ("meta", "status"),
    EngineKind.EXO: ("hugging_face_id", "storage_size_megabytes"),
    EngineKind.LMSTUDIO: (),
}
