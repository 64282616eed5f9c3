"""The lines of Ollama's own streams (NDJSON)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec

from nexus.demo.ask import Say
from nexus.demo.reply import EVENT, Plain, Reply, Stream

__all__ = ["in_sse", "line", "lines"]

_encode = msgspec.json.encode


def in_sse(reply: Reply) -> Reply:
    """An Ollama stream whose lines travel as SSE events, as some proxies make of it."""
    if isinstance(reply, Plain):
        return reply
    return Stream(
        events=(EVENT % told.rstrip(b"\n") for told in reply.events),
        tail=tuple(EVENT % told.rstrip(b"\n") for told in reply.tail),
        content_type="text/event-stream",
    )


def line(model: str, text: str, chat: bool, say: Say | None = None) -> dict[str, Any]:
    """One line of ``/api/chat``, or of ``/api/generate``; with ``say`` its tool call too."""
    said: dict[str, Any] = {"model": model, "created_at": _now()}
    if not chat:
        said["response"] = text
        return said
    said["message"] = {"role": "assistant", "content": text}
    if say is not None and say.tool:
        function = {
            "index": 0,
            "name": say.tool,
            "arguments": msgspec.json.decode(say.arguments),
        }
        said["message"]["tool_calls"] = [{"id": "call_demo1", "function": function}]
    return said


def lines(model: str, say: Say, chat: bool) -> Iterator[bytes]:
    """All lines but the last."""
    if say.tool:
        yield _encode({**line(model, "", chat, say), "done": False}) + b"\n"
        return
    for piece in say.pieces():
        yield _encode({**line(model, piece, chat), "done": False}) + b"\n"


def _now() -> str:
    at_ns = time.time_ns()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(at_ns // 10**9))}.{at_ns % 10**9:09}Z"
