"""The load generators: what they count, and what they refuse to count."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from benchmarks.macro.accounting import Meter
from benchmarks.macro.load import (
    Expected,
    StreamFigure,
    Void,
    answered,
    measure_plain,
    measure_streams,
)
from benchmarks.macro.openloop import measure_latency
from benchmarks.macro.processes import Processes
from benchmarks.macro.servers import start_engine
from benchmarks.macro.wire import ANSWER, ANSWER_TEXT, BIG_ANSWER

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"
_EXACT = Expected(ANSWER, ANSWER_TEXT.encode())
_LOOSE = _EXACT._replace(exact=False)


def test_a_whole_answer_counts_and_a_part_of_it_waits() -> None:
    """An answer counts when its last byte is there, wherever it was cut."""
    whole = _HEAD % len(ANSWER) + ANSWER
    assert answered(whole, _EXACT)
    assert not any(answered(whole[:cut], _EXACT) for cut in range(1, len(whole)))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n",
        _HEAD % len(ANSWER) + ANSWER.replace(b"held", b"hold"),
        _HEAD % (len(ANSWER) + 1) + ANSWER + b" ",
        b"not HTTP at all",
    ],
    ids=["an error", "one letter changed", "a byte too many", "garbage"],
)
def test_a_wrong_answer_makes_a_measurement_void(answer: bytes) -> None:
    """A proxy that changes or refuses answers has no figure."""
    with pytest.raises(Void):
        answered(answer, _EXACT)


def test_who_writes_answers_anew_must_keep_the_text() -> None:
    """Where a gateway makes its own JSON, the text of the answer must be in it."""
    body = b'{"rewritten": "%b"}' % ANSWER_TEXT.encode()
    assert answered(_HEAD % len(body) + body, _LOOSE)
    with pytest.raises(Void):
        answered(_HEAD % 2 + b"{}", _LOOSE)


def test_the_long_answer_is_as_long_as_the_tables_say() -> None:
    """The answer called 100 kB has about that many bytes."""
    assert 95_000 < len(BIG_ANSWER) < 105_000


class _Stalling:
    """Answers every request at once, but for one stall."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._begun_s = time.monotonic()
        self._stalled = False
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            while client.recv(65536):
                with self._lock:  # the others wait for who stalls, as in an event loop
                    if not self._stalled and time.monotonic() > self._begun_s + 0.9:
                        self._stalled = True
                        time.sleep(self._stall_s)
                client.sendall(_HEAD % len(ANSWER) + ANSWER)

    def close(self) -> None:
        self._server.close()


def test_a_stall_is_felt_by_every_request_that_was_due_in_it() -> None:
    """A stall of 0.4 s in 1.2 s shows in the 90th percentile: requests keep their time."""
    server = _Stalling(0.4)
    try:
        found = measure_latency(server.port, 100.0, 1.2)
    finally:
        server.close()
    assert found.count > 100
    assert found.p90_ms > 100.0
    assert found.p99_ms > 250.0


def _streams(port: int, meter: Meter) -> StreamFigure:
    """On a machine too busy to keep the pace, which is void and rightly so, once more."""
    for _ in range(4):
        with suppress(Void):
            return measure_streams(port, 5, 20.0, 1.0, meter, opens_per_s=50.0)
    return measure_streams(port, 5, 20.0, 1.0, meter, opens_per_s=50.0)


def test_the_engine_streams_what_the_load_expects(tmp_path: Path) -> None:
    """Streams straight from the engine are whole, at their pace, and their delays are told."""
    core = min(os.sched_getaffinity(0))
    with Processes(tmp_path) as processes:
        port = start_engine(processes, core)
        found = _streams(port, Meter(os.getpid(), core))
    assert 80.0 < found.per_s < 120.0
    assert 0.0 < found.delay_p50_ms <= found.delay_p99_ms
    assert 0.0 < found.first_p50_ms <= found.first_p99_ms


def test_plain_calls_to_something_else_are_void(tmp_path: Path) -> None:
    """An upstream that has no such answer gives no figure."""
    core = min(os.sched_getaffinity(0))
    with Processes(tmp_path) as processes:
        port = start_engine(processes, core)
        with pytest.raises(Void):
            measure_plain(port, 2, 0.2, Meter(os.getpid(), core), b"{}")


def test_cpu_time_is_that_of_the_whole_process() -> None:
    """The meter sees the work of a thread that has ended."""
    meter = Meter(os.getpid(), min(os.sched_getaffinity(0)))
    before = meter()

    def work() -> None:
        end_s = time.thread_time() + 0.05
        while time.thread_time() < end_s:
            pass

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert 0.045 < meter().proxy_s - before.proxy_s < 5.0
