"""What one finished health check tells the registry."""

from __future__ import annotations

import msgspec

from nexus.core.backend import BackendStatus, EngineKind
from nexus.engines.adapter import CheckResult

__all__ = ["CheckReport"]


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """One check of one backend, judged.

    ``status`` and ``reason`` are what the health state machine decided; ``result`` what the check
    itself learned. ``engine`` is the kind that was configured or found, ``None`` while unknown.
    ``duration_ms`` is of the whole check, ``round_trip_s`` of its first exchange (``None``: no
    answer). ``at_s`` is Unix time, ``now_s`` the same moment on the monotonic clock.
    """

    name: str
    status: BackendStatus
    reason: str
    result: CheckResult
    engine: EngineKind | None
    duration_ms: float
    at_s: float
    now_s: float
    round_trip_s: float | None = None
