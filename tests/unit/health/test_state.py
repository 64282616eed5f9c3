"""The health state machine, result by result."""

from __future__ import annotations

from math import inf
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.backend import BackendStatus
from nexus.engines.adapter import CheckResult, Health
from nexus.health.state import HealthSettings, HealthState, Transition
from tests.unit.health.virtual import HEALTHY, UNHEALTHY, UNKNOWN


def after(*results: Health, config: HealthSettings | None = None) -> list[Transition]:
    """The transitions of ``results`` from a backend never checked, one second apart."""
    state = HealthState()
    transitions = []
    for at_s, health in enumerate(results):
        result = CheckResult(health=health, reason=f"said {health.value}")
        transitions.append(state.apply(result, float(at_s), config or HealthSettings(), Random(1)))
        state = transitions[-1].state
    return transitions


def statuses(*results: Health) -> list[BackendStatus]:
    return [transition.state.status for transition in after(*results)]


def test_the_first_result_decides_at_once() -> None:
    """One good check makes an unknown backend healthy, one bad check unhealthy."""
    assert statuses(Health.HEALTHY) == [HEALTHY]
    assert statuses(Health.FAILED) == [UNHEALTHY]
    assert statuses(Health.LOST) == [UNHEALTHY]
    assert statuses(Health.CREDENTIALS) == [UNHEALTHY]


def test_a_healthy_backend_falls_after_three_failures_in_a_row() -> None:
    """Two timeouts are borne, the third is too many, a good check between starts anew."""
    bad, good = Health.FAILED, Health.HEALTHY
    assert statuses(good, bad, bad, good, bad, bad, bad) == [HEALTHY] * 6 + [UNHEALTHY]
    borne = after(good, bad)[-1].state
    assert borne.reason == "1 of 3 checks failed: said failed"


def test_lost_and_locked_out_backends_fall_at_once() -> None:
    """The threshold is for timeouts and wrong answers only."""
    assert statuses(Health.HEALTHY, Health.LOST) == [HEALTHY, UNHEALTHY]
    locked = after(Health.HEALTHY, Health.CREDENTIALS)[-1].state
    assert locked.status is UNHEALTHY
    assert locked.reason.startswith("credentials refused")


def test_recovery_takes_two_good_checks_in_a_row() -> None:
    """One good check after an outage is not yet trusted."""
    lost, good = Health.LOST, Health.HEALTHY
    assert statuses(lost, good, lost, good, good) == [UNHEALTHY] * 4 + [HEALTHY]
    assert after(lost, good)[-1].state.reason == "recovering: 1 of 2 good checks"


def test_loading_is_no_failure() -> None:
    """A loading engine is unknown, asked again in 2 s, and healthy with its first good check."""
    loading = after(Health.LOADING, Health.LOADING, Health.HEALTHY)
    assert [t.state.status for t in loading] == [UNKNOWN, UNKNOWN, HEALTHY]
    assert loading[0].delay_s == 2.0
    assert loading[0].state.failures == 0
    assert statuses(Health.HEALTHY, Health.LOADING) == [HEALTHY, UNKNOWN]


def test_a_lost_backend_is_asked_after_1_2_4_then_every_8_seconds() -> None:
    """So that one that is back serves again within 15 s."""
    delays = [t.delay_s for t in after(Health.HEALTHY, *[Health.LOST] * 6)][1:]
    assert delays == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert after(Health.LOST, Health.LOST, Health.HEALTHY)[-1].delay_s == 1.0


def test_a_failing_healthy_backend_is_asked_again_soon() -> None:
    """Three timeouts 30 s apart would hold its calls for minutes."""
    assert [t.delay_s for t in after(Health.HEALTHY, Health.FAILED, Health.FAILED)][1:] == [1, 2]


def test_a_short_interval_bounds_every_delay() -> None:
    """Whoever asks for checks each half second gets them, in outages too."""
    config = HealthSettings(interval_s=0.5)
    for transition in after(
        Health.LOST, Health.LOST, Health.LOST, Health.HEALTHY, Health.LOADING, config=config
    ):
        assert transition.delay_s <= 0.55


def test_without_checks_the_backend_is_routable_after_one() -> None:
    """``enabled = false``: one check, never another, and routable whatever it said."""
    for health in Health:
        (only,) = after(health, config=HealthSettings(enabled=False))
        assert only.state.status is HEALTHY
        assert only.delay_s == inf


def test_since_tells_when_the_status_was_reached() -> None:
    """Further results of the same status leave it alone."""
    sinces = [t.state.since_s for t in after(*[Health.LOST] * 3, Health.HEALTHY, Health.HEALTHY)]
    assert sinces == [0.0, 0.0, 0.0, 0.0, 4.0]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(list(Health)), min_size=1, max_size=30), st.integers(0, 2**32))
def test_any_sequence_of_results_keeps_the_rules(results: list[Health], seed: int) -> None:
    """Healthy only after a good check, delays bounded, one of the two counts is zero."""
    config = HealthSettings()
    state, rng = HealthState(), Random(seed)
    for at_s, health in enumerate(results):
        before = state
        transition = state.apply(CheckResult(health=health), float(at_s), config, rng)
        state = transition.state
        assert transition.changed == (state.status is not before.status)
        if state.status is HEALTHY and before.status is not HEALTHY:
            assert health is Health.HEALTHY
        if health is Health.HEALTHY and state.status is HEALTHY:
            assert 27.0 <= transition.delay_s <= 33.0
        else:
            assert 1.0 <= transition.delay_s <= 8.0
        assert min(state.successes, state.failures) == 0
        assert state.reason
