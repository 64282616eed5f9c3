"""Statistics: since the start, and over the last minute, five minutes and hour; ``GET /stats``.

Counting costs additions only, and the recorder does it for many calls at once; whoever reads has
everything counted first. Percentiles are computed when somebody asks.
Since the start they are over the last calls that succeeded, exact; over a window they come from
histograms (:mod:`nexus.telemetry.window` tells how exact).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from nexus.core.call import Outcome
from nexus.core.errors import FailureKind
from nexus.telemetry.record import CallRecord
from nexus.telemetry.window import WINDOWS, Slice, Timeline, bucket, bucket_percentile, slice_number

__all__ = ["UNKNOWN_MODEL", "Stats", "percentile"]

UNKNOWN_MODEL = "unknown"
"""The name under which calls for models that nobody serves are counted: what clients send as a
model name is theirs to choose, and must not grow our memory."""

_SAMPLES_MAX = 512
_MODELS_MAX = 1_000
_BACKENDS_MAX = 1_000
# What an attempt can come to that is an error of its backend, and not of the request or ours.
_ATTEMPT_ERRORS = frozenset({Outcome.UPSTREAM_ERROR.value, *map(str, FailureKind)}) - {
    FailureKind.MODEL_NOT_HERE,
    FailureKind.CANNOT,
    FailureKind.PROMPT_TOO_LONG,
    FailureKind.OURS,
}
_FAULTS = frozenset({Outcome.UPSTREAM_ERROR, Outcome.TIMEOUT})


class _Tally:
    """Requests, errors and the last durations of one backend or model."""

    __slots__ = ("duration_ms", "errors", "requests", "timeline", "ttft_ms")

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.requests = 0
        self.errors = 0
        self.ttft_ms: deque[float] = deque(maxlen=_SAMPLES_MAX)
        self.duration_ms: deque[float] = deque(maxlen=_SAMPLES_MAX)

    def view(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "requests": self.requests,
            "errors": self.errors,
            "ttft_ms": _percentiles(self.ttft_ms),
            "duration_ms": _percentiles(self.duration_ms),
        }

    def window_view(self, name: str, window: str, now_s: float) -> dict[str, Any] | None:
        """The same over a window; ``None`` when nothing happened in it."""
        total = self.timeline.sum(window, now_s)
        if not total.requests:
            return None
        return {
            "name": name,
            "requests": total.requests,
            "errors": total.errors,
            "ttft_ms": _bucket_percentiles(total.ttft),
            "duration_ms": _bucket_percentiles(total.duration),
        }


class Stats:
    """Counts calls, each once when it is over.

    ``started_s`` is the monotonic time that uptime counts from, seconds; ``clock`` tells what time
    of that kind it is. ``settle`` is called before anything is read: whoever puts counting off
    catches up.
    """

    __slots__ = (
        "_backends",
        "_clock",
        "_completion_tokens",
        "_models",
        "_outcomes",
        "_prompt_tokens",
        "settle",
        "started_s",
    )

    def __init__(self, started_s: float, clock: Callable[[], float] = monotonic) -> None:
        self.started_s = started_s
        self._clock = clock
        self.settle: Callable[[], None] = _settled
        self._outcomes: dict[str, int] = dict.fromkeys(Outcome, 0)
        self._prompt_tokens = 0
        self._completion_tokens = 0
        self._backends: dict[str, _Tally] = {}
        self._models: dict[str, _Tally] = {}

    def count(self, record: CallRecord) -> None:
        """A call is over."""
        self.count_at(self._clock(), record)

    def count_at(self, at_s: float, record: CallRecord) -> None:
        """The same for a call that was over at monotonic time ``at_s``."""
        outcome = record.outcome
        self._outcomes[outcome] += 1
        if record.prompt_tokens is not None:
            self._prompt_tokens += record.prompt_tokens
        if record.completion_tokens is not None:
            self._completion_tokens += record.completion_tokens

        number = slice_number(at_s)
        attempts = record.attempts
        name = record.served_model or (record.model if attempts else UNKNOWN_MODEL)
        model = _tally(self._models, name, _MODELS_MAX)
        model.requests += 1
        of_model = model.timeline.now
        if of_model.number != number:
            of_model = model.timeline.turn(number)
        of_model.requests += 1
        if outcome in _FAULTS:
            model.errors += 1
            of_model.errors += 1

        # Every attempt is a request to its backend; only the last one answered the call.
        last: _Tally | None = None
        of_last: Slice | None = None
        for attempt in attempts:
            last = _tally(self._backends, attempt.backend, _BACKENDS_MAX)
            last.requests += 1
            of_last = last.timeline.now
            if of_last.number != number:
                of_last = last.timeline.turn(number)
            of_last.requests += 1
            if attempt.outcome in _ATTEMPT_ERRORS:
                last.errors += 1
                of_last.errors += 1
        if outcome is Outcome.OK:
            ms = record.duration_ms
            index = bucket(ms)
            model.duration_ms.append(ms)
            of_model.duration[index] += 1
            if last is not None and of_last is not None:
                last.duration_ms.append(ms)
                of_last.duration[index] += 1
            ttft_ms = record.ttft_ms
            if ttft_ms is not None:
                if ttft_ms != ms:
                    index = bucket(ttft_ms)
                model.ttft_ms.append(ttft_ms)
                of_model.ttft[index] += 1
                if last is not None and of_last is not None:
                    last.ttft_ms.append(ttft_ms)
                    of_last.ttft[index] += 1

    def count_alike(self, at_s: float, records: list[CallRecord]) -> None:
        """What :meth:`count_at` makes of each of ``records``, for less: plain calls that went well
        at the first attempt, of one model at one backend, all over in the slice of ``at_s``."""
        number = slice_number(at_s)
        first = records[0]
        count = len(records)
        self._outcomes[Outcome.OK] += count
        self._prompt_tokens += sum([one.prompt_tokens or 0 for one in records])
        self._completion_tokens += sum([one.completion_tokens or 0 for one in records])
        durations = [one.duration_ms for one in records]
        ttfts = [one.ttft_ms for one in records if one.ttft_ms is not None]
        of_durations = Counter(map(bucket, durations))
        of_ttfts = Counter(map(bucket, ttfts))
        for tally in (
            _tally(self._models, first.served_model, _MODELS_MAX),
            _tally(self._backends, first.backend, _BACKENDS_MAX),
        ):
            now = tally.timeline.now
            if now.number != number:
                now = tally.timeline.turn(number)
            tally.requests += count
            now.requests += count
            tally.duration_ms.extend(durations)
            tally.ttft_ms.extend(ttfts)
            for index, times in of_durations.items():
                now.duration[index] += times
            for index, times in of_ttfts.items():
                now.ttft[index] += times

    @property
    def cancelled(self) -> int:
        """Calls whose client left."""
        self.settle()
        return self._outcomes[Outcome.CANCELLED]

    def view(self, now_s: float, in_flight: int = 0, window: str | None = None) -> dict[str, Any]:
        """What ``GET /stats`` answers at monotonic time ``now_s`` (behaviour § 13).

        ``in_flight`` are the calls under way, which are counted elsewhere.
        ``total`` counts finished calls: the sum of the outcomes. Percentiles are over the last
        calls that succeeded, ``None`` where there was none.

        ``window`` (a key of ``WINDOWS``) has the lists of backends and models cover that time only
        and name only those that were asked in it; everything else counts from the start. Raises
        ``ValueError`` for another window.
        """
        if window is not None and window not in WINDOWS:
            raise ValueError(f"window must be one of {', '.join(WINDOWS)}")
        self.settle()
        return {
            "uptime_seconds": round(max(now_s - self.started_s, 0.0), 3),
            "requests": {
                "total": sum(self._outcomes.values()),
                **{outcome.value: self._outcomes[outcome] for outcome in Outcome},
                "in_flight": in_flight,
            },
            "tokens": {"prompt": self._prompt_tokens, "completion": self._completion_tokens},
            "backends": _views(self._backends, window, now_s),
            "models": _views(self._models, window, now_s),
        }


def _settled() -> None:
    """Nothing is put off."""


def _views(tallies: dict[str, _Tally], window: str | None, now_s: float) -> list[dict[str, Any]]:
    if window is None:
        return [tally.view(name) for name, tally in sorted(tallies.items())]
    views = (tally.window_view(name, window, now_s) for name, tally in sorted(tallies.items()))
    return [view for view in views if view is not None]


def _tally(tallies: dict[str, _Tally], name: str, at_most: int) -> _Tally:
    """The tally for ``name``, or the common one once there are too many."""
    tally = tallies.get(name)
    if tally is not None:
        return tally
    if len(tallies) >= at_most:
        name = UNKNOWN_MODEL
    return tallies.setdefault(name, _Tally())


def percentile(samples: Iterable[float], share: float) -> float | None:
    """The smallest sample that at least ``share`` (0 to 1) of all samples do not exceed (nearest
    rank); ``None`` of nothing."""
    ordered = sorted(samples)
    if not ordered:
        return None
    rank = -int(-share * len(ordered) // 1)  # the ceiling
    return ordered[max(rank, 1) - 1]


def _percentiles(samples: deque[float]) -> dict[str, float | None]:
    def rounded(share: float) -> float | None:
        value = percentile(samples, share)
        return None if value is None else round(value, 3)

    return {"p50": rounded(0.50), "p95": rounded(0.95)}


def _bucket_percentiles(histogram: dict[int, int]) -> dict[str, float | None]:
    def rounded(share: float) -> float | None:
        value = bucket_percentile(histogram, share)
        return None if value is None else round(value, 3)

    return {"p50": rounded(0.50), "p95": rounded(0.95)}
