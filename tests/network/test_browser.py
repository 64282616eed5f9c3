"""Nexus's mDNS browser and announcer between namespaces: real packets, real avahi."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.network.actors import Advertiser, Avahi, Browser
from tests.network.namespaces import Network
from tests.processes import until

_KEY = "tiny._ollama._tcp.local"


def test_avahi_advert_comes_changes_and_goes(network: Network, tmp_path: Path) -> None:
    """A service of a real avahi-daemon is seen with its addresses, nearest first; a changed port
    and text are seen under the same key; its goodbye is told."""
    host, looker = network.machine(), network.machine()
    browser = Browser(looker)
    avahi = Avahi(host, tmp_path)
    avahi.publish("tiny", 11434, "type=vllm", "api_path=/v1", "models=a,b")
    seen = browser.wait("seen")
    assert seen["key"] == _KEY
    assert seen["addresses"][0] == host.v4
    assert (seen["port"], seen["engine"], seen["models"]) == (11434, "vllm", ["a", "b"])
    avahi.publish("tiny", 8080, "type=exo")
    browser.wait("seen", key=_KEY, port=8080, engine="exo")
    before = len(browser.events("gone"))
    avahi.withdraw("tiny")
    browser.wait("gone", before + 1, key=_KEY)


def test_avahi_on_the_same_machine_is_no_hindrance(network: Network, tmp_path: Path) -> None:
    """Most desktops run an mDNS responder of their own on port 5353: beside it the browser sees
    what others and that responder itself announce, gets answers to its own questions, and announces
    the gateway."""
    host, home = network.machine(), network.machine()
    avahi = Avahi(home, tmp_path)
    avahi.publish("local", 11434)
    Avahi(host, tmp_path).publish("tiny", 11434)
    browser = Browser(home, "--announce", "0.0.0.0", "--id", "abc")
    watcher = Browser(host)
    browser.wait("seen", key=_KEY)
    assert home.v4 in browser.wait("seen", key="local._ollama._tcp.local")["addresses"]
    name = browser.wait("mdns_announced")["name"]
    watcher.wait("seen", key=name, nexus=True)
    for key in (_KEY, "local._ollama._tcp.local"):
        assert browser.ask_again(key)
    assert watcher.ask_again(name)
    assert browser.events("mdns_unavailable") == []


def test_a_browser_that_comes_later_finds_all(network: Network, tmp_path: Path) -> None:
    """Adverts that were there first, of both types and both kinds of advertiser, within 3 s."""
    one, two, looker = (network.machine() for _ in range(3))
    Avahi(one, tmp_path).publish("tiny", 11434)
    Advertiser(two, "--name", "other", "--type", "_llm._tcp.local.", "--port", "8000")
    browser = Browser(looker)
    browser.wait("seen", key=_KEY, timeout_s=3)
    browser.wait("seen", key="other._llm._tcp.local", timeout_s=3)


def test_ipv6_alone_is_enough(network: Network) -> None:
    """Two machines without IPv4: the advert is seen with a scoped link-local address."""
    host, looker = network.machine(ipv4=False), network.machine(ipv4=False)
    browser = Browser(looker)
    Advertiser(host, "--port", "11434", ipv6=True)
    assert browser.wait("seen")["addresses"] == [f"{host.v6}%eth0"]


def test_a_killed_advertiser_does_not_answer_and_comes_back(network: Network) -> None:
    """Its record stays in caches, so only a fresh query tells; announced again, it is seen
    again."""
    host, looker = network.machine(), network.machine()
    browser = Browser(looker)
    advertiser = Advertiser(host, "--port", "11434")
    browser.wait("seen")
    assert browser.ask_again(_KEY)
    advertiser.kill()
    assert not browser.ask_again(_KEY)
    assert browser.events("gone") == []
    Advertiser(host, "--port", "11434")
    browser.wait("seen", 2)


def test_gateways_see_each_other_and_not_themselves(network: Network) -> None:
    """Two gateways announce themselves under one name: the second takes another, each sees the
    other as a Nexus, and the goodbye at its end is told."""
    one, two = network.machine(), network.machine()
    first = Browser(one, "--announce", "0.0.0.0", "--id", "aaa111")
    name = first.wait("mdns_announced")["name"]
    second = Browser(two, "--announce", "0.0.0.0", "--id", "bbb222")
    other = second.wait("mdns_announced")["name"]
    assert other != name
    seen = first.wait("seen")
    assert (seen["key"], seen["nexus"], seen["addresses"]) == (other.lower(), True, [two.v4])
    assert (seen["port"], seen["version"]) == (8000, "1.2.3")
    assert second.wait("seen")["key"] == name.lower()
    second.process.close_stdin()
    assert second.wait("closed")["took_s"] < 2
    first.wait("gone", key=other.lower())
    assert {one["key"] for one in first.events("seen")} == {other.lower()}


def test_a_gateway_leaves_its_name_to_a_rival(network: Network) -> None:
    """Somebody claims the gateway's name without asking first, as two do that begin at the same
    moment: the gateway takes another, and what is the rival's stays announced."""
    home, host, looker = (network.machine() for _ in range(3))
    gateway = Browser(home, "--announce", "0.0.0.0", "--id", "abcdef99")
    name = gateway.wait("mdns_announced")["name"]
    watcher = Browser(looker)
    watcher.wait("seen", key=name, addresses=[home.v4])
    Advertiser(host, "--type", "_llm._tcp.local.", "--name", name.partition(".")[0], "--port", "9")
    new = gateway.wait("mdns_announced", 2)["name"]
    assert new == name.replace("._llm", "-abcdef._llm")
    watcher.wait("seen", key=new, addresses=[home.v4])
    watcher.wait("seen", key=name, port=9)
    assert watcher.events("gone") == []


def test_no_multicast_is_one_warning_and_is_tried_again(network: Network) -> None:
    """With the interface down there is one warning; once it is up, adverts are seen, and this
    gateway is announced."""
    host, looker = network.machine(), network.machine()
    looker.link(up=False)
    browser = Browser(looker, "--announce", "0.0.0.0")
    browser.wait("mdns_unavailable")
    Advertiser(host, "--port", "11434")
    looker.link(up=True)
    browser.wait("mdns_available")
    browser.wait("seen", key=_KEY)
    browser.wait("mdns_announced")
    looker.link(up=False)
    assert not browser.ask_again(_KEY)
    looker.link(up=True)
    browser.wait("seen", 2)
    assert len(browser.events("mdns_unavailable", level="warning")) == 1
    assert browser.events("mdns_fault") == []


def test_a_taken_port_is_one_warning(network: Network) -> None:
    """A program that holds port 5353 for itself: one warning with the reason; when it ends, the
    port is taken over."""
    host, looker = network.machine(), network.machine()
    holder = looker.run(
        "python3",
        "-c",
        "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM);"
        " s.bind(('', 5353)); print('holding', flush=True); sys.stdin.read()",
    )
    holder.says("(holding)")
    browser = Browser(looker)
    warning = browser.wait("mdns_unavailable")
    assert "in use" in warning["reason"]
    holder.kill()
    Advertiser(host, "--port", "11434")
    browser.wait("seen")
    assert len(browser.events("mdns_unavailable")) == 1


@pytest.mark.parametrize(
    "change", ["ipv6_later", "another_interface", "another_address", "plugged_in"]
)
def test_interfaces_may_change(network: Network, change: str) -> None:
    """An address that comes later, an interface that is replaced by another with the same address,
    a new network, an interface that was down: adverts are still seen, and our own advert is
    announced there."""
    host, looker = network.machine(), network.machine()
    if change in ("ipv6_later", "plugged_in"):
        looker.ipv6(on=False)
    if change == "plugged_in":
        looker.add_bridges(1)
        looker.link(up=False)
    browser = Browser(looker, "--announce", "0.0.0.0", "--id", "abc")
    browser.wait("mdns_announced")
    if change == "ipv6_later":
        looker.ipv6(on=True)
        Advertiser(host, "--port", "11434", ipv6=True)
        browser.wait("seen", addresses=[f"{host.v6}%eth0"])
        return
    if change == "another_interface":
        looker.replace_interface()
    elif change == "plugged_in":
        looker.link(up=True)
    else:
        looker.move_to("10.78.0.2")
        host.move_to("10.78.0.1")
    other = Browser(host)
    Advertiser(host, "--port", "11434")
    browser.wait("seen", addresses=[host.v4])
    until(
        lambda: any(one["addresses"][0] == looker.v4 for one in other.events("seen", nexus=True)),
        "the gateway announced at its new address",
    )
    assert browser.events("mdns_unavailable") == []


def test_a_machine_with_many_interfaces(network: Network) -> None:
    """Forty bridges of containers are no hindrance: adverts are seen, and no warning is given."""
    host, looker = network.machine(), network.machine()
    looker.add_bridges(40)
    browser = Browser(looker)
    Advertiser(host, "--port", "11434")
    browser.wait("seen", key=_KEY)
    assert browser.events("mdns_unavailable") == []


def test_only_neighbours_are_heard(network: Network) -> None:
    """An advert with a sender from the Internet is not read, nor one from another port than 5353;
    the same from a neighbour is."""
    host, looker = network.machine(), network.machine()
    browser = Browser(looker)
    host.add_address("8.8.8.8")
    for address, port, name in (
        ("8.8.8.8", "5353", "far"),
        (host.v4, "5354", "odd"),
        (host.v4, "5353", "near"),
    ):
        host.python("tests.network.flood", address, "1", port, name).says("(sent)")
    assert browser.wait("seen")["name"] == "near0"
    assert len(browser.events("seen")) == 1


def test_thousands_of_adverts_are_bounded(network: Network) -> None:
    """A flood is cut at 256 instances with one line in the log, and costs the browser little."""
    host, looker = network.machine(), network.machine()
    browser = Browser(looker)
    before_s = browser.cpu_s()
    flood = host.python("tests.network.flood", host.v4, "2000")
    flood.says("(sent)")
    browser.wait("mdns_advert_ignored", reason="too_many")
    browser.wait("seen", 256)
    Advertiser(host, "--port", "11434", "--name", "more").tell("goodbye")
    assert len({one["key"] for one in browser.events("seen")}) == 256
    assert len(browser.events("mdns_advert_ignored")) == 1
    assert browser.cpu_s() - before_s < 3
