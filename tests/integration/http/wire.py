"""Requests as bytes, and what every error answer must look like."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nexus.demo.engine import FakeEngine
from tests.harness import Raw, Running, chat, raw, running

__all__ = [
    "CHAT",
    "CHAT_BODY",
    "check_error",
    "closed",
    "engine",
    "expect_error",
    "gateway",
    "get",
    "post",
    "request",
]

CHAT = b"/v1/chat/completions"
CHAT_BODY = json.dumps(chat()).encode()


def request(line: bytes, *fields: bytes, host: bool = True, body: bytes = b"") -> bytes:
    """A request of this request line and these header lines."""
    own = (b"Host: gateway.test",) if host else ()
    return b"\r\n".join((line, *own, *fields, b"", body))


def get(path: bytes = b"/health", *fields: bytes) -> bytes:
    """A GET."""
    return request(b"GET " + path + b" HTTP/1.1", *fields)


def post(body: bytes = CHAT_BODY, *fields: bytes, path: bytes = CHAT) -> bytes:
    """A POST with its Content-Length."""
    length = b"Content-Length: %d" % len(body)
    return request(b"POST " + path + b" HTTP/1.1", length, *fields, body=body)


def check_error(
    answer: tuple[int, dict[str, str], bytes], status: int, code: str | None = None
) -> dict[str, Any]:
    """Every error of ours: its status, the OpenAI shape, an id, no sniffing. Returns the error."""
    seen, headers, body = answer
    assert seen == status, (seen, body)
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"]
    assert headers["x-content-type-options"] == "nosniff"
    error: dict[str, Any] = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]
    if code is not None:
        assert error["code"] == code
    return error


async def closed(client: Raw) -> None:
    """The server has ended its side, with nothing more to say."""
    assert await client.rest() == b""


async def expect_error(
    port: int, data: bytes, status: int, code: str | None = None
) -> dict[str, Any]:
    """Sends ``data`` on a connection of its own: answered with this error, then closed."""
    async with raw(port) as client:
        client.send(data)
        answer = await client.response()
        error = check_error(answer, status, code)
        assert answer[1]["connection"] == "close"
        await closed(client)
    return error


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    """A well engine of the OpenAI dialect."""
    async with FakeEngine() as one:
        yield one


@pytest.fixture
async def gateway(engine: FakeEngine) -> AsyncIterator[Running]:
    """A gateway in front of ``engine``, with the default settings; at rest in the end."""
    async with running(engine) as run:
        yield run
        # The loop turns once more, so that what was just closed is seen to be closed.
        await asyncio.sleep(0)
