"""Where the gateway listens: Unix sockets, IPv6 (traps: uvloop)."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import httpx
import pytest

from nexus.demo.engine import FakeEngine
from nexus.runtime.gateway import Gateway
from tests.harness import chat, loaded, raw, running, spec_of
from tests.integration.http.wire import CHAT, post


async def ask(path: Path) -> int:
    """Asks for a chat over a Unix socket; the status."""
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as client:
        return (await client.post(CHAT.decode(), json=chat())).status_code


def unix_gateway(engine: FakeEngine, path: Path) -> Gateway:
    """A gateway that would listen on ``path``."""
    return Gateway(loaded([spec_of(engine)], server={"unix": str(path)}))


async def test_a_unix_socket(engine: FakeEngine, tmp_path: Path) -> None:
    """It serves on the path, as a peer without address, and takes the file with it."""
    path = tmp_path / "nexus.sock"
    async with running(engine, server={"unix": str(path)}) as run:
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert await ask(path) == 200
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        # The admin API takes a peer without address for local: the file's permissions guard it.
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        assert run.gateway.url == f"unix:{path}"
    assert not path.exists()


async def test_a_dead_socket_file_is_taken_over(engine: FakeEngine, tmp_path: Path) -> None:
    """What a killed process left behind does not keep the next from starting."""
    path = tmp_path / "nexus.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    async with running(engine, server={"unix": str(path)}):
        assert await ask(path) == 200


async def test_a_live_socket_is_refused(engine: FakeEngine, tmp_path: Path) -> None:
    """The path of a running gateway is not stolen: the second fails, the first serves on."""
    path = tmp_path / "nexus.sock"
    async with running(engine, server={"unix": str(path)}):
        second = unix_gateway(engine, path)
        with pytest.raises(OSError, match="in use"):
            await second.start()
        await second.stop()
        assert await ask(path) == 200


async def test_a_file_that_is_no_socket_is_left_alone(engine: FakeEngine, tmp_path: Path) -> None:
    """A mistyped path destroys nothing."""
    path = tmp_path / "precious.txt"
    path.write_text("precious")
    gateway = unix_gateway(engine, path)
    with pytest.raises(FileExistsError):
        await gateway.start()
    await gateway.stop()
    assert path.read_text() == "precious"


async def test_ipv6(engine: FakeEngine) -> None:
    """``[::1]`` works, and its URL is written with brackets."""
    async with running(engine, server={"host": "::1"}) as run:
        assert run.url == f"http://[::1]:{run.port}"
        assert (await run.client.post(CHAT.decode(), json=chat())).status_code == 200
        async with raw(run.port, "::1") as client:
            client.send(post().replace(b"gateway.test", b"[::1]:8000"))
            assert (await client.response())[0] == 200


async def test_every_address(engine: FakeEngine) -> None:
    """``::`` takes IPv4 and IPv6, where uvloop by itself takes IPv6 only."""
    async with running(engine, server={"host": "::"}) as run:
        for host in ("127.0.0.1", "::1"):
            async with raw(run.port, host) as client:
                client.send(post())
                assert (await client.response())[0] == 200


async def test_a_port_in_use(engine: FakeEngine) -> None:
    """A second gateway on the same port fails, instead of sharing it in silence."""
    async with running(engine) as run:
        second = Gateway(loaded([], server={"port": run.port}))
        with pytest.raises(OSError, match="in use"):
            await second.start()
        await second.stop()
        async with raw(run.port) as client:
            client.send(post())
            assert (await client.response())[0] == 200
