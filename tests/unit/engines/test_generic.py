"""The generic adapter, and the reading of OpenAI model lists."""

from __future__ import annotations

import pytest

from nexus.core.model import Model
from nexus.engines.adapter import Answer, Health
from nexus.engines.generic import GenericAdapter
from tests.unit.engines.drive import by_id, check, json_answer


def listing(*entries: object, **more: object) -> dict[str, Answer]:
    """A server whose list has these entries."""
    return {"/v1/models": json_answer({"object": "list", "data": entries, **more})}


def test_a_float_for_created_loses_its_fraction() -> None:
    """transformers serve writes a float."""
    models = by_id(check("generic", {"/v1/models": "transformers-serve/get_v1_models"}))
    assert models["nexus/tiny"].created == 1795341319


def test_an_entry_without_created_is_taken() -> None:
    """llama-cpp-python has no ``created``, LocalAI only ids."""
    models = by_id(check("generic", listing({"id": "a"}, {"id": "b", "owned_by": "me"})))
    assert (models["a"].created, models["b"].owned_by) == (0, "me")


def test_a_null_list_is_an_empty_one() -> None:
    """``data: null`` in a list object: no models, and no failure."""
    result = check("generic", {"/v1/models": json_answer({"object": "list", "data": None})})
    assert (result.health, result.models, result.reason) == (Health.HEALTHY, (), "0 models")


def test_a_bare_array_of_entries_is_a_list() -> None:
    """Some clouds leave the envelope out."""
    result = check("generic", {"/v1/models": json_answer([{"id": "m"}])})
    assert result.reason == "1 model"


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"[1]", b'"ok"', b'{"data":{}}', b"ok"])
def test_what_is_no_list_is_told(body: bytes) -> None:
    """A 200 that is not a model list fails with a reason that a person understands."""
    result = check("generic", {"/v1/models": Answer(status=200, body=body)})
    assert result.health is Health.FAILED
    assert result.reason == ("answered 200 but not a model list: not an OpenAI-compatible server?")


def test_entries_without_a_usable_id_are_left_out() -> None:
    """Null, number, empty: not models; the rest of the list stands; doubles count once."""
    entries = [{"id": None}, {"id": 7}, {"id": ""}, "x", {"id": "m"}, {"id": "m"}]
    result = check("generic", listing(*entries))
    assert [model.id for model in result.models or ()] == ["m"]


@pytest.mark.parametrize(
    "entry",
    [
        {"max_model_len": 4096},
        {"context_length": 4096},
        {"context_window": 4096},
        {"meta": {"n_ctx": 4096, "n_ctx_train": 131072}},
        {"parameters": {"max_seq_len": 4096}},
    ],
)
def test_a_configured_window_is_read_where_it_stands(entry: dict[str, object]) -> None:
    """Each server's own word for the window."""
    model = by_id(check("generic", listing({"id": "m", **entry})))["m"]
    assert model.context_length == 4096
    assert model.evidence["context_length"] == "/v1/models"


def test_a_trained_maximum_is_no_window() -> None:
    """``max_context_length`` says what the model could, not what the server was given."""
    model = by_id(check("generic", listing({"id": "m", "max_context_length": 131072})))["m"]
    assert model.context_length is None


def test_flags_of_another_gateway_are_read() -> None:
    """Null stays unknown, false stays false."""
    told = {"vision": True, "tools": False, "json_mode": None}
    capabilities = by_id(check("generic", listing({"id": "m", "capabilities": told})))[
        "m"
    ].capabilities
    assert (capabilities.vision, capabilities.tools, capabilities.json_mode) == (True, False, None)


def test_a_server_without_a_list_serves_what_the_operator_named() -> None:
    """404 at /v1/models is healthy with named models, and a failure without."""
    script = {"/v1/models": json_answer({"detail": "Not Found"}, 404)}
    assert check("generic", script).health is Health.FAILED
    result = check("generic", script, models=["m"])
    assert result.health is Health.HEALTHY
    assert by_id(result)["m"].evidence["id"] == "configuration"


def test_a_named_model_that_is_listed_is_there_once() -> None:
    """The engine's entry counts, with what it tells."""
    result = check("generic", listing({"id": "m", "max_model_len": 9}), models=["m"])
    assert [model.context_length for model in result.models or ()] == [9]


def test_one_engine_model_may_have_several_served_names() -> None:
    """Each served name is a model of its own with the engine's name behind it."""
    result = check("generic", listing({"id": "e"}), model_names={"a": "e", "b": "e"})
    assert {model.id: model.engine_name for model in result.models or ()} == {"a": "e", "b": "e"}


def test_a_served_name_wins_over_the_same_name_of_the_engine() -> None:
    """The operator's mapping decides whose the name is."""
    result = check("generic", listing({"id": "e"}, {"id": "a"}), model_names={"a": "e"})
    assert {model.id: model.engine_name for model in result.models or ()} == {"a": "e"}


def test_a_rate_limited_list_keeps_what_is_known() -> None:
    """429 when listing: it answers, the models stay; without any known they are unknown."""
    script = {"/v1/models": json_answer({"error": {"message": "slow down"}}, 429)}
    known = (Model(id="m", engine_name="m"),)
    assert (check("openai", script, known).health, check("openai", script, known).models) == (
        Health.HEALTHY,
        known,
    )
    assert check("openai", script).models is None


def test_a_foreign_request_id_does_not_reach_an_unknown_engine() -> None:
    """llama-cpp-python refuses one that is not a UUID."""
    assert GenericAdapter.traits.dropped_headers == {b"x-request-id"}


def test_an_openai_backend_is_a_cloud() -> None:
    """Its models' abilities come from their names, since the list tells none."""
    result = check("openai", listing({"id": "gpt-4o-mini", "object": "model"}))
    capabilities = by_id(result)["gpt-4o-mini"].capabilities
    assert (capabilities.vision, capabilities.tools) == (True, True)
