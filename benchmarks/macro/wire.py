"""The bytes of the benchmark: what is asked, what the upstreams answer, and the models' names."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from random import Random

__all__ = [
    "ANSWER",
    "ANSWER_TEXT",
    "BIG_ANSWER",
    "DELTA_PARTS",
    "PLAIN_MODEL",
    "STAMP",
    "STREAM_END",
    "STREAM_MODEL",
    "big_answer_parts",
    "image_body",
    "long_body",
    "model_list",
    "plain_request",
    "short_body",
    "stream_body",
    "stream_request",
    "without_stamps",
]

PLAIN_MODEL = "bench-plain"
STREAM_MODEL = "bench-stream"

_CREATED = 1_700_000_000
_PROMPT = (
    "Summarise in two sentences why a proxy that holds a plain answer until it is whole can retry "
    "a broken one without the client noticing, and what that costs."
)
_TEXT = (
    "A held answer has not been seen by the client, so that a broken one may be thrown away and "
    "asked for again elsewhere. It costs the memory of the answer and the time to its end."
)

ANSWER_TEXT = _TEXT


def _answer(text: str) -> bytes:
    return json.dumps(
        {
            "id": "chatcmpl-0123456789abcdef",
            "object": "chat.completion",
            "created": _CREATED,
            "model": PLAIN_MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 62, "completion_tokens": 38, "total_tokens": 100},
            "system_fingerprint": "fp_bench",
        }
    ).encode()


ANSWER = _answer(_TEXT)
"""The plain answer, about 0.5 kB."""

_PIECE = (_TEXT + " ") * 16
_PIECES = 35
BIG_ANSWER = _answer(_PIECE * _PIECES)
"""A long answer, about 100 kB."""


def big_answer_parts() -> tuple[str, str, int, str]:
    """:data:`BIG_ANSWER` as what comes before, a piece, how often it is repeated, and what comes
    after: nginx takes no text longer than 4 kB."""
    before, after = BIG_ANSWER.decode().split(_PIECE * _PIECES)
    return before, _PIECE, _PIECES, after


def model_list(model: str) -> bytes:
    """What ``GET /v1/models`` answers: health checks read it."""
    entry = {"id": model, "object": "model", "created": _CREATED, "owned_by": "bench"}
    return json.dumps({"object": "list", "data": [entry]}).encode()


def _request(port: int, body: bytes) -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
        b"User-Agent: bench\r\nAccept: application/json\r\nAuthorization: Bearer sk-bench\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (port, len(body), body)
    )


def _plain_body(messages: list[Mapping[str, object]]) -> bytes:
    return json.dumps({"model": PLAIN_MODEL, "messages": messages, "max_tokens": 100}).encode()


_SYSTEM = {"role": "system", "content": "You are a helpful assistant."}


def short_body() -> bytes:
    """A question, about 0.3 kB."""
    return _plain_body([_SYSTEM, {"role": "user", "content": _PROMPT}])


def long_body() -> bytes:
    """A conversation of twenty turns, about 8 kB."""
    turns: list[Mapping[str, object]] = []
    for _ in range(10):
        turns += [
            {"role": "user", "content": _PROMPT * 2},
            {"role": "assistant", "content": _TEXT * 2},
        ]
    return _plain_body([_SYSTEM, *turns, {"role": "user", "content": _PROMPT}])


def image_body() -> bytes:
    """A question with an image of 768 KiB in base64, 1 MiB in all."""
    data = base64.b64encode(Random(8).randbytes(768 * 1024)).decode()
    parts = [
        {"type": "text", "text": _PROMPT},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
    ]
    return _plain_body([_SYSTEM, {"role": "user", "content": parts}])


def plain_request(port: int, body: bytes | None = None) -> bytes:
    """A chat completion with that body, :func:`short_body` where none is given."""
    return _request(port, short_body() if body is None else body)


def stream_request(port: int, events: int, events_per_s: float) -> bytes:
    """A streamed chat completion of ``events`` deltas at that pace. The question tells the engine
    both: every gateway passes that on, and not every one each field as it was."""
    question = f"{events} deltas at {events_per_s:g} per second: {_PROMPT}"
    body = {
        "model": STREAM_MODEL,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": events,
        "stream": True,
    }
    return _request(port, json.dumps(body).encode())


def _event(delta: dict[str, str], finish_reason: str | None) -> bytes:
    chunk = {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": STREAM_MODEL,
        "system_fingerprint": "fp_bench",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}],
    }
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


STAMP = re.compile(rb"t(\d{16})")
"""What an event says of when it was sent: microseconds of the monotonic clock."""

_NO_STAMP = b"t%016d" % 0
_DELTA = _event({"content": _NO_STAMP.decode()}, None)
_LAST = (_event({}, "stop"), b"data: [DONE]\n\n")

DELTA_PARTS = tuple(_chunk(_DELTA).split(_NO_STAMP[1:]))
"""A delta as one HTTP chunk: what comes before the digits of its stamp and after them."""

STREAM_END = b"".join(_chunk(event) for event in _LAST) + b"0\r\n\r\n"
"""The end of a stream, each event one chunk."""


def stream_body(events: int) -> bytes:
    """The whole body of a stream of ``events`` deltas, without framing, its stamps 0."""
    return _DELTA * events + b"".join(_LAST)


def without_stamps(body: bytes) -> bytes:
    """The body of a stream with each stamp set to 0, to compare it with :func:`stream_body`."""
    return STAMP.sub(_NO_STAMP, body)
