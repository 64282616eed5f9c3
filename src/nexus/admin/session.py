"""``/session``: a browser signs in once with the key and gets a cookie, since pages and
``EventSource`` cannot send a header (behaviour § 11)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from nexus.admin.answers import json_answer
from nexus.admin.control import AdminControl
from nexus.admin.reading import read_fields
from nexus.admin.route import AdminRoute
from nexus.admin.sessions import COOKIE, SESSION_S, cookie_token
from nexus.core.errors import ApiError

__all__ = ["session_routes"]


def session_routes(control: AdminControl) -> list[AdminRoute]:
    """The rows of this family."""

    async def see(request: Request) -> Response:
        return json_answer(control.session(cookie_token(request.headers.get("cookie"))))

    async def sign_in(request: Request) -> Response:
        fields = await read_fields(request)
        key = fields.pop("key", None)
        if fields:
            raise ApiError.bad_request('Sign in with {"key": "…"} and nothing else.')
        if not isinstance(key, str) or not key:
            raise ApiError.bad_request('Sign in with the admin key: {"key": "…"}.', param="key")
        peer = request.client.host if request.client else None
        token = control.sign_in(key.strip(), peer)
        answer = json_answer(control.session(token))
        if token:
            _set_cookie(answer, request, token, round(SESSION_S))
        return answer

    async def sign_out(request: Request) -> Response:
        control.sign_out(cookie_token(request.headers.get("cookie")))
        answer = json_answer(control.session(""))
        _set_cookie(answer, request, "", 0)
        return answer

    return [
        AdminRoute(
            method="GET",
            path="/session",
            handler=see,
            summary="Whether a key is needed, and whether this browser has signed in",
            answer="Session",
        ),
        AdminRoute(
            method="POST",
            path="/session",
            handler=sign_in,
            summary="Sign in: the answer sets a cookie",
            body="SignIn",
            answer="Session",
            errors=(400, 413, 415, 429),
        ),
        AdminRoute(
            method="DELETE",
            path="/session",
            handler=sign_out,
            summary="Sign out",
            answer="Session",
        ),
    ]


def _set_cookie(answer: Response, request: Request, token: str, age_s: int) -> None:
    answer.set_cookie(
        COOKIE,
        token,
        max_age=age_s,
        # Not "/": pages want no key, and calls under /v1 must not carry it to a backend.
        path="/admin",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
