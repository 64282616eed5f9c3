"""Live figures of one backend: plain numbers that the data plane writes as calls go by.

They are the one thing shared by data plane and control plane that changes in place; everything
else is an immutable snapshot. Whoever reads them gets what is true now.
"""

from __future__ import annotations

from enum import StrEnum
from math import inf

from nexus.core.ewma import Ewma

__all__ = ["BackendLive", "BreakerState"]


class BreakerState(StrEnum):
    """A circuit breaker's three states."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BackendLive:
    """What is going on at one backend right now.

    ``in_flight``: our calls there. ``running``/``waiting``: what the engine said at the last poll
    (``None`` unknown), with ``begun_since_poll``/``ended_since_poll`` counted from then on;
    ``kv_usage``: how full its KV cache was then, 0 to 1, ``None`` unknown.
    ``parked_until_s``: it asked for patience (Retry-After), monotonic seconds. ``breaker``,
    ``open_until_s``, ``trial_in_flight``: the circuit breaker's state, moved only by
    ``health/breaker.py``, as is ``answered_s``, when a call last ended well (monotonic seconds).
    ``ttft``: model id → average seconds to the first token of real traffic;
    ``probe_s``: of the health check's round trip, used until there is traffic. ``version`` grows
    with every change that could move the backend in the order of attempt, so that the router works
    a score out anew only then: whoever sets one of these fields and not by a method adds 1.
    """

    __slots__ = (
        "answered_s",
        "begun_since_poll",
        "breaker",
        "consecutive_failures",
        "ended_since_poll",
        "errors_total",
        "in_flight",
        "kv_usage",
        "open_for_s",
        "open_until_s",
        "opened_times",
        "parked_until_s",
        "probe_s",
        "requests_total",
        "running",
        "trial_in_flight",
        "ttft",
        "version",
        "waiting",
        "window_began_s",
        "window_calls",
        "window_failures",
    )

    def __init__(self) -> None:
        self.version = 0
        self.in_flight = 0
        self.requests_total = 0
        self.errors_total = 0
        self.running: int | None = None
        self.waiting: int | None = None
        self.kv_usage: float | None = None
        self.begun_since_poll = 0
        self.ended_since_poll = 0
        self.parked_until_s = 0.0
        self.breaker = BreakerState.CLOSED
        self.open_until_s = 0.0
        self.open_for_s = 0.0
        self.opened_times = 0
        self.trial_in_flight = False
        self.consecutive_failures = 0
        self.answered_s = -inf
        self.window_began_s = 0.0
        self.window_calls = 0
        self.window_failures = 0
        self.ttft: dict[str, Ewma] = {}
        self.probe_s: float | None = None

    def begin(self) -> None:
        """A call of ours begins here."""
        self.version += 1
        self.in_flight += 1
        self.begun_since_poll += 1
        self.requests_total += 1

    def end(self) -> None:
        """A call of ours has ended here, however it ended."""
        self.version += 1
        self.in_flight -= 1
        self.ended_since_poll += 1

    def polled(
        self, running: int | None, waiting: int | None, kv_usage: float | None = None
    ) -> None:
        """The engine told its load; our own counting starts anew from there."""
        self.version += 1
        self.running = running
        self.waiting = waiting
        self.kv_usage = kv_usage
        self.begun_since_poll = 0
        self.ended_since_poll = 0

    def park(self, until_s: float) -> None:
        """It asks to be left alone until ``until_s``, monotonic seconds; the longest wish holds."""
        self.version += 1
        self.parked_until_s = max(self.parked_until_s, until_s)

    def probed(self, round_trip_s: float) -> None:
        """A health check took this long, seconds."""
        self.version += 1
        self.probe_s = round_trip_s

    def first_token(self, model_id: str, after_s: float, now_s: float) -> None:
        """A call's first token came ``after_s`` seconds after it was sent, at ``now_s``."""
        self.version += 1
        average = self.ttft.get(model_id)
        if average is None:
            average = self.ttft[model_id] = Ewma()
        average.add(after_s, now_s)

    def another_server(self) -> None:
        """Another server answers there now: what the last one told and taught says nothing of it.
        Calls under way stay counted, and the breaker minds what happens."""
        self.polled(None, None)
        self.parked_until_s = 0.0
        self.ttft = {}
        self.probe_s = None

    @property
    def busy(self) -> int:
        """Requests at work or waiting there: the larger of our own in flight and the engine's last
        word corrected by what we began and ended since (behaviour § 5.1)."""
        ours = self.in_flight
        running, waiting = self.running, self.waiting
        if running is None and waiting is None:
            return ours
        told = (running or 0) + (waiting or 0) + self.begun_since_poll - self.ended_since_poll
        return told if told > ours else ours

    def ttft_s(self, model_id: str) -> float | None:
        """Average time to first token for ``model_id``, seconds; the probe's time until there is
        traffic; ``None`` when nothing is known."""
        average = self.ttft.get(model_id)
        if average is not None and average.value is not None:
            return average.value
        return self.probe_s
