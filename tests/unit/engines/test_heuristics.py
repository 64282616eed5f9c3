"""The table of names."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.model import Capabilities, Model, ModelKind
from nexus.engines.heuristics import guess, with_guesses


def yes(name: str) -> set[str]:
    """What the name says yes to."""
    found = guess(name)
    return {field for field in found.__struct_fields__ if getattr(found, field)}


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("nomic-embed-text:latest", {"embeddings"}),
        ("BAAI/bge-m3", {"embeddings"}),
        ("BAAI/bge-reranker-v2-m3", set()),
        ("intfloat/multilingual-e5-large", {"embeddings"}),
        ("Qwen/Qwen3-Embedding-8B", {"embeddings"}),
        ("text-embedding-3-small", {"embeddings"}),
        ("llava:13b", {"vision"}),
        ("bakllava", {"vision"}),
        ("Qwen/Qwen2.5-VL-7B-Instruct", {"vision"}),
        ("qwen2.5vl:7b", {"vision"}),
        ("llama3.2-vision:11b", {"vision"}),
        ("meta-llama/Llama-4-Scout-17B", {"vision", "tools"}),
        ("tinyllama-4bit", set()),
        ("llama-4bit", set()),
        ("gemma3:4b", {"vision"}),
        ("gemma-3-27b-it", {"vision"}),
        ("gemma3:1b", set()),
        ("gemma3:270m", set()),
        ("gemma3n:e4b", set()),
        ("deepseek-r1:8b", {"reasoning"}),
        ("qwen3:8b", {"reasoning", "tools"}),
        ("qwen3-coder:30b", {"tools"}),
        ("Qwen3-30B-A3B-Instruct-2507", {"tools"}),
        ("gpt-oss:20b", {"reasoning", "tools"}),
        ("llama3.1:8b", {"tools"}),
        ("meta-llama/Llama-3.3-70B-Instruct", {"tools"}),
        ("meta-llama/Llama-3.2-11B-Vision-Instruct", {"vision"}),
        ("qwen2.5:7b", {"tools"}),
        ("Qwen/Qwen2.5-Coder-32B-Instruct", {"tools"}),
        ("Qwen/Qwen2.5-7B-base", set()),
        ("Qwen/Qwen3-VL-8B-Instruct", {"vision", "tools"}),
        ("Qwen/Qwen3-Reranker-4B", set()),
        ("mistral-nemo:12b", {"tools"}),
        ("mistralai/Mistral-Small-3.2-24B-Instruct", {"vision", "tools"}),
        ("devstral:24b", {"tools"}),
        ("magistral:24b", {"tools", "reasoning"}),
        ("gemma3", {"vision"}),
        ("gemma3:latest", {"vision"}),
        ("deepseek-ai/DeepSeek-V3.1", {"tools"}),
        ("deepseek-coder:6.7b", set()),
        ("phi4-mini", {"tools"}),
        ("phi4", set()),
        ("microsoft/Phi-4-reasoning-plus", {"reasoning"}),
        ("granite3.3:8b", {"tools"}),
        ("ibm-granite/granite-4.0-h-small", {"tools"}),
        ("granite-3b-code-base", set()),
        ("granite3-guardian:8b", set()),
        ("granite-embedding:278m", {"embeddings"}),
        ("command-r", {"tools"}),
        ("c4ai-command-r-plus-08-2024", {"tools"}),
        ("command-a:111b", {"tools"}),
        ("BAAI/bge-base-en-v1.5", {"embeddings"}),
        ("sentence-transformers/all-mpnet-base-v2", {"embeddings"}),
        ("gpt-4o-mini", {"vision", "tools", "json_mode"}),
        ("gpt-3.5-turbo", {"tools", "json_mode"}),
        ("o3-mini", {"reasoning"}),
        ("claude-sonnet-4", {"vision", "tools"}),
        ("llama3:70b", set()),
        ("mistral:7b", set()),
        ("phi3:mini", set()),
        ("embed/llama3", set()),
        ("", set()),
    ],
)
def test_names_say(name: str, has: set[str]) -> None:
    """What is suggested by the name, and nothing more."""
    assert yes(name) == has


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=200))
def test_a_name_never_says_no(name: str) -> None:
    """Any text is taken, and no field is ever false."""
    found = guess(name)
    assert all(getattr(found, field) in (True, None) for field in found.__struct_fields__)


def test_what_an_engine_said_stands_above_the_name() -> None:
    """A known false stays false; only unknown fields are filled, with the evidence noted."""
    model = Model(
        id="llava",
        engine_name="llava",
        capabilities=Capabilities(vision=False),
        evidence={"vision": "/api/show"},
    )
    assert with_guesses(model) == model
    unknown = with_guesses(Model(id="x", engine_name="llava"))
    assert (unknown.capabilities.vision, unknown.evidence) == (True, {"vision": "name"})


def test_an_embedding_name_makes_the_kind_unless_the_engine_knows_better() -> None:
    """A model that an engine says calls tools is no embedding model, whatever its name."""
    assert with_guesses(Model(id="e", engine_name="bge-m3")).kind is ModelKind.EMBEDDING
    chat = Model(id="e", engine_name="embed-chat", capabilities=Capabilities(tools=True))
    assert with_guesses(chat).kind is ModelKind.CHAT
