"""Switching faults on and off, in process and over HTTP."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault, Faults
from tests.unit.demo.wire import CHAT, fetch

CHAT_PATH = "/v1/chat/completions"


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 20), asked=st.integers(0, 40))
def test_a_counted_fault_strikes_so_often_and_no_more(count: int, asked: int) -> None:
    """``count`` inference requests fail, whatever else is asked between."""
    faults = Faults()
    faults.set(Fault.STATUS, count=count)
    struck = 0
    for _ in range(asked):
        assert faults.take(inference=False) is None
        struck += faults.take(inference=True) is not None
    assert struck == min(count, asked)
    assert (faults.mode is Fault.NONE) is (asked >= count)


def test_set_forgets_the_parameters_before() -> None:
    """Each fault starts from the defaults."""
    faults = Faults()
    faults.set(Fault.STATUS, status=418, health=True)
    faults.set(Fault.STALL)
    assert (faults.status, faults.health) == (500, False)


async def test_faults_spare_other_paths_unless_told() -> None:
    """Health and listing answer while inference fails; with ``health`` they fail too."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.STATUS, status=500)
        assert (await fetch(engine, CHAT_PATH, CHAT))[0] == 500
        assert (await fetch(engine, "/v1/models"))[0] == 200
        engine.faults.health = True
        assert (await fetch(engine, "/v1/models"))[0] == 500


async def test_faults_over_http() -> None:
    """A process's fault is posted, seen, told in the counters and deleted."""
    async with FakeEngine() as engine:
        order = {"mode": "status", "status": 503, "count": 2, "body": "busy"}
        assert (await fetch(engine, "/_demo/fault", order))[0] == 200
        status, _, body = await fetch(engine, CHAT_PATH, CHAT)
        assert (status, body) == (503, b"busy")
        assert json.loads((await fetch(engine, "/_demo/fault", method="DELETE"))[2]) == {
            "mode": "none"
        }
        assert (await fetch(engine, CHAT_PATH, CHAT))[0] == 200
        stats = json.loads((await fetch(engine, "/_demo/stats"))[2])
        assert stats["requests"] == stats["completed"] == 2
        assert stats["in_flight"] == stats["cancelled"] == 0
        assert stats["connections_opened"] == engine.connections_opened


async def test_control_paths_refuse_nonsense() -> None:
    """Unknown modes, unknown fields, wrong types and no JSON are 400; unknown paths 404."""
    async with FakeEngine() as engine:
        for body in ({"mode": "no"}, {"mode": "stall", "x": 1}, {"count": "many"}, b"{", [1]):
            assert (await fetch(engine, "/_demo/fault", body))[0] == 400
        assert (await fetch(engine, "/_demo/nope"))[0] == 404
        assert engine.faults.mode is Fault.NONE


async def test_speed_over_http() -> None:
    """The speed of a process can be set."""
    async with FakeEngine() as engine:
        assert (await fetch(engine, "/_demo/speed", {"tokens": 2}))[0] == 200
        answer = json.loads((await fetch(engine, CHAT_PATH, CHAT))[2])
        assert answer["usage"]["completion_tokens"] == 2


async def test_control_works_while_everything_fails() -> None:
    """A fault of all paths can still be cleared."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.RESET_BEFORE_HEAD, health=True)
        assert (await fetch(engine, "/_demo/fault", method="DELETE"))[0] == 200
        assert (await fetch(engine, CHAT_PATH, CHAT))[0] == 200
