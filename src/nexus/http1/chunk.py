"""A read that is one whole chunk (RFC 9112 § 7.1): what nearly every event of a stream comes as.
Its length alone tells which size line it must begin with, if it is one."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["size_line"]

_SIZES_KEPT = 8192


@lru_cache(maxsize=_SIZES_KEPT)
def size_line(length: int) -> tuple[bytes, int]:
    """The size line of the only chunk that takes ``length`` bytes in all, and the bytes of its
    body, as engines write them: digits in lower case, no zeros before them, no extension. The bytes
    are 0 if no chunk takes so many; the last chunk counts as none."""
    for digits in range(1, 9):
        size = length - digits - 4
        if size > 0 and len(f"{size:x}") == digits:
            return b"%x\r\n" % size, size
    return b"", 0
