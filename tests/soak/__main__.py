"""``make soak T=MINUTES``: see docs/testing.md."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.soak.run import soak


def main() -> int:
    """Runs a soak; 1 when a limit was broken."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=100.0, help="calls per second")
    parser.add_argument("--out", type=Path, help="folder for logs, samples and the picture")
    given = parser.parse_args()
    home = given.out or Path(tempfile.mkdtemp(prefix="nexus-soak-"))
    home.mkdir(parents=True, exist_ok=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(soak(home, given.minutes, rate_per_s=given.rate))
    picture = home / "soak.svg"
    picture.write_text(outcome.picture)
    sys.stdout.write(f"{outcome.text}\n{picture}\n")
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
