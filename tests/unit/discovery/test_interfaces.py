"""Which of this machine's interfaces mDNS uses."""

from __future__ import annotations

import socket

import pytest

from nexus.discovery import interfaces
from nexus.discovery.addresses import OwnAddress
from nexus.discovery.interfaces import multicast_addresses, own_addresses


@pytest.fixture(autouse=True)
def all_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses of these tests are nobody's: every interface counts as up."""
    monkeypatch.setattr(interfaces, "_routes_multicast", lambda one: one.interface != "down0")


def test_one_address_of_each_kind_for_each_interface() -> None:
    """The first IPv4 address, and of IPv6 the link-local one; nothing of an interface that is
    down."""
    chosen = multicast_addresses(
        (
            OwnAddress("192.168.1.5", 24, "eth0", 2),
            OwnAddress("192.168.2.5", 24, "eth0", 2),
            OwnAddress("fd00::5", 64, "eth0", 2),
            OwnAddress("fe80::5", 64, "eth0", 2),
            OwnAddress("fd00::6", 64, "eth1", 3),
            OwnAddress("10.0.0.1", 8, "down0", 4),
        )
    )
    assert [one.address for one in chosen] == ["192.168.1.5", "fe80::5", "fd00::6"]


def test_a_container_host_joins_by_its_real_interfaces() -> None:
    """Of a hundred interfaces at most 16 are used (Linux lets a socket join 20 groups), and those
    of containers come last, however late the others were plugged in."""
    virtual = [OwnAddress(f"172.18.{n}.1", 24, f"br-{n}", n + 2) for n in range(50)]
    veth = [OwnAddress(f"fe80::{n:x}", 64, f"veth{n}", n + 100) for n in range(50)]
    real = [OwnAddress("192.168.1.5", 24, "wlan0", 999), OwnAddress("fe80::9", 64, "wlan0", 999)]
    chosen = multicast_addresses((*virtual, *veth, *real))
    assert {one.address for one in real} < {one.address for one in chosen}
    assert len({one.index for one in chosen}) == 16


def test_loopback_is_no_own_address() -> None:
    """What this machine tells of itself never leads back into whoever reads it."""
    for one in own_addresses():
        assert not one.address.startswith("127.")
        assert one.address != "::1"
        assert one.index == socket.if_nametoindex(one.interface)
