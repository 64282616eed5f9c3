"""What the event loop costs and what it does in silence (traps: uvloop), and the choices made."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import nexus
from nexus.demo.engine import FakeEngine
from nexus.http1.server import ServerConnection
from nexus.http1.upstream import UpstreamConnection
from tests.harness import Running, chat, running
from tests.unit.http1.asked import Call, Owner
from tests.unit.http1.served import FakeTransport, serve

PATH = "/v1/chat/completions"
SOURCE = Path(nexus.__file__).parent


@pytest.fixture
async def gateway() -> AsyncIterator[Running]:
    """A gateway in front of one engine."""
    async with FakeEngine() as engine, running(engine) as run:
        yield run


async def test_a_plain_answer_is_one_write(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Head and body leave together: two writes in a turn cost more than one."""
    writes: list[bytes] = []
    write = ServerConnection.write

    def counted(connection: ServerConnection, data: bytes) -> None:
        writes.append(data)
        write(connection, data)

    monkeypatch.setattr(ServerConnection, "write", counted)
    for _ in range(3):
        writes.clear()
        answer = await gateway.client.post(PATH, json=chat())
        assert (answer.status_code, len(writes)) == (200, 1)
    for path in ("/livez", "/health", "/v1/models", "/nowhere"):
        writes.clear()
        await gateway.client.get(path)
        assert len(writes) == 1, path


class CountingTransport(FakeTransport):
    """Counts writes, and keeps the limits it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.limits = (0, 0)

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        """Keeps them."""
        self.limits = (high, low)

    def write(self, data: bytes) -> None:
        """Counts."""
        self.writes += 1
        super().write(data)

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        """Counts."""
        self.writes += 1
        self.written += b"".join(parts)


@pytest.mark.parametrize("size", [0, 10, 64 * 1024, 64 * 1024 + 1, 5_000_000])
def test_a_request_to_a_backend_is_one_write(size: int) -> None:
    """Head and body together, however large: a backend that answers early must find the whole body
    on its way, or its answer is lost in a reset."""
    connection = UpstreamConnection(Owner())
    transport = CountingTransport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    connection.start(Call(), b"head", b"a" * size)
    assert (transport.writes, len(transport.written)) == (1, 4 + size)


def test_low_water_marks_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's default of 16 bytes would pause and resume a stream at every event."""
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(
        FakeTransport,
        "set_write_buffer_limits",
        lambda _, high, low: limits.append((high, low)),
    )
    serve([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
    transport = CountingTransport()
    UpstreamConnection(Owner()).connection_made(transport)  # type: ignore[arg-type]
    for high, low in [*limits, transport.limits]:
        assert low >= 16 * 1024
        assert high >= 2 * low
    assert len(limits) == 1


FORBIDDEN = {
    r"\bloop\.time\(": "the loop's clock moves in steps of a millisecond",
    r"reuse_port": "a second gateway would bind the same port in silence",
    r"happy_eyeballs_delay": "uvloop has none",
    r"set_event_loop_policy": "the loop is chosen where it is run",
}


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_what_is_never_used(pattern: str) -> None:
    """Neither the loop's coarse clock nor what it silently lacks or allows."""
    found = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if re.search(pattern, path.read_text())
    ]
    assert found == [], FORBIDDEN[pattern]
