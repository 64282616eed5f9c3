"""The health checker on virtual time: when it asks, what it reports, how it ends."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from random import Random

import msgspec
import pytest

from nexus.core.backend import Backend, EngineKind, Source
from nexus.core.live import BackendLive
from nexus.core.model import Model
from nexus.engines.adapter import Answer, Ask, Health
from nexus.engines.fingerprint import fingerprint
from nexus.engines.table import adapter_for
from nexus.health.checker import HealthChecker
from nexus.health.report import CheckReport
from nexus.health.state import HealthSettings
from tests.unit.health.virtual import (
    GOOD,
    HEALTHY,
    REFUSED,
    TIMEOUT,
    UNHEALTHY,
    UNIX_S,
    UNKNOWN,
    Fleet,
    backend,
)


async def test_a_new_backend_is_checked_at_once() -> None:
    """No time passes between ``watch`` and the report, before ``run`` and after it."""
    fleet = Fleet()
    fleet.answer("a", GOOD)
    fleet.answer("b", GOOD)
    fleet.checker.watch(backend("a"))
    async with fleet:
        fleet.checker.watch(backend("b"))
        await fleet.time.settle()
        assert [(r.name, r.status) for r in fleet.reports] == [("a", HEALTHY), ("b", HEALTHY)]
        report = fleet.reports[0]
        assert report.result.models == (Model(id="m", engine_name="m"),)
        assert (report.engine, report.at_s, report.now_s) == (
            EngineKind.VLLM,
            UNIX_S + 1000.0,
            1000.0,
        )


async def test_a_healthy_backend_is_checked_each_interval_jittered() -> None:
    """About every 30 s, never exactly in step."""
    fleet = Fleet()
    fleet.answer("b", GOOD)
    fleet.checker.watch(backend())
    async with fleet:
        await fleet.time.advance(330.0)
    times = fleet.asked_at("b")
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(gaps) >= 9
    assert all(27.0 <= gap <= 33.0 for gap in gaps)
    assert len(set(gaps)) == len(gaps)


async def test_a_lost_backend_serves_again_within_fifteen_seconds() -> None:
    """Refused for a minute: probed after 1, 2, 4, 8, 8 ... s; back, it is healthy soon."""
    fleet = Fleet()
    fleet.answer("b", REFUSED)
    fleet.checker.watch(backend())
    async with fleet:
        await fleet.time.advance(60.0)
        assert fleet.asked_at("b") == [0.0, 1.0, 3.0, 7.0, 15.0, 23.0, 31.0, 39.0, 47.0, 55.0]
        assert fleet.reports[-1].status is UNHEALTHY
        fleet.answer("b", GOOD)
        await fleet.time.advance(15.0)
        back = next(r for r in fleet.reports if r.status is HEALTHY)
        assert back.now_s - 1060.0 <= 15.0


async def test_our_own_shortage_says_nothing_of_a_backend() -> None:
    """Without a descriptor to ask with nothing is reported; it is asked again each second."""
    fleet = Fleet()
    fleet.answer("b", Answer(status=0, error="out of descriptors", ours=True))
    fleet.checker.watch(backend())
    async with fleet:
        await fleet.time.advance(3.5)
        assert fleet.asked_at("b") == [0.0, 1.0, 2.0, 3.0]
        assert fleet.reports == []
        fleet.answer("b", GOOD)
        await fleet.time.advance(1.0)
        assert [report.status for report in fleet.reports] == [HEALTHY]


async def test_a_suspect_is_checked_at_once() -> None:
    """Traffic was refused and the check confirms it: unhealthy without waiting."""
    fleet = Fleet()
    fleet.answer("b", GOOD)
    fleet.checker.watch(backend())
    async with fleet:
        await fleet.time.advance(10.0)
        fleet.answer("b", REFUSED)
        fleet.checker.suspect("b")
        await fleet.time.settle()
        assert [r.status for r in fleet.reports] == [HEALTHY, UNHEALTHY]
        assert fleet.reports[-1].reason == "connection refused"


async def test_many_suspicions_are_one_check() -> None:
    """A hundred failing calls do not make a hundred probes: one at a time, 0.2 s apart."""
    fleet = Fleet()
    fleet.answer("b", GOOD)
    fleet.checker.watch(backend())
    async with fleet:
        await fleet.time.advance(10.0)
        fleet.delay_s["b"] = 0.05
        for _ in range(100):
            fleet.checker.suspect("b")
            await fleet.time.advance(0.01)
        await fleet.time.advance(5.0)
    times = [at_s for at_s in fleet.asked_at("b") if at_s > 0]
    assert 5 <= len(times) <= 7
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) >= 0.2 - 1e-9
    assert fleet.asking_most == 1


async def test_who_waits_for_a_suspicion_waits_quietly() -> None:
    """A check that is due in 0.2 s is slept for once: waiting again and again keeps a core busy."""
    fleet = Fleet()
    fleet.answer("b", GOOD)
    fleet.checker.watch(backend())
    async with fleet:
        await fleet.time.advance(10.0)
        fleet.checker.suspect("b")
        await fleet.time.settle()
        fleet.checker.suspect("b")
        before = fleet.time.slept_times
        await fleet.time.settle()
        assert fleet.time.slept_times - before <= 2


async def test_a_suspicion_during_a_check_is_followed_by_another() -> None:
    """The check under way may have asked before the failure."""
    fleet = Fleet()
    fleet.answer("b", GOOD)
    fleet.delay_s["b"] = 1.0
    fleet.checker.watch(backend())
    async with fleet:
        await fleet.time.advance(0.5)
        fleet.checker.suspect("b")
        await fleet.time.advance(1.0)
        assert fleet.asked_at("b") == [0.0, 1.0]


async def test_a_stopped_process_is_unhealthy_within_half_a_minute() -> None:
    """It accepts and says nothing: three timeouts in quick succession, not one per interval."""
    fleet = Fleet()
    fleet.answer("b", GOOD)
    fleet.checker.watch(backend())
    async with fleet:
        await fleet.time.advance(1.0)
        fleet.delay_s["b"] = 1000.0
        fleet.checker.suspect("b")
        await fleet.time.advance(20.0)
        assert [r.status for r in fleet.reports] == [HEALTHY, HEALTHY, HEALTHY, UNHEALTHY]
        assert fleet.reports[1].reason == "1 of 3 checks failed: timeout"
        assert fleet.reports[1].duration_ms == pytest.approx(5000.0)


async def test_a_loading_backend_is_asked_every_two_seconds() -> None:
    """Loading is neither healthy nor a failure."""
    fleet = Fleet()
    fleet.answer("b", Answer(status=503))
    fleet.checker.watch(backend())
    async with fleet:
        await fleet.time.advance(5.0)
        assert fleet.asked_at("b") == [0.0, 2.0, 4.0]
        assert {r.status for r in fleet.reports} == {UNKNOWN}
        fleet.answer("b", GOOD)
        await fleet.time.advance(1.0)
        assert fleet.reports[-1].status is HEALTHY


async def test_an_unknown_engine_is_fingerprinted_once() -> None:
    """What answers is found out first; afterwards its adapter is known."""
    fleet = Fleet()
    fleet.answers["b"] = lambda ask: Answer(status=404) if ask.path == "/who" else GOOD
    fleet.checker.watch(backend(engine=None))
    async with fleet:
        await fleet.time.advance(40.0)
    assert {r.engine for r in fleet.reports} == {EngineKind.VLLM}
    assert len(fleet.asked_at("b")) == 2
    assert len(fleet.asked_at("b", "/version")) == 1


async def test_another_engine_may_come_back() -> None:
    """An engine that was found out is found out anew after an outage."""
    fleet = Fleet()
    fleet.answer("b", GOOD)
    fleet.checker.watch(backend(engine=None))
    async with fleet:
        await fleet.time.advance(1.0)
        fleet.answer("b", REFUSED)
        fleet.checker.suspect("b")
        await fleet.time.advance(1.5)
        assert fleet.reports[-1].engine is None
        assert fleet.reports[-1].result.health is Health.LOST
    assert len(fleet.asked_at("b", "/version")) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(status=404), "not an LLM server: answered 404"),
        (REFUSED, "connection refused"),
        (TIMEOUT, "timeout"),
    ],
)
async def test_what_is_no_engine_is_unhealthy_with_the_reason(answer: Answer, reason: str) -> None:
    """A stranger, an empty room and silence are told apart."""
    fleet = Fleet()
    fleet.answer("b", answer)
    fleet.checker.watch(backend(engine=None))
    async with fleet:
        (report,) = fleet.reports
    assert (report.status, report.reason, report.engine) == (UNHEALTHY, reason, None)


async def test_an_engine_that_loads_is_found_out_when_it_has_loaded() -> None:
    """While it loads its kind is only a guess, which must not last."""
    fleet = Fleet()
    fleet.answer("b", Answer(status=503))
    fleet.checker.watch(backend(engine=None))
    async with fleet:
        assert [(r.status, r.engine) for r in fleet.reports] == [(UNKNOWN, None)]
        fleet.answer("b", GOOD)
        await fleet.time.advance(2.0)
        assert [(r.status, r.engine) for r in fleet.reports[1:]] == [(HEALTHY, EngineKind.VLLM)]


async def test_a_merely_compatible_server_is_looked_at_again() -> None:
    """It may be an engine that was too slow to confirm itself."""
    fleet = Fleet()
    fleet.answers["b"] = lambda ask: Answer(status=299) if ask.path == "/version" else GOOD
    fleet.checker.watch(backend(engine=None))
    async with fleet:
        fleet.answer("b", GOOD)
        await fleet.time.advance(33.0)
    assert [r.engine for r in fleet.reports] == [EngineKind.GENERIC, EngineKind.VLLM]


@pytest.mark.parametrize(
    ("status", "source", "models", "engine"),
    [
        (298, Source.STATIC, (), EngineKind.GENERIC),
        (298, Source.SCAN, (), None),
        (404, Source.STATIC, ("m",), EngineKind.GENERIC),
        (404, Source.SCAN, ("m",), None),
    ],
)
async def test_what_the_operator_named_is_taken_at_its_word(
    status: int, source: Source, models: tuple[str, ...], engine: EngineKind | None
) -> None:
    """Another Nexus, or a server without a model list, is a backend only when somebody said so."""
    fleet = Fleet()
    fleet.answers["b"] = lambda ask: Answer(status) if ask.path == "/version" else GOOD
    fleet.checker.watch(backend(engine=None, source=source, models=models))
    async with fleet:
        (report,) = fleet.reports
    assert report.engine is engine
    assert (report.status is HEALTHY) == (engine is not None)


async def test_without_checks_a_backend_is_asked_once() -> None:
    """``enabled = false``: one check, no more, suspected or not, until they are turned on."""
    fleet = Fleet(HealthSettings(enabled=False))
    fleet.answer("b", GOOD)
    fleet.checker.watch(backend())
    async with fleet:
        await fleet.time.advance(100.0)
        fleet.checker.suspect("b")
        await fleet.time.advance(100.0)
        assert fleet.asked_at("b") == [0.0]
        assert fleet.reports[0].status is HEALTHY
        fleet.checker.configure(HealthSettings())
        await fleet.time.advance(40.0)
        assert len(fleet.asked_at("b")) == 3


async def test_the_last_models_are_handed_to_the_next_check() -> None:
    """So that unchanged models need not be asked about again, also after the spec changed."""
    fleet = Fleet()
    fleet.answer("b", GOOD)
    fleet.checker.watch(backend())
    async with fleet:
        fleet.checker.watch(backend())
        await fleet.time.settle()
    model = Model(id="m", engine_name="m")
    assert fleet.adapter.known == [(), (model,)]
    assert fleet.asked_at("b") == [0.0, 0.0]


async def test_a_forgotten_backend_is_neither_asked_nor_reported() -> None:
    """Not even when its check was under way."""
    fleet = Fleet()
    fleet.answer("b", GOOD)
    fleet.delay_s["b"] = 1.0
    fleet.checker.watch(backend())
    async with fleet:
        fleet.checker.forget("b")
        fleet.checker.forget("never there")
        fleet.checker.suspect("b")
        await fleet.time.advance(100.0)
    assert fleet.reports == []
    assert len(fleet.asked) == 1


async def test_probe_now_returns_when_it_is_reported() -> None:
    """The admin's refresh: one more check, and the schedule goes on from there."""
    fleet = Fleet()
    fleet.answer("b", GOOD)
    fleet.checker.watch(backend())
    async with fleet:
        await fleet.time.advance(10.0)
        await fleet.checker.probe_now("b")
        assert len(fleet.reports) == 2
        await fleet.time.advance(26.0)
        assert len(fleet.reports) == 2
        await fleet.time.advance(8.0)
        assert len(fleet.reports) == 3
        with pytest.raises(KeyError):
            await fleet.checker.probe_now("never there")


async def test_checks_asked_for_at_the_same_time_wait_for_each_other() -> None:
    """Never two checks of one backend at once, whoever asks."""
    fleet = Fleet()
    fleet.answer("b", GOOD)
    fleet.delay_s["b"] = 1.0
    fleet.checker.watch(backend())
    async with fleet:
        asking = [asyncio.ensure_future(fleet.checker.probe_now("b")) for _ in range(3)]
        await fleet.time.advance(5.0)
        assert all(task.done() for task in asking)
    assert fleet.asking_most == 1


async def test_what_is_forgotten_during_a_probe_now_is_not_reported() -> None:
    """The check ends, its caller goes on, nobody hears of it."""
    fleet = Fleet()
    fleet.answer("b", GOOD)
    fleet.delay_s["b"] = 1.0
    fleet.checker.watch(backend())
    asking = asyncio.ensure_future(fleet.checker.probe_now("b"))
    await fleet.time.settle()
    fleet.checker.forget("b")
    await fleet.time.advance(2.0)
    await asking
    assert fleet.reports == []


async def test_a_changed_spec_keeps_the_health_of_the_same_server_only() -> None:
    """One bad check is borne by what was healthy; another server's first check decides."""
    fleet = Fleet()
    fleet.answer("b", GOOD)
    fleet.checker.watch(backend())
    async with fleet:
        fleet.answer("b", TIMEOUT)
        fleet.checker.watch(backend())
        await fleet.time.settle()
        fleet.checker.watch(msgspec.structs.replace(backend(), address=backend("moved").address))
        await fleet.time.settle()
    assert [r.status for r in fleet.reports] == [HEALTHY, HEALTHY, UNHEALTHY]


async def test_a_cancelled_probe_now_does_not_end_the_checks() -> None:
    """The admin's connection broke in the middle: the backend is checked by its own task."""
    fleet = Fleet()
    fleet.answer("b", GOOD)
    fleet.checker.watch(backend())
    async with fleet:
        await fleet.time.advance(10.0)
        fleet.delay_s["b"] = 1.0
        asking = asyncio.ensure_future(fleet.checker.probe_now("b"))
        await fleet.time.settle()
        asking.cancel()
        await fleet.time.advance(2.0)
        assert len(fleet.reports) == 2


async def test_a_fault_of_our_own_is_told_and_the_checks_go_on() -> None:
    """A raising adapter is a failed check and a logged exception, never a dead task."""

    def broken(_: Ask) -> Answer:
        raise ValueError("bug")

    fleet = Fleet()
    fleet.answers["b"] = broken
    fleet.checker.watch(backend())
    async with fleet:
        assert [(name, str(error)) for name, error in fleet.errors] == [("b", "bug")]
        assert fleet.reports[-1].status is UNHEALTHY
        fleet.answer("b", GOOD)
        await fleet.time.advance(15.0)
        assert fleet.reports[-1].status is HEALTHY


async def test_a_raising_listener_does_not_end_the_checks() -> None:
    """Who takes the report may fail; the backend is still checked on time."""
    fleet = Fleet()
    fleet.answer("b", GOOD)

    def fail(report: CheckReport) -> None:
        raise RuntimeError("bad listener")

    fleet.checker._report = fail
    fleet.checker.watch(backend())
    async with fleet:
        await fleet.time.advance(70.0)
    assert len(fleet.asked_at("b")) == 3
    assert len(fleet.errors) == 3


async def test_a_machine_that_slept_checks_everything() -> None:
    """The wall clock jumped: every backend is due, and ``on_wake`` drops the pools."""
    fleet = Fleet()
    for name in ("a", "b"):
        fleet.answer(name, GOOD)
        fleet.checker.watch(backend(name))
    async with fleet:
        await fleet.time.advance(5.0)
        assert fleet.woken == 0
        fleet.time.slept_s = 3600.0
        await fleet.time.advance(2.0)
        assert fleet.woken == 1
        assert len(fleet.reports) == 4
        await fleet.time.advance(5.0)
        assert fleet.woken == 1


async def test_load_is_asked_for_only_while_calls_are_under_way() -> None:
    """Every 2 s with calls in flight, never on an idle backend."""
    fleet = Fleet(tells_load=True)
    fleet.answers["b"] = lambda ask: Answer(200, b"3") if ask.path == "/load" else GOOD
    live = fleet.live["b"] = BackendLive()
    fleet.checker.watch(backend())
    async with fleet:
        await fleet.time.advance(5.0)
        assert fleet.asked_at("b", "/load") == []
        live.begin()
        await fleet.time.advance(4.0)
        assert fleet.asked_at("b", "/load") == [6.0, 8.0]
        assert (live.running, live.waiting, live.begun_since_poll) == (3, 0, 0)
        live.end()
        await fleet.time.advance(4.0)
        assert len(fleet.asked_at("b", "/load")) == 2
        live.begin()
        fleet.answer("b", REFUSED)
        await fleet.time.advance(2.0)
        assert live.running is None


async def test_an_engine_without_load_is_not_asked() -> None:
    """Its adapter says so."""
    fleet = Fleet()
    fleet.answer("b", GOOD)
    fleet.live["b"] = BackendLive()
    fleet.live["b"].begin()
    fleet.checker.watch(backend())
    async with fleet:
        await fleet.time.advance(10.0)
    assert fleet.asked_at("b", "/load") == []
    assert fleet.errors == []


async def test_closing_ends_checks_under_way() -> None:
    """``aclose`` waits for nothing and leaves no task behind."""
    fleet = Fleet()
    fleet.answer("b", GOOD)
    fleet.delay_s["b"] = 4.0
    before = asyncio.all_tasks()
    fleet.checker.watch(backend())
    async with fleet:
        pass
    assert fleet.reports == []
    assert asyncio.all_tasks() == before


async def test_closing_what_never_ran_returns() -> None:
    """A start that failed may close everything it had built."""
    await Fleet().checker.aclose()


async def test_cancelling_run_ends_everything() -> None:
    """A cancelled ``run`` leaves no task behind, and later calls do no harm."""
    fleet = Fleet()
    fleet.answer("b", GOOD)
    before = asyncio.all_tasks()
    fleet.checker.watch(backend())
    running = asyncio.ensure_future(fleet.checker.run())
    await fleet.time.settle()
    running.cancel()
    await asyncio.wait([running])
    fleet.checker.watch(backend("late"))
    await fleet.checker.aclose()
    assert asyncio.all_tasks() == before


async def test_the_real_fingerprint_and_adapters_fit() -> None:
    """An unknown server that answers like vLLM is found out, and its models are reported."""
    listing = {
        "object": "list",
        "data": [{"id": "m", "object": "model", "owned_by": "vllm", "max_model_len": 2048}],
    }
    answers = {
        "/v1/models": Answer(200, msgspec.json.encode(listing)),
        "/version": Answer(200, b'{"version":"0.9.1"}'),
        "/health": Answer(200),
    }
    reports: list[CheckReport] = []

    async def fetch(_: Backend, ask: Ask, timeout_s: float) -> Answer:
        return answers.get(ask.path, Answer(404))

    checker = HealthChecker(
        settings=HealthSettings(),
        fetch=fetch,
        report=reports.append,
        adapters=adapter_for,
        fingerprint=fingerprint,
        on_error=lambda name, error: pytest.fail(repr(error)),
        rng=Random(1),
    )
    checker.watch(backend(engine=None))
    await checker.probe_now("b")
    (report,) = reports
    assert (report.status, report.engine) == (HEALTHY, EngineKind.VLLM)
    assert report.result.models is not None
    assert [(m.id, m.context_length) for m in report.result.models] == [("m", 2048)]
