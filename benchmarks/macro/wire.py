"""The bytes of the benchmark: what is asked, what the upstreams answer, and the models' names."""

from __future__ import annotations

import json

__all__ = [
    "ANSWER",
    "PLAIN_MODEL",
    "STREAM_MODEL",
    "model_list",
    "plain_request",
    "stream_body",
    "stream_chunks",
    "stream_request",
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

ANSWER = json.dumps(
    {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion",
        "created": _CREATED,
        "model": PLAIN_MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": _TEXT},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 62, "completion_tokens": 38, "total_tokens": 100},
        "system_fingerprint": "fp_bench",
    }
).encode()
"""The plain answer, about 0.5 kB."""


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


def plain_request(port: int) -> bytes:
    """A chat completion, body about 0.3 kB."""
    body = {
        "model": PLAIN_MODEL,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": _PROMPT},
        ],
        "max_tokens": 100,
    }
    return _request(port, json.dumps(body).encode())


def stream_request(port: int, events: int) -> bytes:
    """A streamed chat completion of ``events`` deltas."""
    body = {
        "model": STREAM_MODEL,
        "messages": [{"role": "user", "content": _PROMPT}],
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


_DELTA = _event({"content": " token"}, None)
_LAST = (_event({}, "stop"), b"data: [DONE]\n\n")


def stream_body(events: int) -> bytes:
    """The whole body of a stream of ``events`` deltas, without framing."""
    return _DELTA * events + b"".join(_LAST)


def stream_chunks() -> tuple[bytes, bytes]:
    """A delta as one HTTP chunk, and the end of a stream, each event one chunk."""
    ends = b"".join(_chunk(event) for event in _LAST)
    return _chunk(_DELTA), ends + b"0\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
