"""The recorder: one call in, every view told, never an exception out."""

from __future__ import annotations

import io
import json
import logging
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.core.call import Outcome
from nexus.telemetry.access import AccessLog
from nexus.telemetry.histogram import Histogram
from nexus.telemetry.history import History
from nexus.telemetry.metrics import BackendCounts, CallCounts, Metrics
from nexus.telemetry.record import AttemptRecord, CallRecord
from nexus.telemetry.recorder import Recorder
from nexus.telemetry.stats import Stats
from tests.unit.telemetry.records import a_record


def test_every_view_is_told() -> None:
    """Statistics, access log and further sinks each get the record."""
    out, seen, later = io.BytesIO(), list[CallRecord](), list[CallRecord]()
    access = AccessLog(out, "json", flush_interval_s=0.001)
    recorder = Recorder(Stats(0.0), access, [seen.append])
    recorder.add(later.append)
    record = a_record()
    recorder(record)
    access.close()
    assert recorder.stats.view(0.0)["requests"]["ok"] == 1
    assert json.loads(out.getvalue())["request_id"] == "req-1"
    assert seen == later == [record]


def test_a_failing_view_harms_neither_the_call_nor_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A sink that raises is logged a few times and counted; the rest go on."""

    def broken(_record: CallRecord) -> None:
        raise RuntimeError("no room")

    seen: list[CallRecord] = []
    recorder = Recorder(Stats(0.0), None, [broken, seen.append])
    with caplog.at_level(logging.ERROR, "nexus"):
        for _ in range(50):
            recorder(a_record())
    assert len(seen) == recorder.failures == recorder.stats.view(0.0)["requests"]["ok"] == 50
    assert len(caplog.records) == 10


def test_endless_names_are_cut() -> None:
    """A model name as long as a body does not stay in memory or logs."""
    record = a_record(model="m" * 10_000_000, error="e" * 1_000_000)
    Recorder(Stats(0.0))(record)
    assert len(record.model) == 1_024
    assert len(record.error) == 2_048


_ATTEMPTS = st.sampled_from(
    [
        [AttemptRecord("gpu", "ok", 200, 12.0)],
        [AttemptRecord("mac", "ok", 200, 9.0)],
        [AttemptRecord("mac", "reset", 0, 1.0), AttemptRecord("gpu", "ok", 200, 12.0)],
        [AttemptRecord("gpu", "status", 500, 1.0)],
        [],
    ]
)
_TOKENS = st.none() | st.integers(0, 1000)


@st.composite
def _records(draw: st.DrawFn) -> CallRecord:
    attempts = draw(_ATTEMPTS)
    well = bool(attempts) and attempts[-1].outcome == "ok"
    stream = draw(st.booleans())
    record = a_record(
        endpoint=draw(st.sampled_from(["/v1/chat/completions", "/v1/embeddings"])),
        outcome=draw(st.sampled_from(Outcome)) if not well else Outcome.OK,
        served_model=draw(st.sampled_from(["llama3:8b", "qwen3:4b"])) if well else "",
        backend=attempts[-1].backend if attempts else "",
        attempts=attempts,
        stream=stream,
        ttft_ms=draw(st.none() | st.floats(0.0, 5_000.0)),
        duration_ms=draw(st.floats(0.0, 50_000.0)),
        prompt_tokens=draw(_TOKENS),
        completion_tokens=draw(_TOKENS),
        estimated_tokens=draw(_TOKENS) if stream else None,
        bytes_in=draw(st.integers(0, 10_000)),
        bytes_out=draw(st.integers(0, 10_000)),
    )
    record.routing_s = draw(st.none() | st.floats(0.0, 0.1))
    return record


@given(calls=st.lists(st.tuples(st.floats(0.0, 4.0), _records()), min_size=1, max_size=80))
def test_calls_counted_together_count_as_one_by_one(calls: list[tuple[float, CallRecord]]) -> None:
    """Statistics of every window, metrics and history are the same either way, also when a slice of
    time ends among the calls."""
    now_s, ended = 95.0, []
    for after_s, record in calls:
        now_s += after_s * 0.2
        ended.append((now_s, record))
    together, metrics, history = Stats(0.0), Metrics(lambda _: True), History(1000)
    recorder = Recorder(together, metrics=metrics, history=history)
    singly, single_metrics = Stats(0.0), Metrics(lambda _: True)
    for at_s, record in ended:
        with patch("nexus.telemetry.recorder.monotonic", lambda at_s=at_s: at_s):
            recorder(record)
        singly.count_at(at_s, record)
        single_metrics.record(record)
    for window in (None, "1m", "5m", "1h"):
        assert together.view(now_s, window=window) == singly.view(now_s, window=window)
    assert recorder.failures == 0
    assert len(history) == len(calls)
    assert _numbers(metrics) == _numbers(single_metrics)


def _numbers(metrics: Metrics) -> object:
    """Everything that was counted; sums of floats as far as they do not depend on the order."""

    def plain(value: object) -> object:
        if isinstance(value, float):
            return round(value, 6)
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items() if one}
        if isinstance(value, (CallCounts, BackendCounts, Histogram)):
            names = [name for name in value.__slots__ if name not in ("seen_s", "bounds")]
            return {name: plain(getattr(value, name)) for name in names}
        return value

    names = [name for name in Metrics.__slots__ if not name.startswith("_")]
    return {name: plain(getattr(metrics, name)) for name in names}
