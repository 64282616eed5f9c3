"""Events: told to whoever listens, free while nobody does, never waiting for anyone."""

from __future__ import annotations

import asyncio

from nexus.telemetry.events import EventHub
from nexus.telemetry.history import call_view
from tests.unit.telemetry.records import a_record


async def test_events_come_in_order_to_every_listener() -> None:
    """Two listeners see the same events, numbered."""
    hub = EventHub()
    with hub.subscribe() as one, hub.subscribe() as two:
        hub.publish("backend", {"name": "a"})
        hub.publish("config", {"changed": []})
        for listener in (one, two):
            first, second = await listener.get(), await listener.get()
            assert first is not None
            assert second is not None
            assert (first.id, first.kind, first.data) == (1, "backend", {"name": "a"})
            assert (second.id, second.kind) == (2, "config")


async def test_a_finished_call_is_a_row_of_history() -> None:
    """Request events have the shape of ``GET /history``."""
    hub = EventHub()
    with hub.subscribe() as listener:
        hub.record(a_record())
        event = await listener.get()
    assert event is not None
    assert (event.kind, event.data) == ("request", call_view(a_record()))


def test_nothing_is_built_for_nobody() -> None:
    """Without a listener the data is never made."""
    hub = EventHub()
    made: list[int] = []

    def make() -> dict[str, object]:
        made.append(1)
        return {}

    hub.publish("backend", make)
    assert made == []
    subscription = hub.subscribe()
    hub.publish("backend", make)
    subscription.close()
    hub.publish("backend", make)
    assert made == [1]
    assert hub.listeners == 0


async def test_a_waiting_listener_is_woken() -> None:
    """``get`` waits for the next event."""
    hub = EventHub()
    with hub.subscribe() as listener:
        waiting = asyncio.ensure_future(listener.get())
        await asyncio.sleep(0)
        assert not waiting.done()
        hub.publish("config", {})
        event = await asyncio.wait_for(waiting, 5)
    assert event is not None
    assert event.kind == "config"


async def test_a_slow_listener_loses_the_oldest_and_knows() -> None:
    """The queue is bounded; losses are counted; others are not concerned."""
    hub = EventHub()
    with hub.subscribe(queue_events_max=3) as slow, hub.subscribe() as other:
        for n in range(10):
            hub.publish("request", {"n": n})
        assert (slow.lost, other.lost) == (7, 0)
        event = await slow.get()
        assert event is not None
        assert event.data == {"n": 7}


async def test_closing_ends_the_wait() -> None:
    """When Nexus stops, every listener gets what is left and then ``None``."""
    hub = EventHub()
    listener = hub.subscribe()
    hub.publish("config", {})
    waiting = asyncio.ensure_future(hub.subscribe().get())
    await asyncio.sleep(0)
    hub.close()
    assert await asyncio.wait_for(waiting, 5) is None
    assert await listener.get() is not None
    assert await listener.get() is None
    assert hub.listeners == 0
