"""An event loop whose time passes only when nothing is left to do: asyncio's own tasks, futures,
events and timeouts run on it unchanged, a thousand virtual seconds in a few real milliseconds."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVar, cast

__all__ = ["Livelock", "SimLoop", "SimTask"]

T = TypeVar("T")
START_S = 1000.0
MICROSECOND_S = 1e-6
STEPS_MAX = 400_000
"""More steps than any run takes: who takes more has two parts that wake each other for ever."""


class Livelock(Exception):  # noqa: N818 - what became of the run
    """The run does not come to rest."""


class SimTask(asyncio.Task[T]):
    """A task whose place in a set is its number and not its address: the same in each run."""

    def __init__(self, coro: Coroutine[Any, Any, T], number: int, **options: Any) -> None:
        self._number = number  # first: asyncio keeps a set of tasks
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Event:
    """What happens at a time, and is never cancelled."""

    __slots__ = ("args", "work")

    def __init__(self, work: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.work = work
        self.args = args

    def cancelled(self) -> bool:
        return False


class SimLoop:
    """What the gateway and asyncio use of a loop, and no more. ``faults`` are the exceptions that
    reached it."""

    def __init__(self, seed: int) -> None:
        self.now_s = START_S
        self.faults: list[dict[str, Any]] = []
        self.steps = 0
        self._soon: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.Handle | _Event]] = []
        self._order = count()
        # asyncio keeps a set of all tasks, of earlier runs too: no number of another run.
        self._tasks = count(seed * 10_007)
        self._made: list[asyncio.Task[Any]] = []
        self.create_connection: Callable[..., Coroutine[Any, Any, Any]]
        self.as_loop = cast(asyncio.AbstractEventLoop, self)
        """Itself, for who wants to be told that it is a loop."""

    # --- what asyncio asks of a loop ----------------------------------------------------------

    def time(self) -> float:
        """Virtual monotonic seconds."""
        return self.now_s

    def call_soon(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """At this time, after what is due already."""
        handle = asyncio.Handle(callback, args, self.as_loop, context)
        self._soon.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """After ``delay`` seconds."""
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """At a virtual time."""
        # Time goes on between two looks at a clock: who waits for what rounding left of a second
        # would wait for ever otherwise.
        when = max(when, self.now_s + MICROSECOND_S)
        handle = asyncio.TimerHandle(when, callback, args, self.as_loop, context)
        heappush(self._timers, (when, next(self._order), handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """A future on this loop."""
        return asyncio.Future(loop=self.as_loop)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """A task whose hash does not depend on where it lies in memory."""
        task = SimTask(coro, next(self._tasks), loop=self.as_loop, **options)
        self._made.append(task)
        return task

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Always, as far as anybody on it can see."""
        return True

    def is_closed(self) -> bool:
        """Never."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An exception that nobody caught."""
        self.faults.append(context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are passed over when their time comes."""

    # --- what a simulation does with it -------------------------------------------------------

    def happen_at(self, when_s: float, work: Callable[..., object], *args: Any) -> None:
        """The same as ``call_at`` for what is never cancelled, in a fraction of the time."""
        heappush(self._timers, (when_s, next(self._order), _Event(work, args)))

    def run(self, until_s: float, done: Callable[[], object] = lambda: False) -> bool:
        """Lets time pass until ``done()`` or ``until_s``; whether it was done."""
        soon, timers = self._soon, self._timers
        handle: asyncio.Handle | _Event
        while not done():
            if soon:
                handle = soon.popleft()
            elif timers and timers[0][0] <= until_s:
                when_s, _, handle = heappop(timers)
                if not handle.cancelled():
                    self.now_s = max(self.now_s, when_s)
            else:
                self.now_s = max(self.now_s, until_s)
                return bool(done())
            if handle.cancelled():
                continue
            self.steps += 1
            if self.steps > STEPS_MAX:
                raise Livelock(f"more than {STEPS_MAX} steps; the last one was {handle!r}")
            if type(handle) is _Event:
                try:
                    handle.work(*handle.args)
                except Exception as error:
                    self.faults.append({"message": f"{handle.work!r} raised", "exception": error})
            else:
                handle._run()  # type: ignore[union-attr]
        return True

    @property
    def empty(self) -> bool:
        """Whether nothing will ever happen again."""
        return not (self._soon or self._timers)

    def pending(self) -> list[asyncio.Handle]:
        """What asyncio, or who uses it, would still do."""
        handles = [*self._soon, *(handle for _, _, handle in self._timers)]
        return [one for one in handles if isinstance(one, asyncio.Handle) and not one.cancelled()]

    def abandon(self) -> None:
        """Ends every task that is left of a run that went wrong."""
        for _ in range(20):
            left = [task for task in self._made if not task.done()]
            if not left:
                return
            for task in left:
                task.cancel()
            self.steps = 0
            self.run(self.now_s)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Makes it the running loop of this thread."""
        asyncio._set_running_loop(self.as_loop)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)
