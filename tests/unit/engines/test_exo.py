"""exo's adapter, against answers made after its source (0.3.70)."""

from __future__ import annotations

import pytest

from nexus.engines.adapter import Answer, CheckResult, ErrorMeaning, Health
from nexus.engines.exo import ExoAdapter
from tests.unit.engines.drive import Script, by_id, check, json_answer, run

CARDS = json_answer(
    {
        "object": "list",
        "data": [
            {
                "id": name,
                "owned_by": "exo",
                "context_length": 32768,
                "capabilities": ["text", "thinking"],
                "quantization": "4bit",
                "family": "qwen",
            }
            for name in ("runs", "starts", "broken", "rests")
        ],
    }
)


def instance(model: str, *runners: str) -> dict[str, object]:
    """An instance of ``model`` on ``runners``."""
    shards = {"modelId": model, "runnerToShard": {runner: {} for runner in runners}}
    return {"MlxRingInstance": {"instanceId": f"i-{model}", "shardAssignments": shards}}


INSTANCES = {
    "i1": instance("runs", "r1", "r2"),
    "i2": instance("starts", "r3"),
    "i3": instance("broken", "r4"),
}
RUNNERS = {
    "r1": {"RunnerReady": {}},
    "r2": {"RunnerRunning": {}},
    "r3": {"RunnerLoading": {"layersLoaded": 1, "totalLayers": 9}},
    "r4": {"RunnerFailed": {"errorMessage": "boom"}},
}
PARTS = {
    "/v1/models": CARDS,
    "/state/instances": json_answer(INSTANCES),
    "/state/runners": json_answer(RUNNERS),
}


def load(script: Script) -> CheckResult:
    """One load poll."""
    polling = ExoAdapter().load()
    assert polling is not None
    return run(polling, script)


@pytest.mark.parametrize(
    "script",
    [
        PARTS,
        {
            "/v1/models": CARDS,
            "/state": json_answer({"instances": INSTANCES, "runners": RUNNERS}),
        },
    ],
)
def test_only_what_has_an_instance_is_served(script: Script) -> None:
    """The list shows every known card; instances decide, by parts of the state or the whole."""
    models = by_id(check("exo", script))
    assert {name: model.loaded for name, model in models.items()} == {"runs": True, "starts": False}
    assert (models["runs"].context_length, models["runs"].family) == (32768, "qwen")
    assert models["runs"].capabilities.reasoning is True
    assert models["runs"].capabilities.json_mode is False


def test_without_instances_there_are_no_models() -> None:
    """Healthy and empty."""
    result = check("exo", {**PARTS, "/state/instances": json_answer({})})
    assert (result.health, result.models) == (Health.HEALTHY, ())


def test_a_state_that_is_not_told_leaves_all_cards() -> None:
    """No state at all: every card is taken, and the reason says so."""
    result = check("exo", {"/v1/models": CARDS})
    assert len(by_id(result)) == 4
    assert "not told" in result.reason


def test_tasks_are_the_load() -> None:
    """Running and pending generations count; other tasks and ended ones do not."""
    states = ["Running", "Running", "Pending", "Complete", "Failed", None]
    tasks = {str(at): {"TextGeneration": {"taskStatus": state}} for at, state in enumerate(states)}
    tasks["d"] = {"DownloadModel": {"taskStatus": "Running"}}
    told = load({"/state/tasks": json_answer(tasks)})
    assert (told.running, told.waiting) == (2, 1)
    assert load({}).running is None
    assert load({"/state/tasks": Answer(status=200, body=b"[]")}).running is None


def test_a_model_without_an_instance_is_not_here() -> None:
    """Its 404 in words."""
    body = b'{"error":{"message":"No instance found for model X","type":"Not Found","code":404}}'
    assert ExoAdapter().read_error(404, body).meaning is ErrorMeaning.MODEL_NOT_HERE


def test_what_it_ignores_is_on_the_table() -> None:
    """response_format and others are dropped without a word; max_completion_tokens is copied."""
    traits = ExoAdapter.traits
    assert {"response_format", "tool_choice", "n", "logit_bias"} <= traits.ignored_fields
    assert {"frequency_penalty", "presence_penalty"} <= traits.ignored_fields
    assert traits.field_copies[0].target == "max_tokens"
