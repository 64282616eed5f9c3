"""What an mDNS advert says about a server: its TXT record and its name, both written by a stranger.

Nothing here raises, whatever the bytes: what cannot be understood is left out, what is kept is
printable and bounded.
"""

from __future__ import annotations

import re

import msgspec

from nexus.core.backend import EngineKind

__all__ = ["Txt", "display_name", "parse_txt", "printable"]

_TXT_MAX_BYTES = 8192
_NAME_MAX_CHARS = 63
_KEY_MAX_CHARS = 255
_VERSION_MAX_CHARS = 64
_MODEL_MAX_CHARS = 128
_MODELS_MAX = 64

_ENGINES = {
    "ollama": EngineKind.OLLAMA,
    "vllm": EngineKind.VLLM,
    "llamacpp": EngineKind.LLAMACPP,
    "llamaserver": EngineKind.LLAMACPP,
    "llamafile": EngineKind.LLAMACPP,
    "exo": EngineKind.EXO,
    "lmstudio": EngineKind.LMSTUDIO,
    "sglang": EngineKind.SGLANG,
}
"""Names of engines without case, dots and dashes. ``openai`` and ``generic`` say no more than that
it speaks the OpenAI API: such a server is asked what it is, as one that says nothing."""

_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_ID = re.compile(r"[0-9a-f]{1,64}")
_MODEL = re.compile(r"[^\s,;]+")


class Txt(msgspec.Struct, frozen=True, kw_only=True):
    """A TXT record understood. Empty fields: not said, or not usable.

    ``nexus`` tells another gateway, ``instance_id`` which one. ``base_path`` comes before ``/v1``.
    """

    engine: EngineKind | None = None
    nexus: bool = False
    instance_id: str = ""
    base_path: str = ""
    version: str = ""
    models: tuple[str, ...] = ()


def parse_txt(data: bytes) -> Txt:
    """Reads the bytes of a TXT record (RFC 6763 § 6): strings, each behind a byte of its length.

    Keys are compared without case, the first of equal ones counts (§ 6.4).
    """
    pairs = _pairs(data[:_TXT_MAX_BYTES])
    kind = re.sub(r"[^a-z0-9]", "", (pairs.get("type") or pairs.get("engine") or "").lower())
    instance_id = pairs.get("id", "")
    return Txt(
        engine=_ENGINES.get(kind),
        nexus=kind == "nexus",
        instance_id=instance_id if _ID.fullmatch(instance_id) else "",
        base_path=_base_path(pairs.get("api_path", "")),
        version=printable(pairs.get("version", ""), _VERSION_MAX_CHARS),
        models=_models(pairs.get("models", "")),
    )


def printable(text: str, max_chars: int = _KEY_MAX_CHARS) -> str:
    """``text`` without what a terminal or a page would act on (control characters, direction
    marks, lone surrogates), cut to ``max_chars``."""
    kept = "".join(char if char.isprintable() else " " for char in text[: 4 * max_chars])
    return " ".join(kept.split())[:max_chars].rstrip()


def display_name(instance: str) -> str:
    """What to call the server of an instance name: letters, digits and harmless punctuation, so
    that it can stand in a URL, a shell command and a page. Empty when nothing is left."""
    kept = "".join(
        char if char.isalnum() or char in " ._@()+" else "-" for char in printable(instance)
    )
    return re.sub(r"-{2,}", "-", kept)[:_NAME_MAX_CHARS].strip(" -.")


def _pairs(data: bytes) -> dict[str, str]:
    pairs: dict[str, str] = {}
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        key, _, value = data[at + 1 : end].partition(b"=")
        at = end
        try:
            name = key.decode("ascii").lower()
            text = value.decode("utf-8")
        except UnicodeDecodeError:
            continue
        if name:
            pairs.setdefault(name, text)
    return pairs


def _base_path(api_path: str) -> str:
    """The path before ``/v1``. ``/api`` alone is how Ollama's own API is named; its OpenAI API
    stands at the root."""
    path = "/" + api_path.strip().strip("/")
    if (
        len(path) > 128
        or not _PATH.fullmatch(path)
        or any(part in (".", "..") for part in path.split("/"))
    ):
        return ""
    path = path.removesuffix("/v1")
    return "" if path == "/api" and not api_path.rstrip("/").endswith("/v1") else path


def _models(text: str) -> tuple[str, ...]:
    names = (printable(name, _MODEL_MAX_CHARS) for name in _MODEL.findall(text))
    return tuple(dict.fromkeys(name for name in names if name))[:_MODELS_MAX]
