"""Whether a call may begin at all, and what its body is once decoded."""

from __future__ import annotations

import zlib

from nexus.core.errors import ApiError

__all__ = ["admit", "decode_body"]


def admit(draining: bool, in_flight: int, limit: int) -> None:
    """Raises ``ApiError`` 503 while shutting down or over ``server.max_concurrent_requests``;
    ``in_flight`` counts this call."""
    if draining:
        error = ApiError.service_unavailable("Nexus is shutting down.", 1)
        error.close = True
        raise error
    if in_flight > limit:
        raise ApiError.service_unavailable(
            f"Too many requests at once (server.max_concurrent_requests = {limit}).", 1
        )


def decode_body(body: bytes, encoding: bytes, limit_bytes: int) -> bytes:
    """A body that came with ``Content-Encoding`` (RFC 9110 § 8.4.1), decoded and bounded.

    Raises ``ApiError``: 415 for an encoding other than identity, gzip, x-gzip and deflate, 413 when
    the decoded body exceeds ``limit_bytes``, 400 when it is damaged.
    """
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        return body
    if name in (b"gzip", b"x-gzip"):
        windows: tuple[int, ...] = (31,)
    elif name == b"deflate":
        # "deflate" is the zlib format; some clients send it raw.
        windows = (15, -15)
    else:
        raise ApiError.unsupported_encoding(name.decode("latin-1")[:60])
    for window in windows:
        decoder = zlib.decompressobj(window)
        try:
            decoded = decoder.decompress(body, limit_bytes + 1)
        except zlib.error:
            continue
        if len(decoded) > limit_bytes:
            raise ApiError.payload_too_large(limit_bytes)
        if not decoder.eof or decoder.unused_data:
            break
        return decoded
    raise ApiError.bad_request(f"Request body is not valid {name.decode()}.")
