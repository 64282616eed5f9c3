"""When CPython's cycle collector runs: not for long while clients are many.

Calls are freed by reference counting and make no cycles, but every object of theirs that can hold
others is on the collector's lists while it lives: 45 for an open stream, 15 for an idle client.
A collection of the older generations walks all of them and nothing else happens meanwhile (170 ms
with 9,900 streams). So only the youngest generation is collected as CPython does it, in small
portions; the rest waits for a quiet moment.
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
_QUIET_CONNECTIONS = 200
"""So many clients have some 10,000 objects, all with streams: 4 ms."""
_TOO_MANY = 1_000
"""Young collections after which the rest no longer waits: by then at most two million objects have
come to stay."""


def tune_collector() -> None:
    """What is loaded now stays for good: the cycle collector need not look at it ever again. From
    now on it collects the youngest generation only."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _NEVER, _NEVER)


class CycleCollector:
    """Collects all generations once in a while: at most once a minute, if there is anything to look
    through, while few clients are connected; while many are, when very much has come together.

    ``connections`` says how many clients are connected.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connections: Callable[[], int]) -> None:
        self._loop = loop
        self._connections = connections
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
        quiet = self._connections() <= _QUIET_CONNECTIONS
        if young_collections < (_WORTH_IT if quiet else _TOO_MANY):
            return False
        gc.collect()
        return True

    def _on_timer(self) -> None:
        self._timer = self._loop.call_later(_LOOK_S, self._on_timer)
        self.look()
