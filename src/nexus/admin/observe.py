"""``/stats``: what has been going on."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from nexus.admin.answers import json_answer
from nexus.admin.control import AdminControl
from nexus.admin.route import AdminRoute

__all__ = ["observe_routes"]


def observe_routes(control: AdminControl) -> list[AdminRoute]:
    """The rows of this family."""

    async def stats(_request: Request) -> Response:
        return json_answer(control.stats())

    return [
        AdminRoute(
            method="GET",
            path=path,
            handler=stats,
            summary="Counts and percentiles of calls",
            answer="Stats",
            absolute=path.startswith("/v1"),
        )
        for path in ("/stats", "/v1/stats")
    ]
