"""One request of a check: what is told of it when there is no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from nexus.core.errors import AttemptFailure, FailureKind
from nexus.engines.adapter import Answer, Ask
from nexus.http1.pool import Dial, DialHandler
from nexus.proxy.link import Link
from nexus.runtime.asking import fetch_answer


class _Way:
    """A link and its pool in one: each dial goes as ``dialled`` says."""

    def __init__(self, dialled: Callable[[_Way, DialHandler], None]) -> None:
        self.pool = self
        self.opened_total = 3
        self._dialled = dialled

    def prefix(self, method: bytes, path: bytes, query: bytes) -> bytes:
        return b"%b %b HTTP/1.1\r\n" % (method, path)

    def dial(self, handler: DialHandler) -> Dial:
        self._dialled(self, handler)
        return Dial(handler)


def _hangs(_: _Way, __: DialHandler) -> None:
    """Nobody takes or refuses the connection."""


def _connects(way: _Way, _: DialHandler) -> None:
    """A connection is made; nothing is ever said on it."""
    way.opened_total += 1


def _fails(failure: AttemptFailure) -> Callable[[_Way, DialHandler], None]:
    return lambda _, handler: handler.on_connect_failed(failure)


REFUSED = AttemptFailure(FailureKind.CONNECT, "connection refused")
NO_ROUTE = AttemptFailure(FailureKind.CONNECT, "cannot connect (No route to host)")
RESET = AttemptFailure(FailureKind.RESET, "connection closed without an answer")
SHORTAGE = AttemptFailure(FailureKind.OURS, "the gateway ran out of a resource (EMFILE)")


@pytest.mark.parametrize(
    ("dialled", "unreached", "refused", "ours"),
    [
        (_hangs, True, False, False),
        (_connects, False, False, False),
        (_fails(REFUSED), True, True, False),
        (_fails(NO_ROUTE), True, False, False),
        (_fails(RESET), False, False, False),
        (_fails(SHORTAGE), False, False, True),
    ],
)
async def test_no_way_there_and_no_answer_are_told_apart(
    dialled: Callable[[_Way, DialHandler], None], unreached: bool, refused: bool, ours: bool
) -> None:
    """Whether a connection was made is known also when the check's own time is up."""
    way = cast(Link, _Way(dialled))
    answer: Answer = await fetch_answer(way, Ask("/v1/models"), 0.01)
    assert answer.status == 0
    assert (answer.unreached, answer.refused, answer.ours) == (unreached, refused, ours)
