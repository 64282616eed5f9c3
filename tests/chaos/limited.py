"""``python -m tests.chaos.limited N ARGUMENTS``: ``nexus ARGUMENTS`` with N open files at most."""

from __future__ import annotations

import resource
import runpy
import sys


def main() -> None:
    """Limits this process for good, then becomes ``nexus``."""
    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    sys.argv = ["nexus", *sys.argv[2:]]
    runpy.run_module("nexus", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
