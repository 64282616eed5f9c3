"""Commands as a person sees them: colours, the live view, a talk with a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus.demo.engine import FakeEngine
from nexus.demo.profile import Speed
from tests.e2e.stage import NEXUS, Stage, engines_running, gateway_running
from tests.e2e.terminal import Terminal, terminal
from tests.processes import until


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A gateway whose ``quick`` model says something in Markdown, and whose ``endless`` one goes on
    for minutes."""
    quick = FakeEngine(dialect="openai", name="quick", models=("quick",), answer="A **bold** word.")
    pace = Speed(tokens_per_s=20.0, tokens=100_000)
    endless = FakeEngine(dialect="vllm", name="endless", models=("endless",), settings=pace)
    home = tmp_path_factory.mktemp("stage")
    with engines_running(quick, endless) as engines, gateway_running(home, engines) as running:
        yield running


@pytest.fixture
def on(stage: Stage) -> Iterator[object]:
    """Runs ``nexus`` on a terminal."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def run(*arguments: str, **more: object) -> Terminal:
            environment = {**stage.environment, **more.pop("variables", {})}  # type: ignore[dict-item]
            return stack.enter_context(
                terminal(NEXUS, *arguments, environment=environment, cwd=stage.home, **more)  # type: ignore[arg-type]
            )

        yield run


def in_flight(stage: Stage) -> int:
    """Calls under way."""
    return int(stage.admin("/stats")["requests"]["in_flight"])
