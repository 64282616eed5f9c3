"""A simulation that never complains proves nothing: each rule of the gateway that is broken here on
purpose must break an invariant within a few runs."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest

from nexus.core.limits import Budget
from nexus.core.live import BackendLive
from nexus.health import breaker, checker, state
from nexus.http1.pool import Pool
from nexus.http1.timers import DeadlineQueue
from nexus.http1.upstream import UpstreamConnection
from nexus.proxy.exchange import CallState, Exchange
from nexus.proxy.plane import DataPlane
from nexus.proxy.relay import StreamAnswer
from nexus.routing.router import Router
from nexus.streams.sse import EventBuffer
from nexus.streams.tap import Tap
from tests.simulation.clock import simulated_time
from tests.simulation.loop import Livelock
from tests.simulation.world import simulate

_RUNS_MAX = 400
_KNOWN = {
    "trials are never given back": 15,
    "a broken stream ends in silence": 80,
    "a finish reason is not waited for": 325,
    "a deadline is not kept": 80,
    "who came back is not asked": 29,
    "limits are not looked at": 83,
    "a slow client is not waited for": 21,
    "a slow client is never read for again": 271,
    "lost backends are checked once a minute": 139,
    "a check is right although a call has connected since": 562455,
}
"""Where what is rarely noticed is noticed, so that no time is lost with looking for it."""


def _nothing(*_: Any, **__: Any) -> None:
    """Does not do what it should."""


def _never(*_: Any, **__: Any) -> bool:
    return False


def _nobody(*_: Any, **__: Any) -> int:
    return 0


def _commit_forgotten(exchange: Exchange) -> None:
    """The client has seen something, and the call may still go elsewhere."""
    exchange.state = CallState.RELAYING


def _recorded_twice(plane: DataPlane, record: Any, _finished: Any = DataPlane.finished) -> None:
    _finished(plane, record)
    plane.hooks.record(record)


def _not_recorded(plane: DataPlane, record: Any) -> None:
    plane.in_flight -= 1


def _as_it_comes(_: EventBuffer, data: bytes) -> bytes:
    return data


def _closed_quietly(answer: StreamAnswer, _: Any) -> None:
    answer._exchange.complete(b"")


def _raises(*_: Any, **__: Any) -> None:
    raise KeyError("a fault of our own")


def _to_anybody(pool: Pool) -> UpstreamConnection | None:
    """Connections at work are handed out as well."""
    for connection in pool._connections:
        if connection._transport is not None and not connection._transport.is_closing():
            connection.handler = None
            return connection
    return None


def _said_again(exchange: Exchange, data: bytes, _send: Any = Exchange.send) -> None:
    _send(exchange, data)
    if exchange.committed:
        _send(exchange, data)


_MUTATIONS: dict[str, tuple[object, str, Callable[..., Any] | float, str]] = {
    "the commit is forgotten": (Exchange, "_commit", _commit_forgotten, ""),
    "a call is never counted back": (BackendLive, "end", _nothing, "in flight at backends"),
    "bytes are never given back": (Budget, "give", _nothing, "the budget holds"),
    "deadlines are never taken back": (DeadlineQueue, "discard", _nothing, "deadlines"),
    "trials are never given back": (breaker, "release_trial", _nothing, "trials"),
    "a call is recorded twice": (DataPlane, "finished", _recorded_twice, "two records"),
    "a call is not recorded": (DataPlane, "finished", _not_recorded, "has no record"),
    "events are cut": (EventBuffer, "feed", _as_it_comes, "half an event"),
    "a broken stream ends in silence": (StreamAnswer, "_close", _closed_quietly, ""),
    "a finish reason is not waited for": (Tap, "premature_done", _nothing, ""),
    "a deadline is not kept": (Exchange, "_on_deadline", _nothing, ""),
    "nobody else is asked": (Exchange, "_may_go_on", _never, "could have been asked"),
    "who came back is not asked": (Exchange, "_plan_on", _nobody, "could have been asked"),
    "limits are not looked at": (Exchange, "_unready", _never, "may have"),
    "a slow client is not waited for": (Exchange, "on_client_paused", _nothing, "to read"),
    "a slow client is never read for again": (Exchange, "on_client_resumed", _nothing, ""),
    "who left is not noticed": (Exchange, "on_client_gone", _nothing, ""),
    "busy connections are handed out": (Pool, "take", _to_anybody, ""),
    "connections are not given up": (UpstreamConnection, "discard", _nothing, ""),
    "routing raises": (Router, "route", _raises, "a fault of our own"),
    "bytes are said twice": (Exchange, "send", _said_again, "twice"),
    "lost backends are checked once a minute": (state, "_LONGEST_DELAY_S", 60.0, "not healthy"),
    "a check is right although a call has connected since": (
        checker,
        "contradicted",
        _never,
        "a call after all healed",
    ),
}


@pytest.mark.parametrize("what", _MUTATIONS)
def test_a_broken_rule_breaks_a_run(what: str) -> None:
    """Within 400 runs, half of them in the first, and for the reason that is expected."""
    owner, name, broken, expected = _MUTATIONS[what]
    gc.collect()
    with patch.object(owner, name, broken), simulated_time():
        for seed in (_KNOWN.get(what, 1), *range(1, _RUNS_MAX)):
            complaints = simulate(seed).broken
            if any(expected in complaint for complaint in complaints):
                return
    pytest.fail(f"{_RUNS_MAX} runs did not notice that {what}")


def test_a_livelock_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two parts that wake each other for ever end the run, not the patience."""
    monkeypatch.setattr("tests.simulation.loop.STEPS_MAX", 50)
    with simulated_time():
        run = simulate(1)
    assert "more than 50 steps" in run.broken[0]
    assert issubclass(Livelock, Exception)
