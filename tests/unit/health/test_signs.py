"""What traffic saw while a check was under way, against what the check says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nexus.core.backend import EngineKind
from nexus.engines.adapter import Answer, CheckResult, Health
from nexus.health.probe import Probe
from nexus.health.signs import Signs, contradicted
from nexus.health.state import HealthSettings
from tests.unit.health.virtual import (
    GOOD,
    HEALTHY,
    REFUSED,
    TIMEOUT,
    UNHEALTHY,
    UNREACHED,
    Fleet,
    backend,
)

ONE_IS_ENOUGH = HealthSettings(failure_threshold=1)


def check(*, unanswered: bool = True, unreached: bool = False) -> Probe:
    """A failed check."""
    return Probe(
        engine=EngineKind.VLLM,
        result=CheckResult(health=Health.FAILED),
        duration_s=1.0,
        unanswered=unanswered,
        unreached=unreached,
    )


@pytest.mark.parametrize(
    ("failed", "now", "expected"),
    [
        (check(unreached=True), Signs(connects=4), True),
        (check(unreached=True), Signs(connects=3), False),
        (check(unreached=True), Signs(connects=3, heard_s=10.5), True),
        (check(), Signs(connects=4), False),
        (check(), Signs(connects=4, heard_s=10.0), False),
        (check(), Signs(connects=4, heard_s=10.5), True),
        (check(unanswered=False), Signs(connects=4, heard_s=10.5), False),
    ],
)
def test_only_what_is_as_good_as_what_the_check_missed_contradicts_it(
    failed: Probe, now: Signs, expected: bool
) -> None:
    """A connection, who could not connect; an answer, whoever heard none; nothing, a wrong answer;
    and only what came after the check had begun."""
    assert contradicted(failed, 10.0, 3, now) is expected


def ever_more_connects() -> Callable[[], Signs]:
    """Traffic that connects between any two looks."""
    connects = 0

    def signs() -> Signs:
        nonlocal connects
        connects += 1
        return Signs(connects=connects)

    return signs


def always_heard(fleet: Fleet) -> Callable[[], Signs]:
    """Traffic that is answered at any time."""
    return lambda: Signs(heard_s=fleet.time.now_s)


async def found_healthy(settings: HealthSettings | None = None) -> Fleet:
    """A fleet whose one backend has been found healthy at 0 s."""
    fleet = Fleet(settings)
    fleet.answer("b", GOOD)
    fleet.checker.watch(backend())
    return fleet


async def test_a_check_that_traffic_contradicts_is_made_again_at_once() -> None:
    """It found no way, a call has connected since: the second look decides, and nothing of the
    first is told or counted."""
    fleet = await found_healthy(ONE_IS_ENOUGH)
    async with fleet:
        await fleet.time.advance(10.0)
        looks = iter((UNREACHED, GOOD))
        fleet.answers["b"] = lambda _: next(looks)
        fleet.delay_s["b"] = 4.0
        fleet.signs["b"] = ever_more_connects()
        fleet.checker.suspect("b")
        await fleet.time.advance(10.0)
        assert fleet.asked_at("b") == [0.0, 10.0, 14.0]
        assert [(r.status, r.now_s) for r in fleet.reports] == [
            (HEALTHY, 1000.0),
            (HEALTHY, 1018.0),
        ]
        assert fleet.reports[-1].duration_ms == pytest.approx(4000.0)


async def test_an_answer_contradicts_a_check_that_heard_nothing() -> None:
    """The health endpoint was silent while a call was answered: it gets a second chance."""
    fleet = await found_healthy(ONE_IS_ENOUGH)
    async with fleet:
        await fleet.time.advance(10.0)
        looks = iter((TIMEOUT, GOOD))
        fleet.answers["b"] = lambda _: next(looks)
        fleet.delay_s["b"] = 1.0
        fleet.signs["b"] = always_heard(fleet)
        fleet.checker.suspect("b")
        await fleet.time.advance(10.0)
        assert [r.status for r in fleet.reports] == [HEALTHY, HEALTHY]


@pytest.mark.parametrize("answer", [UNREACHED, REFUSED, TIMEOUT])
async def test_traffic_puts_a_verdict_off_by_one_check(answer: Answer) -> None:
    """However much of it there is: the second check in a row decides, whatever was seen since."""
    fleet = await found_healthy()
    async with fleet:
        await fleet.time.advance(10.0)
        fleet.answer("b", answer)
        fleet.delay_s["b"] = 4.0
        fleet.signs["b"] = always_heard(fleet)
        fleet.checker.suspect("b")
        await fleet.time.advance(22.9)
        lost_s = next(r.now_s - 1010.0 for r in fleet.reports if r.status is UNHEALTHY)
        assert lost_s == (8.0 if answer is REFUSED else 19.0)  # without traffic 4 and 15


async def test_connections_save_nobody_who_is_silent() -> None:
    """A stopped process still has its connections accepted by the kernel: the verdict comes as
    soon as without them."""
    fleet = await found_healthy()
    async with fleet:
        await fleet.time.advance(1.0)
        fleet.delay_s["b"] = 1000.0
        fleet.signs["b"] = ever_more_connects()
        fleet.checker.suspect("b")
        await fleet.time.advance(20.0)
        assert fleet.asked_at("b")[1:4] == [1.0, 7.0, 14.0]
        assert [r.now_s for r in fleet.reports if r.status is UNHEALTHY] == [1019.0]


async def test_what_was_heard_before_the_check_began_is_no_news() -> None:
    """It says nothing of what the check found out later."""
    fleet = await found_healthy(ONE_IS_ENOUGH)
    async with fleet:
        await fleet.time.advance(10.0)
        fleet.answer("b", UNREACHED)
        fleet.delay_s["b"] = 4.0
        fleet.signs["b"] = lambda: Signs(connects=7, heard_s=1009.9)
        fleet.checker.suspect("b")
        await fleet.time.advance(4.0)
        assert fleet.asked_at("b") == [0.0, 10.0]
        assert fleet.reports[-1].status is UNHEALTHY


async def test_a_suspicion_during_the_first_look_is_answered_by_the_second() -> None:
    """No third check at once: the second began after the suspicion."""
    fleet = await found_healthy(ONE_IS_ENOUGH)
    async with fleet:
        await fleet.time.advance(10.0)
        looks = iter((UNREACHED, GOOD, GOOD))
        fleet.answers["b"] = lambda _: next(looks)
        fleet.delay_s["b"] = 4.0
        fleet.signs["b"] = ever_more_connects()
        fleet.checker.suspect("b")
        await fleet.time.advance(2.0)
        fleet.checker.suspect("b")
        await fleet.time.advance(8.0)
        assert fleet.asked_at("b") == [0.0, 10.0, 14.0]
        assert [r.status for r in fleet.reports] == [HEALTHY, HEALTHY]


@pytest.mark.parametrize("answer", [Answer(status=404), Answer(status=401)])
async def test_a_wrong_answer_is_an_answer(answer: Answer) -> None:
    """Who answers its check wrongly is alive, and that is not what is held against it."""
    fleet = await found_healthy(ONE_IS_ENOUGH)
    async with fleet:
        await fleet.time.advance(10.0)
        fleet.answer("b", answer)
        fleet.signs["b"] = always_heard(fleet)
        fleet.delay_s["b"] = 0.1
        fleet.checker.suspect("b")
        await fleet.time.advance(0.2)
        assert fleet.asked_at("b") == [0.0, 10.0]
        assert fleet.reports[-1].status is UNHEALTHY


async def test_a_failure_that_changes_nothing_is_not_looked_into() -> None:
    """Before the threshold, and of a backend that has no calls, one check is one check."""
    fleet = Fleet()
    fleet.answer("b", UNREACHED)
    fleet.delay_s["b"] = 0.5
    fleet.signs["b"] = always_heard(fleet)
    fleet.checker.watch(backend())
    async with fleet:
        await fleet.time.advance(1.0)
        assert [r.status for r in fleet.reports] == [UNHEALTHY]
        assert fleet.asked_at("b") == [0.0]
        await fleet.time.advance(1.0)
        assert [r.status for r in fleet.reports] == [UNHEALTHY, UNHEALTHY]
        assert fleet.asked_at("b") == [0.0, 1.5]


async def test_a_second_look_that_lacked_the_means_decides_nothing() -> None:
    """Out of descriptors: the backend keeps its status, and is asked again in a second."""
    fleet = await found_healthy(ONE_IS_ENOUGH)
    async with fleet:
        await fleet.time.advance(10.0)
        ours = Answer(status=0, error="out of descriptors", ours=True)
        looks = iter((UNREACHED, ours, GOOD))
        fleet.answers["b"] = lambda _: next(looks)
        fleet.signs["b"] = ever_more_connects()
        fleet.checker.suspect("b")
        await fleet.time.advance(2.0)
        assert fleet.asked_at("b") == [0.0, 10.0, 10.0, 11.0]
        assert [r.status for r in fleet.reports] == [HEALTHY, HEALTHY]


async def test_a_backend_may_go_during_the_second_look() -> None:
    """Nothing is told of it any more, and nothing goes on."""
    fleet = await found_healthy(ONE_IS_ENOUGH)
    async with fleet:
        await fleet.time.advance(10.0)
        fleet.answer("b", UNREACHED)
        fleet.delay_s["b"] = 4.0
        fleet.signs["b"] = ever_more_connects()
        fleet.checker.suspect("b")
        await fleet.time.advance(6.0)
        fleet.checker.forget("b")
        await fleet.time.advance(60.0)
        assert fleet.asked_at("b") == [0.0, 10.0, 14.0]
        assert [r.status for r in fleet.reports] == [HEALTHY]
        assert fleet.errors == []
