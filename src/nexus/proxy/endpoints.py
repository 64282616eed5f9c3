"""The table of relayed endpoints: one row each (behaviour § 2)."""

from __future__ import annotations

from enum import Enum

import msgspec

from nexus.streams.tap import Terminal

__all__ = ["ENDPOINTS", "AnswerKind", "Endpoint"]


class AnswerKind(Enum):
    """How an endpoint's plain (not streamed) answer is held before the commit (§ 5.2)."""

    JSON = "held until it is whole and known to be JSON"
    BYTES = "committed at its first byte"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One relayed endpoint: where the model name is, which shape is required, how it ends.

    ``multipart``: the model is a form field and the body goes on untouched. ``requires_messages``:
    ``messages`` must be an array.
    """

    path: str
    answer: AnswerKind = AnswerKind.JSON
    terminal: Terminal = Terminal.END
    requires_messages: bool = False
    multipart: bool = False

    @property
    def has_done(self) -> bool:
        """Whether its streams end with ``data: [DONE]``."""
        return self.terminal is Terminal.FINISH_REASON


_ROWS = (
    Endpoint(path="/v1/chat/completions", terminal=Terminal.FINISH_REASON, requires_messages=True),
    Endpoint(path="/v1/completions", terminal=Terminal.FINISH_REASON),
    Endpoint(path="/v1/embeddings"),
    Endpoint(path="/v1/responses", terminal=Terminal.RESPONSE_EVENT),
    Endpoint(path="/v1/rerank"),
    Endpoint(path="/v1/images/generations"),
    Endpoint(path="/v1/audio/speech", answer=AnswerKind.BYTES),
    Endpoint(path="/v1/audio/transcriptions", answer=AnswerKind.BYTES, multipart=True),
    Endpoint(path="/v1/audio/translations", answer=AnswerKind.BYTES, multipart=True),
    Endpoint(path="/v1/images/edits", answer=AnswerKind.BYTES, multipart=True),
    Endpoint(path="/v1/images/variations", answer=AnswerKind.BYTES, multipart=True),
)

ENDPOINTS = {row.path.encode(): row for row in _ROWS}
"""By path, as it stands in a request."""
