"""The announcer, and the sockets it shares with the browser, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from zeroconf import ServiceInfo

from nexus.discovery import multicast as multicast_module
from nexus.discovery.addresses import OwnAddress
from nexus.discovery.announce import MdnsAnnouncer, announced_addresses, beyond_loopback
from nexus.discovery.multicast import Multicast
from nexus.discovery.txt import parse_txt
from tests.harness import eventually

_OWN = (
    OwnAddress("192.168.1.5", 24, "eth0", 2),
    OwnAddress("fd00::5", 64, "eth0", 2),
    OwnAddress("fe80::5", 64, "eth0", 2),
)


class Responder:
    """Stands for AsyncZeroconf and its Zeroconf: keeps what is registered."""

    def __init__(self) -> None:
        self.zeroconf = self
        self.registry = self
        self.registered: list[ServiceInfo] = []
        self.goodbyes: list[str] = []
        self.updates: list[list[str]] = []
        self.listeners: list[Any] = []
        self.taken = ""

    async def _sent(self) -> None:
        await asyncio.sleep(0)

    async def async_register_service(self, info: ServiceInfo, *, allow_name_change: bool) -> Any:
        """As AsyncZeroconf."""
        assert allow_name_change
        if info.name == self.taken:
            info.name = info.name.replace("._llm", "-2._llm")
        self.registered.append(info)
        return asyncio.ensure_future(self._sent())

    async def async_unregister_service(self, info: ServiceInfo) -> Any:
        """As AsyncZeroconf."""
        self.registered.remove(info)
        self.goodbyes.append(info.name)
        return asyncio.ensure_future(self._sent())

    async def async_update_service(self, info: ServiceInfo) -> Any:
        """As AsyncZeroconf."""
        self.updates.append(info.parsed_addresses())
        return asyncio.ensure_future(self._sent())

    def async_remove(self, info: ServiceInfo) -> None:
        """As the registry: no goodbye."""
        self.registered.remove(info)

    def async_add_listener(self, listener: Any, question: None) -> None:
        """As Zeroconf."""
        self.listeners.append(listener)

    def async_remove_listener(self, listener: Any) -> None:
        """As Zeroconf."""
        self.listeners.remove(listener)


def announcer(**changes: Any) -> MdnsAnnouncer:
    """One on all IPv4 addresses, port 8000."""
    given = {"host": "0.0.0.0", "port": 8000, "instance_id": "abcdef0123456789", "version": "1.2"}
    return MdnsAnnouncer(**cast(Any, {**given, "name": "Nexus (box)", **changes}))


async def test_announces_what_it_is_and_says_goodbye() -> None:
    """``_llm._tcp``, its addresses and port, a TXT record that the browser understands; withdrawn
    when the sockets close."""
    responder, one = Responder(), announcer()
    assert one.announced_as == ""
    await one.opened(cast(Any, responder), _OWN)
    await eventually(lambda: one.announced_as, "announced")
    (info,) = responder.registered
    assert (info.name, info.port) == ("Nexus-box._llm._tcp.local.", 8000)
    assert info.parsed_addresses() == ["192.168.1.5"]
    txt = parse_txt(info.text)
    assert (txt.nexus, txt.instance_id, txt.version) == (True, "abcdef0123456789", "1.2")
    assert info.properties[b"api_path"] == b"/v1"
    await one.closing()
    assert responder.goodbyes == ["Nexus-box._llm._tcp.local."]
    assert responder.listeners == []


async def test_a_new_address_is_announced() -> None:
    """When the machine moves, the advert has its new addresses."""
    responder, one = Responder(), announcer()
    await one.opened(cast(Any, responder), _OWN)
    await eventually(lambda: one.announced_as, "announced")
    moved = (OwnAddress("10.0.0.7", 8, "wlan0", 3),)
    one.moving(moved)
    assert responder.registered[0].parsed_addresses() == ["10.0.0.7"]
    await one.moved(moved)
    assert responder.updates == [["10.0.0.7"]]
    await one.closing()


async def test_without_an_address_it_waits_for_one() -> None:
    """Nothing is announced while there is no address to be reached at; later it is."""
    responder, one = Responder(), announcer()
    await one.opened(cast(Any, responder), _OWN[1:])
    await one.moved(_OWN[1:])
    assert responder.registered == []
    one.moving(_OWN)
    await one.moved(_OWN)
    await eventually(lambda: one.announced_as, "announced")
    await one.closing()


async def test_a_rival_for_its_name_makes_it_step_aside_once() -> None:
    """Two that began at the same moment: another host answers for the name, so a name with the id
    in it is taken, without a goodbye that would hit the other. Who claims that too is ignored."""
    responder, one = Responder(), announcer()
    await one.opened(cast(Any, responder), _OWN)
    await eventually(lambda: one.announced_as, "announced")
    one._step_aside()
    await eventually(lambda: one.announced_as, "announced again")
    assert [info.name for info in responder.registered] == ["Nexus-box-abcdef._llm._tcp.local."]
    assert responder.goodbyes == []
    one._step_aside()
    assert [info.name for info in responder.registered] == ["Nexus-box-abcdef._llm._tcp.local."]
    await one.closing()
    assert responder.listeners == []


async def test_a_refused_registration_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the library raises: a warning, and nothing to withdraw."""
    responder, one = Responder(), announcer()

    async def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(responder, "async_register_service", refuse)
    await one.opened(cast(Any, responder), _OWN)
    assert one._announcing is not None
    await one._announcing
    await one.closing()
    assert one.announced_as == ""


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("0.0.0.0", ["192.168.1.5"]),
        ("::", ["192.168.1.5", "fd00::5", "fe80::5"]),
        ("192.168.1.5", ["192.168.1.5"]),
        ("fe80::5%eth0", ["fe80::5"]),
        ("127.0.0.1", []),
        ("::1", []),
        ("localhost", []),
    ],
)
def test_announced_addresses(host: str, addresses: list[str]) -> None:
    """Those at which a listener on ``host`` is reached from elsewhere."""
    assert announced_addresses(host, _OWN) == addresses
    assert beyond_loopback(host) == bool(addresses)


def test_a_machine_without_a_usable_name() -> None:
    """Its instance still has one that fits into a DNS label."""
    assert announcer(name="日本")._name == "nexus"
    assert len(announcer(name="x" * 300)._name) <= 48


class User:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def opened(self, zeroconf: Any, own: Sequence[OwnAddress]) -> None:
        """As MulticastUser."""
        self.told.append("opened")

    def moving(self, own: Sequence[OwnAddress]) -> None:
        """As MulticastUser."""

    async def moved(self, own: Sequence[OwnAddress]) -> None:
        """As MulticastUser."""
        self.told.append("moved")

    async def closing(self) -> None:
        """As MulticastUser."""
        self.told.append("closing")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(1, "Operation not permitted"), "Operation not permitted"),
        (OSError(101, "Network is unreachable"), "Network is unreachable"),
    ],
)
async def test_a_refusal_is_one_warning(
    monkeypatch: pytest.MonkeyPatch, error: OSError, reason: str
) -> None:
    """The system lets no packet out: one warning however often it is tried, whoever uses it, and
    no user hears of sockets."""
    tries = 0

    def refuse(one: OwnAddress) -> None:
        nonlocal tries
        tries += 1
        raise error

    monkeypatch.setattr(multicast_module, "try_to_send", refuse)
    monkeypatch.setattr(multicast_module, "multicast_addresses", lambda own: own)
    shared = Multicast(look_s=0.001, addresses=lambda: _OWN[:1])
    lines: list[tuple[str, dict[str, Any]]] = []
    shared._log = cast(Any, Lines(lines))
    users = [User(), User()]
    for user in users:
        await shared.attach(user)
    await eventually(lambda: tries > 5, "several attempts")
    for user in users:
        await shared.detach(user)
    assert not shared.available
    assert [user.told for user in users] == [[], []]
    ((event, fields),) = lines
    assert event == "mdns_unavailable"
    assert reason in fields["reason"]
    assert "[[backends]]" in fields["hint"]


async def test_no_interface_is_one_warning() -> None:
    """A machine without any network says so once."""
    shared = Multicast(look_s=0.001, addresses=tuple)
    lines: list[tuple[str, dict[str, Any]]] = []
    shared._log = cast(Any, Lines(lines))
    user = User()
    await shared.attach(user)
    await eventually(lambda: lines, "a warning")
    await shared.detach(user)
    await shared.detach(user)
    assert [fields["reason"] for _, fields in lines] == ["no network interface is up"]


class Lines:
    """A logger that keeps warnings."""

    def __init__(self, lines: list[tuple[str, dict[str, Any]]]) -> None:
        self._lines = lines

    def warning(self, event: str, **fields: Any) -> None:
        """As a Logger."""
        self._lines.append((event, fields))

    def debug(self, event: str, **fields: Any) -> None:
        """As a Logger."""
