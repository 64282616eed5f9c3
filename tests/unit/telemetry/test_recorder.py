"""The recorder: one call in, every view told, never an exception out."""

from __future__ import annotations

import io
import json
import logging

import pytest

from nexus.telemetry.access import AccessLog
from nexus.telemetry.record import CallRecord
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
