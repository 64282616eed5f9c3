"""One row per route of the admin API: how it is answered, and what the OpenAPI document says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nexus.admin.reading import known_query

__all__ = ["AdminRoute", "Handler", "starlette_routes"]

Handler = Callable[[Request], Awaitable[Response]]


class AdminRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path.

    ``path`` is below ``/admin/v1`` unless ``absolute``. ``query`` tells what each parameter means;
    others are refused. ``body`` and ``answer`` name schemas of the OpenAPI document; an ``answer``
    that holds a ``/`` is a media type other than JSON. ``errors`` are the statuses it may answer
    besides 401, 403 and 500.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    answer: str
    status: int = 200
    body: str = ""
    query: Mapping[str, str] = {}
    errors: tuple[int, ...] = ()
    absolute: bool = False

    @property
    def full_path(self) -> str:
        """The path from the root."""
        return self.path if self.absolute else f"/admin/v1{self.path}"


def starlette_routes(rows: Iterable[AdminRoute]) -> list[Route]:
    """Starlette's routes for ``rows``. A trailing slash is forgiven without the detour of a
    redirect."""
    by_path: dict[str, dict[str, AdminRoute]] = {}
    for row in rows:
        by_path.setdefault(row.full_path, {})[row.method] = row
    return [
        Route(path + slash, _endpoint(methods), methods=list(methods))
        for path, methods in by_path.items()
        for slash in ("", "/")
    ]


def _endpoint(methods: Mapping[str, AdminRoute]) -> Handler:
    async def answer(request: Request) -> Response:
        row = methods["GET" if request.method == "HEAD" else request.method]
        known_query(request, row.query)
        return await row.handler(request)

    return answer
