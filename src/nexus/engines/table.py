"""The engines Nexus knows: one row each. A new engine is one file and one row here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nexus.core.backend import EngineKind
from nexus.engines.adapter import Adapter
from nexus.engines.exo import ExoAdapter
from nexus.engines.generic import GenericAdapter
from nexus.engines.llamacpp import LlamaCppAdapter
from nexus.engines.lmstudio import LMStudioAdapter
from nexus.engines.ollama import OllamaAdapter
from nexus.engines.openai import OpenAIAdapter
from nexus.engines.sglang import SglangAdapter
from nexus.engines.vllm import VllmAdapter

__all__ = ["ADAPTERS", "adapter_for"]

_ROWS: tuple[Adapter, ...] = (
    OllamaAdapter(),
    VllmAdapter(),
    LlamaCppAdapter(),
    ExoAdapter(),
    LMStudioAdapter(),
    SglangAdapter(),
    OpenAIAdapter(),
    GenericAdapter(),
)

ADAPTERS: Mapping[EngineKind, Adapter] = MappingProxyType({row.kind: row for row in _ROWS})


def adapter_for(kind: EngineKind) -> Adapter:
    """The adapter of ``kind``; every kind has one."""
    return ADAPTERS[kind]
