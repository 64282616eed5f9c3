"""The health of one backend as its checks tell it: a pure state machine.

| now | result | becomes |
|---|---|---|
| unknown | healthy / anything bad | healthy / unhealthy, at once |
| any | loading | unknown, asked again in 2 s |
| healthy | failed (timeout, wrong answer) | unhealthy after ``failure_threshold`` in a row |
| healthy | lost (nobody listens), credentials refused | unhealthy at once |
| unhealthy | healthy | healthy after ``recovery_threshold`` in a row |

After a bad result the next check comes in 1, 2, 4, then every 8 s; after a good one of a backend
that is still recovering in 1 s; else after the interval, jittered (behaviour § 4).
"""

from __future__ import annotations

from math import inf
from random import Random

import msgspec

from nexus.core.backend import BackendStatus
from nexus.engines.adapter import CheckResult, Health

__all__ = ["HealthSettings", "HealthState", "Transition"]

_LOADING_DELAY_S = 2.0
_RECOVERING_DELAY_S = 1.0
_LONGEST_DELAY_S = 8.0
_JITTER = 0.1
"""Share of the interval by which it varies, so that a fleet's checks spread out."""


class HealthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[health_check]`` in seconds. ``enabled`` false: one check when a backend is added, after
    which it is routable whatever that said."""

    enabled: bool = True
    interval_s: float = 30.0
    timeout_s: float = 5.0
    failure_threshold: int = 3
    recovery_threshold: int = 2
    load_interval_s: float = 2.0


class HealthState(msgspec.Struct, frozen=True, kw_only=True):
    """Where one backend's health stands.

    ``successes``/``failures`` count results in a row (one of them is 0). ``since_s`` is when
    ``status`` was reached, monotonic seconds, ``None`` before the first result.
    """

    status: BackendStatus = BackendStatus.UNKNOWN
    reason: str = "not checked yet"
    successes: int = 0
    failures: int = 0
    since_s: float | None = None

    def apply(
        self, result: CheckResult, now_s: float, settings: HealthSettings, rng: Random
    ) -> Transition:
        """Takes in one check's ``result``, seen at ``now_s``; ``rng`` jitters the interval."""
        if not settings.enabled:
            said = result.reason or result.health.value
            reason = f"health checks are off; the only one said: {said}"
            return self._to(BackendStatus.HEALTHY, reason, now_s, inf)
        if result.health is Health.LOADING:
            delay_s = min(_LOADING_DELAY_S, settings.interval_s)
            return self._to(BackendStatus.UNKNOWN, result.reason or "loading", now_s, delay_s)
        if result.health is Health.HEALTHY:
            return self._good(result, now_s, settings, rng)
        return self._bad(result, now_s, settings)

    def _good(
        self, result: CheckResult, now_s: float, settings: HealthSettings, rng: Random
    ) -> Transition:
        successes = self.successes + 1
        if self.status is BackendStatus.UNHEALTHY and successes < settings.recovery_threshold:
            reason = f"recovering: {successes} of {settings.recovery_threshold} good checks"
            delay_s = min(_RECOVERING_DELAY_S, settings.interval_s)
            return self._to(self.status, reason, now_s, delay_s, successes=successes)
        reason = result.reason or "answers its health check"
        delay_s = settings.interval_s * rng.uniform(1 - _JITTER, 1 + _JITTER)
        return self._to(BackendStatus.HEALTHY, reason, now_s, delay_s, successes=successes)

    def _bad(self, result: CheckResult, now_s: float, settings: HealthSettings) -> Transition:
        failures = self.failures + 1
        # The exponent is bounded: failures may count for weeks.
        delay_s = min(2.0 ** min(failures - 1, 8), _LONGEST_DELAY_S, settings.interval_s)
        reason = result.reason or result.health.value
        if result.health is Health.CREDENTIALS and not reason.startswith(Health.CREDENTIALS.value):
            reason = f"{Health.CREDENTIALS.value}: {reason}"
        status = BackendStatus.UNHEALTHY
        if (
            self.status is BackendStatus.HEALTHY
            and result.health is Health.FAILED
            and failures < settings.failure_threshold
        ):
            status = BackendStatus.HEALTHY
            reason = f"{failures} of {settings.failure_threshold} checks failed: {reason}"
        return self._to(status, reason, now_s, delay_s, failures=failures)

    def _to(
        self,
        status: BackendStatus,
        reason: str,
        now_s: float,
        delay_s: float,
        *,
        successes: int = 0,
        failures: int = 0,
    ) -> Transition:
        changed = status is not self.status
        since_s = now_s if changed or self.since_s is None else self.since_s
        state = HealthState(
            status=status, reason=reason, successes=successes, failures=failures, since_s=since_s
        )
        return Transition(state=state, changed=changed, delay_s=delay_s)


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """What a result led to: the new state, whether the status ``changed``, and in how many seconds
    to check again (``inf``: never by itself)."""

    state: HealthState
    changed: bool
    delay_s: float
