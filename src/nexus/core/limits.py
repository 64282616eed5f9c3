"""Bounded resources: what is taken is given back."""

from __future__ import annotations

__all__ = ["Budget", "TokenBucket"]


class Budget:
    """A shared number of bytes. ``take`` says no rather than exceed it."""

    __slots__ = ("limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def take(self, count: int) -> bool:
        """Takes ``count`` bytes if there is room for them."""
        if self.used_bytes + count > self.limit_bytes:
            return False
        self.used_bytes += count
        return True

    def give(self, count: int) -> None:
        """Gives ``count`` bytes back."""
        self.used_bytes -= count


class TokenBucket:
    """The retry budget: ``size`` permits, refilled by time and by use (behaviour § 5.2).

    So a failing fleet is not stormed: when nearly every call fails over, failovers stop.
    """

    __slots__ = ("_at_s", "_level", "per_s", "size")

    def __init__(self, size: float, per_s: float) -> None:
        self.size = size
        self.per_s = per_s
        self._level = size
        self._at_s: float | None = None

    def refill(self, amount: float) -> None:
        """Adds ``amount`` permits, up to the size."""
        self._level = min(self.size, self._level + amount)

    def take(self, now_s: float) -> bool:
        """Takes one permit at ``now_s`` (monotonic seconds) if there is one."""
        if self._at_s is not None:
            self.refill(max(0.0, now_s - self._at_s) * self.per_s)
        self._at_s = now_s
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True
