"""The table of hostile and odd answers, whole, and what stands behind a good one."""

from __future__ import annotations

from tests.integration.scripted import head, plain
from tests.torture.answer_framings import CHUNKS, FRAMING, TRAILERS
from tests.torture.answer_heads import HEADS, INTERIM, LINES
from tests.torture.recorder import Play
from tests.torture.told import (
    BODY,
    GOOD,
    JSON,
    SECOND,
    WHOLE,
    Failed,
    Relayed,
    Told,
    coded,
    relayed,
)

__all__ = ["ANSWERS"]

SURPLUS = {
    **relayed(
        "RFC 9112 § 6.3: bytes behind an answer are no answer to the next request",
        {
            "a second answer": GOOD + SECOND,
            "ten more answers": GOOD + SECOND * 10,
            "half a second answer": GOOD + SECOND[:40],
            "a second answer in chunks": coded(WHOLE) + SECOND,
            "an interim answer": GOOD + head(status="100 Continue"),
            "a status line": GOOD + b"HTTP/1.1 200 OK\r\n",
            "an H behind": GOOD + b"H",
            "NUL": GOOD + b"\x00",
            "garbage": GOOD + b"smuggled",
            "a body longer than its length": GOOD + b"}",
            "a blank line and a second answer": GOOD + b"\r\n" + SECOND,
            "a second answer that closes": GOOD + plain({"smuggled": 1}, "connection: close"),
        },
        kept=False,
    ),
    "a second answer right behind": Told(
        Play(pieces=(GOOD, SECOND)), Relayed(kept=False), "RFC 9112 § 6.3"
    ),
    "the end right behind": Told(
        Play(pieces=(GOOD,), ends="closed"), Relayed(kept=False), "RFC 9112 § 9.5"
    ),
    "a reset right behind": Told(
        Play(pieces=(GOOD,), ends="reset"), Relayed(kept=False), "a whole answer is a success"
    ),
    "a reset right behind chunks": Told(
        Play(pieces=(coded(WHOLE),), ends="reset"), Relayed(kept=False), "the same"
    ),
    "a reset in the body": Told(Play(pieces=(GOOD[:-5],), ends="reset"), Failed(), "RFC 9112 § 8"),
    "a reset in the head": Told(Play(pieces=(GOOD[:30],), ends="reset"), Failed(), "RFC 9112 § 8"),
    "a reset until the end": Told(
        Play(pieces=(head(JSON) + BODY,), ends="reset"), Failed(), "RFC 9112 § 8"
    ),
}

_GROUPS = (FRAMING, CHUNKS, TRAILERS, LINES, INTERIM, HEADS, SURPLUS)
ANSWERS: dict[str, Told] = {name: told for group in _GROUPS for name, told in group.items()}
assert len(ANSWERS) == sum(len(group) for group in _GROUPS), "a name is there twice"
