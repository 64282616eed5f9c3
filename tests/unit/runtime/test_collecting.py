"""The cycle collector: small portions while calls are many, everything in a quiet moment."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import cast

import pytest

from nexus.runtime import collecting
from nexus.runtime.collecting import CycleCollector

_OBJECTS = collecting._YOUNG_OBJECTS


class _Ring:
    """Garbage that only the cycle collector finds."""

    def __init__(self) -> None:
        self.itself = self


class _Loop:
    """As much of a loop as is used: the calls to come."""

    def __init__(self) -> None:
        self.later: list[tuple[float, asyncio.TimerHandle]] = []

    def call_later(self, delay_s: float, call: object) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(delay_s, call, (), cast(asyncio.AbstractEventLoop, self))  # type: ignore[arg-type]
        self.later.append((delay_s, handle))
        return handle

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, _: object) -> None: ...


@pytest.fixture
def clients() -> list[int]:
    return [0]


@pytest.fixture
def loop() -> _Loop:
    return _Loop()


@pytest.fixture
def collector(clients: list[int], loop: _Loop) -> Iterator[CycleCollector]:
    before = gc.get_threshold()
    one = CycleCollector(cast(asyncio.AbstractEventLoop, loop), lambda: clients[0])
    one.start()
    try:
        yield one
    finally:
        one.close()
        gc.set_threshold(*before)
        gc.unfreeze()


def _grown(young_collections: int) -> tuple[list[object], weakref.ref[_Ring]]:
    """So many young collections with objects that stay, and a ring that became garbage late."""
    ring = _Ring()
    kept: list[object] = []
    until = gc.get_count()[1] + young_collections
    while gc.get_count()[1] < until:
        kept.append([])
    return kept, weakref.ref(ring)


def test_old_garbage_goes_in_a_quiet_moment(collector: CycleCollector) -> None:
    """What only a whole collection finds is freed by it."""
    _, ring = _grown(collecting._WORTH_IT)
    assert ring() is not None
    assert collector.look()
    assert ring() is None


def test_nothing_is_looked_through_for_nothing(collector: CycleCollector) -> None:
    """A gateway at rest does not collect every minute."""
    while gc.get_count()[1] < collecting._WORTH_IT - 1:
        _grown(1)
    assert not collector.look()


def test_many_clients_are_not_stopped(
    collector: CycleCollector, clients: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While there are many, it waits; at most until very much has come together."""
    monkeypatch.setattr(collecting, "_TOO_MANY", 40)
    clients[0] = collecting._QUIET_CONNECTIONS + 1
    kept, ring = _grown(collecting._WORTH_IT)
    assert not collector.look()
    more, _ = _grown(collecting._TOO_MANY - collecting._WORTH_IT)
    assert ring() is not None
    assert collector.look()
    assert ring() is None
    assert len(kept) + len(more) >= (collecting._TOO_MANY - 1) * _OBJECTS


def test_it_looks_again_and_again_until_it_is_closed(
    collector: CycleCollector, loop: _Loop
) -> None:
    """Once a minute; not after ``close``."""
    for number in range(3):
        assert len(loop.later) == number + 1
        delay_s, handle = loop.later[-1]
        assert delay_s == collecting._LOOK_S
        handle._run()
    collector.close()
    assert loop.later[-1][1].cancelled()


def test_no_older_generation_is_collected_by_itself(collector: CycleCollector) -> None:
    """However many objects come to stay."""
    seen: list[int] = []

    def see(phase: str, info: dict[str, int]) -> None:
        if phase == "stop":
            seen.append(info["generation"])

    gc.callbacks.append(see)
    try:
        kept, _ = _grown(60)
    finally:
        gc.callbacks.remove(see)
    assert kept
    assert set(seen) == {0}
    assert len(seen) >= 60
