"""A real ``nexus serve`` in one namespace, engines and their adverts in others."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.network.actors import Advertiser, Avahi, Browser, Gateway, engine
from tests.network.namespaces import Network
from tests.processes import until

_GRACE_S = 2.5


def test_an_engine_announced_by_avahi_is_used_and_leaves_after_the_grace(
    network: Network, tmp_path: Path
) -> None:
    """Within 5 s of the announcement its model is served and a chat reaches it; after its goodbye
    it stays for the grace period, then it is gone."""
    host, home = network.machine(), network.machine()
    engine(host, model="tiny:1b")
    avahi = Avahi(host, tmp_path)
    gateway = Gateway(home, tmp_path, grace_s=_GRACE_S)
    assert gateway.backends() == {}
    avahi.publish("gpu", 11434)
    assert gateway.wait_for("tiny:1b") < 5
    status, answer = gateway.chat("tiny:1b")
    assert status == 200, answer
    assert answer["choices"][0]["message"]["content"]
    ((name, backend),) = gateway.backends().items()
    assert (backend["source"], backend["engine"]) == ("mdns", "ollama")
    assert host.v4 in backend["url"]

    watcher = Browser(home)
    watcher.wait("seen", key="gpu._ollama._tcp.local")
    begin_s = time.monotonic()
    avahi.withdraw("gpu")
    watcher.wait("gone", key="gpu._ollama._tcp.local")
    assert name in gateway.backends()
    assert gateway.chat("tiny:1b")[0] == 200
    gateway.wait_without()
    assert _GRACE_S < time.monotonic() - begin_s < _GRACE_S + 6
    assert gateway.chat("tiny:1b")[0] == 404


def test_a_flap_inside_the_grace_changes_nothing(network: Network, tmp_path: Path) -> None:
    """Goodbye and announcement again: at every moment until long after the grace the backend is
    there, healthy, the same, and chats succeed."""
    host, home = network.machine(), network.machine()
    engine(host, model="tiny:1b")
    advertiser = Advertiser(host, "--port", "11434")
    gateway = Gateway(home, tmp_path, grace_s=_GRACE_S)
    gateway.wait_for("tiny:1b")
    before = gateway.backends()

    looks = 0

    def steady() -> None:
        nonlocal looks
        looks += 1
        now = gateway.backends()
        assert set(now) == set(before)
        for name, backend in now.items():
            assert backend["status"] == "healthy", backend
            assert backend["url"] == before[name]["url"]
        status, answer = gateway.chat("tiny:1b")
        assert status == 200, answer

    for _ in range(2):
        advertiser.tell("goodbye")
        _for_seconds(_GRACE_S / 3, steady)
        advertiser.tell("announce")
        _for_seconds(_GRACE_S / 3, steady)
    _for_seconds(_GRACE_S * 1.5, steady)
    assert looks > 20


def test_ipv6_alone_is_enough(network: Network, tmp_path: Path) -> None:
    """A network without IPv4: the engine is reached at its link-local address."""
    host, home = network.machine(ipv4=False), network.machine(ipv4=False)
    engine(host, model="tiny:1b", host="::")
    gateway = Gateway(home, tmp_path)
    advertiser = Advertiser(host, "--port", "11434", ipv6=True)
    assert gateway.wait_for("tiny:1b") < 5
    assert gateway.chat("tiny:1b")[0] == 200
    ((_, backend),) = gateway.backends().items()
    assert host.v6 in backend["url"]
    advertiser.tell("goodbye")
    gateway.wait_without()


def test_a_killed_host_is_unhealthy_at_once_removed_and_found_again(
    network: Network, tmp_path: Path
) -> None:
    """No goodbye: traffic or probes tell at once, nobody answers for it, so it is removed after
    the grace; back with the same name and address, it is found again."""
    host, home = network.machine(), network.machine()
    server = engine(host, model="tiny:1b")
    advertiser = Advertiser(host, "--port", "11434")
    gateway = Gateway(home, tmp_path, grace_s=_GRACE_S)
    gateway.wait_for("tiny:1b")
    ((name, _),) = gateway.backends().items()

    advertiser.kill()
    server.kill()
    assert gateway.chat("tiny:1b")[0] >= 500
    took_s = until(lambda: gateway.backends()[name]["status"] == "unhealthy", "unhealthy")
    assert took_s < 5
    gateway.wait_without()

    engine(host, model="tiny:1b")
    Advertiser(host, "--port", "11434")
    assert gateway.wait_for("tiny:1b") < 5
    assert gateway.chat("tiny:1b")[0] == 200
    assert set(gateway.backends()) == {name}


def test_two_gateways_share_engines_and_never_each_other(network: Network, tmp_path: Path) -> None:
    """Both announce themselves, both find the engine, neither takes the other for a backend; a
    model that nobody has is answered at once. The end of one is told to the network."""
    host, one, two = (network.machine() for _ in range(3))
    engine(host, model="tiny:1b")
    Advertiser(host, "--port", "11434")
    watcher = Browser(host)
    gateways = [Gateway(one, tmp_path), Gateway(two, tmp_path)]
    for gateway in gateways:
        gateway.wait_for("tiny:1b")
    until(lambda: len(watcher.events("seen", nexus=True)) >= 2, "both gateways announced")
    for gateway, other in (gateways, gateways[::-1]):
        _until_refused(gateway, other)
        assert gateway.chat("tiny:1b")[0] == 200
        assert gateway.chat("nobody-has-this")[0] == 404
        (backend,) = gateway.backends().values()
        assert host.v4 in backend["url"]
    gateways[1].process.end()
    watcher.wait("gone")


def test_one_server_seen_in_two_ways_is_one_backend(network: Network, tmp_path: Path) -> None:
    """The gateway's own machine announces the engine that the scan finds too, and a neighbour
    announces the one that the configuration names: two backends. A goodbye takes neither away."""
    host, home = network.machine(), network.machine()
    engine(host, model="tiny:1b")
    engine(home, model="local:1b")
    neighbour = Advertiser(host, "--port", "11434", "--name", "neighbour")
    own = Advertiser(home, "--port", "11434", "--name", "own")
    named = f"[[backends]]\nname = 'gpu'\nurl = 'http://{host.v4}:11434'\n"
    gateway = Gateway(home, tmp_path, named, grace_s=0.5)
    watcher = Browser(home)
    for key in ("neighbour", "own"):
        watcher.wait("seen", key=f"{key}._ollama._tcp.local")
    gateway.wait_for("local:1b")
    gateway.wait_for("tiny:1b")
    _for_seconds(1.0, lambda: _are(gateway, 2))
    neighbour.tell("goodbye")
    own.tell("goodbye")
    for key in ("neighbour", "own"):
        watcher.wait("gone", key=f"{key}._ollama._tcp.local")
    _for_seconds(1.5, lambda: _are(gateway, 2))


def test_a_draining_gateway_is_withdrawn_first(network: Network, tmp_path: Path) -> None:
    """Told to end, it takes its advert back at once, while a call still runs."""
    host, home = network.machine(), network.machine()
    served = engine(host, "--ttft", "30", model="tiny:1b")
    Advertiser(host, "--port", "11434")
    gateway = Gateway(home, tmp_path)
    gateway.wait_for("tiny:1b")
    watcher = Browser(host)
    watcher.wait("seen", nexus=True)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(gateway.chat, "tiny:1b")
        until(lambda: any(one["in_flight"] for one in gateway.backends().values()), "in flight")
        gateway.process.terminate()
        watcher.wait("gone")
        assert not gateway.process.ended
        assert not call.done()
        served.kill()
        assert call.result(10)[0] >= 500
    assert gateway.process.end() == 0


def test_no_multicast_is_one_warning_and_the_scan_works(network: Network, tmp_path: Path) -> None:
    """With the network down the gateway serves what runs on its own machine, and warns once."""
    home = network.machine()
    home.link(up=False)
    engine(home, model="tiny:1b", host="127.0.0.1")
    gateway = Gateway(home, tmp_path)
    gateway.wait_for("tiny:1b")
    assert gateway.chat("tiny:1b")[0] == 200
    until(lambda: gateway.log("mdns_unavailable"), "a warning")
    warnings = [line for line in gateway.log("mdns_unavailable") if line["level"] == "warning"]
    assert len(warnings) == 1
    assert gateway.process.end() == 0


def test_an_advert_that_leads_back_here_is_no_backend(network: Network, tmp_path: Path) -> None:
    """Somebody announces this gateway's own address and port, and a loopback address: neither
    becomes a backend."""
    host, home = network.machine(), network.machine()
    gateway = Gateway(home, tmp_path)
    Advertiser(host, "--port", "8000", "--address", home.v4, "--name", "mirror")
    Advertiser(host, "--port", "8000", "--address", "127.0.0.1", "--name", "inward")
    until(lambda: gateway.log("mdns_advert_ignored"), "the loopback address refused")
    until(lambda: gateway.log("discovery_ignored"), "its own address refused")
    assert gateway.backends() == {}


def _are(gateway: Gateway, count: int) -> None:
    """Fails unless there are ``count`` backends, all healthy, one of them as configured."""
    now = gateway.backends()
    assert len(now) == count, now
    assert now["gpu"]["source"] == "static"
    assert {one["status"] for one in now.values()} == {"healthy"}, now


def _until_refused(gateway: Gateway, other: Gateway) -> None:
    """Waits until ``gateway`` has seen ``other``, and said that it is none of its backends."""
    until(
        lambda: any(other.machine.v4 in line["url"] for line in gateway.log("discovery_ignored")),
        "the other gateway refused",
    )


def _for_seconds(seconds: float, look: Callable[[], None]) -> None:
    """Calls ``look`` all the time for so long."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        look()
