"""Which pages may ask, and what browsers are told (behaviour § 11, Fetch standard)."""

from __future__ import annotations

import pytest

from nexus.demo.engine import FakeEngine
from tests.harness import Running, raw, running
from tests.integration.http.wire import CHAT, CHAT_BODY, check_error, get, post, request

ALLOWED = ["http://localhost:3000", "http://127.0.0.1:5173", "http://localhost"]
REFUSED = ["https://evil.example", "http://localhost.evil.example", "null", "https://localhost:1"]
PATHS = [CHAT, b"/v1/embeddings"]


def origin_field(origin: str) -> bytes:
    """An ``Origin`` header line."""
    return b"Origin: " + origin.encode()


@pytest.mark.parametrize("origin", ALLOWED)
async def test_an_allowed_page(gateway: Running, origin: str) -> None:
    """A page of this machine may call, and read the answer, errors too."""
    field = origin_field(origin)
    async with raw(gateway.port) as client:
        for data, status in (
            (post(CHAT_BODY, field), 200),
            (post(b"not json", field), 400),
            (get(b"/v1/models", field), 200),
            (get(b"/nowhere", field), 404),
        ):
            client.send(data)
            seen, headers, _ = await client.response()
            assert seen == status
            assert headers["access-control-allow-origin"] == origin
            assert "origin" in headers["vary"].lower()


@pytest.mark.parametrize("origin", REFUSED)
async def test_a_refused_page(gateway: Running, engine: FakeEngine, origin: str) -> None:
    """Any other page is 403, told how to be allowed, and may not even read that."""
    field = origin_field(origin)
    async with raw(gateway.port) as client:
        for data in (
            post(CHAT_BODY, field),
            get(b"/v1/models", field),
            request(b"OPTIONS " + CHAT + b" HTTP/1.1", field),
        ):
            client.send(data)
            answer = await client.response()
            error = check_error(answer, 403, "forbidden")
            assert "server.cors_origins" in error["message"]
            assert not [name for name in answer[1] if name.startswith("access-control")]
    assert engine.calls == []


async def test_a_program_with_an_origin_of_its_own(gateway: Running) -> None:
    """Applications that send an origin of another scheme are programs, not pages."""
    async with raw(gateway.port) as client:
        client.send(post(CHAT_BODY, b"Origin: app://obsidian.md"))
        assert (await client.response())[0] == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("origin", ALLOWED)
async def test_a_preflight(gateway: Running, path: bytes, origin: str) -> None:
    """The preflight of an allowed page is 204 and grants what was asked, without a body; the
    connection goes on."""
    async with raw(gateway.port) as client:
        client.send(
            request(
                b"OPTIONS " + path + b" HTTP/1.1",
                origin_field(origin),
                b"Access-Control-Request-Method: POST",
                b"Access-Control-Request-Headers: authorization, content-type, x-stainless-os",
            )
            + get()
        )
        status, headers, body = await client.response()
        assert (status, body) == (204, b"")
        assert headers["access-control-allow-origin"] == origin
        granted = headers["access-control-allow-headers"]
        assert granted == "authorization, content-type, x-stainless-os"
        assert "POST" in headers["access-control-allow-methods"]
        assert "content-length" not in headers
        assert (await client.response())[0] == 200


async def test_configured_origins(engine: FakeEngine) -> None:
    """``server.cors_origins`` replaces the default list."""
    async with (
        running(engine, server={"cors_origins": ["https://chat.example"]}) as run,
        raw(run.port) as client,
    ):
        client.send(post(CHAT_BODY, b"Origin: https://chat.example"))
        status, headers, _ = await client.response()
        assert (status, headers["access-control-allow-origin"]) == (200, "https://chat.example")
        client.send(post(CHAT_BODY, b"Origin: http://localhost:3000"))
        assert (await client.response())[0] == 403
