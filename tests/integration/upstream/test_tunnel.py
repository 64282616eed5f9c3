"""A backend behind a forward proxy (RFC 9110 § 9.3.6)."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme

from nexus.core.backend import BackendUrl
from nexus.core.errors import AttemptFailure
from nexus.http1.fetch import fetch
from nexus.http1.pool import Pool
from nexus.http1.tunnel import Proxy


class ForwardProxy:
    """A CONNECT proxy that leads every name to one port of this machine."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.port = 0
        self.lead_to = 0
        self._handlers: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: the CONNECT, then bytes both ways."""
        with self._closing(writer):
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            if self.answer.startswith(b"HTTP/1.1 200"):
                there = await asyncio.open_connection("127.0.0.1", self.lead_to)
                await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))

    async def backend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What the tunnel leads to: answers every request with ``hello``."""
        with self._closing(writer):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    @contextlib.contextmanager
    def _closing(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                yield
        finally:
            writer.transport.abort()

    async def ended(self) -> None:
        """Waits until every connection is over."""
        await asyncio.gather(*self._handlers, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.transport.abort()


@contextlib.asynccontextmanager
async def forward_proxy(
    tls: ssl.SSLContext | None, **settings: bytes
) -> AsyncIterator[ForwardProxy]:
    """A proxy in front of a backend that answers every request with ``hello``."""
    proxy = ForwardProxy(**settings)
    server = await asyncio.start_server(proxy.backend, "127.0.0.1", 0, ssl=tls)
    front = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.lead_to = server.sockets[0].getsockname()[1]
    proxy.port = front.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        front.close()
        server.close()
        await proxy.ended()


HEAD = b"GET / HTTP/1.1\r\nhost: api.example.com\r\n\r\n"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_requests_pass_through_the_tunnel(scheme: str, tmp_path: Path) -> None:
    """CONNECT names the backend, TLS is spoken with the backend itself, the answer comes back."""
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("api.example.com").configure_cert(context)
    port = 443 if scheme == "https" else 8080
    async with forward_proxy(context if scheme == "https" else None) as proxy:
        pool = Pool(
            asyncio.get_running_loop(),
            BackendUrl(scheme, "api.example.com", port),
            tls_ca=str(ca_file),
            proxy=Proxy("127.0.0.1", proxy.port, b"Basic abc"),
        )
        answer = await fetch(pool, HEAD, b"", timeout_s=10, body_bytes_max=100)
        assert (answer.status, answer.body) == (200, b"hello")
        target = f"api.example.com:{port}".encode()
        assert proxy.heads == [
            b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: Basic abc\r\n\r\n"
            % (target, target)
        ]
        pool.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407"),
        (b"nonsense\r\n\r\n", "no HTTP head"),
        (b"", "closed the connection"),
    ],
)
async def test_a_refusal_is_told(answer: bytes, said: str) -> None:
    """What the proxy says is in the failure's message."""
    async with forward_proxy(None, answer=answer) as proxy:
        pool = Pool(
            asyncio.get_running_loop(),
            BackendUrl("http", "api.example.com", 80),
            proxy=Proxy("127.0.0.1", proxy.port),
        )
        with pytest.raises(AttemptFailure, match=said):
            await fetch(pool, HEAD, b"", timeout_s=10, body_bytes_max=100)
        pool.close()
