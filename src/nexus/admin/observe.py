"""``/stats`` and ``/history``: what has been going on."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from nexus.admin.answers import json_answer
from nexus.admin.control import AdminControl
from nexus.admin.route import AdminRoute
from nexus.config.problem import nearest_name
from nexus.core.call import Outcome
from nexus.core.errors import ApiError
from nexus.telemetry.window import WINDOWS

__all__ = ["observe_routes"]

_LIMIT = 100
_LIMIT_MAX = 1_000


def observe_routes(control: AdminControl) -> list[AdminRoute]:
    """The rows of this family."""

    async def stats(request: Request) -> Response:
        window = request.query_params.get("window")
        if window is not None:
            _one_of("window", window, tuple(WINDOWS))
        return json_answer(control.stats(window))

    async def history(request: Request) -> Response:
        query = request.query_params
        outcome = query.get("outcome")
        if outcome is not None:
            _one_of("outcome", outcome, tuple(known.value for known in Outcome))
        rows = control.history(
            limit=_limit(query.get("limit")),
            backend=query.get("backend"),
            model=query.get("model"),
            outcome=outcome,
        )
        return json_answer({"data": rows})

    async def call(request: Request) -> Response:
        request_id = request.path_params["request_id"]
        found = control.call(request_id)
        if found is None:
            raise ApiError(
                404,
                "invalid_request_error",
                "call_not_found",
                "No call of this request id is kept (telemetry.history_size says how many are).",
            )
        return json_answer(found)

    rows: list[AdminRoute] = []
    for prefix in ("", "/v1"):
        rows += [
            AdminRoute(
                method="GET",
                path=f"{prefix}/stats",
                handler=stats,
                summary="Counts and percentiles of calls",
                answer="Stats",
                query={"window": f"lists over the last {', '.join(WINDOWS)} only"},
                errors=(400,),
                absolute=bool(prefix),
            ),
            AdminRoute(
                method="GET",
                path=f"{prefix}/history",
                handler=history,
                summary="The last calls, newest first",
                answer="CallList",
                query={
                    "limit": f"how many, 1 to {_LIMIT_MAX} (default {_LIMIT})",
                    "backend": "that tried it",
                    "model": "asked for or served",
                    "outcome": "how it ended",
                },
                errors=(400,),
                absolute=bool(prefix),
            ),
        ]
    rows.append(
        AdminRoute(
            method="GET",
            path="/history/{request_id}",
            handler=call,
            summary="One call, with what routing knew of it",
            answer="CallDetail",
            errors=(404,),
        )
    )
    return rows


def _limit(text: str | None) -> int:
    if text is None:
        return _LIMIT
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:10]) <= _LIMIT_MAX:
        raise ApiError.bad_request(
            f"?limit= takes a whole number from 1 to {_LIMIT_MAX}.", param="limit"
        )
    return int(text)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        nearest = nearest_name(value, known)
        hint = f" (did you mean {nearest}?)" if nearest else ""
        raise ApiError.bad_request(f"?{name}= takes one of {', '.join(known)}{hint}.", param=name)
