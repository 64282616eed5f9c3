"""The tap: sees the events of a relayed stream go by, without touching or delaying a byte.

Nearly every event of a stream tells nothing that the gateway must know (``"finish_reason":null``),
so a block of events is searched for a few byte strings and only decoded when one of them says that
something is there. Inside JSON strings quotes are escaped, so text cannot look like a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from nexus.streams.sse import Payload, payloads

__all__ = ["ChunkFacts", "Tap", "Terminal"]

_DONE_EVENT = re.compile(rb"(?:\A|(?<=[\r\n]))data:[ ]?\[DONE\]")
_TOOL_CALLS = re.compile(rb'"tool_calls"\s*:\s*\[\s*[^\]\s]')
_FINISH_STOP = re.compile(rb'("finish_reason"\s*:\s*)"stop"')
_RESPONSE_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


class Terminal(Enum):
    """How a stream of an endpoint says that it is whole (behaviour § 6)."""

    FINISH_REASON = "a finish reason, then [DONE]"
    RESPONSE_EVENT = "response.completed, response.incomplete or response.failed"
    END = "a clean end"


class ChunkFacts(Protocol):
    """What a decoded event tells."""

    @property
    def is_error(self) -> bool:
        """Whether it is an error object."""

    @property
    def finish_reason(self) -> str | None:
        """The first finish reason in it."""

    @property
    def has_content(self) -> bool:
        """Whether it brings text."""

    @property
    def has_tool_calls(self) -> bool:
        """Whether it brings a tool call or a piece of one."""

    @property
    def type(self) -> str | None:
        """The ``type`` of a Responses API event."""

    @property
    def prompt_tokens(self) -> int | None:
        """Prompt tokens, where usage is told."""

    @property
    def completion_tokens(self) -> int | None:
        """Completion tokens, where usage is told."""


_FINISH = b'finish_reason"'
_FINISH_BYTES = len(_FINISH)


def _tells(block: bytes, key: bytes) -> bool:
    """Whether ``key`` stands in ``block`` with anything but ``null`` after it."""
    at = block.find(key)
    while at >= 0:
        at += len(key)
        if not block.startswith((b":null", b": null"), at):
            return True
        at = block.find(key, at)
    return False


class Tap:
    """Watches one stream. ``read`` decodes one event's data, ``None`` when it is no JSON."""

    __slots__ = (
        "_ends_by_event",
        "_read",
        "_repairs",
        "_silent",
        "_terminal",
        "began_silent",
        "completion_tokens",
        "done_seen",
        "error_seen",
        "events",
        "finish_seen",
        "prompt_tokens",
        "tool_calls_seen",
    )

    def __init__(
        self,
        terminal: Terminal,
        read: Callable[[bytes], ChunkFacts | None],
        *,
        repairs_tool_finish: bool = False,
    ) -> None:
        self._terminal = terminal
        self._ends_by_event = terminal is Terminal.RESPONSE_EVENT
        self._read = read
        self._repairs = repairs_tool_finish
        self.events = 0
        self._silent = 0
        self.began_silent = False
        """Whether the first event is known to bring nothing (a role alone)."""
        self.finish_seen = False
        self.done_seen = False
        self.error_seen = False
        self.tool_calls_seen = False
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None

    @property
    def whole(self) -> bool:
        """Whether the stream has said that it is complete."""
        return self.finish_seen or self._terminal is Terminal.END

    @property
    def content_events(self) -> int:
        """How many events brought text or a piece of a tool call: all but those that were looked
        at and did not. Most engines send one token in each."""
        if self._terminal is Terminal.END:
            return 0
        return max(self.events - self._silent - self.began_silent, 0)

    def watch(self, block: bytes) -> None:
        """Sees a block of whole events."""
        self.events += block.count(b"\ndata:") + block.startswith(b"data:")
        if self.may_pass(block):
            return
        if self._repairs and not self.tool_calls_seen:
            self.tool_calls_seen = _TOOL_CALLS.search(block) is not None
        found = payloads(block)
        if self.began_silent and self.events == len(found):
            self.began_silent = False  # it is looked at with the rest of its block
        for payload in found:
            self._see(payload)

    def may_pass(self, block: bytes) -> bool:
        """Whether a block of whole events, bare or framed as a chunk, can tell nothing but text."""
        # ``find``: ``in`` first tries the needle as a number, by way of an exception.
        find = block.find
        at = find(_FINISH)
        return not (
            # One finish reason that is null is what most blocks have: no need to look twice.
            (
                at >= 0
                and not (
                    block.startswith(b":null", at + _FINISH_BYTES)
                    and find(_FINISH, at + _FINISH_BYTES) < 0
                )
                and _tells(block, _FINISH)
            )
            or (find(b'"usage"') >= 0 and _tells(block, b'"usage"'))
            or find(b"[DONE]") >= 0
            or find(b"error") >= 0
            or (self._repairs and not self.tool_calls_seen and find(b'"tool_calls"') >= 0)
            or (self._ends_by_event and find(b"response.") >= 0)
        )

    def premature_done(self, block: bytes) -> int | None:
        """Where a ``[DONE]`` begins that neither a finish reason nor an error preceded; call it
        after :meth:`watch` of the same block."""
        if (
            self.done_seen
            and not self.finish_seen
            and not self.error_seen
            and self._terminal is Terminal.FINISH_REASON
        ):
            match = _DONE_EVENT.search(block)
            if match is not None:
                return match.start()
        return None

    def repair(self, block: bytes) -> bytes:
        """The block with ``finish_reason`` ``stop`` made ``tool_calls`` where the stream held tool
        calls (behaviour § 2.1); the same object when there is nothing to mend."""
        if not self.tool_calls_seen or not self.finish_seen:
            return block
        return _FINISH_STOP.sub(rb'\1"tool_calls"', block)

    def _see(self, payload: Payload) -> None:
        data = payload.data
        if data.startswith(b"[DONE]"):
            self.done_seen = True
            self._silent += 1
            return
        facts = self._read(data)
        if facts is None:
            return
        if not (
            facts.has_content
            or facts.has_tool_calls
            or (facts.type is not None and facts.type.endswith(".delta"))
        ):
            self._silent += 1
        if facts.is_error or payload.event == b"error":
            self.error_seen = True
        if self._ends_by_event:
            if facts.type in _RESPONSE_ENDS:
                self.finish_seen = True
        elif facts.finish_reason is not None:
            self.finish_seen = True
        if facts.prompt_tokens is not None:
            self.prompt_tokens = facts.prompt_tokens
        if facts.completion_tokens is not None:
            self.completion_tokens = facts.completion_tokens
