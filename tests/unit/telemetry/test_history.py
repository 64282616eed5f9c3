"""History: the last calls, newest first, in bounded memory."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nexus.core.call import Outcome, RequestProfile
from nexus.telemetry.history import History, call_view
from nexus.telemetry.record import AttemptRecord, CallRecord
from nexus.telemetry.recorder import Recorder
from nexus.telemetry.stats import Stats
from tests.unit.telemetry.records import a_record


def test_a_row_has_the_promised_shape() -> None:
    """Every key of behaviour § 13 is there, with the record's values."""
    row = call_view(a_record(estimated_tokens=None, stream=True))
    assert row == {
        "request_id": "req-1",
        "at": 1_700_000_000.25,
        "endpoint": "/v1/chat/completions",
        "model": "gpt-4",
        "served_model": "llama3:8b",
        "backend": "gpu",
        "reason": "capability-match",
        "stream": True,
        "attempts": [{"backend": "gpu", "outcome": "ok", "status": 200, "ms": 12.0}],
        "status": 200,
        "outcome": "ok",
        "error": "",
        "ttft_ms": 10.0,
        "duration_ms": 100.0,
        "tokens": {"prompt": 3, "completion": 7, "estimated": None},
        "bytes": {"in": 11, "out": 13},
    }
    assert msgspec.json.decode(msgspec.json.encode(row)) == row


def test_the_newest_come_first_and_the_oldest_go() -> None:
    """A ring of three holds the last three of five."""
    history = History(3)
    for n in range(5):
        history.add(a_record(request_id=f"r{n}"))
    assert [row["request_id"] for row in history.view()] == ["r4", "r3", "r2"]
    assert [row["request_id"] for row in history.view(limit=1)] == ["r4"]
    assert len(history) == 3


def test_a_size_of_zero_keeps_nothing() -> None:
    """``telemetry.history_size = 0`` switches it off."""
    history = History(0)
    history.add(a_record())
    assert history.view() == []


def test_resizing_keeps_the_newest() -> None:
    """A smaller ring after a reload loses the oldest calls only."""
    history = History(5)
    for n in range(5):
        history.add(a_record(request_id=f"r{n}"))
    history.resize(2)
    assert [row["request_id"] for row in history.view()] == ["r4", "r3"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"backend": "a"}, ["second", "first"]),
        ({"backend": "b"}, ["second"]),
        ({"model": "asked"}, ["first"]),
        ({"model": "served"}, ["second", "first"]),
        ({"outcome": "timeout"}, ["second"]),
        ({"outcome": "ok", "backend": "a"}, ["first"]),
        ({"outcome": "no such"}, []),
    ],
)
def test_filters(filters: dict[str, Any], found: list[str]) -> None:
    """A backend is found by any attempt, a model by either of its names, an outcome by its own."""
    history = History(10)
    history.add(
        a_record(
            request_id="first",
            model="asked",
            served_model="served",
            backend="a",
            attempts=[AttemptRecord("a", "ok", 200, 1.0)],
        )
    )
    history.add(
        a_record(
            request_id="second",
            model="served",
            backend="b",
            served_model="",
            outcome=Outcome.TIMEOUT,
            attempts=[
                AttemptRecord("a", "reset", 0, 1.0),
                AttemptRecord("b", "timeout", 0, 1.0),
            ],
        )
    )
    assert [row["request_id"] for row in history.view(**filters)] == found


def test_a_call_is_found_by_its_id_with_what_explains_it() -> None:
    """The newest call of that id, with its profile and the candidates it had."""
    history = History(10)
    history.add(a_record(request_id="same", status=500))
    record = a_record(request_id="same")
    record.profile = RequestProfile(
        endpoint="/v1/chat/completions", model="gpt-4", fields=frozenset({"tools", "seed"})
    )
    record.considered = (("gpu", 0.75), ("cpu", 0.5))
    history.add(record)
    history.add(a_record(request_id="other"))
    found = history.find("same")
    assert found is not None
    assert found["status"] == 200
    assert found["profile"]["fields"] == ["seed", "tools"]
    assert found["considered"] == [
        {"backend": "gpu", "score": 0.75},
        {"backend": "cpu", "score": 0.5},
    ]
    assert history.record("same") is record
    assert history.find("nobody") is None
    msgspec.json.encode(found)


def test_a_refused_call_has_no_profile() -> None:
    """What was never read is null, not an error."""
    history = History(1)
    history.add(a_record())
    found = history.find("req-1")
    assert found is not None
    assert found["profile"] is None
    assert found["considered"] == []


def test_the_profile_stays_out_of_the_log_line() -> None:
    """What explains a call is kept beside the fields that the access log writes."""
    record = a_record()
    line = msgspec.json.encode(record)
    record.profile = RequestProfile(endpoint="e", model="m")
    record.considered = (("gpu", 1.0),)
    assert msgspec.json.encode(record) == line


@pytest.mark.parametrize(
    "profile",
    [
        RequestProfile(endpoint="e", model="m" * 5_000_000),
        RequestProfile(endpoint="e", model="m", fields=frozenset({"f" * 5_000_000})),
        RequestProfile(endpoint="e", model="m", fields=frozenset(map(str, range(100_000)))),
        RequestProfile(endpoint="e", model="m", pin="p" * 60_000),
    ],
    ids=["model", "long field", "many fields", "pin"],
)
def test_a_profile_as_big_as_a_body_is_not_kept(profile: RequestProfile) -> None:
    """A thousand calls that name megabytes must not stay in memory, nor one until the next read."""
    history = History(10)
    record = a_record(model=profile.model, bytes_in=5_000_100)
    record.profile = profile
    Recorder(Stats(0.0), history=history)(record)
    assert record.profile is None
    kept = history.record("req-1")
    assert kept is not None
    assert kept.profile is None
    assert len(kept.model) <= 1_024


def test_a_usual_profile_is_kept() -> None:
    """Twenty ordinary fields are not too many."""
    record: CallRecord = a_record()
    fields = frozenset(f"parameter_{n}" for n in range(20))
    record.profile = RequestProfile(endpoint="e", model="m", fields=fields, pin="gpu")
    history = History(1)
    history.add(record)
    assert record.profile is not None
