"""What the admin API asks of the gateway: the contract that ``runtime/admin.py`` fulfils.

Values are plain data, ready for JSON, with secrets masked already. Methods raise
:class:`~nexus.core.errors.ApiError` for what is answered as it stands,
:class:`~nexus.config.problem.ConfigError` when a whole configuration cannot be used, and
:class:`FieldProblemsError` when fields of one request cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from nexus.config.problem import Problem
from nexus.telemetry.events import Subscription

__all__ = ["AdminControl", "FieldProblemsError", "Json"]

Json: TypeAlias = dict[str, Any]


class FieldProblemsError(Exception):
    """Fields of a request that cannot be used: ``problems`` has them all, at least one."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{one.key}: {one.message}" for one in self.problems))


class AdminControl(Protocol):
    """The gateway, seen from the admin API."""

    def backends(self) -> list[Json]:
        """Every Backend of behaviour § 13, in stable order."""
        ...

    def backend(self, name: str) -> Json:
        """One of them. 404."""
        ...

    async def add_backend(self, fields: Json, *, save: bool, force: bool) -> Json:
        """Takes in a backend: ``fields`` are keys of ``[[backends]]``, name optional. Returns it.

        Problems of fields; 409 same name or same server; 422 nobody there, or no LLM server,
        unless ``force``; 409 when it cannot be saved.
        """
        ...

    async def change_backend(self, name: str, fields: Json, *, save: bool) -> Json:
        """Changes some keys of a backend, ``None`` back to the default. Returns it. 404, 409."""
        ...

    async def remove_backend(self, name: str, *, save: bool) -> Json:
        """Forgets a backend; returns it as it was last. 404; 409 when the file names it and
        ``save`` is not set."""
        ...

    def drain(self, name: str) -> Json:
        """No new calls there until :meth:`resume`. Returns the backend. 404."""
        ...

    def resume(self, name: str) -> Json:
        """Ends a drain. Returns the backend. 404."""
        ...

    def approve(self, name: str) -> Json:
        """Lets a pending backend in. Returns it. 404; 409 when it was not pending."""
        ...

    async def probe(self, url: str) -> Json:
        """What answers at ``url``; 400 when it is no URL."""
        ...

    def models(self) -> list[Json]:
        """Every model with its backends."""
        ...

    def explain(self, body: bytes, *, endpoint: str, pin: str | None) -> Json:
        """Where a request would go, and why. 400 as the call itself would be."""
        ...

    def config(self) -> Json:
        """The configuration as it runs: ``file``, ``config``, ``origins`` by key path, and what
        ``needs_restart``."""
        ...

    async def reload(self) -> Json:
        """Reads it again; the diff that was applied. 409 when there is nothing to read;
        ``ConfigError``."""
        ...

    def stats(self, window: str | None) -> Json:
        """The statistics of behaviour § 13, the lists over ``window`` (a key of ``WINDOWS``)."""
        ...

    def history(
        self, *, limit: int, backend: str | None, model: str | None, outcome: str | None
    ) -> list[Json]:
        """The last calls, newest first, as far as they fit what is not ``None``."""
        ...

    def call(self, request_id: str) -> Json | None:
        """One of them, with what routing knew; ``None`` when it is not kept."""
        ...

    def subscribe(self) -> Subscription:
        """Listens to events until it is closed. 503 when too many do, or the gateway drains."""
        ...

    def session(self, token: str) -> Json:
        """Whether a key is needed, and whether ``token`` is a session's."""
        ...

    def sign_in(self, key: str, peer: str | None) -> str:
        """A new session's token; empty when no key is configured, so none is needed. 401, 429."""
        ...

    def sign_out(self, token: str) -> None:
        """Ends a session, if it is one."""
        ...
