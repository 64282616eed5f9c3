"""``logging.content``: what is asked and answered stays out of the log unless the operator wants it
there."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from nexus.config.schema import LoggingConfig
from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.telemetry.logs import configure_logging
from tests.harness import chat, running

CHAT = "/v1/chat/completions"
ON = LoggingConfig(content=True)


class Log:
    """What was logged."""

    def __init__(self) -> None:
        self.out = io.StringIO()

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The lines of an event."""
        lines = [json.loads(line) for line in self.out.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


@pytest.fixture
def log() -> Iterator[Log]:
    captured = Log()
    configure_logging("debug", "json", {}, captured.out)
    yield captured
    configure_logging()


async def test_content_is_not_logged_by_default(log: Log) -> None:
    """Not even at level debug, and no error quotes it."""
    async with FakeEngine(answer="s3cret-b") as engine, running(engine) as run:
        for stream in (False, True):
            answer = await run.client.post(CHAT, json=chat(text="s3cret-a", stream=stream))
            assert "s3cret-b" in answer.text
        engine.faults.set(Fault.STATUS, status=400, body=b'{"error":{"message":"s3cret-c"}}')
        await run.client.post(CHAT, json=chat(text="s3cret-a"))
        await run.client.post(CHAT, content=b'{"s3cret-d"')
        assert "s3cret" not in log.out.getvalue()
        assert "content_is_logged" not in log.out.getvalue()
        assert not any("s3cret" in str(record) for record in run.records)


async def test_content_is_logged_when_wanted(log: Log) -> None:
    """One line per call, found by its request id, and a warning at the start."""
    async with FakeEngine(answer="so it is") as engine, running(engine, logging=ON) as run:
        assert len(log.lines("content_is_logged")) == 1
        plain = await run.client.post(CHAT, json=chat(text="is it so?"))
        stream = await run.client.post(CHAT, json=chat(text="and so?", stream=True))
        first, second = log.lines("content")
    assert first["request_id"] == plain.headers["x-request-id"]
    assert (first["component"], first["level"]) == ("content", "info")
    assert "is it so?" in first["request"]
    assert first["answer"] == plain.text
    assert second["answer"] == stream.text
    assert second["answer_bytes"] == len(stream.content)


async def test_logged_content_is_bounded_and_masked(log: Log) -> None:
    """16 KiB of each side, no credentials, bytes that are no text only counted."""
    async with FakeEngine(answer="y" * 50_000) as engine, running(engine, logging=ON) as run:
        text = "sk-0123456789abcdef " + "x" * 100_000
        await run.client.post(CHAT, json=chat(text=text))
        (line,) = log.lines("content")
        assert len(line["request"]) <= 16_384
        assert len(line["answer"]) == 16_384
        assert line["answer_bytes"] > 50_000
        assert "sk-0123456789abcdef" not in log.out.getvalue()


async def test_errors_are_logged_as_they_were_answered(log: Log) -> None:
    """The backend's own words."""
    async with FakeEngine() as engine, running(engine, logging=ON) as run:
        engine.faults.set(Fault.STATUS, status=400, body=b'{"error":{"message":"too odd"}}')
        await run.client.post(CHAT, json=chat())
        (line,) = log.lines("content")
        assert "too odd" in line["answer"]
        assert line["outcome"] == "client_error"


async def test_it_can_be_switched_while_running(log: Log) -> None:
    """A reload takes it into and out of force."""
    async with FakeEngine() as engine, running(engine) as run:
        run.gateway.log_content(True)
        await run.client.post(CHAT, json=chat())
        run.gateway.log_content(False)
        await run.client.post(CHAT, json=chat())
        assert len(log.lines("content")) == 1
