"""Driving one check: order, bounds, ends."""

from __future__ import annotations

import asyncio

import pytest

from nexus.core.backend import Backend, EngineKind
from nexus.engines.adapter import Answer, Ask, Check, CheckResult, Health
from nexus.health.probe import Probe, ProbeOverrunError, drive, poll_load, probe
from tests.unit.health.virtual import (
    REFUSED,
    TIMEOUT,
    UNREACHED,
    FakeAdapter,
    VirtualTime,
    backend,
    fake_fingerprint,
)


class ScriptedAdapter(FakeAdapter):
    """Asks the given rounds of paths, then tells what it heard."""

    def __init__(self, *rounds: tuple[str, ...]) -> None:
        super().__init__(EngineKind.VLLM)
        self.rounds = rounds
        self.heard: list[tuple[Answer, ...]] = []

    def check(self, spec: object, known: object) -> Check:
        for paths in self.rounds:
            self.heard.append((yield tuple(Ask(path) for path in paths)))
        return CheckResult(health=Health.HEALTHY)


async def run(
    adapter: ScriptedAdapter, time: VirtualTime, delays_s: dict[str, float], timeout_s: float = 5.0
) -> tuple[Probe, int]:
    """Probes through a fetch that answers each path with itself; also the most asked at once."""
    at_once = most = 0

    async def fetch(_: Backend, ask: Ask, limit_s: float) -> Answer:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        delay_s = delays_s.get(ask.path, 0.0)
        await time.sleep(min(delay_s, limit_s))
        at_once -= 1
        if delay_s > limit_s:
            return Answer(status=0, error="timeout")
        return Answer(status=200, body=ask.path.encode())

    task = asyncio.ensure_future(
        probe(
            backend(),
            engine=EngineKind.VLLM,
            known=(),
            adapters=lambda _: adapter,
            fingerprint=fake_fingerprint,
            fetch=fetch,
            timeout_s=timeout_s,
            clock=time.clock,
        )
    )
    await time.advance(100.0)
    return await task, most


async def test_answers_come_back_in_the_order_asked() -> None:
    """However long each took."""
    adapter = ScriptedAdapter(("/a", "/b", "/c"), ("/d",))
    time = VirtualTime()
    done, _ = await run(adapter, time, {"/a": 0.3, "/b": 0.1})
    bodies = [[answer.body for answer in answers] for answers in adapter.heard]
    assert bodies == [[b"/a", b"/b", b"/c"], [b"/d"]]
    assert done.round_trip_s == pytest.approx(0.3)
    assert done.duration_s == pytest.approx(0.3)


async def test_a_check_never_asks_more_than_eight_things_at_once() -> None:
    """Fifty models to look at do not crowd out real calls."""
    paths = tuple(f"/{n}" for n in range(50))
    adapter = ScriptedAdapter(paths)
    _, most = await run(adapter, VirtualTime(), dict.fromkeys(paths, 0.1))
    assert most == 8
    assert all(answer.status == 200 for answer in adapter.heard[0])


async def test_a_round_ends_with_its_timeout() -> None:
    """What was not answered (or not even asked) by then counts as no answer."""
    paths = tuple(f"/{n}" for n in range(9))
    adapter = ScriptedAdapter(paths)
    done, _ = await run(adapter, VirtualTime(), dict.fromkeys(paths[:8], 60.0))
    assert done.duration_s == pytest.approx(5.0)
    assert [answer.error for answer in adapter.heard[0]] == [
        *["timeout"] * 8,
        "no time left to ask for /8",
    ]
    assert done.round_trip_s is None


async def test_a_whole_check_is_bounded() -> None:
    """Slow round after slow round ends after two timeouts, all rounds together."""
    adapter = ScriptedAdapter(*[(f"/{n}",) for n in range(10)])
    done, _ = await run(adapter, VirtualTime(), {f"/{n}": 4.0 for n in range(10)})
    assert done.duration_s == pytest.approx(10.0)
    assert [bool(answers[0].status) for answers in adapter.heard[:4]] == [True, True, False, False]


async def test_a_check_without_end_is_ended() -> None:
    """An adapter that asks for ever is at fault, and is told so."""

    def endless() -> Check:
        while True:
            yield (Ask("/again"),)

    async def ask(asks: tuple[Ask, ...]) -> tuple[Answer, ...]:
        return tuple(Answer(status=200) for _ in asks)

    steps = endless()
    with pytest.raises(ProbeOverrunError):
        await drive(steps, ask)
    with pytest.raises(StopIteration):
        next(steps)


async def test_a_check_may_ask_nothing() -> None:
    """A result without a question is a result."""

    def silent() -> Check:
        yield from ()
        return CheckResult(health=Health.HEALTHY)

    async def ask(asks: tuple[Ask, ...]) -> tuple[Answer, ...]:
        raise AssertionError("nothing was to be asked")

    assert (await drive(silent(), ask)).health is Health.HEALTHY


@pytest.mark.parametrize(
    ("answers", "unanswered", "unreached"),
    [
        ((REFUSED, UNREACHED), True, True),
        ((UNREACHED, TIMEOUT), True, False),
        ((TIMEOUT, TIMEOUT), True, False),
        ((UNREACHED, Answer(status=500)), False, False),
        ((Answer(status=200), Answer(status=200)), False, False),
    ],
)
async def test_a_check_tells_how_far_it_came(
    answers: tuple[Answer, ...], unanswered: bool, unreached: bool
) -> None:
    """Without a connection, without an answer, or with one at least: all its requests count."""

    async def fetch(_: Backend, ask: Ask, limit_s: float) -> Answer:
        return answers[int(ask.path[1:])]

    done = await probe(
        backend(),
        engine=EngineKind.VLLM,
        known=(),
        adapters=lambda _: ScriptedAdapter(("/0",), ("/1",)),
        fingerprint=fake_fingerprint,
        fetch=fetch,
        timeout_s=5.0,
        clock=VirtualTime().clock,
    )
    assert (done.unanswered, done.unreached) == (unanswered, unreached)


async def test_a_fetch_that_overstays_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a fetch that forgets its deadline cannot hold a check."""
    monkeypatch.setattr("nexus.health.probe._GRACE_S", 0.0)
    cut = False

    async def fetch(_: Backend, ask: Ask, limit_s: float) -> Answer:
        nonlocal cut
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cut = True
            raise
        raise AssertionError("never")

    told = await poll_load(
        backend(),
        FakeAdapter(EngineKind.VLLM, tells_load=True),
        fetch=fetch,
        timeout_s=0.001,
        clock=VirtualTime().clock,
    )
    assert told is not None
    assert told.running is None
    assert cut
