"""What can be seen of calls: history and events of a running gateway."""

from __future__ import annotations

from nexus.demo.engine import FakeEngine
from nexus.telemetry.events import Event
from tests.harness import chat, running, spec_of


async def test_history_explains_a_call() -> None:
    """Each call is found by the id that its answer carried, with what routing knew of it."""
    async with FakeEngine(name="a") as a, FakeEngine(name="b") as b, running(a, b) as run:
        answer = await run.client.post("/v1/chat/completions", json=chat(seed=7))
        found = run.gateway.history.find(answer.headers["x-request-id"])
        assert found is not None
        assert found["backend"] == answer.headers["x-nexus-backend"]
        assert found["reason"] == answer.headers["x-nexus-route-reason"]
        assert found["profile"]["fields"] == ["seed"]
        assert {one["backend"] for one in found["considered"]} == {"a", "b"}
        assert found["tokens"]["completion"] == answer.json()["usage"]["completion_tokens"]


async def test_refused_calls_are_history_too() -> None:
    """What was never read has its row: no profile, an outcome, an error."""
    async with FakeEngine() as engine, running(engine) as run:
        await run.client.post("/v1/chat/completions", content=b"no json")
        await run.client.post("/v1/chat/completions", json=chat("nobody-has-it"))
        unknown, broken = run.gateway.history.view()
        assert (unknown["model"], unknown["status"]) == ("nobody-has-it", 404)
        assert (broken["model"], broken["status"], broken["outcome"]) == ("", 400, "client_error")
        assert "JSON" in broken["error"]


async def test_events_tell_of_calls_and_backends() -> None:
    """A listener hears of a backend that comes, each call, and a backend that goes."""
    async with FakeEngine() as engine, running() as run:
        with run.gateway.events.subscribe() as events:
            run.gateway.add_backend(spec_of(engine))
            first = await events.get()
            assert first is not None
            assert (first.kind, first.data["change"]) == ("backend", "added")
            await run.healthy()
            answer = await run.client.post("/v1/chat/completions", json=chat())
            run.gateway.remove_backend(engine.name)
            told: list[Event] = []
            while not told or told[-1].data.get("change") != "removed":
                event = await events.get()
                assert event is not None
                told.append(event)
        states = [event.data["status"] for event in told if event.data.get("change") == "changed"]
        assert states[-1] == "healthy"
        (call,) = [event for event in told if event.kind == "request"]
        assert call.data["request_id"] == answer.headers["x-request-id"]
        assert run.gateway.events.listeners == 0
