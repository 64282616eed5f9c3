"""What a call costs in memory."""

from __future__ import annotations

import pytest

from nexus.demo.engine import FakeEngine
from nexus.proxy.exchange import Exchange
from tests.harness import chat, running


async def test_a_plain_call_sets_at_most_30_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond that CPython 3.11 no longer shares the keys of instances' dictionaries, and each call
    takes five times the memory (docs/decisions/0008)."""
    sizes: list[int] = []
    finish = Exchange._finish

    def measured(exchange: Exchange, *args: object, **fields: object) -> None:
        sizes.append(len(vars(exchange)))
        finish(exchange, *args, **fields)  # type: ignore[arg-type]

    monkeypatch.setattr(Exchange, "_finish", measured)
    async with FakeEngine() as engine, running(engine) as run:
        for _ in range(2):  # the second one finds a connection in the pool
            answer = await run.client.post("/v1/chat/completions", json=chat())
            assert answer.status_code == 200
    assert sizes[-1] <= 30
