"""What happens, told live to whoever listens: the source of ``GET /admin/v1/events``.

Telling costs a look at an empty tuple while nobody listens, and what is told is built only when
somebody does. A listener that is slow loses the oldest events and knows how many.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from nexus.telemetry.history import call_view
from nexus.telemetry.record import CallRecord

__all__ = ["Event", "EventHub", "Subscription"]

_QUEUE_EVENTS_MAX = 1_000

Data = dict[str, Any] | Callable[[], dict[str, Any]]


class Event(msgspec.Struct, frozen=True):
    """One event. ``id`` rises by one with each event of this process, told or not to anyone in
    particular; ``kind`` is ``backend``, ``request`` or ``config``; ``data`` is a JSON object, one
    for all listeners: not to be changed."""

    id: int
    kind: str
    data: dict[str, Any]


class EventHub:
    """Hands events to subscriptions. For the loop's thread only."""

    __slots__ = ("_last_id", "_subscriptions")

    def __init__(self) -> None:
        self._last_id = 0
        self._subscriptions: tuple[Subscription, ...] = ()

    @property
    def listeners(self) -> int:
        """How many subscriptions there are."""
        return len(self._subscriptions)

    def publish(self, kind: str, data: Data) -> None:
        """Tells all listeners. ``data`` may be a function that makes it, called when there is a
        listener."""
        if not self._subscriptions:
            return
        self._last_id += 1
        event = Event(self._last_id, kind, data() if callable(data) else data)
        for subscription in self._subscriptions:
            subscription.put(event)

    def record(self, record: CallRecord) -> None:
        """A call is over (a ``Sink``): a ``request`` event in the shape of a history row."""
        if self._subscriptions:
            self.publish("request", call_view(record))

    def subscribe(self, queue_events_max: int = _QUEUE_EVENTS_MAX) -> Subscription:
        """Listens from now on, until the subscription is closed."""
        subscription = Subscription(self._drop, queue_events_max)
        self._subscriptions += (subscription,)
        return subscription

    def close(self) -> None:
        """Ends all subscriptions: Nexus stops."""
        for subscription in self._subscriptions:
            subscription.close()

    def _drop(self, subscription: Subscription) -> None:
        self._subscriptions = tuple(one for one in self._subscriptions if one is not subscription)


class Subscription:
    """One listener's queue. ``lost`` counts events that it was too slow for: the oldest go first.

    Close it when done; as a context manager it closes itself.
    """

    __slots__ = ("_closed", "_drop", "_queue", "_ready", "lost")

    def __init__(self, drop: Callable[[Subscription], None], queue_events_max: int) -> None:
        self._drop = drop
        self._queue: deque[Event] = deque(maxlen=queue_events_max)
        self._ready = asyncio.Event()
        self._closed = False
        self.lost = 0

    def put(self, event: Event) -> None:
        """One more event. Never waits."""
        queue = self._queue
        if len(queue) == queue.maxlen:
            self.lost += 1
        queue.append(event)
        self._ready.set()

    async def get(self) -> Event | None:
        """The next event; ``None`` once the subscription is closed and its queue empty."""
        while not self._queue:
            if self._closed:
                return None
            self._ready.clear()
            await self._ready.wait()
        return self._queue.popleft()

    def close(self) -> None:
        """Listens no more."""
        self._closed = True
        self._drop(self)
        self._ready.set()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
