"""One inference request in the router's terms, and how a call can end."""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ["Outcome", "RequestProfile", "RouteReason"]


class Outcome(StrEnum):
    """How a call ended. Every call ends in exactly one (behaviour § 12)."""

    OK = "ok"
    CLIENT_ERROR = "client_error"
    UPSTREAM_ERROR = "upstream_error"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    REFUSED = "refused"


class RouteReason(StrEnum):
    """Why this backend: the value of ``x-nexus-route-reason``."""

    CAPABILITY_MATCH = "capability-match"
    FAILOVER = "failover"
    FALLBACK = "fallback"
    PRIVACY = "privacy-requirement"
    OVERFLOW = "capacity-overflow"
    AFFINITY = "affinity"


class RequestProfile(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What routing needs to know of a request, and nothing else of it.

    ``endpoint`` is the path, e.g. ``/v1/chat/completions``. ``text_bytes`` counts the text of
    messages, prompts and tool schemas; ``images`` the image parts; ``max_output_tokens`` what was
    asked for (``None``: not said). ``fields`` are the top-level names whose value is not neutral
    (null, empty, false, ``n`` 1, ``tool_choice`` "auto"): what an engine would drop if it ignores
    them. ``pin`` is the backend asked for by ``x-nexus-pin``.
    """

    endpoint: str
    model: str
    stream: bool = False
    needs_vision: bool = False
    needs_tools: bool = False
    needs_json: bool = False
    text_bytes: int = 0
    images: int = 0
    max_output_tokens: int | None = None
    fields: frozenset[str] = frozenset()
    pin: str | None = None
