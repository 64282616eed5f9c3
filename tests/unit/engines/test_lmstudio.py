"""LM Studio's adapter, against answers made after its documentation."""

from __future__ import annotations

from nexus.core.model import ModelKind
from nexus.engines.adapter import Answer, Ask, Health
from tests.unit.engines.drive import by_id, check, json_answer

UNEXPECTED = json_answer({"error": "Unexpected endpoint or method. (GET /x)"})
LOADED = {
    "type": "llm",
    "publisher": "qwen",
    "key": "qwen/qwen3-4b",
    "architecture": "qwen3",
    "quantization": {"name": "Q4_K_M", "bits_per_weight": 4},
    "size_bytes": 5,
    "max_context_length": 262144,
    "loaded_instances": [
        {"id": "qwen/qwen3-4b", "config": {"context_length": 8192, "parallel": 4}},
        {"id": "qwen/qwen3-4b:2", "config": {"context_length": 4096, "parallel": 2}},
    ],
    "capabilities": {"vision": False, "trained_for_tool_use": True},
}
RESTING = {
    "type": "embedding",
    "key": "nomic-embed",
    "loaded_instances": [],
    "max_context_length": 2048,
}


def server(*listed: str, **answers: Answer) -> dict[str, Answer]:
    """A server that lists these names at /v1/models."""
    entries = [{"id": name, "owned_by": "organization_owner"} for name in listed]
    paths = {
        "/v1/models": json_answer({"object": "list", "data": entries}),
        "/api/v1/models": json_answer({"models": [LOADED, RESTING]}),
        "/api/v0/models": UNEXPECTED,
    }
    return paths | {f"/api/{version}/models": answer for version, answer in answers.items()}


def test_the_window_is_that_of_the_smallest_loaded_instance() -> None:
    """Configured, not trained; slots add up; instance ids are further names."""
    result = check("lmstudio", server("qwen/qwen3-4b", "nomic-embed"))
    model = by_id(result)["qwen/qwen3-4b"]
    assert (model.context_length, model.loaded, result.capacity) == (4096, True, 6)
    assert model.aliases == ("qwen/qwen3-4b:2",)
    assert (model.capabilities.tools, model.capabilities.vision) == (True, False)
    assert (model.quantization, model.family, model.owned_by) == ("Q4_K_M", "qwen3", "qwen")


def test_a_model_at_rest_is_an_unloaded_one_of_unknown_window() -> None:
    """Loaded on demand: served, not resident; its kind is told."""
    model = by_id(check("lmstudio", server("qwen/qwen3-4b", "nomic-embed")))["nomic-embed"]
    assert (model.loaded, model.context_length, model.kind) == (False, None, ModelKind.EMBEDDING)


def test_what_a_request_may_not_name_is_not_served() -> None:
    """Without loading on demand /v1/models lists the loaded ones only."""
    assert set(by_id(check("lmstudio", server("qwen/qwen3-4b")))) == {"qwen/qwen3-4b"}


def test_two_names_of_one_model_are_one_model() -> None:
    """The list shows instances; they are the model's further names."""
    models = by_id(check("lmstudio", server("qwen/qwen3-4b", "qwen/qwen3-4b:2")))
    assert set(models) == {"qwen/qwen3-4b"}


def test_the_older_list_is_read_where_the_newest_is_missing() -> None:
    """0.3: state and loaded_context_length; its 200 for the unknown path is seen through."""
    older = json_answer(
        {
            "object": "list",
            "data": [
                {
                    "id": "a",
                    "type": "vlm",
                    "state": "loaded",
                    "loaded_context_length": 2048,
                    "max_context_length": 32768,
                    "capabilities": ["tool_use"],
                },
                {"id": "b", "type": "embeddings", "state": "not-loaded"},
            ],
        }
    )
    models = by_id(check("lmstudio", server("a", "b", v1=UNEXPECTED, v0=older)))
    assert (models["a"].context_length, models["a"].loaded) == (2048, True)
    assert (models["a"].capabilities.vision, models["a"].capabilities.tools) == (True, True)
    assert models["b"].kind is ModelKind.EMBEDDING


def test_the_oldest_has_its_openai_list_alone() -> None:
    """Both native lists missing: names only."""
    asked: list[Ask] = []
    result = check("lmstudio", server("a", v1=UNEXPECTED), (), asked)
    assert (result.health, set(by_id(result))) == (Health.HEALTHY, {"a"})
    assert by_id(result)["a"].loaded is None
    assert len(asked) == 3
