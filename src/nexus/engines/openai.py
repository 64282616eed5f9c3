"""OpenAI's own cloud, and gateways that stand for clouds: behind a key, outside one's own walls.

``GET /v1/models`` with the key (OpenAI API reference, "List models"): id, created, owned_by; no
windows, no capabilities, so names suggest them (``heuristics``).
"""

from __future__ import annotations

from nexus.core.backend import EngineKind, EngineTraits
from nexus.engines.generic import GenericAdapter

__all__ = ["OpenAIAdapter"]


class OpenAIAdapter(GenericAdapter):
    """A cloud that speaks OpenAI's API."""

    kind = EngineKind.OPENAI
    # Cloud front ends keep idle connections for minutes, and a new TLS handshake across the
    # internet is the dearest thing there is to save.
    traits = EngineTraits(cloud=True, idle_s=30.0)
