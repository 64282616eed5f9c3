"""One answer of a model, as it streams in."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from nexus.cli.failure import Failure
from nexus.cli.shapes import read_json
from nexus.telemetry.text import printable

if TYPE_CHECKING:
    from nexus.cli.gateway import Gateway

__all__ = ["Answer", "ask"]

# The gateway says something each 15 s even while a model loads.
_SILENCE_S = 300.0


class Answer:
    """What is known of an answer so far. ``backend`` is who answers; times are seconds since the
    request went out; token counts are the engine's own, ``None`` where it tells none."""

    __slots__ = (
        "_begin_s",
        "backend",
        "completion_tokens",
        "engine",
        "finish_reason",
        "first_s",
        "model",
        "prompt_tokens",
        "seconds",
        "text",
        "warning",
    )

    def __init__(self) -> None:
        self._begin_s = time.monotonic()
        self.backend = self.engine = self.model = self.text = self.warning = ""
        self.finish_reason: str | None = None
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.first_s: float | None = None
        self.seconds = 0.0

    @property
    def tokens_per_s(self) -> float | None:
        """The pace after the first token."""
        if self.completion_tokens is None or self.first_s is None:
            return None
        spoken_s = self.seconds - self.first_s
        return (self.completion_tokens - 1) / spoken_s if spoken_s > 0.001 else None

    def summary(self) -> str:
        """Who answered, how long it was and how fast: ``gpu (vllm), 40 tokens, ...``."""
        words = [f"{self.backend} ({self.engine})" if self.engine else self.backend or "?"]
        if self.completion_tokens is not None:
            words.append(f"{self.completion_tokens} tokens")
        if self.tokens_per_s is not None:
            words.append(f"{self.tokens_per_s:.0f} tokens/s")
        if self.first_s is not None:
            words.append(f"first after {self.first_s:.1f} s")
        if self.finish_reason == "length":
            words.append("cut at the token limit")
        if self.warning:
            words.append(self.warning)
        return printable(", ".join(words))

    def take_head(self, fields: Any) -> None:
        """Reads who answers (``x-nexus-*``; absent in an answer that was kept alive early)."""
        self.backend = unquote(fields.get("x-nexus-backend") or "")
        self.engine = unquote(fields.get("x-nexus-engine") or "")
        self.model = unquote(fields.get("x-nexus-model") or "")
        self.warning = unquote(fields.get("x-nexus-warning") or "")

    def take(self, chunk: dict[str, Any]) -> tuple[str, str]:
        """The reasoning and the text that a chunk of a chat completion adds."""
        self.seconds = time.monotonic() - self._begin_s
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.prompt_tokens = _count(usage.get("prompt_tokens"))
            self.completion_tokens = _count(usage.get("completion_tokens"))
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return "", ""
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"]
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return "", ""
        thought = _text(delta.get("reasoning_content")) or _text(delta.get("reasoning"))
        text = _text(delta.get("content"))
        if self.first_s is None and (thought or text):
            self.first_s = self.seconds
        self.text += text
        return thought, text


def ask(
    gateway: Gateway, request: dict[str, Any], answer: Answer, *, backend: str | None = None
) -> Generator[tuple[str, str], None, None]:
    """Sends a chat request and yields what the model adds: reasoning and text, one of them often
    empty; ``answer`` is filled on the way. ``backend`` asks for that one only.

    Raises :class:`Failure`, in the middle of an answer too. Closing the generator stops the model.
    """
    body = json.dumps({**request, "stream": True, "stream_options": {"include_usage": True}})
    headers = {"Accept": "text/event-stream"}
    if backend is not None:
        headers["x-nexus-pin"] = quote(backend, safe=" !#$&'()*+,/:;=?@[]-._~")
    target = "/v1/chat/completions"
    with gateway.open(
        "POST", target, body.encode(), headers=headers, timeout_s=_SILENCE_S
    ) as response:
        answer.take_head(response.headers)
        ended = False
        for line in gateway.lines(response, timeout_s=_SILENCE_S):
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            chunk = _chunk(data)
            if "error" in chunk:
                raise Failure(_error_text(chunk["error"]))
            yield answer.take(chunk)
            ended = ended or answer.finish_reason is not None
        if not ended:
            raise Failure("the answer broke off")


def _chunk(data: bytes) -> dict[str, Any]:
    try:
        chunk = read_json(data)
    except (ValueError, RecursionError):
        return {}
    return chunk if isinstance(chunk, dict) else {}


def _error_text(error: Any) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return printable(str(message or "the gateway broke the answer off"))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None
