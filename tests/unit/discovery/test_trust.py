"""Whom to trust unasked, and how much to take from a network that says anything."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.backend import BackendStatus, Source
from nexus.discovery.nearness import Nearness, identity, may_be_used, nearness, plain, url_of
from nexus.discovery.sane import usable
from nexus.discovery.sighting import Sighting
from tests.unit.discovery.world import OLLAMA, World, advert, scanned

PUBLIC, PRIVATE, OWN = "203.0.113.9", "192.168.1.20", "192.168.1.7"


@pytest.mark.parametrize(
    ("policy", "used", "pending"),
    [
        ("private", {"scan", "own", "private"}, {"public"}),
        ("loopback", {"scan", "own"}, {"private", "public"}),
        ("never", set(), {"scan", "own", "private", "public"}),
    ],
)
def test_auto_approve(policy: str, used: set[str], pending: set[str]) -> None:
    """What the policy does not trust waits for approval."""
    for which, sighting in {
        "scan": scanned(),
        "own": advert("own", OWN),
        "private": advert("private", PRIVATE),
        "public": advert("public", PUBLIC),
    }.items():
        world = World(auto_approve=policy)
        world.answers = dict.fromkeys(("127.0.0.1", OWN, PRIVATE, PUBLIC), OLLAMA)
        world.seen(sighting)
        (backend,) = world.fleet.values()
        waits = backend.status is BackendStatus.PENDING
        assert (which in pending, which in used) == (waits, not waits), which


def test_what_waits_for_approval_is_not_talked_to() -> None:
    """An advert makes us connect to no public address; nor later, by time passing."""
    world = World()
    world.seen(advert("far", PUBLIC))
    world.pass_time(500)
    assert world.questions == []
    assert world.fleet["far"].status is BackendStatus.PENDING


def test_a_web_page_on_a_scanned_port_waits_for_nobody() -> None:
    """Under ``never`` too only LLM servers are offered for approval."""
    world = World(auto_approve="never")
    world.answers = {}
    world.seen(scanned(8080))
    assert world.fleet == {}


def test_the_trusted_address_of_several_is_used() -> None:
    """A server with a public and a private address is reached by the private one."""
    world = World()
    world.answers = {PUBLIC: OLLAMA, PRIVATE: OLLAMA}
    world.seen(advert("both", PUBLIC, PRIVATE))
    assert world.found == {"both": f"http://{PRIVATE}:11434"}
    assert world.fleet["both"].status is not BackendStatus.PENDING


@pytest.mark.parametrize("policy", ["private", "never"])
def test_a_move_to_an_untrusted_address_waits_for_approval(policy: str) -> None:
    """Who is trusted is who was at the old address: another advert under the same name gets its
    calls only when the operator says so."""
    world = World(auto_approve=policy)
    world.answers = {PRIVATE: OLLAMA, PUBLIC: OLLAMA}
    world.seen(advert("gpu", PRIVATE))
    world.becomes("gpu", BackendStatus.HEALTHY)
    world.seen(advert("gpu", PUBLIC))
    assert world.found == {"gpu": f"http://{PUBLIC}:11434"}
    assert world.fleet["gpu"].status is BackendStatus.PENDING


def test_an_approved_server_is_approved_at_its_address() -> None:
    """At a further public address it waits again; one that waits already is only moved."""
    world = World()
    world.seen(advert("far", PUBLIC))
    world.seen(advert("far", "203.0.113.77"))
    assert world.events == [("add", "far"), ("move", "far")]
    world.becomes("far", BackendStatus.HEALTHY)
    world.seen(advert("far", "203.0.113.78"))
    assert world.fleet["far"].status is BackendStatus.PENDING


def test_a_pending_one_goes_with_its_advert() -> None:
    """After the grace, as others do."""
    world = World(grace_s=5)
    world.seen(advert("far", PUBLIC))
    world.gone(advert("far", PUBLIC))
    world.pass_time(10)
    assert world.fleet == {}


def test_thousands_of_adverts_are_bounded() -> None:
    """No more servers than the limit, no more questions than the rate, and one kind of note."""
    world = World(servers_max=256)
    world.answers = None
    world.seen(*[advert(f"n{i}", f"10.0.{i // 250}.{i % 250 + 1}") for i in range(5000)])
    assert world.directory.servers == 256
    assert len(world.questions) == 30
    assert set(world.notes) == {"too_many_servers"}
    world.pass_time(10)
    assert len(world.questions) <= 30 + 10 * 5


def test_useless_servers_make_room() -> None:
    """Adverts that lead nowhere keep no real server out."""
    world = World(servers_max=50)
    world.seen(*[advert(f"n{i}", f"10.0.0.{i + 1}") for i in range(50)])
    world.pass_time(20)  # each has been asked: nobody there
    world.seen(advert("real", PRIVATE))
    world.pass_time(2)
    assert list(world.found) == ["real"]
    assert world.directory.servers == 50


@pytest.mark.parametrize(
    "bad",
    [
        {"port": 0},
        {"port": -1},
        {"port": 70000},
        {"addresses": ()},
        {"addresses": ("0.0.0.0",)},
        {"addresses": ("::",)},
        {"addresses": ("224.0.0.251", "ff02::fb")},
        {"addresses": ("255.255.255.255",)},
        {"addresses": ("169.254.169.254",)},
        {"addresses": ("::ffff:169.254.169.254", "fd00:ec2::254", "fd00:ec2::254%eth0")},
        {"addresses": ("fe80::1",)},
        {"addresses": ("example.com", "nonsense", "")},
        {"base_path": "/a?b=c"},
        {"base_path": "/a b"},
        {"base_path": "@evil.example/"},
        {"base_path": "/a\r\nX-Evil: 1"},
        {"base_path": "/ä"},
        {"base_path": "/" + "a" * 1000},
    ],
)
def test_absurd_adverts_are_ignored(bad: dict[str, Any]) -> None:
    """Noted, nothing raised, nobody asked."""
    world = World()
    world.seen(advert(**bad))
    assert world.notes == ["unusable_advert"]
    assert world.questions == []
    assert world.directory.servers == 0


def test_an_advert_that_turns_absurd_is_gone() -> None:
    """After the grace."""
    world = World(grace_s=5)
    world.seen(advert())
    world.seen(advert(port=0))
    world.pass_time(10)
    assert world.found == {}


@pytest.mark.parametrize(
    ("name", "becomes"),
    [
        ("</script><script>alert(1)</script>", "script-script-alert-1-script"),
        ("a\x1b[31m\nb\x00", "a-31m-b"),
        ("Wohnzimmer Küche", "Wohnzimmer-Küche"),
        ("../../etc/passwd", "etc-passwd"),
        ("-- help", "help"),
        ("", "server-11434"),
        ("///", "server-11434"),
        ("x" * 300, "x" * 64),
    ],
)
def test_names_from_the_network_are_tamed(name: str, becomes: str) -> None:
    """They are typed in shells, sent in header fields and shown in pages."""
    world = World()
    world.seen(advert(name))
    assert list(world.found) == [becomes]


@given(
    st.builds(
        Sighting,
        key=st.text(max_size=5),
        source=st.sampled_from([Source.SCAN, Source.MDNS]),
        name=st.text(max_size=30),
        addresses=st.lists(
            st.one_of(
                st.text(max_size=20),
                st.ip_addresses().map(str),
                st.sampled_from([PRIVATE, OWN, PUBLIC, "127.0.0.1", "::ffff:10.0.0.1"]),
            ),
            max_size=5,
        ).map(tuple),
        port=st.integers(-5, 70000),
        base_path=st.text(max_size=20),
        nexus=st.booleans(),
    )
)
@settings(max_examples=200, deadline=None)
def test_no_sighting_raises(sighting: Sighting) -> None:
    """Whatever is announced; and what becomes a backend has a URL that can be used."""
    world = World(grace_s=3)
    world.seen(sighting, advert())
    world.pass_time(3)
    world.gone(sighting)
    world.pass_time(5)
    assert set(world.found) <= {"gpu"}


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("127.0.0.1", Nearness.LOOPBACK),
        ("127.9.9.9", Nearness.LOOPBACK),
        ("::1", Nearness.LOOPBACK),
        ("::ffff:127.0.0.1", Nearness.LOOPBACK),
        ("10.1.2.3", Nearness.PRIVATE),
        ("172.31.255.255", Nearness.PRIVATE),
        ("172.32.0.1", Nearness.PUBLIC),
        ("192.168.0.1", Nearness.PRIVATE),
        ("169.254.3.4", Nearness.PRIVATE),
        ("fd12::1", Nearness.PRIVATE),
        ("fe80::1%eth0", Nearness.PRIVATE),
        ("100.64.0.1", Nearness.PUBLIC),
        ("192.0.2.1", Nearness.PUBLIC),
        ("8.8.8.8", Nearness.PUBLIC),
        ("2a00::1", Nearness.PUBLIC),
        ("::ffff:8.8.8.8", Nearness.PUBLIC),
        ("240.0.0.1", Nearness.UNUSABLE),
        ("0.1.2.3", Nearness.UNUSABLE),
        ("ff02::1", Nearness.UNUSABLE),
        ("localhost", Nearness.UNUSABLE),
    ],
)
def test_nearness(address: str, near: Nearness) -> None:
    """Loopback, RFC 1918, RFC 3927, RFC 4193, link-local; everything else is public."""
    assert nearness(address) is near


def test_policies() -> None:
    """Each trusts what it says and no more."""
    assert may_be_used("127.0.0.1", "loopback")
    assert not may_be_used("10.0.0.1", "loopback")
    assert may_be_used("10.0.0.1", "private")
    assert not may_be_used("8.8.8.8", "private")
    assert not may_be_used("127.0.0.1", "never")


def test_spelling() -> None:
    """One spelling of an address; URLs with IPv6 in brackets and its scope."""
    assert plain("::FFFF:10.0.0.1") == "10.0.0.1"
    assert plain("FE80:0:0::1%eth0") == "fe80::1%eth0"
    assert url_of("fe80::1%eth0", 80) == "http://[fe80::1%eth0]:80"
    assert identity(("127.0.0.1",), lambda _: False) == {"localhost"}
    assert identity(("10.0.0.1",), lambda _: True) == {"localhost"}
    assert identity(("10.0.0.1", "10.0.0.2"), lambda one: one == "10.0.0.1") == {"10.0.0.2"}


def test_a_path_is_told_as_backends_have_it() -> None:
    """Without ``/v1`` and slashes at the end."""
    assert usable(advert(base_path="v1/")).base_path == ""
    assert usable(advert(base_path="/api/v1")).base_path == "/api"
    assert usable(advert(base_path="//x/")).base_path == "/x"
