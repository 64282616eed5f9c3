"""What calls amount to, as plain numbers: the hot part of ``GET /metrics``.

A finished call costs a few additions here (:meth:`Metrics.record`); the exposition is made of them
when somebody asks (``runtime/metrics.py``).

Labels are bounded: a model's name is one that a backend or the configuration knows, else
``unknown``; beyond a thousand combinations everything further is ``other``; what has not been seen
for an hour and no longer exists is dropped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container

from nexus.core.call import Outcome
from nexus.telemetry.histogram import Histogram
from nexus.telemetry.names import METRICS
from nexus.telemetry.record import CallRecord
from nexus.telemetry.stats import UNKNOWN_MODEL

__all__ = ["OTHER", "BackendCounts", "CallCounts", "Metrics"]

OTHER = "other"
"""The label of what is beyond the bounds."""

_ROWS_MAX = 1_000
_GONE_S = 3_600.0

_DURATION_S = METRICS["nexus_request_duration_seconds"].buckets
_TTFT_S = METRICS["nexus_time_to_first_token_seconds"].buckets
_TPOT_S = METRICS["nexus_time_per_output_token_seconds"].buckets
_ROUTING_S = METRICS["nexus_routing_decision_seconds"].buckets


class CallCounts:
    """The calls of one endpoint, model and backend. ``seen_s``: when the last one began, Unix
    seconds."""

    __slots__ = (
        "duration",
        "estimated_tokens",
        "input_tokens",
        "outcomes",
        "output_tokens",
        "per_token",
        "seen_s",
        "ttft",
    )

    def __init__(self) -> None:
        self.outcomes: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self.duration = Histogram(_DURATION_S)
        self.ttft: Histogram | None = None
        self.per_token: Histogram | None = None
        self.input_tokens = 0
        self.output_tokens = 0
        self.estimated_tokens = 0
        self.seen_s = 0.0

    def stream(self, record: CallRecord, ttft_ms: float) -> None:
        """The clocks of a stream that began."""
        if self.ttft is None:
            self.ttft = Histogram(_TTFT_S)
        self.ttft.observe(ttft_ms * 1e-3)
        tokens = record.completion_tokens
        if tokens is None:
            tokens = record.estimated_tokens or 0
        # A stream that did not end well took its time for something else.
        if tokens > 1 and record.outcome is Outcome.OK:
            if self.per_token is None:
                self.per_token = Histogram(_TPOT_S)
            self.per_token.observe((record.duration_ms - ttft_ms) * 1e-3 / (tokens - 1))


class BackendCounts:
    """The attempts at one backend by what they came to."""

    __slots__ = ("outcomes", "seen_s")

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = defaultdict(int)
        self.seen_s = 0.0


class Metrics:
    """Counts every finished call once. ``knows_model`` says whether a name that a client used is
    one of a backend's or of the configuration's; it is asked only when no backend was tried."""

    __slots__ = (
        "_knows_model",
        "attempts",
        "bytes_in",
        "bytes_out",
        "calls",
        "cancelled",
        "estimated_tokens",
        "failovers",
        "input_tokens",
        "internal_errors",
        "output_tokens",
        "prompts_truncated",
        "reloads",
        "retries",
        "routing",
    )

    def __init__(self, knows_model: Callable[[str], bool] = lambda _: False) -> None:
        self._knows_model = knows_model
        self.calls: dict[tuple[str, str, str], CallCounts] = {}
        self.attempts: dict[str, BackendCounts] = {}
        self.routing = Histogram(_ROUTING_S)
        self.input_tokens = 0
        self.output_tokens = 0
        self.estimated_tokens = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.cancelled = 0
        self.failovers = 0
        self.retries = 0
        self.internal_errors = 0
        self.prompts_truncated = 0
        self.reloads = {"applied": 0, "rejected": 0}

    def record(self, record: CallRecord) -> None:
        """A call is over (a ``Sink``)."""
        attempts = record.attempts
        model = record.served_model
        if not model:
            model = record.routed_model or record.model
            if not attempts and not self._knows_model(model):
                model = UNKNOWN_MODEL
        key = (record.endpoint, model, record.backend)
        counts = self.calls.get(key)
        if counts is None:
            counts = self._new_counts(key)
        outcome = record.outcome
        counts.outcomes[outcome] += 1
        counts.seen_s = seen_s = record.at_s
        counts.duration.observe(record.duration_ms * 1e-3)
        if outcome is Outcome.CANCELLED:
            self.cancelled += 1
        self.bytes_in += record.bytes_in
        self.bytes_out += record.bytes_out
        if record.prompt_tokens is not None:
            counts.input_tokens += record.prompt_tokens
            self.input_tokens += record.prompt_tokens
        if record.completion_tokens is not None:
            counts.output_tokens += record.completion_tokens
            self.output_tokens += record.completion_tokens
        elif record.estimated_tokens is not None:
            counts.estimated_tokens += record.estimated_tokens
            self.estimated_tokens += record.estimated_tokens
        if record.stream and record.ttft_ms is not None:
            counts.stream(record, record.ttft_ms)
        if record.routing_s is not None:
            self.routing.observe(record.routing_s)

        before = ""
        for attempt in attempts:
            name = attempt.backend
            backend = self.attempts.get(name)
            if backend is None:
                backend = self._new_backend(name)
            backend.seen_s = seen_s
            backend.outcomes[attempt.outcome] += 1
            if before:
                if before == name:
                    self.retries += 1
                else:
                    self.failovers += 1
            before = name

    def record_alike(self, records: list[CallRecord]) -> None:
        """What :meth:`record` makes of each of ``records``, for less: plain calls that went well at
        the first attempt, at one endpoint, of one model at one backend."""
        first, last = records[0], records[-1]
        key = (first.endpoint, first.served_model, first.backend)
        counts = self.calls.get(key) or self._new_counts(key)
        counts.outcomes[Outcome.OK] += len(records)
        counts.seen_s = last.at_s
        counts.duration.observe_all([one.duration_ms * 1e-3 for one in records])
        self.bytes_in += sum([one.bytes_in for one in records])
        self.bytes_out += sum([one.bytes_out for one in records])
        tokens = sum([one.prompt_tokens or 0 for one in records])
        counts.input_tokens += tokens
        self.input_tokens += tokens
        tokens = sum([one.completion_tokens or 0 for one in records])
        counts.output_tokens += tokens
        self.output_tokens += tokens
        self.routing.observe_all([one.routing_s for one in records if one.routing_s is not None])
        backend = self.attempts.get(first.backend) or self._new_backend(first.backend)
        backend.seen_s = last.at_s
        backend.outcomes[first.attempts[0].outcome] += len(records)

    def reloaded(self, *, applied: bool) -> None:
        """The configuration was read anew, and taken over or not."""
        self.reloads["applied" if applied else "rejected"] += 1

    def prune(self, backends: Container[str], now_s: float) -> None:
        """Drops what has not been seen for an hour and is of a backend that is none of
        ``backends``, or of a model that nobody knows any more. ``now_s`` is Unix time."""
        since_s = now_s - _GONE_S
        for key in [key for key, counts in self.calls.items() if counts.seen_s < since_s]:
            _, model, backend = key
            if (backend and backend not in backends) or not (
                model == UNKNOWN_MODEL or self._knows_model(model)
            ):
                del self.calls[key]
        for name in [name for name, one in self.attempts.items() if one.seen_s < since_s]:
            if name not in backends:
                del self.attempts[name]

    def _new_counts(self, key: tuple[str, str, str]) -> CallCounts:
        if len(self.calls) >= _ROWS_MAX:
            key = (key[0], OTHER, OTHER)
        return self.calls.setdefault(key, CallCounts())

    def _new_backend(self, name: str) -> BackendCounts:
        if len(self.attempts) >= _ROWS_MAX:
            name = OTHER
        return self.attempts.setdefault(name, BackendCounts())
