"""One fleet and one gateway for each module of end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nexus.demo.engine import FakeEngine
from tests.e2e.stage import Stage, engines_running, gateway_running


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A gateway in front of ``fast`` (vLLM) and ``slow`` (Ollama, the one with a model that
    sees)."""
    fast = FakeEngine(dialect="vllm", name="fast", models=("llama",))
    slow = FakeEngine(dialect="ollama", name="slow", models=("llama", "llava-vision"))
    home = tmp_path_factory.mktemp("stage")
    with engines_running(fast, slow) as engines, gateway_running(home, engines) as running:
        yield running
