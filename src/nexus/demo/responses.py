"""OpenAI's Responses API: the answer object and the events of a streamed one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec

from nexus.demo.ask import Say

__all__ = ["responses_events", "responses_object"]

_encode = msgspec.json.encode


def responses_object(
    number: int,
    model: str,
    text: str | None,
    finish: str,
    prompt_tokens: int,
    completion_tokens: int,
) -> dict[str, Any]:
    """The whole answer, or with ``text`` ``None`` the one that is only begun."""
    status = "completed" if finish != "length" else "incomplete"
    base: dict[str, Any] = {
        "id": f"resp_demo{number}",
        "object": "response",
        "created_at": int(time.time()),
        "status": status if text is not None else "in_progress",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if finish == "length" else None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }
    if text is None:
        base["incomplete_details"] = None
        return base
    base["output"] = [_message(number, text)]
    base["usage"] = {
        "input_tokens": prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt_tokens + completion_tokens,
    }
    return base


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _message(number: int, text: str) -> dict[str, Any]:
    return {
        "id": f"msg_demo{number}",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [_part(text)],
    }


def responses_events(
    number: int, model: str, say: Say, prompt_tokens: int, completion_tokens: int
) -> tuple[Iterator[bytes], tuple[bytes, ...]]:
    """The events before the terminal one, and the terminal one (``response.completed`` or
    ``response.incomplete``)."""
    at = {"item_id": f"msg_demo{number}", "output_index": 0, "content_index": 0}
    begun = responses_object(number, model, None, say.finish, prompt_tokens, completion_tokens)
    text = say.text()
    whole = responses_object(number, model, text, say.finish, prompt_tokens, completion_tokens)
    item = {**_message(number, ""), "status": "in_progress", "content": []}
    done_item = {"output_index": 0, "item": _message(number, text)}

    def every() -> Iterator[bytes]:
        step = 0
        yield _event("response.created", 0, {"response": begun})
        yield _event("response.in_progress", 1, {"response": begun})
        yield _event("response.output_item.added", 2, {"output_index": 0, "item": item})
        yield _event("response.content_part.added", 3, {**at, "part": _part("")})
        for step, piece in enumerate(say.pieces(), 4):
            yield _event("response.output_text.delta", step, {**at, "delta": piece})
        yield _event("response.output_text.done", step + 1, {**at, "text": text})
        yield _event("response.content_part.done", step + 2, {**at, "part": _part(text)})
        yield _event("response.output_item.done", step + 3, done_item)

    last = _event(f"response.{whole['status']}", say.tokens + 7, {"response": whole})
    return every(), (last,)


def _event(kind: str, number: int, rest: dict[str, Any]) -> bytes:
    data = _encode({"type": kind, "sequence_number": number, **rest})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
