"""The parts of a score: each maps one fact of a candidate to [0, 1], higher better.

Behaviour § 5.1. A new part is one function here, one field of ``ScoreParts`` and one of
``Weights``.
"""

from __future__ import annotations

import msgspec

from nexus.routing.plan import ScoreParts

__all__ = ["Weights", "combine", "latency_part", "load_part", "priority_part", "quick_score"]

_TTFT_HALF_S = 0.5
"""The time to first token that is worth half a point, seconds: below it people feel no delay."""

_LATENCY_UNKNOWN = 0.5
"""Neither praise nor blame for a backend that nobody has asked yet."""


class Weights(msgspec.Struct, frozen=True):
    """How much each part counts. Any non-negative numbers with at least one above 0."""

    priority: float = 50.0
    load: float = 30.0
    latency: float = 20.0

    def normalised(self) -> Weights:
        """The same proportions with a sum of 1.

        Raises ``ValueError`` with a sentence when a weight is negative, not a finite number, or
        when none is above 0.
        """
        parts = (self.priority, self.load, self.latency)
        # Also refuses NaN, which compares false with everything.
        if not all(0.0 <= part < float("inf") for part in parts):
            raise ValueError(f"routing.weights must be finite and not negative, not {parts}")
        largest = max(parts)
        if largest == 0.0:
            raise ValueError("routing.weights: at least one must be above 0")
        # By the largest first: the sum of two huge weights is no finite number.
        scaled = [part / largest for part in parts]
        total = sum(scaled)
        return Weights(*(part / total for part in scaled))


def priority_part(priority: int) -> float:
    """1 for priority 0 (most preferred) falling to 0 at 100 and above."""
    if priority <= 0:
        return 1.0
    return 1.0 - priority / 100 if priority < 100 else 0.0


def load_part(busy: int, capacity: int | None) -> float:
    """1 for an idle backend falling to 0 at ``capacity`` requests (100 when it is unknown)."""
    if busy <= 0:
        return 1.0
    limit = capacity or 100
    return 1.0 - busy / limit if busy < limit else 0.0


def latency_part(ttft_s: float | None) -> float:
    """1 for an instant first token, 1/2 at half a second, towards 0 for slow ones."""
    if ttft_s is None:
        return _LATENCY_UNKNOWN
    return _TTFT_HALF_S / (_TTFT_HALF_S + ttft_s) if ttft_s > 0.0 else 1.0


def combine(parts: ScoreParts, weights: Weights) -> float:
    """The weighted sum of ``parts``, within [0, 1]. ``weights`` are normalised."""
    score = (
        weights.priority * parts.priority
        + weights.load * parts.load
        + weights.latency * parts.latency
    )
    # Rounding may carry a sum of full parts past 1.
    return score if score < 1.0 else 1.0


def quick_score(
    priority: float, busy: int, capacity: int | None, ttft_s: float | None, weights: Weights
) -> float:
    """What :func:`combine` makes of the three parts, bit for bit, without the calls; ``priority``
    is that part already.

    It runs for every candidate of every request; a property test holds the two together.
    """
    score = weights.priority * priority
    if busy <= 0:
        score += weights.load
    else:
        limit = capacity or 100
        if busy < limit:
            score += weights.load * (1.0 - busy / limit)
    if ttft_s is None:
        score += weights.latency * _LATENCY_UNKNOWN
    elif ttft_s > 0.0:
        score += weights.latency * (_TTFT_HALF_S / (_TTFT_HALF_S + ttft_s))
    else:
        score += weights.latency
    return score if score < 1.0 else 1.0
