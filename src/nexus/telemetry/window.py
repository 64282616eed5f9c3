"""Counts and percentiles over the last minute, five minutes and hour, in bounded memory.

Time is cut into slices; each holds two counters and two histograms. Fine slices of 10 s reach back
five minutes; when one is over it is poured into a coarse slice of 2 min, which reach back an hour.

A histogram's buckets grow by a factor of 2^(1/8): a percentile is within 4.5 % of the duration
that it stands for, from 0.001 ms upwards. A window reaches back to the beginning of the slice that
its far end falls in: up to 10 s (of an hour: up to 2 min) further than its name says.
"""

from __future__ import annotations

from collections import defaultdict, deque
from math import log2

__all__ = ["WINDOWS", "Slice", "Timeline", "bucket", "bucket_percentile", "slice_number"]

WINDOWS = {"1m": 60.0, "5m": 300.0, "1h": 3600.0}
"""The windows that can be asked for: name → seconds."""

_FINE_S = 10.0
_FINE_KEPT = 30
_COARSE_PER_FINE = 12
_COARSE_KEPT = 31  # one more: the newest is the one that still fills
_PER_OCTAVE = 8
_LEAST_MS = 0.001

Histogram = dict[int, int]


class Slice:
    """What happened in one slice of time. ``number``: how many slice lengths it began after
    monotonic zero."""

    __slots__ = ("duration", "errors", "number", "requests", "ttft")

    def __init__(self, number: int) -> None:
        self.number = number
        self.requests = 0
        self.errors = 0
        self.ttft: Histogram = defaultdict(int)
        self.duration: Histogram = defaultdict(int)

    def pour(self, other: Slice) -> None:
        """Adds what ``other`` holds."""
        self.requests += other.requests
        self.errors += other.errors
        for mine, theirs in ((self.ttft, other.ttft), (self.duration, other.duration)):
            for index, count in theirs.items():
                mine[index] += count


class Timeline:
    """The slices of one backend or model. ``now`` is the one that fills, if its ``number`` is the
    present one; else :meth:`turn` makes it."""

    __slots__ = ("_coarse", "_fine", "now")

    def __init__(self) -> None:
        self.now = Slice(-1)
        self._fine: deque[Slice] = deque(maxlen=_FINE_KEPT)
        self._coarse: deque[Slice] = deque(maxlen=_COARSE_KEPT)

    def turn(self, number: int) -> Slice:
        """A new slice to count in, of that :func:`slice_number`."""
        over = self.now
        if over.requests:
            self._fine.append(over)
            coarse = self._coarse
            whole = over.number // _COARSE_PER_FINE
            if not coarse or coarse[-1].number != whole:
                coarse.append(Slice(whole))
            coarse[-1].pour(over)
        self.now = Slice(number)
        return self.now

    def sum(self, window: str, now_s: float) -> Slice:
        """Everything in ``window`` (a key of ``WINDOWS``) before ``now_s``, in one slice."""
        since_s = now_s - WINDOWS[window]
        total = Slice(0)
        if window == "1h":
            kept, length_s = self._coarse, _FINE_S * _COARSE_PER_FINE
        else:
            kept, length_s = self._fine, _FINE_S
        for one in kept:
            if (one.number + 1) * length_s > since_s:
                total.pour(one)
        if (self.now.number + 1) * _FINE_S > since_s:
            total.pour(self.now)
        return total


def slice_number(now_s: float) -> int:
    """The number of the fine slice that monotonic time ``now_s`` falls in."""
    return int(now_s / _FINE_S)


def bucket(ms: float) -> int:
    """The histogram bucket of a duration, milliseconds."""
    return int(log2(ms) * _PER_OCTAVE + 80.0) if ms > _LEAST_MS else 0


def bucket_percentile(histogram: Histogram, share: float) -> float | None:
    """The duration in ms that ``share`` (0 to 1) of all do not exceed (nearest rank, the middle of
    its bucket); ``None`` of nothing."""
    total = sum(histogram.values())
    rank = max(-int(-share * total // 1), 1)
    for index in sorted(histogram):
        rank -= histogram[index]
        if rank <= 0:
            return float(2.0 ** ((index - 80 + 0.5) / _PER_OCTAVE))
    return None
