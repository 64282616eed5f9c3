"""The operator's word on a model."""

from __future__ import annotations

from nexus.config.schema import ModelOverride
from nexus.core.model import Capabilities
from nexus.registry.overrides import overridden
from tests.unit.registry.fixtures import model


def test_an_override_stands_above_the_engine_and_says_so() -> None:
    """Named facts are replaced, in both directions; the others stay the engine's."""
    told = model("m", context=4096, vision=True, tools=True, evidence={"tools": "/api/show"})
    said = overridden(told, {"m": ModelOverride(context_length=32768, vision=False)})
    assert said.context_length == 32768
    assert said.capabilities == Capabilities(vision=False, tools=True)
    assert said.evidence == {
        "tools": "/api/show",
        "vision": "config",
        "context_length": "config",
    }


def test_a_model_without_an_override_is_left_alone() -> None:
    """Not even copied."""
    told = model("m")
    assert overridden(told, {"other": ModelOverride(vision=True)}) is told


def test_an_override_may_name_an_alias_but_the_id_goes_first() -> None:
    """``llama3`` says what ``llama3:latest`` can do, unless the latter is named itself."""
    told = model("llama3:latest", "llama3")
    by_alias = {"llama3": ModelOverride(tools=True)}
    assert overridden(told, by_alias).capabilities.tools is True
    by_id = by_alias | {"llama3:latest": ModelOverride(tools=False)}
    assert overridden(told, by_id).capabilities.tools is False
