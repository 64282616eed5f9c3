"""What the operator says of a model (``[models."name"]``) stands above what its engine says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec.structs import replace

from nexus.core.model import Capabilities, Model

__all__ = ["ModelFacts", "overridden"]

_EVIDENCE = "config"


class ModelFacts(Protocol):
    """The facts that can be overridden; ``None`` leaves the engine's. ``context_length`` in
    tokens. ``config.schema.ModelOverride`` is one."""

    @property
    def context_length(self) -> int | None:
        """Configured window, tokens."""
        ...

    @property
    def vision(self) -> bool | None:
        """Takes images."""
        ...

    @property
    def tools(self) -> bool | None:
        """Calls tools."""
        ...

    @property
    def json_mode(self) -> bool | None:
        """Answers in JSON when asked to."""
        ...

    @property
    def embeddings(self) -> bool | None:
        """Makes embeddings."""
        ...

    @property
    def reasoning(self) -> bool | None:
        """Reasons before it answers."""
        ...


def overridden(model: Model, overrides: Mapping[str, ModelFacts]) -> Model:
    """``model`` with the facts of its override, found by its id or else one of its aliases."""
    facts = next(
        (overrides[name] for name in (model.id, *model.aliases) if name in overrides), None
    )
    if facts is None:
        return model
    flags = {
        field: value
        for field in Capabilities.__struct_fields__
        if (value := getattr(facts, field)) is not None
    }
    evidence = model.evidence | dict.fromkeys(flags, _EVIDENCE)
    context_length = model.context_length
    if facts.context_length is not None:
        context_length = facts.context_length
        evidence["context_length"] = _EVIDENCE
    return replace(
        model,
        context_length=context_length,
        capabilities=replace(model.capabilities, **flags),
        evidence=evidence,
    )
