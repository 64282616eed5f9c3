"""Backends that cannot serve from the start: listed with the reason, the gateway up (issue:
"Bad input")."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from nexus.core.backend import BackendSpec, EngineKind
from nexus.demo.engine import FakeEngine
from tests.harness import Running, chat, eventually, running
from tests.integration.scripted import plain

PATH = "/v1/chat/completions"


async def told(gateway: Running, name: str) -> dict[str, str]:
    """The admin API's words on a backend, once its first check is over."""
    await eventually(
        lambda: gateway.gateway.store.snapshot.backends[name].status != "unknown",
        f"{name} was checked",
    )
    listing = (await gateway.client.get("/admin/v1/backends")).json()["data"]
    [entry] = [one for one in listing if one["name"] == name]
    assert isinstance(entry, dict)
    return entry


@contextlib.asynccontextmanager
async def stranger(answer: bytes) -> AsyncIterator[str]:
    """Something that answers every request with the same bytes; its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


PAGE = plain(b"<html><title>Router</title></html>").replace(b"application/json", b"text/html")
STRANGERS = {
    "a web page": (PAGE, None),
    "a web page of a kind named": (PAGE, EngineKind.VLLM),
    "another API": (plain({"hello": "world"}), None),
    "404 for all": (plain({"detail": "Not Found"}, status="404 Not Found"), None),
    "404 of a kind named": (plain({"detail": "x"}, status="404 Not Found"), EngineKind.OPENAI),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", None),
    "a redirect": (plain(b"", "location: /login", status="302 Found"), EngineKind.GENERIC),
}


@pytest.mark.parametrize("name", STRANGERS)
async def test_what_is_no_llm_server_is_unhealthy_and_says_why(name: str) -> None:
    """It is listed unhealthy with a reason, lends no models, and the others serve."""
    answer, kind = STRANGERS[name]
    async with (
        stranger(answer) as url,
        FakeEngine(name="good") as good,
        running(good, BackendSpec(name="odd", url=url, engine=kind), wait=False) as run,
    ):
        entry = await told(run, "odd")
        assert entry["status"] == "unhealthy"
        assert len(entry["reason"]) > 5
        await run.healthy("good")
        health = (await run.client.get("/health")).json()
        assert (health["status"], health["models"]) == ("degraded", 1)
        assert health["backends"] == {"total": 2, "healthy": 1, "unhealthy": 1}
        assert (await run.client.post(PATH, json=chat())).status_code == 200


@pytest.mark.parametrize("kind", [None, EngineKind.OLLAMA, EngineKind.OPENAI])
async def test_a_backend_that_is_down_at_start_is_unhealthy(kind: EngineKind | None) -> None:
    """Refused: listed with that reason; the gateway runs, is not ready and knows no model."""
    with socket.socket() as reserved:  # bound, never listening: nobody else can answer there
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        async with running(BackendSpec(name="down", url=url, engine=kind), wait=False) as run:
            entry = await told(run, "down")
            assert entry["status"] == "unhealthy"
            assert "refused" in entry["reason"]
            assert (await run.client.get("/livez")).status_code == 200
            assert (await run.client.get("/readyz")).status_code == 503
            assert (await run.client.get("/v1/models")).json()["data"] == []
            assert (await run.client.post(PATH, json=chat())).status_code == 404


async def test_a_wrong_path_in_the_url_is_unhealthy() -> None:
    """A base path that the engine does not have is told with the engine's own answer."""
    async with FakeEngine(name="gpu") as engine:
        spec = BackendSpec(name="gpu", url=f"{engine.url}/api/v7", engine=EngineKind.OPENAI)
        async with running(spec, wait=False) as run:
            entry = await told(run, "gpu")
            assert entry["status"] == "unhealthy"
            assert "404" in entry["reason"]


async def test_http_spoken_to_a_wrong_scheme_is_unhealthy() -> None:
    """``https`` in the URL of a server that speaks HTTP: the reason speaks of TLS."""
    async with FakeEngine(name="gpu") as engine:
        url = engine.url.replace("http://", "https://")
        spec = BackendSpec(name="gpu", url=url, engine=EngineKind.OPENAI)
        async with running(spec, wait=False) as run:
            entry = await told(run, "gpu")
            assert entry["status"] == "unhealthy"
            assert "TLS" in entry["reason"]
