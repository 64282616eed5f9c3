"""Listening with TLS (traps: half-close on TLS, a client that never finishes the handshake)."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trustme

from nexus.demo.engine import FakeEngine
from nexus.demo.profile import Speed
from tests.harness import Raw, Running, chat, eventually, raw, running
from tests.integration.http.wire import CHAT, CHAT_BODY, check_error, get, post, request


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority of our own."""
    return trustme.CA()


@pytest.fixture
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    """A client that trusts it."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
async def secure(
    engine: FakeEngine, authority: trustme.CA, tmp_path: Path
) -> AsyncIterator[Running]:
    """A gateway that listens with TLS, with short time limits."""
    issued = authority.issue_cert("127.0.0.1", "localhost")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    server = {
        "tls_cert": str(certificate),
        "tls_key": str(key),
        "client_head_timeout_seconds": 0.3,
        "client_body_timeout_seconds": 0.3,
    }
    async with running(engine, server=server) as run:
        yield run


async def connect(run: Running, context: ssl.SSLContext) -> Raw:
    """A raw client inside TLS."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", run.port, ssl=context, limit=64 * 1024 * 1024
    )
    return Raw(reader, writer)


async def test_http_1_1_inside_tls(secure: Running, client_context: ssl.SSLContext) -> None:
    """Plain answers and streams over one kept-alive connection; ALPN says http/1.1."""
    client_context.set_alpn_protocols(["h2", "http/1.1"])
    client = await connect(secure, client_context)
    assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    client.send(post() + post(json.dumps(chat(stream=True)).encode()) + get())
    assert (await client.response())[0] == 200
    assert (await client.response())[2].endswith(b"data: [DONE]\n\n")
    assert (await client.response())[0] == 200
    client.writer.close()
    assert secure.url.startswith("https://127.0.0.1:")


async def test_httpx_inside_tls(secure: Running, client_context: ssl.SSLContext) -> None:
    """An ordinary client gets a large answer whole."""
    async with httpx.AsyncClient(verify=client_context, base_url=secure.url) as client:
        for _ in range(3):
            assert (await client.post(CHAT.decode(), json=chat())).status_code == 200


async def test_a_closing_answer(secure: Running, client_context: ssl.SSLContext) -> None:
    """``Connection: close`` inside TLS ends with a proper end."""
    client = await connect(secure, client_context)
    client.send(post(CHAT_BODY, b"Connection: close"))
    status, headers, _ = await client.response()
    assert (status, headers["connection"]) == (200, "close")
    assert await client.rest() == b""
    client.writer.close()


async def test_an_early_refusal(secure: Running, client_context: ssl.SSLContext) -> None:
    """A 413 while the client uploads 11 MB inside TLS reaches it: there is no half-close in TLS,
    and nothing raises."""
    server = secure.gateway.server
    server.linger_timer.length_s = 0.2
    for _ in range(5):
        client = await connect(secure, client_context)
        client.send(request(b"POST " + CHAT + b" HTTP/1.1", b"Content-Length: 11000000"))
        client.send(b"a" * 11_000_000)
        check_error(await client.response(), 413, "payload_too_large")
        client.writer.close()
    await eventually(lambda: not server.connections, "the connections are closed")


async def test_a_refused_client_that_stays_is_cut(
    secure: Running, client_context: ssl.SSLContext
) -> None:
    """A client that neither leaves nor reads on after a refusal does not stay."""
    server = secure.gateway.server
    server.linger_timer.length_s = 0.1
    client = await connect(secure, client_context)
    client.send(b"NONSENSE\r\n\r\n")
    assert (await client.response())[0] == 400
    await eventually(lambda: not server.connections, "the connection was cut")
    client.writer.transport.abort()


async def test_a_handshake_that_fails(secure: Running, client_context: ssl.SSLContext) -> None:
    """Plain HTTP on the TLS port, and a client that distrusts us, harm nobody."""
    async with raw(secure.port) as plain:
        plain.send(get())
        await plain.rest()
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(secure, ssl.create_default_context())
    client = await connect(secure, client_context)
    client.send(get())
    assert (await client.response())[0] == 200
    client.writer.close()


async def test_a_silent_client(secure: Running, client_context: ssl.SSLContext) -> None:
    """A client that finished the handshake and says nothing is closed."""
    client = await connect(secure, client_context)
    assert await client.rest() == b""
    client.writer.close()
    assert not secure.gateway.server.connections


async def test_a_client_that_leaves_during_a_call(
    secure: Running, client_context: ssl.SSLContext, engine: FakeEngine
) -> None:
    """Leaving inside TLS cancels the engine's work as outside."""
    engine.settings = Speed(delay_s=30.0)
    client = await connect(secure, client_context)
    client.send(post())
    await eventually(lambda: engine.in_flight == 1, "the call is at the engine")
    client.writer.transport.abort()
    await eventually(lambda: engine.cancelled == 1, "the engine was told")
    await secure.settled()


async def test_a_handshake_that_never_ends(secure: Running) -> None:
    """Half a handshake is cut in the time for a head."""
    async with raw(secure.port) as client:
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        await client.rest()
