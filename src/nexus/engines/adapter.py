"""The contract of an engine adapter: one pure file per engine, values in, values out.

An adapter never does I/O. To check a backend it *asks* by yielding :class:`Ask` values and is sent
:class:`Answer` values back; who drives the generator (``health/checker.py``, ``nexus backends
probe``, a test with a captured answer) does the talking. So every adapter can be tested against
real captured answers byte for byte.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from nexus.core.backend import BackendSpec, EngineKind, EngineTraits
from nexus.core.model import Model

__all__ = [
    "Adapter",
    "Answer",
    "Ask",
    "Check",
    "CheckResult",
    "ErrorMeaning",
    "Health",
    "UpstreamError",
]


class Ask(msgspec.Struct, frozen=True):
    """One bounded HTTP request of a check: ``path`` is below the backend's base path and begins
    with ``/``; ``body`` makes it a POST of JSON."""

    path: str
    body: bytes | None = None
    body_bytes_max: int = 4 * 1024 * 1024


class Answer(msgspec.Struct, frozen=True):
    """What came back, or what went wrong.

    ``status`` 0 means no HTTP answer: then ``error`` says why and ``refused`` whether nobody
    listens there (connection refused, as opposed to a timeout or a wrong answer), ``unreached``
    whether there was no connection either, ``ours`` whether we lacked a descriptor or a port to ask
    at all. Header names are lower case.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}
    error: str = ""
    refused: bool = False
    unreached: bool = False
    ours: bool = False


class Health(StrEnum):
    """What a check says of a backend."""

    HEALTHY = "healthy"
    LOADING = "loading"
    """Not yet: the engine is starting or loading. No failure."""
    FAILED = "failed"
    """Timeout or a wrong answer: counts towards the failure threshold."""
    LOST = "lost"
    """Nobody listens there: unhealthy at once when traffic says so too."""
    CREDENTIALS = "credentials refused"
    """It wants a key, or another one: unhealthy at once."""


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one check learned.

    ``models`` is ``None`` when the check could not list them (keep what is known) and empty when
    the engine lists none. ``reason`` is a short sentence for people. ``running``/``waiting`` are
    the engine's own load figures and ``kv_usage`` the share of its KV cache in use (0 to 1),
    ``None`` for unknown. ``evidence`` tells, per field of the backend, which answer it was read
    from.
    """

    health: Health
    reason: str = ""
    engine_version: str | None = None
    models: tuple[Model, ...] | None = None
    capacity: int | None = None
    running: int | None = None
    waiting: int | None = None
    kv_usage: float | None = None
    evidence: dict[str, str] = {}


Check = Generator[tuple[Ask, ...], tuple[Answer, ...], CheckResult]
"""A check under way: yields the requests to make at the same time, is sent their answers in the
same order, returns the result."""


class ErrorMeaning(StrEnum):
    """What an engine's error answer says, whatever its status (behaviour § 5.2)."""

    CLIENT = "client"
    """The request is wrong: relay, never retry."""
    SERVER = "server"
    """The backend failed: another may do better."""
    MODEL_NOT_HERE = "model_not_here"
    CANNOT = "cannot"
    PROMPT_TOO_LONG = "prompt_too_long"
    OVERLOADED = "overloaded"
    LOADING = "loading"
    CREDENTIALS = "credentials"


class UpstreamError(msgspec.Struct, frozen=True):
    """An engine's error answer, understood. ``message`` is the engine's own text."""

    meaning: ErrorMeaning
    message: str


class Adapter(Protocol):
    """What Nexus asks of an engine's file."""

    kind: EngineKind
    traits: EngineTraits

    def check(self, spec: BackendSpec, known: tuple[Model, ...]) -> Check:
        """Health, models, capabilities and load, without running inference. ``known`` is what the
        last check found (so that unchanged models need not be asked about again)."""
        ...

    def load(self) -> Check | None:
        """The cheapest live-load poll, or ``None`` where the engine has none."""
        ...

    def read_error(self, status: int, body: bytes) -> UpstreamError:
        """What an error answer (status ≥ 400, or an error object in a 2xx) means."""
        ...
