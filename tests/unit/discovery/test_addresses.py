"""Which addresses of an advert are used, and in which order."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.discovery.addresses import OwnAddress, nearest_first

_OWN = (
    OwnAddress("192.168.1.5", 24, "eth0", 2),
    OwnAddress("fd00::5", 64, "eth0", 2),
    OwnAddress("fe80::5", 64, "eth0", 2),
    OwnAddress("172.17.0.1", 16, "docker0", 3),
)


def test_nearest_comes_first() -> None:
    """A neighbour's private IPv4, its private IPv6, its link-local IPv6, then what lies behind a
    router, and public addresses last."""
    order = ("192.168.1.20", "fd00::20", "fe80::20%eth0", "10.1.2.3", "2a00::1", "8.8.8.8")
    assert nearest_first(reversed(order), _OWN) == (
        *order[:4],
        "8.8.8.8",
        "2a00::1",
    )


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "224.0.0.251",
        "ff02::fb%eth0",
        "255.255.255.255",
        "240.0.0.1",
        "fe80::20",
        "localhost",
        "",
    ],
)
def test_what_no_other_machine_can_mean_is_left_out(address: str) -> None:
    """Loopback above all, which would lead a call back to this machine; a link-local address
    without its scope leads nowhere."""
    assert nearest_first((address,), _OWN) == ()
    assert nearest_first((address, "192.168.1.20"), _OWN) == ("192.168.1.20",)


def test_an_address_that_this_machine_has_too_is_another_one() -> None:
    """A Docker host announces 172.17.0.1, which is here as well: it is dropped, unless all the
    addresses are this machine's own."""
    assert nearest_first(("172.17.0.1", "192.168.1.20"), _OWN) == ("192.168.1.20",)
    assert nearest_first(("172.17.0.1", "192.168.1.5"), _OWN) == ("172.17.0.1", "192.168.1.5")


def test_an_ipv4_address_in_ipv6_clothes_is_one_address() -> None:
    """``::ffff:192.168.1.20`` is 192.168.1.20."""
    assert nearest_first(("::ffff:192.168.1.20", "192.168.1.20"), _OWN) == ("192.168.1.20",)


_ADDRESSES = st.one_of(st.ip_addresses().map(str), st.text(max_size=20))


@given(st.lists(_ADDRESSES, max_size=40), st.lists(st.ip_addresses().map(str), max_size=4))
def test_any_addresses_are_sorted(addresses: list[str], own: list[str]) -> None:
    """Whatever is announced: at most 16 literals, none of them loopback, in a steady order."""
    mine = [OwnAddress(one, 24, "eth0", 2) for one in own]
    found = nearest_first(addresses, mine)
    assert found == nearest_first(reversed(addresses), mine)
    assert len(found) <= 16
    assert not any(ipaddress.ip_address(one).is_loopback for one in found)
