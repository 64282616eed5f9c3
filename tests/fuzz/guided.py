"""Inputs led by coverage: atheris (libFuzzer for Python), where it is installed.

It is no dependency, having no wheels for some systems: ``.venv/bin/pip install atheris``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fuzz.target import Target, corpus

__all__ = ["fuzz_guided"]


def fuzz_guided(target: Target, seconds: float, runs: int | None, folder: Path) -> int:
    """Runs one target until ``seconds`` or ``runs`` are over; does not return when it finds
    something (libFuzzer ends the process), else gives 0. What it learns of inputs that lead to new
    code stays in ``folder/guided-NAME``."""
    import atheris

    learned = folder / f"guided-{target.name}"
    learned.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate((*target.seeds, *corpus(target.name))):
        (learned / f"seed-{number}").write_bytes(data)
    options = [
        f"-max_total_time={seconds:.0f}" if runs is None else f"-runs={runs}",
        "-timeout=5",
        "-rss_limit_mb=2048",
        "-max_len=4096",
        "-print_final_stats=1",
        f"-artifact_prefix={folder}/{target.name}-",
    ]
    atheris.Setup([sys.argv[0], *options, str(learned)], target.run)
    atheris.Fuzz()
    return 0
