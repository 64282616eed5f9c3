"""Scanning a range: private ones only, not too many, not too fast."""

from __future__ import annotations

import asyncio
import socket
from time import monotonic

import pytest

from nexus.discovery import sweep
from nexus.discovery.sweep import open_ports, private_ranges, sweep_s


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.0/24",
        "192.168.1.17/24",
        "172.16.4.0/22",
        "169.254.1.0/24",
        "100.64.3.0/24",
        "192.168.1.5",
        "127.0.0.1",
        "fd00::/120",
        "::1",
    ],
)
def test_private_ranges(text: str) -> None:
    """Any private, link-local, shared or loopback range; an address alone is one."""
    assert len(private_ranges([text])) == 1


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["8.8.8.0/24"], "not a private range"),
        (["0.0.0.0/0"], "not a private range"),
        (["172.15.255.0/23"], "not a private range"),
        (["2001:db8::/120"], "not a private range"),
        (["192.168.0.0/21"], "2048 addresses: at most 1024"),
        (["192.168.0.0/23", "10.0.0.0/23", "10.1.0.0/30"], "have 1028 addresses"),
        (["fd00::/64"], "at most 1024"),
        (["example.com"], "not a range"),
        (["192.168.1.0/33"], "not a range"),
        (["fe80::1%eth0"], "range"),
        ([""], "not a range"),
    ],
)
def test_ranges_that_are_refused(texts: list[str], says: str) -> None:
    """In words that say what would be right."""
    with pytest.raises(ValueError, match=says):
        private_ranges(texts)


async def test_open_ports_are_found() -> None:
    """Of many addresses and ports those that listen; nothing is sent to them."""
    with (
        socket.create_server(("127.0.0.3", 0)) as one,
        socket.create_server(("127.0.0.9", 0)) as other,
    ):
        ports = (one.getsockname()[1], other.getsockname()[1])
        found = await open_ports(private_ranges(["127.0.0.0/28"]), ports)
        assert sorted(found) == [("127.0.0.3", ports[0]), ("127.0.0.9", ports[1])]
        connection, _ = one.accept()
        with connection:
            assert connection.recv(1) == b""


async def test_the_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast the refusals come."""
    tried: list[float] = []

    async def listens(address: str, port: int, timeout_s: float) -> bool:
        tried.append(monotonic())
        return False

    monkeypatch.setattr(sweep, "listens", listens)
    networks = private_ranges(["10.0.0.0/25"])
    began_s = monotonic()
    await open_ports(networks, (1,))
    assert len(tried) == 126
    # A timer may ring a millisecond early; a busy machine starts late and catches up, no further.
    for number, at_s in enumerate(tried):
        assert at_s - began_s >= number / 500 - 0.002
    assert sweep_s(networks, (1,)) < 1.0


async def test_few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the others are."""
    now = most = 0

    async def listens(address: str, port: int, timeout_s: float) -> bool:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.3)
        now -= 1
        return True

    monkeypatch.setattr(sweep, "listens", listens)
    assert len(await open_ports(private_ranges(["10.0.0.0/24"]), (1,))) == 254
    assert 64 < most <= 128
