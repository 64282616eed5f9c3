"""Paths and methods on the wire (behaviour §§ 2, 2.2)."""

from __future__ import annotations

import pytest

from nexus.demo.engine import FakeEngine
from tests.harness import Running, raw, running
from tests.integration.http.wire import check_error, get, request

RELAYED = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/rerank",
    "/v1/images/generations",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/images/edits",
    "/v1/images/variations",
]
PAGES = ["/v1/models", "/v1/models/demo-model", "/health", "/livez", "/readyz"]


@pytest.mark.parametrize("slash", ["", "/"], ids=["plain", "slash"])
@pytest.mark.parametrize("path", PAGES)
async def test_head_is_get_without_the_body(gateway: Running, path: str, slash: str) -> None:
    """HEAD answers wherever GET does, with the same status and length and no body; a trailing
    slash is forgiven."""
    target = f"{path}{slash}".encode()
    async with raw(gateway.port) as client:
        client.send(request(b"GET " + target + b" HTTP/1.1"))
        status, headers, body = await client.response()
        assert status == 200
        assert headers["content-length"] == str(len(body))
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-request-id"]
        client.send(request(b"HEAD " + target + b" HTTP/1.1"))
        head = (await client.until(b"\r\n\r\n")).decode().lower()
        assert head.startswith("http/1.1 200 ")
        assert "content-length: " in head
        # No body came: what follows is the next answer.
        client.send(request(b"GET /livez HTTP/1.1"))
        assert (await client.response())[2] == b'{"status":"alive"}'


UNKNOWN = ["/v1", "/v1/", "/v1/chat", "/v1/chat/completions/x", "/healthz", "/V1/models", "/.."]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "PUT"])
async def test_unknown_paths(gateway: Running, engine: FakeEngine, method: str) -> None:
    """An unknown path is 404 whatever the method; the connection goes on."""
    async with raw(gateway.port) as client:
        for path in UNKNOWN:
            client.send(request(f"{method} {path} HTTP/1.1".encode()))
            error = check_error(await client.response(), 404, "not_found")
            assert path in error["message"]
    assert engine.calls == []


async def test_an_unknown_path_with_head(gateway: Running) -> None:
    """The answer to HEAD has no body, an error's neither."""
    async with raw(gateway.port) as client:
        client.send(request(b"HEAD /nowhere HTTP/1.1") + get(b"/livez"))
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
        assert (await client.response())[2] == b'{"status":"alive"}'


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"])
async def test_a_wrong_method_for_a_call(gateway: Running, method: str) -> None:
    """A call's path takes POST only: 405 says so in ``Allow``."""
    async with raw(gateway.port) as client:
        for path in RELAYED:
            client.send(request(f"{method} {path} HTTP/1.1".encode()))
            answer = await client.response()
            check_error(answer, 405, "method_not_allowed")
            assert answer[1]["allow"] == "POST"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"])
async def test_a_wrong_method_for_a_page(gateway: Running, method: str) -> None:
    """A page takes GET and HEAD only."""
    async with raw(gateway.port) as client:
        for path in PAGES:
            client.send(request(f"{method} {path} HTTP/1.1".encode()))
            answer = await client.response()
            check_error(answer, 405, "method_not_allowed")
            assert answer[1]["allow"] == "GET, HEAD"


async def test_the_admin_api_is_not_for_strange_hosts(gateway: Running) -> None:
    """Access refused is 403 in the OpenAI shape, with the reason."""
    async with raw(gateway.port) as client:
        client.send(get(b"/admin/v1/backends"))
        error = check_error(await client.response(), 403, "forbidden")
        assert "allowed_hosts" in error["message"]


async def test_an_unknown_model(gateway: Running) -> None:
    """The page of a model that nobody serves is 404 ``model_not_found``."""
    async with raw(gateway.port) as client:
        client.send(get(b"/v1/models/nothing") + request(b"HEAD /v1/models/nothing HTTP/1.1"))
        check_error(await client.response(), 404, "model_not_found")
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("path", [b"/v1/models/a%2Fb", b"/v1/models/a/b", b"/v1/models/a/b/"])
async def test_ids_with_slashes(path: bytes) -> None:
    """A model's id may hold slashes, plain or encoded."""
    async with (
        FakeEngine(models=["a/b"]) as engine,
        running(engine) as run,
        raw(run.port) as client,
    ):
        client.send(get(path))
        status, _, body = await client.response()
        assert status == 200
        assert b'"id":"a/b"' in body
