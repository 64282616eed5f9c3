"""``/models`` and ``/routes/explain``: what is served, and where a request would go."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from nexus.admin.answers import json_answer
from nexus.admin.control import AdminControl
from nexus.admin.reading import read_body
from nexus.admin.route import AdminRoute
from nexus.config.problem import nearest_name
from nexus.core.errors import ApiError
from nexus.proxy.endpoints import ENDPOINTS

__all__ = ["model_routes"]

_BODY_BYTES_MAX = 64 * 1024 * 1024
_CHAT = "/v1/chat/completions"


def model_routes(control: AdminControl) -> list[AdminRoute]:
    """The rows of this family."""

    async def list_models(_request: Request) -> Response:
        return json_answer({"data": control.models()})

    async def explain(request: Request) -> Response:
        endpoint = _endpoint(request.query_params.get("endpoint", _CHAT))
        body = await read_body(request, bytes_max=_BODY_BYTES_MAX)
        pin = request.headers.get("x-nexus-pin")
        return json_answer(control.explain(body, endpoint=endpoint, pin=pin))

    return [
        AdminRoute(
            method="GET",
            path="/models",
            handler=list_models,
            summary="Every model with its backends",
            answer="ModelList",
        ),
        AdminRoute(
            method="POST",
            path="/routes/explain",
            handler=explain,
            summary="Where a request would go, and why; nothing is sent anywhere",
            body="CallBody",
            answer="Explanation",
            query={"endpoint": f"path of the endpoint the body is for (default {_CHAT})"},
            errors=(400, 413, 415),
        ),
    ]


def _endpoint(text: str) -> str:
    """The path of a relayed endpoint, with or without ``/v1/``. Raises ``ApiError`` 400."""
    paths = [path.decode() for path in ENDPOINTS]
    asked = "/" + text.strip("/")
    for path in (asked, f"/v1{asked}"):
        if path in paths:
            return path
    near = nearest_name(text, paths) or nearest_name(f"/v1{asked}", paths)
    hint = f" (did you mean {near}?)" if near else ""
    raise ApiError.bad_request(
        f"?endpoint= names no relayed endpoint{hint}. There are {', '.join(paths)}.",
        param="endpoint",
    )
