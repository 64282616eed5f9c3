"""Seed T07: ``GET /v1/models``."""

from __future__ import annotations

from typing import Any

from nexus.demo.engine import FakeEngine
from tests.harness import Running, running
from tests.seed.fleet import fleet


async def listed(run: Running) -> list[dict[str, Any]]:
    """The entries of the listing."""
    response = await run.client.get("/v1/models")
    assert response.status_code == 200
    page = response.json()
    assert page["object"] == "list"
    entries: list[dict[str, Any]] = page["data"]
    return entries


async def test_models_empty_registry() -> None:
    """Without backends the list is there, and empty."""
    async with running() as run:
        assert await listed(run) == []


async def test_models_single_backend() -> None:
    """Every model of a backend is listed."""
    async with fleet(1, models=("a", "b", "c")) as run:
        assert [entry["id"] for entry in await listed(run)] == ["a", "b", "c"]


async def test_models_multiple_backends_deduplicated() -> None:
    """The same model on two backends is one entry, which names both."""
    async with fleet(2, models=("shared", "other")) as run:
        entries = await listed(run)
        assert [entry["id"] for entry in entries] == ["other", "shared"]
        backends = [backend["name"] for backend in entries[1]["nexus"]["backends"]]
        assert backends == ["up-0", "up-1"]


async def test_models_excludes_unhealthy() -> None:
    """What only a backend serves that is down is not listed, nor that backend elsewhere."""
    async with fleet(1, 1) as run:
        assert "unhealthy-model" in run.gateway.store.snapshot.candidates
        (entry,) = await listed(run)
        assert entry["id"] == "test"
        assert [backend["name"] for backend in entry["nexus"]["backends"]] == ["up-0"]


async def test_models_includes_capabilities() -> None:
    """An entry tells the context length and the capabilities that the engine told."""
    engine = FakeEngine(dialect="ollama", models=["seer"], context_length=4096, vision=True)
    async with engine, running(engine) as run:
        (entry,) = await listed(run)
        assert entry["context_length"] == 4096
        assert entry["capabilities"]["vision"] is True
        assert entry["capabilities"]["tools"] is True
        assert set(entry["capabilities"]) == {
            *("vision", "tools", "json_mode", "embeddings", "reasoning"),
        }


async def test_models_format_matches_openai() -> None:
    """An entry has what OpenAI's have: id, object, created, owned_by."""
    async with fleet(1) as run:
        (entry,) = await listed(run)
        assert entry["id"] == "test"
        assert entry["object"] == "model"
        assert type(entry["created"]) is int
        assert isinstance(entry["owned_by"], str)
        assert await listed(run) == [entry]
