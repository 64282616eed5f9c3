"""Real answers of real engines, byte for byte, and how to read them.

One folder per engine and way it was started, one file per request: status line, headers and body as
they came over the wire. ``captured("ollama/tags")`` is the answer that a check would be sent.
"""

from __future__ import annotations

import re
from pathlib import Path

from nexus.engines.adapter import Answer

__all__ = ["captured", "captured_names", "read_capture", "read_raw"]

_FOLDER = Path(__file__).parent
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]+\r\n")


def captured(name: str) -> Answer:
    """The answer in ``FOLDER/FILE.txt``, ``name`` being ``FOLDER/FILE``."""
    return read_capture(read_raw(name))


def read_raw(name: str) -> bytes:
    """The same as it came over the wire."""
    return (_FOLDER / f"{name}.txt").read_bytes()


def captured_names(pattern: str = "*/*") -> list[str]:
    """The names of all captures that match a glob such as ``ollama/err_*``."""
    found = _FOLDER.glob(f"{pattern}.txt")
    return sorted(str(path.relative_to(_FOLDER).with_suffix("")) for path in found)


def read_capture(raw: bytes) -> Answer:
    """Takes raw HTTP/1 bytes apart: interim answers skipped, chunked coding (RFC 9112 § 7.1)
    undone, what a cut left of it kept. A few were recorded with the coding already undone."""
    while True:
        head, _, body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        if status >= 200:
            break
        raw = body
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:])
    }
    if headers.get("transfer-encoding") == "chunked" and _CHUNK_SIZE.match(body):
        body = _unchunked(body)
    elif "content-length" in headers:
        body = body[: int(headers["content-length"])]
    return Answer(status=status, body=body, headers=headers)


def _unchunked(coded: bytes) -> bytes:
    plain = bytearray()
    while coded:
        size_line, _, coded = coded.partition(b"\r\n")
        size = int(size_line.partition(b";")[0], 16) if size_line.strip() else 0
        if size == 0:
            break
        plain += coded[:size]
        coded = coded[size + 2 :]
    return bytes(plain)
