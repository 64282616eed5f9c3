"""The dialects that an answer may come in although OpenAI's was asked for: one row each.

A further dialect is one file with the three functions of :class:`Dialect`, and one row here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from nexus.dialects.ollama import OllamaStream, is_ollama_object, translate_answer

__all__ = ["DIALECTS", "Dialect", "PlainTranslator", "StreamTranslator", "recognise"]


class StreamTranslator(Protocol):
    """Turns one foreign stream into OpenAI's events.

    ``finished`` once its proper end was seen (``[DONE]`` is out then); ``error`` is what broke it.
    """

    finished: bool
    error: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None

    def feed(self, line: bytes) -> bytes:
        """One object of the foreign stream → whole SSE events, possibly none. Never raises."""
        ...


class StreamFactory(Protocol):
    """Makes a translator for one stream."""

    def __call__(
        self, model: str, *, created: int, call_id: str, include_usage: bool, chat: bool
    ) -> StreamTranslator:
        """``model`` is the name to show, ``created`` Unix time, ``call_id`` makes ids unique."""
        ...


class PlainTranslator(Protocol):
    """Translates a whole answer; ``None`` when it is not in this dialect."""

    def __call__(
        self, body: bytes, *, model: str, created: int, call_id: str, chat: bool
    ) -> bytes | None:
        """Arguments as in :class:`StreamFactory`."""
        ...


class Dialect(msgspec.Struct, frozen=True):
    """One foreign dialect: how to know one of its objects, and how to translate it."""

    name: str
    recognises: Callable[[bytes], bool]
    stream: StreamFactory
    plain: PlainTranslator


DIALECTS: tuple[Dialect, ...] = (
    Dialect("ollama", is_ollama_object, OllamaStream, translate_answer),
)


def recognise(data: bytes) -> Dialect | None:
    """The dialect of an answer, a line or an event's data; ``None`` for OpenAI's own and for what
    nobody knows."""
    for dialect in DIALECTS:
        if dialect.recognises(data):
            return dialect
    return None
