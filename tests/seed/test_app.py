"""Seed T05: the gateway object and its routes."""

from __future__ import annotations

import asyncio

from nexus.demo.engine import FakeEngine
from nexus.demo.profile import Speed
from tests.harness import running
from tests.seed.fleet import COMPLETIONS, request


async def test_app_state_creation() -> None:
    """The gateway owns a working HTTP client: its deadline and its idle connections are those of
    the configuration."""
    server = {"request_timeout_seconds": 7.0, "pool_idle_per_backend": 2}
    engine = FakeEngine(name="one", models=["test"], settings=Speed(delay_s=0.05))
    async with engine, running(engine, server=server) as run:
        asked = [run.client.post(COMPLETIONS, json=request()) for _ in range(6)]
        answers = await asyncio.gather(*asked)
        assert [answer.status_code for answer in answers] == [200] * 6
        plane = run.gateway.plane
        assert plane.limits.request_timeout_s == 7.0
        _, idle, opened = plane.pooled("one")
        assert opened > 2
        assert idle == 2


async def test_router_has_completions_route() -> None:
    """The route exists: without a body the request is bad, not unknown."""
    async with running() as run:
        assert (await run.client.post(COMPLETIONS)).status_code == 400
        assert (await run.client.get(COMPLETIONS)).status_code == 405


async def test_router_has_models_route() -> None:
    """The route exists."""
    async with running() as run:
        assert (await run.client.get("/v1/models")).status_code == 200


async def test_router_has_health_route() -> None:
    """The route exists."""
    async with running() as run:
        assert (await run.client.get("/health")).status_code == 200


async def test_router_returns_404_unknown() -> None:
    """Any other path is 404, in OpenAI's shape."""
    async with running() as run:
        response = await run.client.get("/unknown/path")
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "not_found"
