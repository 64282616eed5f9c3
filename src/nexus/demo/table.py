"""The engines that a fake one can play: one row each."""

from __future__ import annotations

from typing import Literal

from nexus.demo.dialect import Dialect
from nexus.demo.exo import ExoDialect
from nexus.demo.generic import GenericDialect
from nexus.demo.llamacpp import LlamaCppDialect
from nexus.demo.lmstudio import LmStudioDialect
from nexus.demo.ollama import OllamaDialect
from nexus.demo.router import LlamaRouterDialect
from nexus.demo.sglang import SglangDialect
from nexus.demo.vllm import VllmDialect

__all__ = ["DIALECTS", "DialectName"]

DialectName = Literal[
    "openai",
    "generic",
    "ollama",
    "llamacpp",
    "llamacpp-router",
    "vllm",
    "lmstudio",
    "sglang",
    "exo",
]

DIALECTS: dict[DialectName, type[Dialect]] = {
    "openai": Dialect,
    "generic": GenericDialect,
    "ollama": OllamaDialect,
    "llamacpp": LlamaCppDialect,
    "llamacpp-router": LlamaRouterDialect,
    "vllm": VllmDialect,
    "lmstudio": LmStudioDialect,
    "sglang": SglangDialect,
    "exo": ExoDialect,
}
