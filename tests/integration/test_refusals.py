"""Refusals before a call begins, and faults of our own (behaviour § 2.2)."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest

from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from tests.harness import chat, eventually, running

PATH = "/v1/chat/completions"


async def test_too_many_calls_at_once_are_503() -> None:
    """Over ``max_concurrent_requests`` a call is 503 with Retry-After at once; pages are no calls;
    when one has ended the next is served."""
    async with (
        FakeEngine() as engine,
        running(engine, server={"max_concurrent_requests": 2}) as gateway,
    ):
        engine.faults.set(Fault.STALL, count=2)
        stuck = [asyncio.create_task(gateway.client.post(PATH, json=chat())) for _ in range(2)]
        await eventually(lambda: engine.in_flight == 2, "two calls are in flight")
        answer = await gateway.client.post(PATH, json=chat())
        error = answer.json()["error"]
        assert (answer.status_code, error["type"]) == (503, "server_error")
        assert error["code"] == "service_unavailable"
        assert "max_concurrent_requests" in error["message"]
        assert int(answer.headers["retry-after"]) >= 1
        assert (await gateway.client.get("/health")).status_code == 200
        stuck[0].cancel()
        await eventually(lambda: engine.in_flight == 1, "one call is cancelled")
        assert (await gateway.client.post(PATH, json=chat())).status_code == 200
        stuck[1].cancel()
        await eventually(lambda: engine.in_flight == 0, "the other is cancelled")


@pytest.mark.parametrize(
    ("key", "headers", "status", "code"),
    [
        ("", {}, 200, None),
        ("", {"x-forwarded-for": "203.0.113.9"}, 403, "forbidden"),
        ("", {"host": "rebound.test"}, 403, "forbidden"),
        ("secret", {}, 401, "invalid_api_key"),
        ("secret", {"authorization": "Bearer wrong"}, 401, "invalid_api_key"),
        ("secret", {"authorization": "Bearer secret"}, 200, None),
        (
            "secret",
            {"authorization": "Bearer secret", "x-forwarded-for": "203.0.113.9"},
            200,
            None,
        ),
    ],
)
@pytest.mark.parametrize("path", ["/admin/v1/backends", "/admin/v1/stats"])
async def test_the_admin_api_is_closed_to_others(
    path: str, key: str, headers: dict[str, str], status: int, code: str | None
) -> None:
    """From elsewhere without a key set: 403. With one set: 401 unless it is presented."""
    async with running(admin_key=key) as gateway:
        answer = await gateway.client.get(path, headers=headers)
        assert answer.status_code == status
        if code is not None:
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert error["code"] == code
            assert ("www-authenticate" in answer.headers) == (status == 401)
        assert key == "" or key not in answer.text


async def test_a_fault_of_our_own_is_logged_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The exception is in the log and not in the answer; the call is counted;
    the calls beside it are served."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    async with FakeEngine() as engine, running(engine) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=30.0) as other:
            engine.faults.set(Fault.STALL, count=1, delay_s=0.2)
            beside = asyncio.create_task(other.post(PATH, json=chat()))
            await eventually(lambda: engine.in_flight == 1, "a call is under way")
            with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
                patch.setattr("nexus.routing.router.Router.route", broken)
                answer = await gateway.client.post(PATH, json=chat())
            assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
            assert "secret detail" not in answer.text
            assert (await beside).status_code == 200
        stats = (await gateway.client.get("/admin/v1/stats")).json()
        assert stats["requests"]["total"] == 2
    told = [record.getMessage() for record in caplog.records]
    [line] = [text for text in told if "internal_error" in text]
    assert "RuntimeError" in line
    assert "secret detail" in line
