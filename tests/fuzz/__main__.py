"""``python -m tests.fuzz [TARGET ...]``: see ``make fuzz``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz.run import fuzz

_FOLDER = Path("build/fuzz")


def main() -> int:
    """Runs the named targets, or all, one after the other; 1 when something was found."""
    if "--guided" in sys.argv:
        import atheris

        # Before anything that is to be watched is imported.
        with atheris.instrument_imports(include=["nexus"]):
            from tests.fuzz.targets import TARGETS
    else:
        from tests.fuzz.targets import TARGETS
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, help="for each target, 10 without --runs")
    parser.add_argument("--runs", type=int, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--input", type=Path, help="try this one file only")
    parser.add_argument("--guided", action="store_true", help="by coverage, with atheris")
    given = parser.parse_args()
    names = given.targets or list(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    if given.input is not None:
        for name in names:
            TARGETS[name].run(given.input.read_bytes())
        return 0
    if given.guided:
        if len(names) != 1:
            parser.error("--guided takes one target: TARGET=body")
        from tests.fuzz.guided import fuzz_guided

        return fuzz_guided(TARGETS[names[0]], given.seconds or 10.0, given.runs, _FOLDER)
    found = False
    for name in names:
        seconds = given.seconds or (10.0 if given.runs is None else float("inf"))
        outcome = fuzz(
            TARGETS[name], seed=given.seed, seconds=seconds, runs=given.runs, folder=_FOLDER
        )
        sys.stdout.write(f"{outcome}\n")
        for file in outcome.findings:
            sys.stdout.write(f"  {file}\n")
        sys.stdout.flush()
        found = found or bool(outcome.findings)
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
