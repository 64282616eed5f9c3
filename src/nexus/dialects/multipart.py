"""The ``model`` field of a ``multipart/form-data`` body (RFC 7578), which goes on untouched.

A form is read for that one field only: audio and images are skipped over, never copied.
"""

from __future__ import annotations

import re

from nexus.core.errors import ApiError

__all__ = ["read_multipart_model"]

_BOUNDARY_BYTES_MAX = 70  # RFC 2046 § 5.1.1
_HEAD_BYTES_MAX = 8192
_MODEL_BYTES_MAX = 4096
_PARTS_MAX = 1000

_boundary = re.compile(
    r"""multipart/form-data\s*;(?:.*;)?\s*boundary\s*=\s*(?:"([^"]+)"|([^\s;"]+))""",
    re.IGNORECASE,
).match
_disposition = re.compile(
    rb"""^content-disposition[ \t]*:[ \t]*form-data([^\r\n]*)""", re.IGNORECASE | re.MULTILINE
).search
# Quoted strings are taken whole: a file name may hold what looks like another parameter.
_parameters = re.compile(rb"""([^=;\s"]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]*))""").findall


def read_multipart_model(body: bytes, content_type: str) -> str:
    """The value of the form field ``model``.

    Raises :class:`ApiError` 400 when the form cannot be read, has no such field, has two of them,
    or has an empty one.
    """
    found = _boundary(content_type.strip())
    boundary = (found[1] or found[2]) if found else ""
    if not 0 < len(boundary) <= _BOUNDARY_BYTES_MAX or not boundary.isascii():
        raise ApiError.bad_request("Content-Type must be multipart/form-data with a boundary.")
    named = [
        (name, value)
        for name, value in _parts(body, b"--" + boundary.encode())
        if name.lower() == b"model"
    ]
    if len(named) > 1:
        raise ApiError.bad_request(
            f"Form field 'model' is given {len(named)} times.", param="model"
        )
    values = [value for name, value in named if name == b"model"]
    if not values:
        raise ApiError.bad_request("Form field 'model' is missing.", param="model")
    try:
        model = bytes(values[0][: _MODEL_BYTES_MAX + 1]).decode()
    except UnicodeDecodeError:
        raise ApiError.bad_request("Form field 'model' is not UTF-8.", param="model") from None
    if not model or len(values[0]) > _MODEL_BYTES_MAX:
        raise ApiError.bad_request("Form field 'model' is empty or too long.", param="model")
    return model


def _parts(body: bytes, delimiter: bytes) -> list[tuple[bytes, memoryview]]:
    """Name and value of every named part up to the closing delimiter."""
    parts: list[tuple[bytes, memoryview]] = []
    view = memoryview(body)
    at = 0 if body.startswith(delimiter) else _next(body, delimiter, 0) + 2
    while True:
        at += len(delimiter)
        if body.startswith(b"--", at):
            return parts
        line_end = body.find(b"\r\n", at, at + 80)
        if line_end < 0 or body[at:line_end].strip(b" \t"):
            raise ApiError.bad_request(f"Multipart body is malformed (byte {at}).")
        # The head may be empty: then its end is the line's own.
        head_end = body.find(b"\r\n\r\n", line_end, line_end + _HEAD_BYTES_MAX)
        if head_end < 0:
            raise ApiError.bad_request(f"Multipart part has no end of head (byte {at}).")
        end = _next(body, delimiter, head_end + 2)
        found = _disposition(body[line_end : head_end + 2])
        for key, quoted, plain in _parameters(found[1]) if found else ():
            if key.lower() == b"name":
                parts.append((quoted or plain, view[head_end + 4 : max(end, head_end + 4)]))
        if len(parts) > _PARTS_MAX:
            raise ApiError.bad_request(f"Multipart body has more than {_PARTS_MAX} parts.")
        at = end + 2


def _next(body: bytes, delimiter: bytes, at: int) -> int:
    """Where the next ``CRLF delimiter`` stands."""
    found = body.find(b"\r\n" + delimiter, at)
    if found < 0:
        raise ApiError.bad_request("Multipart body does not end with its boundary.")
    return found
