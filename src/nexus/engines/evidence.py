"""Where each fact about a model was read: no fact without its source."""

from __future__ import annotations

import msgspec

from nexus.core.model import Capabilities, Model

__all__ = ["noted"]

_FACTS = ("context_length", "loaded", "size_bytes", "quantization", "family")


def noted(model: Model, source: str) -> Model:
    """``model`` with ``source`` as the evidence of every fact in it that has none yet."""
    known = model.evidence
    facts = [field for field in _FACTS if getattr(model, field) is not None]
    can = model.capabilities
    facts += [field for field in Capabilities.__struct_fields__ if getattr(can, field) is not None]
    missing = [field for field in facts if field not in known]
    if not missing:
        return model
    return msgspec.structs.replace(model, evidence={**known, **dict.fromkeys(missing, source)})
