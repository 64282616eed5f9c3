"""The circuit breaker of one backend: what real traffic says of it.

Closed, calls pass. It opens when calls fail: three in a row, half of at least ten within ten
seconds, or a single refused or reset connection (*hard*). Open, nobody needs to try. After one
second it is half-open and lets a single trial through: a success closes it, a failure opens it for
twice as long, up to eight seconds (behaviour § 4).

Pure functions over :class:`~nexus.core.live.BackendLive`; ``now_s`` is monotonic seconds. This is
the only file that moves the breaker's fields. It leaves ``errors_total`` to whoever counts calls.
"""

from __future__ import annotations

from nexus.core.live import BackendLive, BreakerState

__all__ = [
    "CONSECUTIVE_FAILURES_MAX",
    "OPEN_FIRST_S",
    "OPEN_LONGEST_S",
    "WINDOW_CALLS_MIN",
    "WINDOW_S",
    "begin_trial",
    "probe_ok",
    "record_failure",
    "record_success",
    "release_trial",
    "state",
]

CONSECUTIVE_FAILURES_MAX = 3
OPEN_FIRST_S = 1.0
OPEN_LONGEST_S = 8.0
WINDOW_S = 10.0
WINDOW_CALLS_MIN = 10


def state(live: BackendLive, now_s: float) -> BreakerState:
    """The state at ``now_s``: an open breaker whose time is over counts as half-open."""
    if live.breaker is BreakerState.OPEN and now_s >= live.open_until_s:
        return BreakerState.HALF_OPEN
    return live.breaker


def record_success(live: BackendLive, now_s: float) -> None:
    """A call ended well: closes the breaker, whatever it was, and forgets the failures."""
    live.consecutive_failures = 0
    live.answered_s = now_s
    if live.breaker is BreakerState.CLOSED:
        _count(live, now_s, failed=False)
        return
    live.version += 1
    live.breaker = BreakerState.CLOSED
    live.open_until_s = 0.0
    live.open_for_s = 0.0
    live.trial_in_flight = False
    # The window's failures belong to the outage that is over; they must not open it again.
    live.window_began_s = now_s
    live.window_calls = 0
    live.window_failures = 0


def record_failure(live: BackendLive, now_s: float, *, hard: bool = False) -> bool:
    """A call failed through the backend's fault; ``hard``: its connection was refused or reset.

    Returns whether the breaker opened because of it (again, too).
    """
    live.consecutive_failures += 1
    now = state(live, now_s)
    if now is BreakerState.OPEN:
        # Calls begun before it opened come in late, all at once when a server dies: no news.
        return False
    if now is BreakerState.HALF_OPEN:
        # Only a failed trial doubles; a late failure of an older call merely opens it again.
        longer = live.open_for_s * 2 if live.trial_in_flight else live.open_for_s
        _open(live, now_s, min(longer, OPEN_LONGEST_S))
        return True
    _count(live, now_s, failed=True)
    too_many = (
        live.window_calls >= WINDOW_CALLS_MIN and live.window_failures * 2 >= live.window_calls
    )
    if hard or too_many or live.consecutive_failures >= CONSECUTIVE_FAILURES_MAX:
        _open(live, now_s, OPEN_FIRST_S)
        return True
    return False


def begin_trial(live: BackendLive, now_s: float) -> bool:
    """An attempt starts here. Returns whether it is the trial of a half-open breaker, which must
    end in :func:`record_success`, :func:`record_failure` or :func:`release_trial`; ``False`` when
    the breaker is closed, open, or has a trial under way already."""
    if state(live, now_s) is not BreakerState.HALF_OPEN or live.trial_in_flight:
        return False
    live.breaker = BreakerState.HALF_OPEN
    live.trial_in_flight = True
    return True


def release_trial(live: BackendLive) -> None:
    """The trial ended without a verdict (the client left): the next attempt may be one."""
    live.trial_in_flight = False


def probe_ok(live: BackendLive, now_s: float) -> None:
    """A health check found the backend well: an open breaker is half-open at once."""
    if live.breaker is BreakerState.OPEN:
        live.breaker = BreakerState.HALF_OPEN
        live.open_until_s = min(live.open_until_s, now_s)


def _open(live: BackendLive, now_s: float, for_s: float) -> None:
    live.version += 1
    live.breaker = BreakerState.OPEN
    live.open_for_s = for_s
    live.open_until_s = now_s + for_s
    live.opened_times += 1
    live.trial_in_flight = False


def _count(live: BackendLive, now_s: float, *, failed: bool) -> None:
    if now_s - live.window_began_s >= WINDOW_S:
        live.window_began_s = now_s
        live.window_calls = 0
        live.window_failures = 0
    live.window_calls += 1
    live.window_failures += failed
