"""The circuit breaker, call by call."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.live import BackendLive, BreakerState
from nexus.health import breaker

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def opened(at_s: float = 0.0) -> BackendLive:
    live = BackendLive()
    assert breaker.record_failure(live, at_s, hard=True)
    return live


def test_three_failures_in_a_row_open_it() -> None:
    """Two failures are bad luck, the third opens the breaker."""
    live = BackendLive()
    assert not breaker.record_failure(live, 1.0)
    assert not breaker.record_failure(live, 2.0)
    assert breaker.state(live, 2.0) is CLOSED
    assert breaker.record_failure(live, 3.0)
    assert breaker.state(live, 3.0) is OPEN
    assert live.opened_times == 1


def test_a_success_between_keeps_it_closed() -> None:
    """Failures only count in a row."""
    live = BackendLive()
    for at_s in (1.0, 2.0, 4.0, 5.0):
        breaker.record_failure(live, at_s)
        breaker.record_failure(live, at_s)
        breaker.record_success(live, at_s)
        live.window_calls = live.window_failures = 0
    assert breaker.state(live, 5.0) is CLOSED


def test_it_remembers_when_a_call_last_ended_well() -> None:
    """Whatever its state; failures are no sign of life."""
    live = BackendLive()
    breaker.record_success(live, 1.0)
    breaker.record_failure(live, 2.0, hard=True)
    assert live.answered_s == 1.0
    breaker.record_success(live, 3.0)
    assert (live.answered_s, breaker.state(live, 3.0)) == (3.0, CLOSED)


def test_a_refused_connection_opens_it_at_once() -> None:
    """Nobody listens there: one hard failure is enough."""
    live = BackendLive()
    assert breaker.record_failure(live, 1.0, hard=True)
    assert breaker.state(live, 1.0) is OPEN


def test_half_of_ten_calls_open_it() -> None:
    """An error rate of 50 % opens the breaker with the tenth call, not before."""
    live = BackendLive()
    for n in range(4):
        assert not breaker.record_failure(live, n)
        breaker.record_success(live, n)
    breaker.record_success(live, 4.0)
    assert breaker.state(live, 4.0) is not OPEN
    assert breaker.record_failure(live, 4.0)


def test_failures_of_an_older_window_do_not_count() -> None:
    """The error rate is that of ten seconds, not of the backend's life."""
    live = BackendLive()
    for n in range(4):
        breaker.record_failure(live, n)
        breaker.record_success(live, n)
    breaker.record_success(live, 4.0)
    assert not breaker.record_failure(live, 10.0)
    assert (live.window_calls, live.window_failures) == (1, 1)


def test_open_ends_after_one_second() -> None:
    """One second after it opened a trial may pass."""
    live = opened(5.0)
    assert breaker.state(live, 5.999) is OPEN
    assert not breaker.begin_trial(live, 5.999)
    assert breaker.state(live, 6.0) is HALF_OPEN
    assert breaker.begin_trial(live, 6.0)


def test_only_one_trial_at_a_time() -> None:
    """Half-open lets a single trial through until that has ended."""
    live = opened()
    assert breaker.begin_trial(live, 1.0)
    assert not breaker.begin_trial(live, 1.0)
    breaker.release_trial(live)
    assert breaker.state(live, 1.0) is HALF_OPEN
    assert breaker.begin_trial(live, 1.0)


def test_failed_trials_double_the_pause_up_to_eight_seconds() -> None:
    """1, 2, 4, 8, 8 seconds."""
    live = opened()
    pauses = [live.open_for_s]
    for _ in range(4):
        now_s = live.open_until_s
        assert breaker.begin_trial(live, now_s)
        assert breaker.record_failure(live, now_s)
        pauses.append(live.open_until_s - now_s)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0]


def test_late_failures_of_older_calls_do_not_prolong_it() -> None:
    """When a server dies its fifty calls fail together: the breaker opens once, for one second."""
    live = opened()
    for _ in range(50):
        assert not breaker.record_failure(live, 0.5, hard=True)
    assert live.open_until_s == 1.0
    assert live.opened_times == 1
    # One that comes after the pause opens it again, not for longer: no trial has failed.
    assert breaker.record_failure(live, 1.5)
    assert live.open_until_s == 2.5


def test_a_success_closes_it_and_forgets() -> None:
    """A good trial closes the breaker; the next outage starts at one second again."""
    live = opened()
    breaker.begin_trial(live, 1.0)
    breaker.record_failure(live, 1.0)
    breaker.begin_trial(live, 3.0)
    breaker.record_success(live, 3.5)
    assert breaker.state(live, 3.5) is CLOSED
    assert not live.trial_in_flight
    assert not breaker.record_failure(live, 3.6)
    breaker.record_failure(live, 3.6, hard=True)
    assert live.open_for_s == 1.0


def test_failures_before_an_outage_do_not_count_after_it() -> None:
    """Once closed, the error rate starts anew: one failure does not open it again."""
    live = BackendLive()
    for _ in range(4):
        breaker.record_failure(live, 1.0)
        breaker.record_success(live, 1.0)
    breaker.record_failure(live, 1.0, hard=True)
    breaker.begin_trial(live, 2.0)
    breaker.record_success(live, 2.0)
    assert not breaker.record_failure(live, 2.1)


def test_a_good_probe_makes_it_half_open_at_once() -> None:
    """A health check that found the backend well need not wait for the pause to end."""
    live = opened()
    breaker.probe_ok(live, 0.1)
    assert breaker.state(live, 0.1) is HALF_OPEN
    assert breaker.begin_trial(live, 0.1)


def test_a_good_probe_does_not_disturb_a_trial_or_a_closed_breaker() -> None:
    """A probe never lets a second trial in, and never opens anything."""
    live = opened()
    breaker.begin_trial(live, 1.0)
    breaker.probe_ok(live, 1.1)
    assert live.trial_in_flight
    assert not breaker.begin_trial(live, 1.1)
    closed = BackendLive()
    breaker.probe_ok(closed, 1.0)
    assert breaker.state(closed, 1.0) is CLOSED


@pytest.mark.parametrize("call", ["closed", "open"])
def test_no_trial_where_none_is_due(call: str) -> None:
    """A closed breaker needs no trial, an open one admits none."""
    live = BackendLive() if call == "closed" else opened()
    assert not breaker.begin_trial(live, 0.5)
    assert not live.trial_in_flight


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ok", "bad", "hard", "trial", "probe", "release"]),
        st.floats(0.0, 12.0, allow_nan=False),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=100)
@given(STEPS)
def test_whatever_happens_the_breaker_stays_sound(steps: list[tuple[str, float]]) -> None:
    """Never two trials, no negative count, a pause of 1 to 8 s, closed after a success."""
    live = BackendLive()
    now_s = 0.0
    for step, later_s in steps:
        now_s += later_s
        if step == "ok":
            breaker.record_success(live, now_s)
            assert breaker.state(live, now_s) is CLOSED
        elif step in ("bad", "hard"):
            was = breaker.state(live, now_s)
            did_open = breaker.record_failure(live, now_s, hard=step == "hard")
            assert did_open == (was is not OPEN and breaker.state(live, now_s) is OPEN)
            assert breaker.state(live, now_s) is OPEN or step == "bad"
        elif step == "trial":
            before = live.trial_in_flight
            begun = breaker.begin_trial(live, now_s)
            assert not (begun and before)
        elif step == "probe":
            breaker.probe_ok(live, now_s)
            assert breaker.state(live, now_s) is not OPEN
        else:
            breaker.release_trial(live)
        assert 0 <= live.window_failures <= live.window_calls
        assert live.consecutive_failures >= 0
        if live.trial_in_flight:
            assert live.breaker is HALF_OPEN
        if live.breaker is OPEN:
            assert 1.0 <= live.open_for_s <= 8.0
            assert live.open_until_s <= now_s + live.open_for_s + 1e-9
