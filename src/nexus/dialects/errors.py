"""Errors on the wire: ours as OpenAI's error object, and engines' put into that shape.

Official clients take ``message``, ``type``, ``param`` and ``code`` from ``{"error": {...}}``;
engines answer in half a dozen shapes of their own (a bare string, SGLang's flat object, FastAPI's
``detail``, llama-server's error as JSON inside Ollama's string, a proxy's HTML page).
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

import msgspec

from nexus.core.errors import ApiError
from nexus.dialects.scan import decode_value

__all__ = [
    "encodable",
    "engine_message",
    "error_body",
    "error_event",
    "error_text",
    "normalise_error_body",
    "responses_error_event",
]

_MESSAGE_BYTES_MAX = 4096
_ATTEMPT_MESSAGE_BYTES_MAX = 500
_NESTING_MAX = 5
_PARSED_BYTES_MAX = 256 * 1024

_TEXT_KEYS = ("error", "message", "detail", "msg", "errors", "reason", "title")
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 403: "forbidden", 404: "not_found", 429: "rate_limit_exceeded"}

_title = re.compile(r"<title[^>]*>([^<]*)</title", re.IGNORECASE).search
_hidden = re.compile(r"<(script|style)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_tag = re.compile(r"<[^>]*>")


def error_body(error: ApiError) -> bytes:
    """``{"error":{"message","type","param","code"}}``."""
    return msgspec.json.encode({"error": _fields(error)})


def error_event(error: ApiError) -> bytes:
    """The same as a whole event of a chat or completions stream."""
    return b"data: " + error_body(error) + b"\n\n"


def responses_error_event(error: ApiError) -> bytes:
    """The event of a ``/v1/responses`` stream that says that it broke."""
    data = msgspec.json.encode({"type": "error", "error": _fields(error)})
    return b"event: error\ndata: " + data + b"\n\n"


def _fields(error: ApiError) -> dict[str, str | None]:
    return {
        "message": encodable(error.message),
        "type": error.type,
        "param": error.param,
        "code": error.code,
    }


def normalise_error_body(status: int, body: bytes, content_type: str = "") -> bytes | None:
    """An engine's error answer in OpenAI's shape, its own text as the message.

    ``None`` when ``body`` already is ``{"error": {"message": ...}}``: then it goes on as it came.
    The message is at most 4 KiB of UTF-8.
    """
    document = _parse(body)
    if isinstance(document, dict):
        inner = document.get("error")
        if isinstance(inner, dict) and isinstance(inner.get("message"), str):
            return None
    message = _message(document, body, content_type) or _without_text(status)
    details = _details(document)
    kind, code, param = (details.get(name) for name in ("type", "code", "param"))
    default_type = "server_error" if status >= 500 else "invalid_request_error"
    default_code = "upstream_error" if status >= 500 else "invalid_request_error"
    return msgspec.json.encode(
        {
            "error": {
                "message": _cut(message, _MESSAGE_BYTES_MAX),
                "type": _short(kind) or _TYPES.get(status, default_type),
                "param": _short(param),
                "code": _short(code) or _CODES.get(status, default_code),
            }
        }
    )


def engine_message(body: bytes) -> str:
    """The engine's own words in an error body, at most 500 bytes; empty when there are none."""
    return _cut(_message(_parse(body), body, ""), _ATTEMPT_MESSAGE_BYTES_MAX)


def error_text(document: Any, nesting: int = 0) -> str:
    """The words in an error document of any shape; empty when there are none."""
    if nesting > _NESTING_MAX:
        return ""
    if isinstance(document, str):
        # Ollama hands on its runner's error as JSON text inside its own string.
        nested = _parse(document.encode("utf-8", "replace")) if document[:1] == "{" else None
        return (error_text(nested, nesting + 1) if nested else "") or document.strip()
    if isinstance(document, dict):
        for key in _TEXT_KEYS:
            text = error_text(document.get(key), nesting + 1)
            if text:
                return f"{_place(document)}{text}"
    if isinstance(document, list):
        texts = [error_text(item, nesting + 1) for item in document[:10]]
        return "; ".join(text for text in texts if text)
    return ""


def _place(problem: dict[str, Any]) -> str:
    """Where FastAPI says that the problem is: ``loc``."""
    place = problem.get("loc")
    return f"{'.'.join(str(step) for step in place[:10])}: " if isinstance(place, list) else ""


def _details(document: Any) -> dict[str, Any]:
    """Where an engine's own ``type``, ``code`` and ``param`` stand."""
    if not isinstance(document, dict):
        return {}
    inner = document.get("error")
    if isinstance(inner, str) and inner[:1] == "{":
        return _details(_parse(inner.encode("utf-8", "replace")))
    return inner if isinstance(inner, dict) else document


def _short(value: Any) -> str | None:
    """A word fit for a field; numbers (HTTP statuses, mostly) say nothing there."""
    return _cut(value, 200) if isinstance(value, str) and value else None


def _parse(body: bytes) -> Any:
    if len(body) > _PARSED_BYTES_MAX:
        return None
    try:
        return decode_value(body)
    except (ValueError, RecursionError):
        return None


def _message(document: Any, body: bytes, content_type: str) -> str:
    if document is not None:
        return error_text(document)
    text = body[: 2 * _MESSAGE_BYTES_MAX].decode("utf-8", "replace").strip()
    if "html" in content_type.lower() or text[:1] == "<":
        return _html_text(text)
    return text


def _html_text(page: str) -> str:
    import html  # with all names of characters; few engines ever answer with a page

    page = page[:_MESSAGE_BYTES_MAX]
    title = _title(page)
    text = title[1] if title and title[1].strip() else _tag.sub(" ", _hidden.sub(" ", page))
    return " ".join(html.unescape(text).split())


def _without_text(status: int) -> str:
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    return f"The backend answered {phrase} without a message."


def _cut(text: str, bytes_max: int) -> str:
    """At most ``bytes_max`` bytes of UTF-8, cut between characters."""
    return text.encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore")


def encodable(text: str) -> str:
    """The text without halves of surrogate pairs, which UTF-8 cannot carry."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
