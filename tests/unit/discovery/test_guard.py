"""Which mDNS packets are read."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.discovery.addresses import OwnAddress
from nexus.discovery.guard import Guard, Neighbours

_OWN = (
    OwnAddress("192.168.1.5", 24, "eth0", 2),
    OwnAddress("9.9.8.5", 24, "eth1", 3),
    OwnAddress("2a00:1::5", 64, "eth0", 2),
)


def neighbours() -> Neighbours:
    """Those of a machine with private and public addresses."""
    made = Neighbours()
    made.learn(_OWN)
    return made


@pytest.mark.parametrize(
    ("address", "admitted"),
    [
        ("192.168.1.20", True),
        ("::ffff:192.168.1.20", True),
        ("10.9.9.9", True),
        ("169.254.3.4", True),
        ("fe80::1%eth0", True),
        ("fd00::1", True),
        ("9.9.8.77", True),
        ("2a00:1::77", True),
        ("8.8.8.8", False),
        ("::ffff:8.8.8.8", False),
        ("2a00:2::1", False),
        ("nonsense", False),
    ],
)
def test_only_neighbours_are_read(address: str, admitted: bool) -> None:
    """Who is on a network of ours, and who has no global address; nobody from the Internet."""
    ours = neighbours()
    assert ours.admit(address, 0.0) is admitted
    assert ours.admit(address, 0.0) is admitted


def test_a_new_network_is_learned() -> None:
    """What was near is far once the machine has moved."""
    ours = neighbours()
    assert ours.admit("9.9.8.77", 0.0)
    ours.learn(_OWN[:1])
    assert not ours.admit("9.9.8.77", 0.0)


def test_a_flood_is_thinned() -> None:
    """A thousand packets at once, 300 a second after that."""
    ours = neighbours()
    assert sum(ours.admit("192.168.1.20", 0.0) for _ in range(5000)) == 1000
    assert sum(ours.admit("192.168.1.20", 1.0) for _ in range(5000)) == 300


def test_large_packets_count_for_more() -> None:
    """Hundreds of records take as long to read as several packets do."""
    ours = neighbours()
    assert sum(ours.admit("192.168.1.20", 0.0, 8_900) for _ in range(1000)) == 166
    assert sum(ours.admit("192.168.1.20", 10.0, 400) for _ in range(5000)) == 1000


@given(st.lists(st.text(max_size=30)))
def test_any_sender_is_judged(addresses: list[str]) -> None:
    """No address raises."""
    ours = neighbours()
    for address in addresses:
        assert ours.admit(address, 0.0) in (True, False)


def test_the_guard_passes_on_what_is_admitted() -> None:
    """Packets of neighbours, errors and the end reach the protocol behind it; an answer that comes
    from another port than 5353 does not."""

    class Inner(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.got: list[object] = []

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.got.append((data, addr))

        def error_received(self, exc: Exception) -> None:
            self.got.append(exc)

        def connection_lost(self, exc: Exception | None) -> None:
            self.got.append("lost")

    inner = Inner()
    guard = Guard(inner, neighbours())
    error = OSError("no route")
    answer, question = b"\0\0\x84\0", b"\0\0\0\0"
    for packet in (answer, question):
        for sender in (("192.168.1.20", 5353), ("192.168.1.20", 1024), ("8.8.8.8", 5353)):
            guard.datagram_received(packet, sender)
    guard.error_received(error)
    guard.connection_lost(None)
    assert inner.got == [
        (answer, ("192.168.1.20", 5353)),
        (question, ("192.168.1.20", 5353)),
        (question, ("192.168.1.20", 1024)),
        error,
        "lost",
    ]
