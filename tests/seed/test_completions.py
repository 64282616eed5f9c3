"""Seed T08: ``POST /v1/chat/completions``, not streamed."""

from __future__ import annotations

import asyncio

import pytest

from nexus.core.backend import BackendStatus
from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.demo.profile import Speed
from tests.harness import eventually, running, spec_of
from tests.seed.fleet import COMPLETIONS, fleet, request

pytestmark = pytest.mark.completions


async def test_completions_valid_request() -> None:
    """A good request is answered by the backend."""
    engine = FakeEngine(models=["test"], answer="Hello!")
    async with engine, running(engine) as run:
        body = {"model": "test", "messages": [{"role": "user", "content": "Hi"}]}
        response = await run.client.post(COMPLETIONS, json=body)
        assert response.status_code == 200
        answer = response.json()
        assert answer["object"] == "chat.completion"
        assert answer["model"] == "test"
        assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Hello!"}


async def test_completions_invalid_json() -> None:
    """A body that is not JSON is 400, whatever it calls itself."""
    async with running() as run:
        response = await run.client.post(COMPLETIONS, content=b"not json")
        assert "content-type" not in response.request.headers
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "invalid_request_error"


async def test_completions_model_not_found() -> None:
    """A model that nobody serves is 404."""
    async with running() as run:
        response = await run.client.post(COMPLETIONS, json=request("nonexistent"))
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "model_not_found"


async def test_completions_no_healthy_backends() -> None:
    """A model that only backends serve which are down is 503: named by the configuration, or
    known from when they were up."""
    async with fleet(0, 1) as run:
        response = await run.client.post(COMPLETIONS, json=request())
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "service_unavailable"
    engine = FakeEngine(name="lost", models=["test"])
    async with engine, running(engine, health={"interval_seconds": 0.05}) as run:
        engine.faults.set(Fault.REFUSE)
        backends = run.gateway.store.snapshot.backends
        await eventually(
            lambda: run.gateway.store.snapshot.backends["lost"].status is BackendStatus.UNHEALTHY,
            "the lost backend seen",
        )
        assert backends["lost"].models
        response = await run.client.post(COMPLETIONS, json=request())
        assert response.status_code == 503
        assert response.json()["error"]["message"] == "No healthy backend for model 'test'"
        assert int(response.headers["retry-after"]) >= 1


async def test_completions_backend_timeout() -> None:
    """A backend that does not answer within the deadline is 504."""
    engine = FakeEngine(models=["test"])
    async with engine, running(engine, server={"request_timeout_seconds": 0.2}) as run:
        engine.faults.set(Fault.STALL)
        response = await run.client.post(COMPLETIONS, json=request())
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "gateway_timeout"
        assert response.json()["error"]["message"] == "Backend request timed out"
        await eventually(lambda: engine.in_flight == 0, "the backend's request cancelled")


async def test_completions_backend_error() -> None:
    """A backend's 500 is 502."""
    engine = FakeEngine(models=["test"])
    async with engine, running(engine) as run:
        engine.faults.set(Fault.STATUS, status=500)
        response = await run.client.post(COMPLETIONS, json=request())
        assert response.status_code == 502
        assert response.json()["error"]["code"] == "bad_gateway"
        assert response.json()["error"]["type"] == "server_error"


async def test_completions_forwards_auth_header() -> None:
    """The client's ``Authorization`` reaches a backend that the operator named."""
    engine = FakeEngine(models=["test"])
    async with engine, running(engine) as run:
        response = await run.client.post(
            COMPLETIONS, json=request(), headers={"Authorization": "Bearer test-token"}
        )
        assert response.status_code == 200
        assert engine.calls[-1].header(b"authorization") == b"Bearer test-token"


async def test_completions_passes_usage_stats() -> None:
    """The backend's usage reaches the client."""
    engine = FakeEngine(models=["test"], usage=(10, 20))
    async with engine, running(engine) as run:
        usage = (await run.client.post(COMPLETIONS, json=request())).json()["usage"]
        assert usage["prompt_tokens"] == 10
        assert usage["completion_tokens"] == 20
        assert usage["total_tokens"] == 30


async def test_completions_retry_on_failure() -> None:
    """After a 500 the next healthy backend is asked, and the client never knows."""
    first = FakeEngine(name="first", models=["test"])
    second = FakeEngine(name="second", models=["test"])
    async with first, second:
        specs = spec_of(first, priority=1), spec_of(second, priority=2)
        async with running(*specs, routing={"strategy": "priority_only"}) as run:
            first.faults.set(Fault.STATUS, status=500)
            response = await run.client.post(COMPLETIONS, json=request())
            assert response.status_code == 200
            assert response.headers["x-nexus-backend"] == "second"
            assert response.headers["x-nexus-attempts"] == "2"
            assert (len(first.calls), len(second.calls)) == (1, 1)


async def test_completions_tracks_pending_requests() -> None:
    """A call counts as pending at its backend while it runs, and not after."""
    engine = FakeEngine(name="test-backend", models=["test"], settings=Speed(delay_s=0.1))
    async with engine, running(engine) as run:
        live = run.gateway.store.live("test-backend")
        assert live is not None
        assert live.in_flight == 0
        call = asyncio.ensure_future(run.client.post(COMPLETIONS, json=request()))
        await eventually(lambda: engine.in_flight == 1, "the call at the backend")
        assert live.in_flight == 1
        assert (await call).status_code == 200
        assert live.in_flight == 0
