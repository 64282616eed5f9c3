"""A read that is one whole chunk (RFC 9112 § 7.1): what nearly every event of a stream comes as.
Told by its length alone, it needs no parser to be read the same way."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["whole_chunk"]

_SIZES_KEPT = 8192


def whole_chunk(data: bytes) -> bytes | None:
    """The body of ``data`` when that is exactly one chunk with a plain size line (digits in lower
    case, no zeros before them, no extension); ``None`` when a parser must look. The last chunk is
    none."""
    start = _start(len(data))
    if start and data.startswith(start) and data.endswith(b"\r\n"):
        return data[len(start) : -2]
    return None


@lru_cache(maxsize=_SIZES_KEPT)
def _start(length: int) -> bytes:
    """The size line of the only chunk that takes ``length`` bytes in all; empty if none does."""
    for digits in range(1, 9):
        size = length - digits - 4
        if size > 0 and len(f"{size:x}") == digits:
            return b"%x\r\n" % size
    return b""
