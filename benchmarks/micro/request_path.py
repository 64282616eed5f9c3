"""What the steps of a relayed call cost: ``python benchmarks/micro/request_path.py``.

Prints microseconds per step, the best of several rounds. The steps that dominate a real call are
missing on purpose: they are system calls, which ``benchmarks/macro`` measures.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep, time

from nexus.core.call import Outcome
from nexus.dialects.views import read_answer, read_chunk
from nexus.proxy.heads import answer_fields, client_fields
from nexus.routing.profile import read_profile
from nexus.streams.sse import EventBuffer
from nexus.streams.tap import Tap, Terminal
from nexus.telemetry.access import AccessLog, json_line
from nexus.telemetry.record import AttemptRecord, CallRecord

_ROUNDS = 7
_CALLS = 20_000

_BODY = json.dumps(
    {
        "model": "llama3:70b",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Why can a held answer be retried unseen? " * 4},
        ],
        "max_tokens": 100,
    }
).encode()

_ANSWER = json.dumps(
    {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "llama3:70b",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Nobody has seen it yet. " * 9},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 62, "completion_tokens": 38, "total_tokens": 100},
    }
).encode()

_EVENT = (
    b'data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk",'
    b'"created":1700000000,"model":"llama3:70b","system_fingerprint":"fp_bench",'
    b'"choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}'
    b"\n\n"
)

_REQUEST_HEADERS = [
    (b"host", b"127.0.0.1:8000"),
    (b"user-agent", b"OpenAI/Python 1.60.0"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"authorization", b"Bearer sk-bench"),
    (b"content-type", b"application/json"),
    (b"content-length", b"300"),
    (b"x-stainless-lang", b"python"),
    (b"x-stainless-retry-count", b"0"),
]

_ANSWER_HEADERS = [
    (b"server", b"uvicorn"),
    (b"date", b"Mon, 23 Nov 2026 12:00:00 GMT"),
    (b"content-type", b"application/json"),
    (b"content-length", b"500"),
]


def _record() -> CallRecord:
    return CallRecord(
        request_id="0123abcd-4567-4abc-8def-000000000001",
        at_s=time(),
        endpoint="/v1/chat/completions",
        outcome=Outcome.OK,
        status=200,
        model="llama3:70b",
        served_model="llama3:70b",
        backend="gpu",
        reason="capability-match",
        attempts=[AttemptRecord("gpu", "ok", 200, 12.345678)],
        ttft_ms=12.3,
        duration_ms=12.4,
        prompt_tokens=62,
        completion_tokens=38,
        bytes_in=300,
        bytes_out=500,
    )


def _measure(step: Callable[[], object], calls: int = _CALLS) -> float:
    """Microseconds per call of ``step``, the best of all rounds; the loop itself included."""
    best = float("inf")
    for _ in range(_ROUNDS):
        began = perf_counter()
        for _ in range(calls):
            step()
        best = min(best, (perf_counter() - began) / calls)
    return best * 1e6


def _log_write() -> float:
    """Microseconds of queueing a line, which is all that the loop's thread does."""
    record = _record()
    calls = 5_000  # half of what its queue holds
    best = float("inf")
    with Path(os.devnull).open("wb") as nowhere:
        log = AccessLog(nowhere, "json", flush_interval_s=0.02)
        for _ in range(_ROUNDS):
            began = perf_counter()
            for _ in range(calls):
                log.write(record)
            best = min(best, (perf_counter() - began) / calls)
            sleep(0.1)  # the writer empties the queue
        log.close()
    if log.dropped:
        raise RuntimeError("lines were dropped: the figure is of something else")
    return best * 1e6


def main() -> None:
    """Prints the table."""
    tap = Tap(Terminal.FINISH_REASON, read_chunk, repairs_tool_finish=True)
    buffer = EventBuffer()
    record = _record()

    def event() -> None:
        tap.watch(buffer.feed(_EVENT))

    def profile() -> object:
        return read_profile(_BODY, "/v1/chat/completions", requires_messages=True, pin=None)

    steps: list[tuple[str, float]] = [
        (f"read_profile, {len(_BODY)} B", _measure(profile)),
        (f"client_fields, {len(_REQUEST_HEADERS)} fields", _measure(_sort_fields)),
        (f"answer_fields, {len(_ANSWER_HEADERS)} fields", _measure(_pass_fields)),
        (f"read_answer, {len(_ANSWER)} B", _measure(lambda: read_answer(_ANSWER))),
        (f"EventBuffer.feed + Tap.watch, {len(_EVENT)} B", _measure(event)),
        ("AccessLog.write (the loop's part)", _log_write()),
        ("json_line (the writer thread's part)", _measure(lambda: json_line(record, bytearray()))),
    ]
    print(f"µs per step, Python {sys.version.split()[0]}")
    for name, figure in steps:
        print(f"{name:<42}{figure:8.2f}")


def _sort_fields() -> object:
    return client_fields(_REQUEST_HEADERS).lines(frozenset())


def _pass_fields() -> object:
    return answer_fields(_ANSWER_HEADERS, [])


if __name__ == "__main__":
    main()
