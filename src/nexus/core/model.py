"""A model as one backend serves it: what it can do, and where that was read."""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ["GUESSED", "Capabilities", "Model", "ModelKind"]

GUESSED = "name"
"""The evidence of what only a model's name suggests: less than what an engine says."""


class ModelKind(StrEnum):
    """What a model is for."""

    CHAT = "chat"
    EMBEDDING = "embedding"


class Capabilities(msgspec.Struct, frozen=True):
    """What a model can do: ``True``, ``False``, or ``None`` for unknown. Unknown is not "no"."""

    vision: bool | None = None
    tools: bool | None = None
    json_mode: bool | None = None
    embeddings: bool | None = None
    reasoning: bool | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one backend.

    ``id`` is the name clients use and ``engine_name`` the one the engine wants (usually equal).
    ``context_length`` is the **configured** window in tokens, never the trained maximum, ``None``
    if unknown. ``aliases`` are further names under which the engine takes it (Ollama's bare name
    for ``:latest``): they route, but are not listed. ``loaded`` is ``True`` when it is resident in
    memory. ``evidence`` tells, per field, which answer it was read from.
    """

    id: str
    engine_name: str
    aliases: tuple[str, ...] = ()
    kind: ModelKind = ModelKind.CHAT
    context_length: int | None = None
    capabilities: Capabilities = Capabilities()
    loaded: bool | None = None
    created: int = 0
    owned_by: str = ""
    size_bytes: int | None = None
    quantization: str | None = None
    family: str | None = None
    digest: str | None = None
    evidence: dict[str, str] = {}
