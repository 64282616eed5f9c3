"""What holds for every adapter, whatever a server says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.core.backend import EngineKind
from nexus.core.model import Capabilities, Model
from nexus.engines.adapter import Answer, Ask, CheckResult, ErrorMeaning, Health
from nexus.engines.fingerprint import fingerprint
from nexus.engines.table import ADAPTERS, adapter_for
from tests.captures import captured, captured_names
from tests.unit.engines.drive import REFUSED, answers, bodies, check, json_answer, run, spec

KINDS = list(EngineKind)
FACTS = ("context_length", "loaded", "size_bytes", "quantization", "family")
any_bytes = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
scripts = st.lists(answers, min_size=1, max_size=6)


def _saying(replies: list[Answer]) -> tuple[list[Ask], Callable[[Ask], Answer]]:
    asked: list[Ask] = []

    def say(ask: Ask) -> Answer:
        asked.append(ask)
        assert len(asked) < 200, "an adapter asks without end"
        assert ask.path.startswith("/")
        return replies[len(asked) % len(replies)]

    return asked, say


def _check_figures(result: CheckResult) -> None:
    assert result.running is None or result.running >= 0
    assert result.waiting is None or result.waiting >= 0
    assert result.capacity is None or result.capacity > 0
    assert result.kv_usage is None or 0 <= result.kv_usage <= 1
    told = {
        field
        for field in ("running", "waiting", "capacity", "kv_usage", "engine_version")
        if getattr(result, field) is not None
    }
    assert told <= set(result.evidence)


def test_every_kind_has_its_own_adapter() -> None:
    """The table has a row for every kind, and the row is of that kind."""
    assert {kind: adapter_for(kind).kind for kind in EngineKind} == {kind: kind for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@any_bytes
@given(replies=scripts)
def test_a_check_survives_any_answers(kind: EngineKind, replies: list[Answer]) -> None:
    """Arbitrary answers never raise out of check or load; ids are unique, windows positive, and no
    fact is without its evidence."""
    _, say = _saying(replies)
    known: tuple[Model, ...] = ()
    for _ in range(2):
        result = run(ADAPTERS[kind].check(spec(kind), known), say)
        assert isinstance(result, CheckResult)
        assert isinstance(result.health, Health)
        assert result.reason
        found = result.models or ()
        assert len({model.id for model in found}) == len(found)
        for model in found:
            assert model.id
            assert model.engine_name
            assert model.id not in model.aliases
            assert model.context_length is None or model.context_length > 0
            assert model.created >= 0
            told = {field for field in FACTS if getattr(model, field) is not None}
            flags = Capabilities.__struct_fields__
            told |= {flag for flag in flags if getattr(model.capabilities, flag) is not None}
            assert told <= set(model.evidence)
        _check_figures(result)
        known = found
    loading = ADAPTERS[kind].load()
    if loading is not None:
        load = run(loading, say)
        _check_figures(load)
        assert load.models is None


@any_bytes
@given(replies=scripts)
def test_a_fingerprint_survives_any_answers(replies: list[Answer]) -> None:
    """Arbitrary answers never raise out of the fingerprint, which asks at most three GETs."""
    asked, say = _saying(replies)
    found = run(fingerprint(), say)
    assert found.reason
    assert found.label
    assert len(asked) <= 3
    assert all(ask.body is None for ask in asked)


@pytest.mark.parametrize("kind", KINDS)
@any_bytes
@given(status=st.integers(0, 999), body=bodies)
def test_an_error_of_any_bytes_is_understood(kind: EngineKind, status: int, body: bytes) -> None:
    """Arbitrary error bodies never raise out of read_error, and the message is never empty."""
    said = ADAPTERS[kind].read_error(status, body)
    assert isinstance(said.meaning, ErrorMeaning)
    assert said.message
    said.message.encode()


@pytest.mark.parametrize("kind", KINDS)
def test_deeply_nested_json_is_only_a_wrong_answer(kind: EngineKind) -> None:
    """JSON nested beyond every decoder's depth fails the check and not the checker."""
    deep = Answer(status=200, body=b"[" * 200_000)
    assert run(ADAPTERS[kind].check(spec(kind), ()), lambda _: deep).health is Health.FAILED
    assert ADAPTERS[kind].read_error(500, b'{"error":' * 100_000).meaning is ErrorMeaning.SERVER


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_listening_is_lost(kind: EngineKind) -> None:
    """A refused connection is LOST, with the reason that was given."""
    result = check(kind, lambda _: REFUSED)
    assert (result.health, result.reason) == (Health.LOST, "connection refused")
    assert result.models is None


@pytest.mark.parametrize("kind", KINDS)
def test_silence_is_a_failure(kind: EngineKind) -> None:
    """A timeout is FAILED, not LOST: somebody may be there."""
    result = check(kind, lambda _: Answer(status=0, error="timed out after 5 s"))
    assert (result.health, result.reason) == (Health.FAILED, "timed out after 5 s")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_told_as_such(kind: EngineKind, status: int) -> None:
    """401 and 403 are CREDENTIALS and quote the engine."""
    refusal = json_answer({"error": {"message": "Invalid API Key"}}, status)
    result = check(kind, lambda _: refusal)
    assert result.health is Health.CREDENTIALS
    assert "Invalid API Key" in result.reason
    assert str(status) in result.reason


@pytest.mark.parametrize("kind", KINDS)
def test_a_200_from_any_path_proves_nothing(kind: EngineKind) -> None:
    """LM Studio's 200 with an error object is no healthy backend, and the reason quotes it."""
    said = {"error": "Unexpected endpoint or method. (GET /x)"}
    result = check(kind, lambda _: json_answer(said))
    assert result.health is Health.FAILED
    assert "Unexpected endpoint" in result.reason


@pytest.mark.parametrize("kind", KINDS)
def test_a_web_page_is_no_model_list(kind: EngineKind) -> None:
    """A page served for every path fails with a reason that asks the right question."""
    page = Answer(status=200, body=b"<!doctype html><title>Grafana</title>")
    result = check(kind, lambda _: page)
    assert result.health is Health.FAILED
    assert result.reason.startswith("answered 200 but not ")
    assert result.reason.endswith("?")
    assert "<" not in result.reason


@pytest.mark.parametrize("kind", KINDS)
def test_loading_is_not_a_failure(kind: EngineKind) -> None:
    """llama.cpp's 503 ``Loading model``, whoever is asked about it, is LOADING."""
    result = check(kind, lambda _: captured("llama-server-lifecycle/health_503"))
    assert result.health is Health.LOADING


@pytest.mark.parametrize("kind", KINDS)
def test_a_status_is_not_mistaken_for_another(kind: EngineKind) -> None:
    """A 500 fails the check and its text is told."""
    broken = json_answer({"error": {"message": "out of memory"}}, 500)
    result = check(kind, lambda _: broken)
    assert result.health is Health.FAILED
    assert result.reason == "answered 500: out of memory"


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_with_nothing_but_a_list_will_do(kind: EngineKind) -> None:
    """Whatever else an engine lacks (all other paths 404), its list alone makes it healthy."""
    listing = json_answer({"object": "list", "data": [{"id": "m", "object": "model"}]})
    tags = json_answer({"models": [{"name": "m"}]})
    result = check(kind, {"/v1/models": listing, "/api/tags": tags})
    assert result.health is Health.HEALTHY
    assert [model.id for model in result.models or ()] == ["m"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_operators_names_count(kind: EngineKind) -> None:
    """A model that the operator named is served though not listed; a mapped one goes by the served
    name and keeps the engine's for the way up."""
    listing = json_answer({"object": "list", "data": [{"id": "org/Big-7B"}]})
    tags = json_answer({"models": [{"name": "org/Big-7B"}]})
    result = check(
        kind,
        {"/v1/models": listing, "/api/tags": tags},
        models=["hidden"],
        model_names={"big": "org/Big-7B"},
    )
    names = {model.id: model.engine_name for model in result.models or ()}
    assert names == {"big": "org/Big-7B", "hidden": "hidden"}


ERRORS = [name for name in captured_names() if captured(name).status >= 400 and captured(name).body]


@pytest.mark.parametrize("name", ERRORS)
def test_every_captured_error_is_understood(name: str) -> None:
    """Every error that a real engine gave has a message in its own words."""
    answer = captured(name)
    for adapter in ADAPTERS.values():
        said = adapter.read_error(answer.status, answer.body)
        assert not said.message.startswith(("{", "the backend answered"))
