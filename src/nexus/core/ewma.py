"""Exponentially weighted moving averages that take time as an argument."""

from __future__ import annotations

from math import exp

__all__ = ["Ewma"]


class Ewma:
    """A moving average whose memory fades with time: weight ``1/e`` after ``tau_s`` seconds.

    The first sample sets it. ``value`` is ``None`` before.
    """

    __slots__ = ("_at_s", "tau_s", "value")

    def __init__(self, tau_s: float = 30.0) -> None:
        self.tau_s = tau_s
        self.value: float | None = None
        self._at_s = 0.0

    def add(self, sample: float, now_s: float) -> None:
        """Takes in ``sample``, seen at ``now_s`` (monotonic seconds)."""
        if self.value is None:
            self.value = sample
        else:
            # Samples in one instant still count: at least a tenth of the weight is the new one's.
            keep = min(exp(-max(now_s - self._at_s, 0.0) / self.tau_s), 0.9)
            self.value = keep * self.value + (1.0 - keep) * sample
        self._at_s = now_s
