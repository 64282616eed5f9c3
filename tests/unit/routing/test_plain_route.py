"""The short way of the router decides as the long way does."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.core.errors import ApiError
from nexus.routing.router import Router, RoutingSettings
from nexus.routing.strategies import Strategy
from tests.unit.routing.fleet import NOW_S, ask, candidate, fleet, live

_BACKENDS = st.lists(
    st.fixed_dictionaries(
        {
            "priority": st.integers(0, 3),
            "context": st.sampled_from([None, 100, 4096]),
            "tools": st.sampled_from([None, True, False]),
            "max_concurrency": st.sampled_from([0, 1]),
            "capacity": st.sampled_from([None, 1]),
            "busy": st.integers(0, 2),
            "parked": st.booleans(),
            "ignored": st.sampled_from([frozenset(), frozenset({"n"})]),
        }
    ),
    min_size=1,
    max_size=5,
)
_REQUESTS = st.lists(
    st.fixed_dictionaries(
        {
            "needs_tools": st.booleans(),
            "text_bytes": st.sampled_from([0, 40, 800, 40000]),
            "max_output_tokens": st.sampled_from([None, 10, 5000]),
            "fields": st.sampled_from([frozenset(), frozenset({"n"}), frozenset({"seed"})]),
            "endpoint": st.sampled_from(["/v1/chat/completions", "/v1/embeddings"]),
        }
    ),
    min_size=1,
    max_size=6,
)


@given(
    backends=_BACKENDS, requests=_REQUESTS, strategy=st.sampled_from(Strategy), strict=st.booleans()
)
def test_both_ways_make_the_same_plan(
    backends: list[dict[str, Any]],
    requests: list[dict[str, Any]],
    strategy: Strategy,
    strict: bool,
) -> None:
    """Same candidates in the same order, same reason, same refusal, call after call."""
    snapshot = fleet(
        *(
            candidate(
                f"b{number}",
                priority=one["priority"],
                context=one["context"],
                tools=one["tools"],
                max_concurrency=one["max_concurrency"],
                capacity=one["capacity"],
                ignores=one["ignored"],
                figures=live(in_flight=one["busy"], parked_for_s=5.0 if one["parked"] else None),
            )
            for number, one in enumerate(backends)
        )
    )

    def decide(router: Router) -> list[object]:
        rng = Random(3)
        plans: list[object] = []
        for said in requests:
            try:
                plan = router.route(snapshot, ask(**said), now_s=NOW_S, rng=rng)
                # Who stands alone is not scored on the short way.
                who = plan.candidates if len(plan.candidates) > 1 else plan.candidates[0].candidate
                plans.append((who, plan.reason, plan.estimated_tokens, plan.model))
            except ApiError as error:
                plans.append((error.status, error.message))
        return plans

    settings = RoutingSettings(strategy=strategy, strict_parameters=strict)
    short = decide(Router(settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Router, "_plain_route", lambda *_: None)
        assert short == decide(Router(settings))
