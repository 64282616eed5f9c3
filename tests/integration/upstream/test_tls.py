"""Backends behind ``https`` URLs: verified, by a custom authority, with SNI, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from nexus.core.backend import BackendSpec, EngineKind
from tests.harness import Running, chat, eventually, running
from tests.integration.scripted import head, plain

PATH = "/v1/chat/completions"
LISTING = plain({"object": "list", "data": [{"id": "demo-model"}]})
ANSWER = b'{"id":"x","choices":[]}'
QUICK = {"interval_seconds": 0.1, "recovery_threshold": 1}


class Secured:
    """A TLS server that lists a model and answers every POST with ``answer``."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.answer = plain(ANSWER)
        self.cut = False
        self.names: list[str | None] = []
        self.port = 0
        self.context = context
        context.sni_callback = self._named

    def _named(self, _socket: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        self.names.append(name)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while request := await reader.readuntil(b"\r\n\r\n"):
                if request.startswith(b"GET "):
                    writer.write(LISTING)
                    continue
                await reader.readuntil(b"}]}")
                writer.write(self.answer)
                if self.cut:
                    await writer.drain()
                    # The socket below ends; no close_notify is sent.
                    writer.transport.abort()
                    return
        writer.close()


@contextlib.asynccontextmanager
async def secured(authority: trustme.CA, *names: str) -> AsyncIterator[Secured]:
    """A server with a certificate of ``authority`` for ``names``."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    one = Secured(context)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0, ssl=context)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that no system knows."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    """Its certificate, as ``tls_ca`` names it."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def spec(server: Secured, **changes: object) -> BackendSpec:
    """The server as a backend called ``tls``."""
    values = {"name": "tls", "url": f"https://localhost:{server.port}", **changes}
    return BackendSpec(engine=EngineKind.OPENAI, **values)  # type: ignore[arg-type]


async def refused(gateway: Running) -> str:
    """The reason for which the backend is unhealthy."""
    store = gateway.gateway.store
    await eventually(lambda: store.snapshot.backends["tls"].status == "unhealthy", "refused")
    return store.snapshot.backends["tls"].reason


async def test_a_custom_authority_is_trusted(authority: trustme.CA, ca_file: str) -> None:
    """With ``tls_ca`` health check and calls go through, the server is told its name, and one
    connection serves many calls."""
    async with (
        secured(authority, "localhost") as server,
        running(spec(server, tls_ca=ca_file)) as gateway,
    ):
        for _ in range(5):
            answer = await gateway.client.post(PATH, json=chat())
            assert (answer.status_code, answer.content) == (200, ANSWER)
        assert set(server.names) == {"localhost"}
        assert gateway.gateway.plane.pooled("tls")[2] == 1


async def test_an_unknown_authority_is_not_trusted(authority: trustme.CA) -> None:
    """By default what the system does not vouch for is refused, and the reason speaks of TLS."""
    async with (
        secured(authority, "localhost") as server,
        running(spec(server), wait=False) as gateway,
    ):
        assert "certificate" in (await refused(gateway)).lower()


async def test_a_certificate_for_another_name_is_not_trusted(
    authority: trustme.CA, ca_file: str
) -> None:
    """A trusted authority is not enough: the name must be the one in the URL."""
    async with (
        secured(authority, "elsewhere.test") as server,
        running(spec(server, tls_ca=ca_file), wait=False) as gateway,
    ):
        assert "certificate" in (await refused(gateway)).lower()


async def test_verification_can_be_turned_off(authority: trustme.CA) -> None:
    """``tls_verify = false`` takes any certificate."""
    async with (
        secured(authority, "elsewhere.test") as server,
        running(spec(server, tls_verify=False)) as gateway,
    ):
        assert (await gateway.client.post(PATH, json=chat())).content == ANSWER


async def test_an_authority_that_cannot_be_read_is_told(
    authority: trustme.CA, tmp_path: Path
) -> None:
    """A wrong ``tls_ca`` makes that backend unhealthy with the file's name; the gateway is up."""
    missing = str(tmp_path / "none.pem")
    async with (
        secured(authority, "localhost") as server,
        running(spec(server, tls_ca=missing), wait=False) as gateway,
    ):
        assert missing in await refused(gateway)
        assert (await gateway.client.get("/livez")).status_code == 200


async def _connected_anew(gateway: Running) -> None:
    """No connection is left, so that the next call makes one."""
    plane = gateway.gateway.plane
    plane.drop_connections()
    await eventually(lambda: plane.pooled("tls")[0] == 0, "no connection is left")


async def test_an_authority_that_comes_later_is_read(authority: trustme.CA, tmp_path: Path) -> None:
    """The file of ``tls_ca`` may be there only after the start: no restart is needed."""
    later = tmp_path / "later.pem"
    later.mkdir()  # no ordinary file: no more than none
    async with (
        secured(authority, "localhost") as server,
        running(spec(server, tls_ca=str(later)), wait=False, health=QUICK) as gateway,
    ):
        assert str(later) in await refused(gateway)
        later.rmdir()
        authority.cert_pem.write_to_path(str(later))
        await gateway.healthy("tls")
        assert (await gateway.client.post(PATH, json=chat())).content == ANSWER


async def test_an_authority_that_changes_is_read_again(
    authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    """New connections trust what the file holds by then, and what it held as long as it cannot be
    read."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    async with (
        secured(authority, "localhost") as server,
        running(spec(server, tls_ca=ca_file), routing={"max_retries": 0}) as gateway,
    ):
        assert (await gateway.client.post(PATH, json=chat())).status_code == 200
        good = Path(ca_file).read_bytes()
        for text, trusted in ((b"-----BEGIN CER", True), (other.read_bytes(), False), (good, True)):
            Path(ca_file).write_bytes(text)
            await _connected_anew(gateway)
            answer = await gateway.client.post(PATH, json=chat())
            assert answer.status_code == (200 if trusted else 502), answer.text
            assert trusted or "not trusted" in answer.text
        other.rename(ca_file)  # as a rotation does it: another file of that name
        await _connected_anew(gateway)
        assert (await gateway.client.post(PATH, json=chat())).status_code == 502


async def test_an_answer_cut_inside_tls_is_not_taken_for_whole(
    authority: trustme.CA, ca_file: str
) -> None:
    """A body that ends with the connection, cut without close_notify, is a failed attempt."""
    async with (
        secured(authority, "localhost") as server,
        running(spec(server, tls_ca=ca_file), routing={"max_retries": 0}) as gateway,
    ):
        server.answer = head("content-type: application/json") + ANSWER[:-3]
        server.cut = True
        answer = await gateway.client.post(PATH, json=chat())
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "bad_gateway")
