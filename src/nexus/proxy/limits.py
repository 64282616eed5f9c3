"""The limits of a call, as the configuration sets them."""

from __future__ import annotations

import msgspec

__all__ = ["PlaneLimits"]


class PlaneLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a call; seconds and bytes, 0 switches a deadline off (behaviour §§ 5.3, 8).

    ``silence_s``: so long may a call be silent before the commit until its backend is probed.
    """

    request_timeout_s: float = 300.0
    connect_timeout_s: float = 5.0
    first_byte_timeout_s: float = 0.0
    stream_idle_timeout_s: float = 120.0
    stream_keepalive_s: float = 15.0
    silence_s: float = 15.0
    max_concurrent_requests: int = 1000
    max_body_bytes: int = 10 * 1024 * 1024
    max_held_response_bytes: int = 4 * 1024 * 1024
    max_retries: int = 2
    pool_idle_per_backend: int = 64
