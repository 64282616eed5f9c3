"""``/config``: the configuration as it runs, and reading it again."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from nexus.admin.answers import json_answer
from nexus.admin.control import AdminControl
from nexus.admin.reading import read_fields
from nexus.admin.route import AdminRoute
from nexus.core.errors import ApiError

__all__ = ["config_routes"]


def config_routes(control: AdminControl) -> list[AdminRoute]:
    """The rows of this family."""

    async def show(_request: Request) -> Response:
        return json_answer(control.config())

    async def reload(request: Request) -> Response:
        if await read_fields(request):
            raise ApiError.bad_request("This takes no body: the file is read again as it is.")
        return json_answer(await control.reload())

    return [
        AdminRoute(
            method="GET",
            path="/config",
            handler=show,
            summary="The configuration as it runs, with the origin of each value; secrets masked",
            answer="Config",
        ),
        AdminRoute(
            method="POST",
            path="/config/reload",
            handler=reload,
            summary="Read the configuration again: what changed, or every problem",
            answer="Reload",
            errors=(400, 409, 413, 415, 422),
        ),
    ]
