"""What can go wrong with an engine, switchable while it runs."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec

__all__ = ["Fault", "FaultOrder", "Faults"]


class Fault(StrEnum):
    """One way to fail. On a plain (not streamed) request, "after events" means half the body, and
    an error event means a plain 500."""

    NONE = "none"
    REFUSE = "refuse"
    """The process is gone: connections are reset and new ones refused, until cleared or
    ``delay_s`` has passed. Not limited to inference."""
    CLOSE_ON_ACCEPT = "close_on_accept"
    """New connections close before a byte; a kept one closes at the next request."""
    RESET_BEFORE_HEAD = "reset_before_head"
    CLOSE_BEFORE_HEAD = "close_before_head"
    RESET_AFTER_HEAD = "reset_after_head"
    RESET_AFTER_EVENTS = "reset_after_events"
    CLOSE_AFTER_EVENTS = "close_after_events"
    """Cut within the chunked coding: no terminal chunk (llama-server killed)."""
    END_AFTER_EVENTS = "end_after_events"
    """A clean end of the chunked body without finish or ``[DONE]``."""
    STALL = "stall"
    """Never answers; with ``delay_s`` it wakes up after that long (so do the other stalls)."""
    STALL_AFTER_HEAD = "stall_after_head"
    STALL_AFTER_EVENTS = "stall_after_events"
    SLOW_DRIP = "slow_drip"
    """Byte by byte, ``delay_s`` apart (0: one byte a turn of the loop)."""
    STATUS = "status"
    """``status`` with ``body`` (or the dialect's error) and ``retry_after_s``; after ``delay_s``.
    With ``early`` it comes as soon as the request's head is read."""
    GARBAGE = "garbage"
    WRONG_CONTENT_TYPE = "wrong_content_type"
    """The right answer under ``content_type`` (``text/html``)."""
    TRUNCATED_CHUNK = "truncated_chunk"
    """Ends inside an event, inside a chunk."""
    NO_DONE = "no_done"
    DONE_ONLY = "done_only"
    ERROR_EVENT_FIRST = "error_event_first"
    ERROR_EVENT_AFTER = "error_event_after"
    VANISH_AFTER_EVENTS = "vanish_after_events"
    """As Ollama's ``/v1`` does when its runner dies: an empty chunk with no model, a clean end."""
    NOT_HTTP = "not_http"
    HUGE_HEAD = "huge_head"
    SURPLUS_BYTES = "surplus_bytes"
    """A second response in the same write as the end of the first."""
    INFORMATIONAL = "informational"
    """``amount`` answers of status 102 before the real one."""
    OLLAMA_FORMAT = "ollama_format"
    OLLAMA_SSE = "ollama_sse"
    NO_CONTENT_LENGTH = "no_content_length"
    """The body ends where the connection does."""
    ERROR_BODY_200 = "error_body_200"
    LOADING = "loading"
    """503 "Loading model" on every path, whatever ``health`` says."""
    KEEPALIVE_COMMENTS = "keepalive_comments"
    """SSE comments for ``delay_s``, then the events."""
    RAW = "raw"
    """``body`` as it is, instead of an answer; then closed, unless ``keep_open``."""


class FaultOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A fault with its parameters. ``count``: for the next so many requests (``None``: until
    cleared). ``body`` ``None`` means the fault's own. ``health``: other paths fail too."""

    mode: Fault = Fault.NONE
    count: int | None = None
    after_events: int = 2
    status: int = 500
    retry_after_s: float | None = None
    delay_s: float = 0.0
    body: bytes | None = None
    content_type: str | None = None
    health: bool = False
    amount: int = 1000
    early: bool = False
    keep_open: bool = False


class Faults:
    """The fault in force. Attributes may be set one by one; ``set`` and ``clear`` start afresh.

    ``changed`` is called with the new mode whenever the mode changes.
    """

    __slots__ = ("_changed", "_mode", "count", *FaultOrder.__struct_fields__[2:])

    after_events: int
    status: int
    retry_after_s: float | None
    delay_s: float
    body: bytes | None
    content_type: str | None
    health: bool
    amount: int
    early: bool
    keep_open: bool

    def __init__(self, changed: Callable[[Fault], None] | None = None) -> None:
        self._changed: Callable[[Fault], None] | None = None
        self._mode = Fault.NONE
        self.count: int | None = None
        self.apply(FaultOrder())
        self._changed = changed

    @property
    def mode(self) -> Fault:
        """The fault in force."""
        return self._mode

    @mode.setter
    def mode(self, mode: Fault) -> None:
        before = self._mode
        self._mode = Fault(mode)
        if before is not self._mode and self._changed is not None:
            self._changed(self._mode)

    def apply(self, order: FaultOrder) -> None:
        """Puts ``order`` in force, mode last."""
        for field in order.__struct_fields__[1:]:
            setattr(self, field, getattr(order, field))
        self.mode = order.mode

    def set(self, mode: Fault, **parameters: Any) -> None:
        """Puts ``mode`` in force with ``parameters`` (fields of ``FaultOrder``), others default."""
        self.apply(FaultOrder(mode=mode, **parameters))

    def clear(self) -> None:
        """No fault any more."""
        self.apply(FaultOrder())

    def take(self, *, inference: bool) -> FaultOrder | None:
        """The fault for one request, counted; ``None`` when it shall be served."""
        mode = self._mode
        if mode is Fault.NONE:
            return None
        if not (inference or self.health or mode is Fault.LOADING):
            return None
        values = {field: getattr(self, field) for field in FaultOrder.__struct_fields__}
        order = FaultOrder(**values)
        self._count_one()
        return order

    def take_connection(self) -> bool:
        """Whether a new connection is to be closed at once, counted."""
        if self._mode is not Fault.CLOSE_ON_ACCEPT:
            return False
        self._count_one()
        return True

    def _count_one(self) -> None:
        if self.count is None:
            return
        self.count -= 1
        if self.count <= 0:
            self.clear()
