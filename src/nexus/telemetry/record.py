"""The call record: what is known of one call when it is over, written once, whatever happened.

Logs, statistics, metrics and history are views of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nexus.core.call import Outcome

if TYPE_CHECKING:
    from nexus.core.call import RequestProfile

__all__ = ["AttemptRecord", "CallRecord"]


class AttemptRecord(msgspec.Struct, frozen=True, gc=False):
    """One attempt: at which backend, what it came to (``ok`` or a failure kind), the HTTP status
    (0: none), and how long it took, milliseconds."""

    backend: str
    outcome: str
    status: int
    ms: float


class CallRecord(msgspec.Struct, kw_only=True, dict=True):
    """One call, finished. Its fields are what the access log writes.

    ``at_s`` is Unix time of its beginning; ``*_ms`` durations in milliseconds; ``status`` what the
    client was told (0: it left before). ``model`` is the name asked for, ``served_model`` the one
    that answered. Token counts are the engine's own, ``None`` where it told none; then
    ``estimated_tokens`` has what a stream's content events amount to. ``events`` counts streamed
    data events. ``bytes_in``/``bytes_out`` are body bytes.

    What else is of use is kept beside the fields and stays out of the log: ``profile`` is what
    routing knew of the request (``None``: it was refused before it was read), ``considered`` the
    candidates of the plan in its order, each with its score (empty: there was one), ``routing_s``
    how long the decision took (``None``: there was none), ``routed_model`` the model that was
    tried in vain.
    """

    request_id: str
    at_s: float
    endpoint: str
    outcome: Outcome = Outcome.OK
    status: int = 0
    model: str = ""
    served_model: str = ""
    backend: str = ""
    reason: str = ""
    stream: bool = False
    attempts: list[AttemptRecord] = []
    ttft_ms: float | None = None
    duration_ms: float = 0.0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    estimated_tokens: int | None = None
    events: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    error: str = ""

    # No fields, which the encoder would write: plain attributes, absent from most instances.
    if TYPE_CHECKING:
        profile: RequestProfile | None = None
        considered: tuple[tuple[str, float], ...] = ()
        routing_s: float | None = None
        routed_model: str = ""
    else:
        profile = None
        considered = ()
        routing_s = None
        routed_model = ""
