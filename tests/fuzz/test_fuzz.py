"""A short run of every target: what is kept, then some inputs by chance, the same each time.

Long runs are ``make fuzz``; what they find is kept in ``corpus/`` and tried here first.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.run import HungError, fuzz
from tests.fuzz.target import Target, corpus
from tests.fuzz.targets import TARGETS

_RUNS = 300


@pytest.mark.parametrize("name", TARGETS)
def test_a_target(name: str) -> None:
    """Neither crash nor hang nor a broken promise."""
    target = TARGETS[name]
    runs = _RUNS + len(target.seeds) + len(corpus(name))
    assert fuzz(target, seed=4, runs=runs).runs == runs


def test_what_breaks_is_found_and_kept(tmp_path: Path) -> None:
    """A target with a fault and one that hangs: the input is written where the run says."""

    def faulty(data: bytes) -> None:
        assert b"boom" not in data

    target = Target(name="faulty", run=faulty, seeds=(b"a",), blocks=(b"boom",))
    outcome = fuzz(target, seed=0, runs=500, folder=tmp_path)
    assert outcome.findings
    assert all(b"boom" in file.read_bytes() for file in outcome.findings)
    assert "FINDINGS" in str(outcome)
    with pytest.raises(AssertionError):
        fuzz(target, seed=0, runs=500)


def test_a_hang_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An input that takes too much CPU ends the run."""

    def endless(_data: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr("tests.fuzz.run._HANG_S", 0.05)
    with pytest.raises(HungError):
        fuzz(Target(name="endless", run=endless), seed=0, runs=1)


def test_the_same_seed_gives_the_same_inputs() -> None:
    """So that a finding can be had again anywhere."""

    def inputs(seed: int) -> list[bytes]:
        seen: list[bytes] = []
        target = Target(name="none", run=seen.append, seeds=(b"seed",), blocks=(b"word",))
        fuzz(target, seed=seed, runs=50)
        return seen

    assert inputs(1) == inputs(1)
    assert inputs(1) != inputs(2)


def test_every_folder_of_the_corpus_has_its_target() -> None:
    """A renamed target must not lose what it once found."""
    here = Path(__file__).parent
    assert {folder.name for folder in (here / "corpus").iterdir()} <= set(TARGETS)
    assert {file.stem for file in (here / "words").iterdir()} <= set(TARGETS)
