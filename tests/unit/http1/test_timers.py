"""Deadlines in queues: on time, in order, and nobody's fault is another's."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from nexus.http1.timers import DeadlineQueue, DeadlineQueues, Sweep
from tests.harness import eventually


class Owner:
    """Whoever waits."""


def make(length_s: float) -> tuple[DeadlineQueue[Owner], list[Owner]]:
    """A queue and the list of those who expired in it."""
    expired: list[Owner] = []
    return DeadlineQueue(asyncio.get_running_loop(), length_s, expired.append), expired


async def test_expires_after_its_length() -> None:
    """An owner is told after the length, never before, late by a tick or so."""
    queue, expired = make(0.1)
    began_s = monotonic()
    queue.add(Owner())
    assert len(queue) == 1
    await eventually(lambda: expired, "expired")
    assert monotonic() - began_s >= 0.1
    assert len(queue) == 0


async def test_expires_in_the_order_of_adding() -> None:
    """Who came first goes first, each once."""
    queue, expired = make(0.02)
    owners = [Owner() for _ in range(50)]
    for owner in owners:
        queue.add(owner)
    await eventually(lambda: len(expired) == 50, "all expired")
    assert expired == owners


async def test_discarded_owners_are_not_told() -> None:
    """Who leaves in time is not told; discarding a stranger does nothing."""
    queue, expired = make(0.02)
    leaver, stayer = Owner(), Owner()
    queue.add(leaver)
    queue.add(stayer)
    queue.discard(leaver)
    queue.discard(leaver)
    queue.discard(Owner())
    await eventually(lambda: expired, "the other expired")
    assert expired == [stayer]


async def test_adding_again_starts_anew() -> None:
    """A second ``add`` restarts the wait and moves the owner behind the others."""
    queue, expired = make(0.05)
    first, second = Owner(), Owner()
    queue.add(first)
    queue.add(second)
    queue.add(first)
    assert len(queue) == 2
    await eventually(lambda: len(expired) == 2, "both expired")
    assert expired == [second, first]


async def test_an_owner_may_come_back_from_within() -> None:
    """``expire`` may add its owner again: it is told anew after a whole length."""
    told_s: list[float] = []

    def expire(owner: Owner) -> None:
        told_s.append(monotonic())
        if len(told_s) < 3:
            queue.add(owner)

    queue = DeadlineQueue(asyncio.get_running_loop(), 0.03, expire)
    queue.add(Owner())
    await eventually(lambda: len(told_s) == 3, "told three times")
    assert told_s[1] - told_s[0] >= 0.03
    assert told_s[2] - told_s[1] >= 0.03
    assert len(queue) == 0


async def test_one_fault_does_not_hold_up_the_others() -> None:
    """An ``expire`` that raises is reported to the loop; the next owner is told all the same."""
    loop = asyncio.get_running_loop()
    reported: list[Any] = []
    loop.set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
    expired: list[int] = []

    def expire(number: int) -> None:
        if number == 0:
            raise ValueError("a fault")
        expired.append(number)

    queue = DeadlineQueue(loop, 0.02, expire)
    queue.add(0)
    queue.add(1)
    await eventually(lambda: expired == [1], "the other expired")
    assert [str(error) for error in reported] == ["a fault"]
    loop.set_exception_handler(None)


async def test_an_expiry_may_remove_others() -> None:
    """Whoever is discarded from within an expiry is not told."""
    told: list[Owner] = []
    first, second = Owner(), Owner()

    def expire(owner: Owner) -> None:
        told.append(owner)
        queue.discard(second)

    queue = DeadlineQueue(asyncio.get_running_loop(), 0.02, expire)
    queue.add(first)
    queue.add(second)
    await eventually(lambda: told and len(queue) == 0, "the queue is empty")
    assert told == [first]


async def test_cleared_queues_are_silent() -> None:
    """After ``clear`` nobody is told, and the queue still works."""
    queue, expired = make(0.02)
    queue.add(Owner())
    queue.clear()
    assert len(queue) == 0
    later = Owner()
    queue.add(later)
    await eventually(lambda: expired, "the later one expired")
    assert expired == [later]


async def test_no_time_at_all() -> None:
    """A length of zero expires at the next tick."""
    queue, expired = make(0.0)
    queue.add(Owner())
    await eventually(lambda: expired, "expired", 1.0)


async def test_queues_by_length() -> None:
    """One queue per length, the same each time; together they count and clear."""
    expired: list[Owner] = []
    queues: DeadlineQueues[Owner] = DeadlineQueues(asyncio.get_running_loop(), expired.append)
    quick, slow = queues.of(0.02), queues.of(60.0)
    assert queues.of(0.02) is quick
    one, other = Owner(), Owner()
    slow.add(other)
    quick.add(one)
    assert len(queues) == 2
    await eventually(lambda: expired == [one], "the quick one expired")
    assert len(queues) == 1
    queues.clear()
    assert len(queues) == 0


async def test_a_sweep_goes_on_while_there_is_somebody_to_watch() -> None:
    """It looks again and again, sleeps when nobody is left, and can be woken."""
    looks: list[int] = []

    def look() -> bool:
        looks.append(1)
        return len(looks) % 3 != 0

    sweep = Sweep(asyncio.get_running_loop(), 0.01, look)
    sweep.wake()
    sweep.wake()
    await eventually(lambda: len(looks) == 3, "looked until nobody was left")
    assert sweep._handle is None
    sweep.wake()
    await eventually(lambda: len(looks) == 6, "looked again")
    sweep.wake()
    sweep.stop()
    assert sweep._handle is None


async def test_a_changed_length_counts_for_those_who_wait() -> None:
    """Who waits already waits as long as is said now, in the same order; a tick that was far off
    comes in time."""
    queue, expired = make(60.0)
    owners = [Owner() for _ in range(3)]
    for owner in owners:
        queue.add(owner)
    began_s = monotonic()
    queue.change_length(0.1)
    await eventually(lambda: len(expired) == 3, "all expired")
    assert expired == owners
    assert monotonic() - began_s >= 0.09
    queue.add(owners[0])
    queue.change_length(60.0)
    await asyncio.sleep(0)
    assert len(queue) == 1
    queue.clear()
