"""Call records for the tests of this room."""

from __future__ import annotations

from typing import Any

from nexus.telemetry.record import AttemptRecord, CallRecord

__all__ = ["a_record"]


def a_record(**fields: Any) -> CallRecord:
    """A call that went well on ``gpu``, with ``fields`` changed."""
    values: dict[str, Any] = {
        "request_id": "req-1",
        "at_s": 1_700_000_000.25,
        "endpoint": "/v1/chat/completions",
        "status": 200,
        "model": "gpt-4",
        "served_model": "llama3:8b",
        "backend": "gpu",
        "reason": "capability-match",
        "attempts": [AttemptRecord("gpu", "ok", 200, 12.0)],
        "ttft_ms": 10.0,
        "duration_ms": 100.0,
        "prompt_tokens": 3,
        "completion_tokens": 7,
        "bytes_in": 11,
        "bytes_out": 13,
    }
    return CallRecord(**{**values, **fields})
