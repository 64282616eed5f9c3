"""``/openapi.json``: the document of this API, made of the route table and the shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from nexus import __version__
from nexus.admin.answers import json_answer
from nexus.admin.route import AdminRoute
from nexus.admin.schemas import SHAPES

__all__ = ["document", "openapi_route"]

_REF = "#/components/schemas/{name}"
_ALWAYS = (401, 403, 405, 500)
_FREE = "/admin/v1/session"


def openapi_route(rows: list[AdminRoute]) -> AdminRoute:
    """The route that answers the document of ``rows``, itself included."""
    kept: list[dict[str, Any]] = []

    async def answer(_request: Request) -> Response:
        if not kept:
            kept.append(document([*rows, row]))
        return json_answer(kept[0])

    row = AdminRoute(
        method="GET",
        path="/openapi.json",
        handler=answer,
        summary="This document",
        answer="application/json",
    )
    return row


def document(rows: Iterable[AdminRoute]) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    paths: dict[str, dict[str, Any]] = {}
    for row in rows:
        paths.setdefault(row.full_path, {})[row.method.lower()] = _operation(row)
    _, schemas = msgspec.json.schema_components(list(SHAPES.values()), ref_template=_REF)
    for name, schema in schemas.items():
        schema["description"] = schema.get("description", "").replace("``", "`")
        if name == "BackendChange":
            properties = schema["properties"]
            for key in properties.keys() - {"save"}:
                properties[key] = {"anyOf": [properties[key], {"type": "null"}]}
        if "properties" in schema:
            schema.pop("additionalProperties", None)  # answers may come to hold more
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Nexus admin API",
            "version": __version__,
            "description": "See and change a running gateway. Without an admin key it answers this "
            "machine only; with one, whoever presents it.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "nexus_session"},
            },
        },
        "security": [{"key": []}, {"session": []}, {}],
    }


def _operation(row: AdminRoute) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", row.path)
    ] + [
        {"name": name, "in": "query", "description": what, "schema": {"type": "string"}}
        for name, what in row.query.items()
    ]
    media = row.answer if "/" in row.answer else "application/json"
    schema = {} if "/" in row.answer else {"$ref": _REF.format(name=row.answer)}
    error = {"$ref": _REF.format(name="Error")}
    operation: dict[str, Any] = {
        "summary": row.summary,
        "responses": {
            str(row.status): {
                "description": HTTPStatus(row.status).phrase,
                "content": {media: {"schema": schema}},
            },
            **{
                str(status): {
                    "description": HTTPStatus(status).phrase,
                    "content": {"application/json": {"schema": error}},
                }
                for status in sorted({*row.errors, *_ALWAYS})
            },
        },
    }
    if parameters:
        operation["parameters"] = parameters
    if row.body:
        schema = {"$ref": _REF.format(name=row.body)}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    if row.full_path == _FREE:
        operation["security"] = []
    return operation
