"""What a request to the admin API holds: its JSON body and its query, read with care."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.requests import Request

from nexus.config.problem import nearest_name
from nexus.core.errors import ApiError
from nexus.proxy.admission import decode_body

__all__ = ["FIELDS_BYTES_MAX", "known_query", "read_body", "read_fields", "take_flag"]

FIELDS_BYTES_MAX = 1_048_576
"""Nothing that is set here takes more."""

_TRUE = frozenset({"", "1", "true", "yes"})
_FALSE = frozenset({"0", "false", "no"})


async def read_body(request: Request, *, bytes_max: int) -> bytes:
    """The body of a request that sends JSON, its Content-Encoding undone.

    Raises ``ApiError``: 413 when it is larger than ``bytes_max``, 415 when it says that it is
    something other than JSON.
    """
    body = await request.body()
    if len(body) > bytes_max:
        raise _too_large(bytes_max)
    if body:
        said = request.headers.get("content-type", "")
        kind = said.partition(";")[0].strip().lower()
        if kind not in ("", "application/json") and not kind.endswith("+json"):
            raise ApiError(
                415,
                "invalid_request_error",
                "unsupported_media_type",
                f"This route takes JSON, not '{_shown(kind)}': send 'Content-Type: "
                "application/json'.",
            )
    encoding = request.headers.get("content-encoding")
    if encoding is None:
        return body
    try:
        return decode_body(body, encoding.encode("latin-1"), bytes_max)
    except ApiError as error:
        raise (_too_large(bytes_max) if error.status == 413 else error) from None


async def read_fields(request: Request) -> dict[str, Any]:
    """The members of the JSON object that a request sends; none when it sends nothing.

    Raises ``ApiError`` 400, 413, 415.
    """
    body = await read_body(request, bytes_max=FIELDS_BYTES_MAX)
    if not body.strip():
        return {}
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError.bad_request(f"Request body is not valid JSON: {error}.") from None
    except RecursionError:
        raise ApiError.bad_request("Request body is nested too deeply.") from None
    if not isinstance(value, dict):
        raise ApiError.bad_request('Request body must be a JSON object, e.g. {"url": "http://…"}.')
    return value


def take_flag(request: Request, fields: dict[str, Any], name: str) -> bool:
    """A yes or no, from the body (then it is taken out of ``fields``) or else from the query."""
    if name in fields:
        value = fields.pop(name)
        if not isinstance(value, bool):
            raise ApiError.bad_request(f"{name}: must be true or false.", param=name)
        return value
    text = request.query_params.get(name)
    if text is None:
        return False
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ApiError.bad_request(f"?{name}= takes true or false.", param=name)


def known_query(request: Request, names: Iterable[str]) -> None:
    """Refuses (400) what the query holds besides ``names``."""
    known = tuple(names)
    for name in request.query_params:
        if name not in known:
            nearest = nearest_name(name, known)
            hint = f" (did you mean '{nearest}'?)" if nearest else ""
            takes = f"It takes {', '.join(known)}" if known else "It takes none"
            raise ApiError.bad_request(
                f"Unknown query parameter '{_shown(name)}'{hint}. {takes}.", param=_shown(name)
            )


def _too_large(bytes_max: int) -> ApiError:
    return ApiError(
        413,
        "invalid_request_error",
        "payload_too_large",
        f"Request body is larger than {bytes_max} bytes, the most that this route takes.",
    )


def _shown(text: str) -> str:
    """What a stranger sent, cut and harmless."""
    return "".join(ch if ch.isprintable() else "?" for ch in text[:100])
