"""The access log: whole lines, off the loop's thread, never in its way."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.call import Outcome
from nexus.telemetry import access
from nexus.telemetry.access import AccessLog
from nexus.telemetry.record import AttemptRecord, CallRecord
from tests.unit.telemetry.records import a_record


def json_line(record: CallRecord) -> bytes:
    """What the access log appends for ``record``."""
    lines = bytearray(b"before\n")
    access.json_line(record, lines)
    return bytes(lines).removeprefix(b"before\n")


def pretty_line(record: CallRecord) -> bytes:
    """The same for people."""
    lines = bytearray(b"before\n")
    access.pretty_line(record, lines)
    return bytes(lines).removeprefix(b"before\n")


def written(*records: CallRecord, format: Any = "json") -> bytes:  # noqa: A002
    out = io.BytesIO()
    log = AccessLog(out, format, flush_interval_s=0.001)
    for record in records:
        log.write(record)
    log.close()
    assert log.dropped == 0
    return out.getvalue()


def test_a_line_holds_what_is_promised() -> None:
    """A JSON line has every field of behaviour § 12."""
    line = json.loads(written(a_record()))
    assert line["timestamp"] == "2023-11-14T22:13:20.250Z"
    assert (line["level"], line["component"], line["event"]) == ("info", "access", "request")
    expected = {
        "request_id": "req-1",
        "model": "gpt-4",
        "served_model": "llama3:8b",
        "backend": "gpu",
        "reason": "capability-match",
        "status": 200,
        "outcome": "ok",
        "ttft_ms": 10.0,
        "duration_ms": 100.0,
        "prompt_tokens": 3,
        "completion_tokens": 7,
        "bytes_in": 11,
        "bytes_out": 13,
    }
    assert expected.items() <= line.items()
    assert line["attempts"] == [{"backend": "gpu", "outcome": "ok", "status": 200, "ms": 12.0}]


def test_lines_come_in_the_order_of_the_calls() -> None:
    """Thousands of records leave as that many lines, in order."""
    lines = written(*(a_record(request_id=str(n)) for n in range(3_000))).splitlines()
    assert [json.loads(line)["request_id"] for line in lines] == [str(n) for n in range(3_000)]


@settings(deadline=None, max_examples=100)
@given(model=st.text(), error=st.text(alphabet=st.characters()))
def test_no_name_breaks_a_json_line(model: str, error: str) -> None:
    """Whatever a client calls a model, the line is one line and says that name."""
    line = json_line(a_record(model=model, error=error))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["model"] == model


def test_a_lone_surrogate_is_escaped() -> None:
    """A name that is not valid Unicode, as JSON may carry, is written escaped."""
    line = json_line(a_record(model="a\ud800b"))
    assert json.loads(line)["model"] == "a\\ud800b"
    assert rb"a\ud800b" in pretty_line(a_record(model="a\ud800b"))


@settings(deadline=None, max_examples=100)
@given(model=st.text(), error=st.text())
def test_no_name_breaks_a_pretty_line(model: str, error: str) -> None:
    """A pretty line holds nothing unprintable: no line feed, no terminal sequence."""
    line = pretty_line(a_record(model=model, served_model="", error=error)).decode()
    assert line[-1] == "\n"
    assert line[:-1].isprintable()


def test_a_pretty_line_reads_well() -> None:
    """The form for people says what came of the call, where, and how long it took."""
    line = pretty_line(a_record()).decode()
    for part in ("22:13:20.250", "200", "ok", "gpt-4 → llama3:8b", "@ gpu", "100 ms", "tokens 3/7"):
        assert part in line
    bare = pretty_line(
        CallRecord(
            request_id="r",
            at_s=0.0,
            endpoint="/v1/embeddings",
            outcome=Outcome.CANCELLED,
            attempts=[AttemptRecord("a", "timeout", 0, 1.0), AttemptRecord("b", "ok", 200, 1.0)],
            completion_tokens=2,
        )
    ).decode()
    assert "---" in bare
    assert "attempts 2" in bare
    assert "tokens ?/2" in bare


def test_auto_is_json_off_a_terminal() -> None:
    """``auto`` writes JSON where nobody watches."""
    json.loads(written(a_record(), format="auto"))


def test_an_idle_log_writes_soon_after_it_wakes() -> None:
    """A record written to a sleeping log comes out without a close."""
    read_fd, write_fd = os.pipe()
    with os.fdopen(write_fd, "wb") as stream, os.fdopen(read_fd, "rb") as reader:
        log = AccessLog(stream, "json", flush_interval_s=0.001)
        for n in range(3):
            log.write(a_record(request_id=str(n)))
            assert json.loads(reader.readline())["request_id"] == str(n)
        log.close()


def test_a_stalled_stream_never_stops_the_writer_of_records() -> None:
    """With nobody reading, writes return at once, the oldest lines go, and their number is told."""
    read_fd, write_fd = os.pipe()
    with os.fdopen(write_fd, "wb") as stream, os.fdopen(read_fd, "rb") as reader:
        log = AccessLog(stream, "json", flush_interval_s=0.001, queue_lines_max=100)
        began = time.perf_counter()
        for n in range(20_000):
            log.write(a_record(request_id=str(n), error="x" * 200))
        assert time.perf_counter() - began < 5
        assert log.dropped > 0
        log.close(timeout_s=0.01)  # gives up: still nobody reads

        lines: list[dict[str, Any]] = []
        while not lines or lines[-1].get("request_id") != "19999":
            lines.append(json.loads(reader.readline()))
        told = sum(line["dropped"] for line in lines if line["event"] == "lines_dropped")
        assert told == log.dropped
        assert told + sum(line["event"] == "request" for line in lines) == pytest.approx(
            20_000, abs=5
        )


def test_a_broken_pipe_loses_lines_and_nothing_else() -> None:
    """When the reader is gone, lines are counted as dropped and nothing is raised."""
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    with os.fdopen(write_fd, "wb") as stream:
        log = AccessLog(stream, "json", flush_interval_s=0.001)
        log.write(a_record())
        log.close()
        assert log.dropped == 1


def test_a_closed_stream_hurts_nobody_elses_descriptor() -> None:
    """The log owns a descriptor: closing the stream it was given changes nothing."""
    read_fd, write_fd = os.pipe()
    stream = os.fdopen(write_fd, "wb")
    log = AccessLog(stream, "json", flush_interval_s=0.001)
    stream.close()
    log.write(a_record())
    log.close()
    assert log.dropped == 0
    assert b"req-1" in os.read(read_fd, 65_536)
    os.close(read_fd)


def test_a_non_blocking_stream_gets_every_byte() -> None:
    """A standard output that a parent made non-blocking loses no part of a line."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    received: list[bytes] = []

    def read() -> None:
        with os.fdopen(read_fd, "rb") as reader:
            received.extend(reader)

    with os.fdopen(write_fd, "wb") as stream:
        log = AccessLog(stream, "json", flush_interval_s=0.001)
        for n in range(2_000):
            log.write(a_record(request_id=str(n), error="x" * 100))
        thread = threading.Thread(target=read)
        thread.start()
        log.close(timeout_s=10)
    thread.join()
    assert [json.loads(line)["request_id"] for line in received] == [str(n) for n in range(2_000)]


def test_an_odd_record_costs_its_own_line_only() -> None:
    """A record that cannot be encoded is counted as dropped; the next ones come out."""
    out = io.BytesIO()
    log = AccessLog(out, "json", flush_interval_s=0.001)
    log.write(a_record(at_s=float("nan")))
    log.write(a_record(request_id="after"))
    log.close()
    assert log.dropped == 1
    lines = [msgspec.json.decode(line) for line in out.getvalue().splitlines()]
    assert [line["request_id"] for line in lines if line["event"] == "request"] == ["after"]


def test_closing_twice_is_harmless() -> None:
    """``close`` may be called again."""
    log = AccessLog(io.BytesIO(), "json")
    log.close()
    log.close()


def test_lines_keep_their_order_whoever_encodes_them() -> None:
    """The caller's thread encodes whole batches and the writer's the rest, at the same time: each
    record has its line, in the order in which they were written."""
    read_fd, write_fd = os.pipe()
    received: list[bytes] = []

    def read() -> None:
        with os.fdopen(read_fd, "rb") as reader:
            received.extend(reader)

    thread = threading.Thread(target=read)
    thread.start()
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with os.fdopen(write_fd, "wb") as stream:
            log = AccessLog(stream, "json", flush_interval_s=0.0001)
            for n in range(5_000):
                log.write(a_record(request_id=str(n)))
            log.close(timeout_s=10)
    finally:
        sys.setswitchinterval(switch_s)
    thread.join()
    assert log.dropped == log.pending == 0
    assert [json.loads(line)["request_id"] for line in received] == [str(n) for n in range(5_000)]
