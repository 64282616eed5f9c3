"""What a case is: hostile or odd bytes of a backend, and what becomes of each.

``Failed``: nothing of it reaches a client, the attempt failed (502 when it was the last), and the
connection is not used again. ``Relayed``: the client gets ``body``, whole; ``kept`` says whether
the connection may serve the next call.
"""

from __future__ import annotations

import msgspec

from tests.integration.scripted import head, plain
from tests.torture.recorder import NONCE, Play, answer
from tests.torture.stage import chunked

__all__ = [
    "BODY",
    "CODED",
    "GOOD",
    "JSON",
    "LENGTH",
    "SECOND",
    "Failed",
    "Relayed",
    "Told",
    "coded",
    "failing",
    "lengthy",
    "line",
    "relayed",
]

JSON = "content-type: application/json"
BODY = answer(NONCE)
LENGTH = f"content-length: {len(BODY)}"
GOOD = plain(BODY)
SECOND = plain({"smuggled": True})
"""What an attacker hopes that the next caller gets."""
CODED = "transfer-encoding: chunked"
WHOLE = chunked(BODY)


class Failed(msgspec.Struct, frozen=True):
    """No answer."""


class Relayed(msgspec.Struct, frozen=True, kw_only=True):
    """An answer."""

    status: int = 200
    body: bytes = BODY
    kept: bool = True


class Told(msgspec.Struct, frozen=True):
    """What a backend plays and what becomes of it; ``rule`` is where it is said."""

    play: Play
    outcome: Failed | Relayed
    rule: str


def failing(rule: str, cases: dict[str, bytes], *, closed: bool = False) -> dict[str, Told]:
    """Answers that are none: refused at once, or (``closed``) when the connection ends."""
    return {
        name: Told(Play(pieces=(data,), ends="closed" if closed else "kept"), Failed(), rule)
        for name, data in cases.items()
    }


def relayed(
    rule: str, cases: dict[str, bytes], *, kept: bool = True, closed: bool = False
) -> dict[str, Told]:
    """Answers that are good."""
    return {
        name: Told(
            Play(pieces=(data,), ends="closed" if closed else "kept"), Relayed(kept=kept), rule
        )
        for name, data in cases.items()
    }


def lengthy(value: bytes) -> bytes:
    """An answer whose Content-Length field has these bytes behind its colon."""
    return head(JSON)[:-2] + b"content-length:" + value + b"\r\n\r\n" + BODY


def coded(body: bytes, *fields: str) -> bytes:
    """An answer in chunks."""
    return head(JSON, *fields, CODED) + body


def line(start: bytes) -> bytes:
    """An answer with this status line."""
    return start + b"\r\n" + GOOD.partition(b"\r\n")[2]
