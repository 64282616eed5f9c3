"""A gateway's real answers with values replaced: whatever one says, a command ends in words."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner

from nexus.cli.main import main
from nexus.demo.engine import FakeEngine
from tests.harness import chat, running
from tests.unit.cli.conftest import StandIn
from tests.unit.engines.test_damaged_answers import places, replaced

COMMANDS = (
    *("backends list", "models", "stats", "history", "health", "top --once", "config reload"),
    *("route explain --model demo-model", "backends drain a", "config show --json"),
)
PAGES = ("/admin/v1/backends", "/v1/models", "/admin/v1/models", "/admin/v1/stats", "/health")
ODD: tuple[Any, ...] = (
    *(None, True, -1, 2**80, 1e308, 10**400, float("nan"), float("inf"), "", "\n\x1b[2J\u202e", []),
    *({}, [[]], {"": None}, ["x", None], "9" * 4000, "[red]x[/red]", "[/]", [1] * 50, "\ud800"),
)


async def real_answers() -> dict[str, Any]:
    """What a gateway with a backend and some calls answers, by path."""
    async with FakeEngine(name="a") as one, running(one) as run:
        for _ in range(3):
            await run.client.post("/v1/chat/completions", json=chat())
        found = {
            page: (await run.client.get(page)).json()
            for page in (*PAGES, "/admin/v1/history", "/admin/v1/config")
        }
        for page, body in (
            ("/admin/v1/routes/explain", chat()),
            ("/admin/v1/backends/a/drain", {}),
        ):
            found[f"POST {page}"] = (await run.client.post(page, json=body)).json()
        found["POST /admin/v1/config/reload"] = {
            "outcome": "applied",
            "added": ["x"],
            "changed": [{"key": "a", "old": 1, "new": 2}],
        }
        return found


class ByPath(dict[str, tuple[int, Any]]):
    """Answers whatever the query."""

    def get(self, asked: str, default: Any = None) -> Any:
        """The answer to ``asked``."""
        return super().get(asked.partition("?")[0], default)


def test_no_answer_breaks_a_command(
    runner: CliRunner, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a traceback nor anything that steers a terminal."""
    sound = asyncio.run(real_answers())
    monkeypatch.setenv("NEXUS_GATEWAY", stand_in.url)
    rng = Random(5)
    for _ in range(300):
        odd = dict(sound)
        for _ in range(rng.randint(1, 3)):
            page = rng.choice(list(odd))
            place = rng.choice(list(places(odd[page])))
            odd[page] = replaced(odd[page], place, rng.choice(ODD))
        stand_in.answers = ByPath({page: (200, answer) for page, answer in odd.items()})
        command = rng.choice(COMMANDS)
        result = runner.invoke(main, command.split())
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise AssertionError(f"{command}: {odd}") from result.exception
        assert not {"\x1b", "\x9b", "\u202e"} & set(result.output), command
