"""What ``nexus top`` shows, asked from the gateway."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from nexus.cli.shapes import completion_tokens, part, rows

if TYPE_CHECKING:
    from nexus.cli.gateway import Gateway

__all__ = ["Board", "pace"]

_CALLS = 100
_RATE_OVER_S = 10.0


class Board:
    """The figures of the last look, and rates out of the looks before. ``failure`` says why the
    last look failed; the figures are the older ones then."""

    __slots__ = (
        "_totals",
        "backends",
        "calls",
        "failure",
        "health",
        "recent",
        "requests_per_s",
        "tokens_per_s",
        "totals",
    )

    def __init__(self) -> None:
        self.health: dict[str, Any] = {}
        self.backends: list[dict[str, Any]] = []
        self.totals: dict[str, Any] = {}
        self.recent: dict[str, Any] = {}
        self.calls: list[dict[str, Any]] = []
        self.failure = ""
        self.requests_per_s: float | None = None
        self.tokens_per_s: float | None = None
        self._totals: deque[tuple[float, float, float]] = deque()

    def look(self, gateway: Gateway) -> None:
        """Asks for everything once. Raises :class:`Failure`."""
        self.health = gateway.get("/health", key="backends")
        self.backends = rows(gateway.get("/admin/v1/backends", key="data"), "data")
        self.totals = gateway.get("/admin/v1/stats", key="requests")
        self.recent = gateway.get("/admin/v1/stats", {"window": "1m"}, key="requests")
        self.calls = rows(gateway.get("/admin/v1/history", {"limit": _CALLS}, key="data"), "data")
        self.failure = ""
        self._count(time.monotonic())

    def paces(self, key: str) -> dict[str, float]:
        """By backend or (``key`` "served_model") model: how many tokens per second a call there
        made lately, in the middle of its last calls."""
        told: dict[str, list[float]] = {}
        for call in self.calls:
            tokens_per_s = pace(call)
            if tokens_per_s is not None:
                told.setdefault(str(call.get(key)), []).append(tokens_per_s)
        return {name: sorted(some[:10])[len(some[:10]) // 2] for name, some in told.items()}

    def _count(self, now_s: float) -> None:
        """Rates over the last seconds. A gateway that began anew counts from there."""
        requests = _number(part(self.totals, "requests").get("total"))
        tokens = _number(part(self.totals, "tokens").get("completion"))
        if self._totals and requests < self._totals[-1][1]:
            self._totals.clear()
        self._totals.append((now_s, requests, tokens))
        while len(self._totals) > 2 and now_s - self._totals[0][0] > _RATE_OVER_S:
            self._totals.popleft()
        begin_s, requests_then, tokens_then = self._totals[0]
        passed_s = now_s - begin_s
        if passed_s > 0:
            self.requests_per_s = (requests - requests_then) / passed_s
            self.tokens_per_s = (tokens - tokens_then) / passed_s


def pace(call: dict[str, Any]) -> float | None:
    """Tokens per second of one call after its first token; ``None`` where that is not known."""
    tokens, _ = completion_tokens(call)
    ttft_ms, duration_ms = call.get("ttft_ms"), call.get("duration_ms")
    if tokens is None or tokens < 2 or not isinstance(duration_ms, int | float):
        return None
    spoken_ms = duration_ms - (ttft_ms if isinstance(ttft_ms, int | float) else 0.0)
    return (tokens - 1) * 1000 / spoken_ms if spoken_ms >= 1 else None


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
