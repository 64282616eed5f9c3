"""Runs targets for a time or a number of inputs, counts, and keeps what broke one."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from random import Random
from time import perf_counter
from types import FrameType

import msgspec

from tests.fuzz.mutate import Mutator
from tests.fuzz.target import Target, corpus, words

__all__ = ["HungError", "Outcome", "fuzz", "watched"]

_HANG_S = 5.0
_BATCH = 64
_FINDINGS_MAX = 10


class HungError(Exception):
    """An input took longer than any input may."""


class Outcome(msgspec.Struct, kw_only=True):
    """What a run came to: ``findings`` are files with the inputs that broke the target."""

    name: str
    runs: int = 0
    seconds: float = 0.0
    findings: list[Path] = []

    def __str__(self) -> str:
        """The figures, for people."""
        speed = self.runs / self.seconds if self.seconds else 0.0
        found = "no finding" if not self.findings else f"{len(self.findings)} FINDINGS"
        return (
            f"{self.name:<10}{self.runs:>10} inputs {self.seconds:>8.1f} s {speed:>8.0f}/s  {found}"
        )


@contextmanager
def watched() -> Iterator[None]:
    """Within, an input that takes five seconds of CPU raises :class:`HungError` (see ``fuzz``)."""

    def hung(_number: int, _frame: FrameType | None) -> None:
        raise HungError(f"an input took {_HANG_S:g} s")

    before = signal.signal(signal.SIGVTALRM, hung)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def fuzz(
    target: Target,
    *,
    seed: int,
    seconds: float = float("inf"),
    runs: int | None = None,
    folder: Path | None = None,
) -> Outcome:
    """Tries first what is kept, then mutations of it, until ``seconds`` or ``runs`` are over.

    With a ``folder`` what breaks the target is written there and the run goes on (ten findings end
    it); without one it is raised.
    """
    outcome = Outcome(name=target.name)
    kept = [*target.seeds, *corpus(target.name)]
    mutator = Mutator(kept, [*target.blocks, *words(target.name)], Random(seed))
    began_s = perf_counter()
    waiting = iter(kept)
    with watched():
        while len(outcome.findings) < _FINDINGS_MAX and (runs is None or outcome.runs < runs):
            if outcome.runs % _BATCH == 0 and perf_counter() - began_s > seconds:
                break
            data = next(waiting, None)
            data = mutator.next() if data is None else data
            signal.setitimer(signal.ITIMER_VIRTUAL, _HANG_S)
            outcome.runs += 1
            try:
                target.run(data)
            except KeyboardInterrupt:
                break  # Ctrl-C ends a run with its figures
            except Exception as error:
                if folder is None:
                    error.add_note(f"input of target {target.name}: {data!r}")
                    raise
                outcome.findings.append(_keep(folder, target.name, data))
    outcome.seconds = perf_counter() - began_s
    return outcome


def _keep(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{sha256(data).hexdigest()[:12]}"
    file.write_bytes(data)
    file.with_suffix(".txt").write_text(traceback.format_exc(), "utf-8", "replace")
    return file
