"""A Prometheus histogram as plain numbers: an observation costs a search in a short tuple."""

from __future__ import annotations

from bisect import bisect_left

__all__ = ["Histogram"]


class Histogram:
    """Counts per bucket, not cumulative; the last count is of what exceeds every bound.

    ``bounds`` are the buckets' upper ends, inclusive, rising.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def observe_all(self, values: list[float]) -> None:
        """Counts many values."""
        bounds, counts = self.bounds, self.counts
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self.sum += sum(values)

    def copy(self) -> Histogram:
        """The same numbers, which change no more."""
        copied = Histogram(self.bounds)
        copied.counts = self.counts.copy()
        copied.sum = self.sum
        return copied

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[float, int]]:
        """Upper bound → how many values did not exceed it; the last bound is infinity."""
        total = 0
        rows = []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            rows.append((bound, total))
        return rows
