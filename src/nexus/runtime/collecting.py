"""When CPython's cycle collector runs: never for long while calls are many.

Calls are freed by reference counting and make no cycles, but every object of theirs that can hold
others is on the collector's lists while it lives: some 45 for an open stream. A collection of the
older generations walks all of them and nothing else happens meanwhile (170 ms with 9,900 streams).
So only the youngest generation is collected as CPython does it, in small portions; the rest waits
for a quiet moment.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

__all__ = ["CycleCollector", "tune_collector"]

_YOUNG_OBJECTS = 2_000
"""After so many new objects the youngest generation is collected: within 1 ms."""
_NEVER = 2**31 - 1
_LOOK_S = 60.0
_WORTH_IT = 5
_QUIET_CALLS = 100
_TOO_MANY = 1_000
"""Young collections after which the rest no longer waits: two million objects have come to stay."""


def tune_collector() -> None:
    """What is loaded now stays for good: the cycle collector need not look at it ever again. From
    now on it collects the youngest generation only."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _NEVER, _NEVER)


class CycleCollector:
    """Collects all generations once in a while: at most once a minute, if there is anything to look
    through, while few calls are under way; while many are, when very much has come together.

    ``in_flight`` says how many calls there are.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, in_flight: Callable[[], int]) -> None:
        self._loop = loop
        self._in_flight = in_flight
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Tunes the collector and begins to look after it."""
        tune_collector()
        self._timer = self._loop.call_later(_LOOK_S, self._on_timer)

    def close(self) -> None:
        """Looks no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> bool:
        """Collects everything if this is the moment; whether it was."""
        young_collections = gc.get_count()[1]
        quiet = self._in_flight() <= _QUIET_CALLS
        if young_collections < (_WORTH_IT if quiet else _TOO_MANY):
            return False
        gc.collect()
        return True

    def _on_timer(self) -> None:
        self._timer = self._loop.call_later(_LOOK_S, self._on_timer)
        self.look()
