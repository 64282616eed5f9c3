"""Seed T06: ``GET /health``."""

from __future__ import annotations

from typing import Any

from tests.harness import Running
from tests.seed.fleet import fleet


async def health(run: Running) -> dict[str, Any]:
    """The page; always 200."""
    response = await run.client.get("/health")
    assert response.status_code == 200
    page: dict[str, Any] = response.json()
    return page


async def test_health_all_healthy() -> None:
    """Two of two: healthy."""
    async with fleet(2, 0) as run:
        assert (await health(run))["status"] == "healthy"


async def test_health_some_unhealthy() -> None:
    """One of two: degraded."""
    async with fleet(1, 1) as run:
        assert (await health(run))["status"] == "degraded"


async def test_health_none_healthy() -> None:
    """None of two: unhealthy."""
    async with fleet(0, 2) as run:
        assert (await health(run))["status"] == "unhealthy"


async def test_health_includes_backend_counts() -> None:
    """Backends are counted: all, healthy, unhealthy."""
    async with fleet(2, 1) as run:
        assert (await health(run))["backends"] == {"total": 3, "healthy": 2, "unhealthy": 1}


async def test_health_includes_model_count() -> None:
    """``models`` is how many the healthy backends serve, a plain integer."""
    async with fleet(2, 1, models=("a", "b", "c", "d", "e")) as run:
        models = (await health(run))["models"]
        assert type(models) is int
        assert models == 5
