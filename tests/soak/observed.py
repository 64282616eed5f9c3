"""``python -m tests.soak.observed FILE ARGUMENTS``: ``nexus ARGUMENTS``, which tells each second in
``FILE`` what it holds, one JSON object a line (:class:`Sample`)."""

from __future__ import annotations

import asyncio
import gc
import os
import runpy
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from nexus.runtime import serve
from nexus.runtime.gateway import Gateway
from tests.process import resident_bytes

__all__ = ["Sample"]

EVERY_S = 1.0
_OBJECTS_EVERY = 10
"""To count all objects takes tens of milliseconds: not each time."""


class Sample(msgspec.Struct, frozen=True):
    """What the gateway holds at one moment. ``objects``: all that the collector knows, those left
    out that were there at the start; ``None`` when they were not counted."""

    at_s: float
    rss_bytes: int
    descriptors: int
    tasks: int
    timers: int
    in_flight: int
    at_backends: int
    connections: int
    buffered_bytes: int
    objects: int | None = None


class _Observed(Gateway):
    """A gateway that tells."""

    file = Path()
    _count = 0

    async def start(self) -> None:
        """See ``Gateway``."""
        await super().start()
        self.loop.call_later(EVERY_S, self._tell)

    def _tell(self) -> None:
        self._count += 1
        server, plane = self.server, self.plane
        timers = (server.head_timer, server.body_timer, server.linger_timer, server.stall_timer)
        counted = self._count % _OBJECTS_EVERY == 0
        sample = Sample(
            at_s=monotonic(),
            rss_bytes=resident_bytes(os.getpid()),
            descriptors=len(os.listdir("/proc/self/fd")) - 1,  # noqa: PTH208 - half the cost
            tasks=len(asyncio.all_tasks(self.loop)),
            timers=plane.timers_waiting + sum(map(len, timers)),
            in_flight=plane.in_flight,
            at_backends=sum(live.in_flight for live in self.store.snapshot.live.values()),
            connections=len(server.connections),
            buffered_bytes=self.budget.used_bytes,
            objects=len(gc.get_objects()) if counted else None,
        )
        with self.file.open("ab") as out:
            out.write(msgspec.json.encode(sample) + b"\n")
        self.loop.call_later(EVERY_S, self._tell)


def main() -> None:
    """Puts the telling gateway in the place of the other one, then becomes ``nexus``."""
    _Observed.file = Path(sys.argv[1])
    replaced: Any = serve
    replaced.Gateway = _Observed
    sys.argv = ["nexus", *sys.argv[2:]]
    runpy.run_module("nexus", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
