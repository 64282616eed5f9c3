"""Every way in which an engine answers badly, and the words for it."""

from __future__ import annotations

from enum import Enum

__all__ = [
    "CUT_WITHIN",
    "DONE",
    "ERROR",
    "FINISH",
    "GOOD",
    "INTRUDER",
    "MISHAPS",
    "OVERLOADED",
    "RAW",
    "STATUSES",
    "Act",
]


class Act(Enum):
    """What an engine does other than writing."""

    FIN = "closes"
    RESET = "resets"
    DIE = "its process dies"
    STALL = "says no more"


MISHAPS: dict[str, int] = {
    "reset at once": 4,
    "close at once": 3,
    "die at once": 1,
    "cut in the head": 2,
    "cut after the head": 4,
    "die after the head": 3,
    "cut in the middle": 6,
    "die in the middle": 2,
    "stall at once": 2,
    "stall after the head": 2,
    "stall in the middle": 3,
    "drip": 3,
    "late": 3,
    "500": 4,
    "502": 2,
    "503": 3,
    "504": 1,
    "500, cut": 1,
    "loading": 2,
    "429": 4,
    "429 for long": 1,
    "no such model": 2,
    "no such model, 400": 1,
    "too long": 1,
    "cannot": 1,
    "400": 2,
    "401": 1,
    "408": 1,
    "409": 1,
    "302": 1,
    "204": 1,
    "101": 1,
    "interim answers": 2,
    "too many interim answers": 1,
    "error first": 4,
    "overloaded first": 2,
    "done first": 1,
    "error in the middle": 2,
    "no finish": 2,
    "no done": 2,
    "done without finish": 1,
    "garbage": 2,
    "not JSON": 2,
    "half of it": 2,
    "empty": 1,
    "bytes after it": 3,
    "two lengths": 1,
    "bad chunk": 2,
    "other dialect": 4,
    "other dialect, cut": 2,
    "comments first": 4,
    "comments, then cut": 2,
    "HTTP/1.0": 2,
}
"""Every way to answer that is not the plain good one, and how often beside the others."""

GOOD = frozenset(
    {"drip", "late", "interim answers", "bytes after it", "no done", "other dialect"}
    | {"comments first", "HTTP/1.0"}
)
CUT_WITHIN = frozenset(
    {"cut in the middle", "die in the middle", "stall in the middle"}
    | {"comments, then cut", "other dialect, cut"}
)
DONE = b"data: [DONE]\n\n"
FINISH = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
ERROR: dict[str, object] = {"error": {"message": "it broke", "type": "server_error"}}
OVERLOADED: dict[str, object] = {"error": {"message": "queue full", "code": 503}}
INTRUDER = b"HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n" + b'{"intruder": true}'

STATUSES: dict[str, tuple[int, object] | tuple[int, object, str]] = {
    "500": (500, ERROR),
    "500, cut": (500, ERROR),
    "502": (502, ERROR),
    "503": (503, ERROR),
    "504": (504, None),
    "loading": (503, {"error": {"message": "Loading model", "code": 503}}),
    "429": (429, {"error": {"message": "slow down"}}, "retry-after: 2"),
    "429 for long": (429, {"error": {"message": "slow down"}}, "retry-after: 600"),
    "no such model": (404, {"error": {"message": "model 'm' not found"}}),
    "no such model, 400": (400, {"error": {"message": "model is not loaded"}}),
    "too long": (400, {"error": {"message": "This model's maximum context length is 8"}}),
    "cannot": (400, {"error": {"message": "m is not a multimodal model"}}),
    "400": (400, {"error": {"message": "temperature must be a number"}}),
    "401": (401, {"error": {"message": "who are you"}}),
    "408": (408, {"error": {"message": "later"}}),
    "409": (409, {"error": {"message": "not now"}}),
    "302": (302, None, "location: /elsewhere"),
    "204": (204, None),
}
RAW = {
    "garbage": b"SSH-2.0-OpenSSH_9.2\r\n",
    "101": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "too many interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 40,
}
