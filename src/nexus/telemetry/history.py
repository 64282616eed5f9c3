"""The last calls, kept in memory: what ``GET /admin/v1/history`` answers (behaviour § 13).

The ring keeps the records themselves; rows are made when somebody asks. What a record may hold is
bounded (:mod:`nexus.telemetry.recorder` cuts what is long), so the ring's memory is too: about
1 kB for a usual call, 20 kB for one whose every text is as long as it may be.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from nexus.core.call import RequestProfile
from nexus.telemetry.record import CallRecord

__all__ = ["History", "call_view", "drop_big_profile", "is_small"]

# What clients name in a request may be many and long; such a profile is not kept.
_FIELDS_MAX = 64
_FIELDS_CHARS_MAX = 4_096
_PIN_CHARS_MAX = 256
# What came in a body this short cannot be long.
_BODY_BYTES_SMALL = 8_192


class History:
    """The last ``size`` finished calls (``telemetry.history_size``; 0 keeps none).

    ``settle`` is called before anything is read: whoever puts adding off catches up.
    """

    __slots__ = ("_ring", "settle")

    def __init__(self, size: int) -> None:
        self.settle: Callable[[], None] = _settled
        self._ring: deque[CallRecord] = deque(maxlen=size)

    def __len__(self) -> int:
        self.settle()
        return len(self._ring)

    def add(self, record: CallRecord) -> None:
        """One more finished call (a ``Sink``); the oldest one goes when there is no room."""
        self._ring.append(record)

    def add_all(self, records: Iterable[CallRecord]) -> None:
        """Many more finished calls, oldest first."""
        self._ring.extend(records)

    def resize(self, size: int) -> None:
        """Keeps ``size`` calls from now on, of the present ones the newest."""
        self.settle()
        self._ring = deque(self._ring, maxlen=size)

    def view(
        self,
        *,
        limit: int = 100,
        backend: str | None = None,
        model: str | None = None,
        outcome: str | None = None,
    ) -> list[dict[str, Any]]:
        """At most ``limit`` calls, newest first, each as :func:`call_view` shows it.

        ``backend``: that tried it; ``model``: that asked for it or was served by it; ``outcome``:
        that ended so. ``None`` leaves nothing out.
        """
        self.settle()
        rows: list[dict[str, Any]] = []
        for record in reversed(self._ring):
            if len(rows) >= limit:
                break
            if outcome is not None and record.outcome != outcome:
                continue
            if model is not None and model not in (record.model, record.served_model):
                continue
            if backend is not None and not _went_to(record, backend):
                continue
            rows.append(call_view(record))
        return rows

    def record(self, request_id: str) -> CallRecord | None:
        """The newest call of that request id; ``None`` when it is not (any more) known."""
        self.settle()
        for record in reversed(self._ring):
            if record.request_id == request_id:
                return record
        return None

    def find(self, request_id: str) -> dict[str, Any] | None:
        """The same as a value for JSON: the row, what routing knew of the request (``profile``,
        null when it was not read or is too big to keep) and the candidates it ``considered``."""
        record = self.record(request_id)
        if record is None:
            return None
        profile = record.profile
        shown = None
        if profile is not None:
            shown = msgspec.to_builtins(profile)
            shown["fields"] = sorted(profile.fields)
        return {
            **call_view(record),
            "events": record.events,
            "profile": shown,
            "considered": [
                {"backend": name, "score": round(score, 4)} for name, score in record.considered
            ],
        }


def _settled() -> None:
    """Nothing is put off."""


def drop_big_profile(record: CallRecord) -> None:
    """Lets go of a profile that is as big as a body."""
    profile = record.profile
    if (
        profile is not None
        and (record.bytes_in > _BODY_BYTES_SMALL or profile.pin is not None)
        and not is_small(profile)
    ):
        record.profile = None


def is_small(profile: RequestProfile) -> bool:
    """Whether a profile may be kept: clients choose field names and pin."""
    fields = profile.fields
    return (
        len(fields) <= _FIELDS_MAX
        and len("".join(fields)) <= _FIELDS_CHARS_MAX
        and len(profile.pin or "") <= _PIN_CHARS_MAX
    )


def _went_to(record: CallRecord, backend: str) -> bool:
    return record.backend == backend or any(one.backend == backend for one in record.attempts)


def call_view(record: CallRecord) -> dict[str, Any]:
    """A finished call as the admin API shows it (behaviour § 13): plain JSON values.

    ``at`` is Unix time, seconds. ``tokens.estimated`` are completion tokens counted from content
    events, where a stream told no usage. Further than § 13 go ``stream`` and ``error``.
    """
    return {
        "request_id": record.request_id,
        "at": record.at_s,
        "endpoint": record.endpoint,
        "model": record.model,
        "served_model": record.served_model,
        "backend": record.backend,
        "reason": str(record.reason),
        "stream": record.stream,
        "attempts": [
            {"backend": one.backend, "outcome": one.outcome, "status": one.status, "ms": one.ms}
            for one in record.attempts
        ],
        "status": record.status,
        "outcome": record.outcome.value,
        "error": record.error,
        "ttft_ms": record.ttft_ms,
        "duration_ms": record.duration_ms,
        "tokens": {
            "prompt": record.prompt_tokens,
            "completion": record.completion_tokens,
            "estimated": record.estimated_tokens,
        },
        "bytes": {"in": record.bytes_in, "out": record.bytes_out},
    }
