"""``/backends``, ``/probe``: see, add, change, drain and remove inference servers."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from nexus.admin.answers import json_answer
from nexus.admin.control import AdminControl, Json
from nexus.admin.reading import read_fields, take_flag
from nexus.admin.route import AdminRoute, Handler
from nexus.config.problem import nearest_name
from nexus.core.errors import ApiError

__all__ = ["backend_routes"]

_SAVE = "true: also in the configuration file"


def backend_routes(control: AdminControl) -> list[AdminRoute]:
    """The rows of this family."""

    async def list_backends(_request: Request) -> Response:
        return json_answer({"data": control.backends()})

    async def get_backend(request: Request) -> Response:
        return json_answer(control.backend(_name(request)))

    async def add_backend(request: Request) -> Response:
        fields = await read_fields(request)
        save, force = (take_flag(request, fields, name) for name in ("save", "force"))
        return json_answer(await control.add_backend(fields, save=save, force=force), 201)

    async def change_backend(request: Request) -> Response:
        fields = await read_fields(request)
        save = take_flag(request, fields, "save")
        return json_answer(await control.change_backend(_name(request), fields, save=save))

    async def remove_backend(request: Request) -> Response:
        fields = await read_fields(request)
        save = take_flag(request, fields, "save")
        _nothing_else(fields, ("save",))
        return json_answer(await control.remove_backend(_name(request), save=save))

    async def probe(request: Request) -> Response:
        fields = await read_fields(request)
        url = fields.pop("url", None)
        _nothing_else(fields, ("url",))
        if not isinstance(url, str) or not url:
            raise ApiError.bad_request(
                'Say which server to ask: {"url": "http://127.0.0.1:11434"}.', param="url"
            )
        return json_answer(await control.probe(url))

    def action(act: Callable[[str], Json]) -> Handler:
        async def answer(request: Request) -> Response:
            _nothing_else(await read_fields(request), ())
            return json_answer(act(_name(request)))

        return answer

    one = "/backends/{name}"
    return [
        AdminRoute(
            method="GET",
            path="/backends",
            handler=list_backends,
            summary="Every backend",
            answer="BackendList",
        ),
        AdminRoute(
            method="POST",
            path="/backends",
            handler=add_backend,
            summary="Add a backend; it is probed first",
            body="NewBackend",
            answer="Backend",
            status=201,
            query={"save": _SAVE, "force": "true: even if nobody answers there"},
            errors=(400, 409, 413, 415, 422),
        ),
        AdminRoute(
            method="GET",
            path=one,
            handler=get_backend,
            summary="One backend",
            answer="Backend",
            errors=(404,),
        ),
        AdminRoute(
            method="PATCH",
            path=one,
            handler=change_backend,
            summary="Change a backend's settings; null sets one back to its default",
            body="BackendChange",
            answer="Backend",
            query={"save": _SAVE},
            errors=(400, 404, 409, 413, 415, 422),
        ),
        AdminRoute(
            method="DELETE",
            path=one,
            handler=remove_backend,
            summary="Remove a backend; its running calls finish",
            answer="Backend",
            query={"save": _SAVE},
            errors=(400, 404, 409, 413, 415, 422),
        ),
        *(
            AdminRoute(
                method="POST",
                path=f"{one}/{verb}",
                handler=action(act),
                summary=summary,
                answer="Backend",
                errors=errors,
            )
            for verb, act, summary, errors in (
                ("drain", control.drain, "Give it no new calls", (400, 404)),
                ("resume", control.resume, "End a drain", (400, 404)),
                ("approve", control.approve, "Let a found backend in", (400, 404, 409)),
            )
        ),
        AdminRoute(
            method="POST",
            path="/probe",
            handler=probe,
            summary="What answers at a URL",
            body="ProbeRequest",
            answer="Probe",
            errors=(400, 413, 415),
        ),
    ]


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    return name


def _nothing_else(fields: Json, known: tuple[str, ...]) -> None:
    for name in fields:
        nearest = nearest_name(name, known)
        hint = f' (did you mean "{nearest}"?)' if nearest else ""
        raise ApiError.bad_request(f"{name[:100]}: unknown key{hint}.", param=name[:100])
