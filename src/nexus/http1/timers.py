"""Coarse, cheap deadlines: one FIFO per timeout length, one tick for all of them.

``loop.call_later`` plus ``cancel`` costs 2.2 µs, an ordered dictionary's insert and delete a tenth
of that. Everyone in one queue waits equally long, so the queue is always in order of expiry.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

__all__ = ["DeadlineQueue", "DeadlineQueues", "Sweep"]

T = TypeVar("T")


class DeadlineQueue(Generic[T]):
    """Calls ``expire(owner)`` for every owner that stays in it for ``length_s`` seconds.

    Late by at most a tick: a tenth of the length, between 10 and 500 ms. An owner may add itself
    again from within ``expire``.
    """

    __slots__ = ("_entries", "_expire", "_handle", "_loop", "_tick_s", "length_s")

    def __init__(
        self, loop: AbstractEventLoop, length_s: float, expire: Callable[[T], None]
    ) -> None:
        self.length_s = length_s
        self._loop = loop
        self._expire = expire
        self._entries: OrderedDict[T, float] = OrderedDict()
        self._handle: TimerHandle | None = None
        self._tick_s = min(0.5, max(0.01, length_s / 10))

    def __len__(self) -> int:
        return len(self._entries)

    def change_length(self, length_s: float) -> None:
        """Another length from now on, for those who wait already too."""
        longer_s = length_s - self.length_s
        self.length_s = length_s
        self._tick_s = min(0.5, max(0.01, length_s / 10))
        for owner in self._entries:
            self._entries[owner] += longer_s  # all alike, so the order stays
        if self._handle is not None:
            self._handle.cancel()
            self._handle = self._loop.call_later(self._tick_s, self._tick)

    def add(self, owner: T) -> None:
        """Starts (or restarts) the owner's wait."""
        entries = self._entries
        if owner in entries:
            del entries[owner]
        entries[owner] = monotonic() + self.length_s
        if self._handle is None:
            self._handle = self._loop.call_later(self._tick_s, self._tick)

    def discard(self, owner: T) -> None:
        """The owner waits no longer; does nothing if it did not."""
        self._entries.pop(owner, None)

    def clear(self) -> None:
        """Forgets everyone."""
        self._entries.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        self._handle = None
        entries = self._entries
        now = monotonic()
        while entries:
            owner = next(iter(entries))
            if entries[owner] > now:
                break
            del entries[owner]
            try:
                self._expire(owner)
            except Exception as error:  # one owner's fault must not hold up the others
                self._loop.call_exception_handler(
                    {"message": "a deadline's callback raised", "exception": error}
                )
        if entries and self._handle is None:
            self._handle = self._loop.call_later(self._tick_s, self._tick)


class DeadlineQueues(Generic[T]):
    """One :class:`DeadlineQueue` per length, for lengths that differ by backend."""

    __slots__ = ("_expire", "_loop", "_queues")

    def __init__(self, loop: AbstractEventLoop, expire: Callable[[T], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._queues: dict[float, DeadlineQueue[T]] = {}

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def of(self, length_s: float) -> DeadlineQueue[T]:
        """The queue for this length, seconds."""
        queue = self._queues.get(length_s)
        if queue is None:
            queue = self._queues[length_s] = DeadlineQueue(self._loop, length_s, self._expire)
        return queue

    def clear(self) -> None:
        """Forgets everyone in every queue."""
        for queue in self._queues.values():
            queue.clear()


class Sweep:
    """Looks over those who idle every ``every_s`` seconds, so that going idle and back to work
    costs no timer. ``look`` ends who has idled too long and tells whether anyone is left to watch;
    if not, the sweep sleeps until :meth:`wake`."""

    __slots__ = ("_every_s", "_handle", "_look", "_loop")

    def __init__(self, loop: AbstractEventLoop, every_s: float, look: Callable[[], bool]) -> None:
        self._loop = loop
        self._every_s = every_s
        self._look = look
        self._handle: TimerHandle | None = None

    def wake(self) -> None:
        """There is somebody to watch."""
        if self._handle is None:
            self._handle = self._loop.call_later(self._every_s, self._sweep)

    def stop(self) -> None:
        """Watches nobody any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _sweep(self) -> None:
        self._handle = None
        if self._look():
            self.wake()
