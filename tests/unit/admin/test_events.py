"""The bytes of an event stream."""

from __future__ import annotations

from collections import deque

from nexus.admin.events import EVENT_KINDS, event_stream
from nexus.telemetry.events import Event, EventHub


class Listener:
    """Events as told, then the end."""

    def __init__(self, *events: Event, lost: int = 0) -> None:
        self._events = deque(events)
        self.lost = lost

    async def get(self) -> Event | None:
        return self._events.popleft() if self._events else None


async def parts(listener: Listener, kinds: tuple[str, ...] = EVENT_KINDS) -> list[bytes]:
    return [part async for part in event_stream(listener, kinds)]


async def test_events_as_they_are_sent() -> None:
    """A comment first, so that the reader knows it is there; then id, kind and one line of data."""
    told = await parts(Listener(Event(7, "backend", {"name": "a\nb"})))
    assert told == [
        b"retry: 2000\n: nexus\n\n",
        b'id: 7\nevent: backend\ndata: {"name":"a\\nb"}\n\n',
    ]


async def test_only_some_kinds() -> None:
    """Events of other kinds are left out."""
    events = Event(1, "backend", {}), Event(2, "request", {})
    told = await parts(Listener(*events), ("request",))
    assert told[1:] == [b"id: 2\nevent: request\ndata: {}\n\n"]


async def test_a_slow_reader_is_told() -> None:
    """How many it lost, once."""
    told = await parts(Listener(Event(5, "request", {}), Event(6, "request", {}), lost=4))
    assert told[1] == b'event: lost\ndata: {"count":4}\n\n'
    assert [part[:5] for part in told[2:]] == [b"id: 5", b"id: 6"]


async def test_silence_is_broken() -> None:
    """A comment after each heartbeat, so that proxies keep the stream; no event is lost by it."""
    hub = EventHub()
    with hub.subscribe() as subscription:
        stream = event_stream(subscription, EVENT_KINDS, heartbeat_s=0.01)
        await anext(stream)
        assert await anext(stream) == b": still here\n\n"
        hub.publish("config", {"outcome": "applied"})
        assert await anext(stream) == b'id: 1\nevent: config\ndata: {"outcome":"applied"}\n\n'
        await stream.aclose()  # type: ignore[attr-defined]


async def test_text_that_is_not_unicode() -> None:
    """A lone surrogate is escaped."""
    told = await parts(Listener(Event(1, "backend", {"reason": "\ud800"})))
    assert b"\\ud800" in told[1]
