"""The mDNS browser, fed with real packets through the library's own parser and cache; no socket.
What goes over a network is tested in ``tests/network``."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zeroconf import (  # type: ignore[attr-defined]
    DNSAddress,
    DNSIncoming,
    DNSOutgoing,
    DNSPointer,
    DNSRecord,
    DNSService,
    DNSText,
    current_time_millis,
)
from zeroconf._cache import DNSCache
from zeroconf._handlers.record_manager import RecordManager
from zeroconf._record_update import RecordUpdate

from nexus.core.backend import EngineKind, Source
from nexus.discovery import mdns
from nexus.discovery.addresses import OwnAddress
from nexus.discovery.adverts import service_type
from nexus.discovery.mdns import MdnsBrowser
from nexus.discovery.sighting import Sighting
from tests.harness import eventually

_OLLAMA = "_ollama._tcp.local."
_UNIQUE = 0x8001
_OWN = (OwnAddress("192.168.1.5", 24, "eth0", 2),)


class Wire:
    """Stands for the library's sockets: takes packets in, keeps what is sent."""

    def __init__(self) -> None:
        self.cache = DNSCache()
        self.record_manager = RecordManager(cast(Any, self))
        self.sent: list[DNSOutgoing] = []

    @property
    def zeroconf(self) -> Wire:
        """As AsyncZeroconf has it."""
        return self

    def async_add_listener(self, listener: Any, question: Any) -> None:
        """As Zeroconf."""
        self.record_manager.async_add_listener(listener, question)

    def async_remove_listener(self, listener: Any) -> None:
        """As Zeroconf."""
        self.record_manager.async_remove_listener(listener)

    def async_notify_all(self) -> None:
        """As Zeroconf."""

    def async_send(self, out: DNSOutgoing) -> None:
        """As Zeroconf; the packets are made, since that is where odd names fail."""
        assert out.packets()
        self.sent.append(out)

    def receive(self, *records: DNSRecord, ago_s: float = 0.0) -> None:
        """A response with these records comes in, or came in ``ago_s`` ago."""
        out = DNSOutgoing(0x8400)
        for record in records:
            out.add_answer_at_time(record, 0)
        for packet in out.packets():
            message = DNSIncoming(packet, now=current_time_millis() - 1000 * ago_s)
            assert message.valid
            self.record_manager.async_updates_from_response(message)

    def expire(self, later_ms: float) -> None:
        """Time goes by, and the library clears its cache."""
        now = current_time_millis() + later_ms
        gone = [RecordUpdate(record, record) for record in self.cache.async_expire(now)]
        self.record_manager.async_updates(now, gone)
        self.record_manager.async_updates_complete(False)

    def asked(self) -> list[tuple[str, int, bool]]:
        """Names, types and QU bits of all questions sent."""
        return [(one.name, one.type, one.unicast) for out in self.sent for one in out.questions]


class Seen:
    """A browser on a wire, and what it told."""

    def __init__(self, types: Iterable[str] = (_OLLAMA, "_llm._tcp.local"), **more: Any) -> None:
        self.wire = Wire()
        self.now_s = 1000.0
        self.seen: list[Sighting] = []
        self.gone: list[str] = []
        self.browser = MdnsBrowser(
            types, self.seen.append, self.gone.append, clock=lambda: self.now_s, **more
        )
        self.log: list[tuple[str, str, dict[str, Any]]] = []
        self.browser._log = cast(Any, self)

    def info(self, event: str, **fields: Any) -> None:
        """As a Logger."""
        self.log.append(("info", event, fields))

    def debug(self, event: str, **fields: Any) -> None:
        """As a Logger."""

    def exception(self, event: str, **fields: Any) -> None:
        """As a Logger: a fault of the browser's own."""
        raise AssertionError(event) from None

    def ignored(self) -> list[str]:
        """The kinds of adverts said to be ignored."""
        return [fields["reason"] for _, event, fields in self.log if event == "mdns_advert_ignored"]

    def pass_time(self, seconds: float) -> None:
        """Moves the clock and has due questions asked."""
        self.now_s += seconds
        self.browser._ask_once(cast(Any, self.wire))


@asynccontextmanager
async def browsing(**more: Any) -> AsyncIterator[Seen]:
    """A browser whose sockets are open."""
    seen = Seen(**more)
    await seen.browser.opened(cast(Any, seen.wire), _OWN)
    try:
        yield seen
    finally:
        await seen.browser.closing()


def advert(
    name: str = "tiny",
    *,
    type_: str = _OLLAMA,
    port: int = 11434,
    txt: bytes = b"",
    addresses: Iterable[str] = ("192.168.1.20",),
    server: str = "host.local.",
    ttl: int = 4500,
) -> list[DNSRecord]:
    """All records of one instance."""
    full = f"{name}.{type_}"
    records: list[DNSRecord] = [
        DNSPointer(type_, 12, 1, ttl, full),
        DNSService(full, 33, _UNIQUE, min(ttl, 120), 0, 0, port, server),
        DNSText(full, 16, _UNIQUE, ttl, txt or b"\x00"),
    ]
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        packed = socket.inet_pton(family, address)
        kind = 28 if ":" in address else 1
        records.append(DNSAddress(server, kind, _UNIQUE, min(ttl, 120), packed))
    return records


def strings(*pairs: str) -> bytes:
    """A TXT record."""
    return b"".join(bytes([len(pair.encode())]) + pair.encode() for pair in pairs)


async def test_an_advert_is_seen() -> None:
    """One packet with everything is one sighting."""
    async with browsing() as its:
        txt = strings("type=vllm", "api_path=/x/v1", "version=1", "models=a,b")
        its.wire.receive(*advert("Tiny Box", txt=txt, addresses=("fd00::1", "192.168.1.20")))
        assert its.seen == [
            Sighting(
                key="tiny box._ollama._tcp.local",
                source=Source.MDNS,
                name="Tiny Box",
                addresses=("192.168.1.20", "fd00::1"),
                port=11434,
                base_path="/x",
                engine=EngineKind.VLLM,
                version="1",
                models=("a", "b"),
            )
        ]


async def test_the_type_of_service_does_not_tell_the_engine() -> None:
    """Without a TXT type the server is asked what it is, whatever the type of service."""
    async with browsing() as its:
        its.wire.receive(*advert())
        assert its.seen[0].engine is None


async def test_records_in_several_packets_are_one_sighting() -> None:
    """Pointer, service, text and address may come one by one, in any order."""
    async with browsing() as its:
        pointer, service, text, address = advert()
        for record in (address, text, pointer):
            its.wire.receive(record)
        assert its.seen == []
        its.wire.receive(service)
        assert [one.addresses for one in its.seen] == [("192.168.1.20",)]


async def test_what_is_missing_is_asked_for() -> None:
    """A pointer alone leads to questions about service and text, then about the host."""
    async with browsing() as its:
        pointer, service, text, address = advert()
        its.wire.receive(pointer)
        its.pass_time(0.2)
        name = "tiny._ollama._tcp.local."
        assert (name, 33, True) in its.wire.asked()
        assert (name, 16, True) in its.wire.asked()
        its.wire.receive(service)
        its.pass_time(1.1)
        assert ("host.local.", 1, False) in its.wire.asked()
        assert ("host.local.", 28, False) in its.wire.asked()
        its.wire.receive(text, address)
        assert len(its.seen) == 1


async def test_an_advert_without_text_is_taken_after_all() -> None:
    """RFC 6763 wants a TXT record; who has none after two questions is seen without."""
    async with browsing() as its:
        pointer, service, _, address = advert()
        its.wire.receive(pointer, service, address)
        its.pass_time(0.2)
        assert its.seen == []
        its.pass_time(0.5)
        assert len(its.seen) == 1
        for _ in range(20):
            its.pass_time(5)
        assert its.gone == []
        assert its.ignored() == []


async def test_ipv6_alone_waits_a_moment_for_ipv4() -> None:
    """A host of both kinds may tell its IPv6 address first: one sighting has both, the IPv4 one
    first, and no backend moves from one to the other. Who has IPv6 alone is seen half a second
    later."""
    async with browsing() as its:
        *before, v6, v4 = advert(addresses=("fd00::1", "192.168.1.20"))
        its.wire.receive(*before, v6)
        assert its.seen == []
        its.wire.receive(v4)
        assert [one.addresses for one in its.seen] == [("192.168.1.20", "fd00::1")]

        its.wire.receive(*advert("six", server="six.local.", addresses=["fd00::6"]))
        assert len(its.seen) == 1
        its.pass_time(0.2)
        assert ("six.local.", 1, True) in its.wire.asked()
        its.pass_time(0.5)
        assert its.seen[-1].addresses == ("fd00::6",)


async def test_an_advert_that_nobody_explains_is_forgotten() -> None:
    """A pointer to nothing is asked about five times, then dropped, and taken up when heard
    again."""
    async with browsing() as its:
        pointer, *rest = advert()
        its.wire.receive(pointer)
        for _ in range(20):
            its.pass_time(2)
        assert len([one for one in its.wire.asked() if one[1] == 33]) == 5
        assert its.ignored() == ["unresolved"]
        its.wire.receive(pointer, *rest)
        assert len(its.seen) == 1


async def test_changes_are_seen_under_the_same_key() -> None:
    """Another port, text or address replaces what was known."""
    async with browsing() as its:
        exo = strings("type=exo")
        its.wire.receive(*advert(), ago_s=9)
        its.wire.receive(*advert(port=8080), ago_s=6)
        its.wire.receive(*advert(port=8080, txt=exo), ago_s=3)
        its.wire.receive(*advert(port=8080, txt=exo, addresses=["192.168.1.21"]))
        assert [(one.port, one.engine, one.addresses) for one in its.seen] == [
            (11434, None, ("192.168.1.20",)),
            (8080, None, ("192.168.1.20",)),
            (8080, EngineKind.EXO, ("192.168.1.20",)),
            (8080, EngineKind.EXO, ("192.168.1.21",)),
        ]
        assert {one.key for one in its.seen} == {"tiny._ollama._tcp.local"}
        assert its.gone == []


async def test_a_repetition_is_told_again_but_seldom() -> None:
    """An advert heard again within ten seconds is no news; later it says that it is still there."""
    async with browsing() as its:
        for _ in range(5):
            its.wire.receive(*advert())
        assert len(its.seen) == 1
        its.now_s += 11
        its.wire.receive(*advert())
        assert its.seen == [its.seen[0]] * 2


async def test_addresses_that_expire_stay_known() -> None:
    """A live host's addresses are told for two minutes; nobody asks for them all the time."""
    async with browsing() as its:
        its.wire.receive(*advert(addresses=("192.168.1.20", "fd00::1")))
        its.wire.expire(130_000)
        its.now_s += 130
        # Somebody else asked for the IPv6 address alone.
        its.wire.receive(advert(addresses=["fd00::1"])[-1])
        assert its.seen[-1].addresses == ("192.168.1.20", "fd00::1")
        assert its.gone == []


async def test_goodbye_and_expiry_are_gone() -> None:
    """A pointer with a life of zero, or one whose life is over, ends a sighting; a new
    announcement begins another."""
    async with browsing() as its:
        its.wire.receive(*advert())
        its.wire.receive(*advert(ttl=0))
        assert its.gone == ["tiny._ollama._tcp.local"]
        its.wire.receive(*advert())
        assert len(its.seen) == 2
        its.wire.expire(4_501_000)
        assert its.gone == ["tiny._ollama._tcp.local"] * 2


async def test_two_instances_of_one_host_are_two_sightings() -> None:
    """And a change of the host's address is seen for both."""
    async with browsing() as its:
        its.wire.receive(*advert("a", port=1), ago_s=5)
        its.wire.receive(*advert("b", port=2), ago_s=5)
        its.wire.receive(advert(addresses=["192.168.1.99"])[-1])
        assert [(one.port, one.addresses[0]) for one in its.seen[2:]] == [
            (1, "192.168.1.99"),
            (2, "192.168.1.99"),
        ]


async def test_own_advert_is_passed_over_and_another_nexus_is_told() -> None:
    """By the instance id, whatever the name."""
    async with browsing(own_id="abc") as its:
        for number, identity in enumerate(("abc", "def")):
            txt = strings("type=nexus", f"id={identity}")
            its.wire.receive(*advert(f"nexus{number}", type_="_llm._tcp.local.", txt=txt))
        assert [(one.name, one.nexus) for one in its.seen] == [("nexus1", True)]
        assert its.ignored() == []


_ELSEWHERE = "._http._tcp.local."


@pytest.mark.parametrize(
    ("reason", "adverts"),
    [
        ("bad_port", [advert("a", port=0), advert("b", port=0)]),
        ("bad_address", [advert(name, addresses=["127.0.0.1"]) for name in "ab"]),
        ("bad_address", [advert(name, addresses=["0.0.0.0"]) for name in "ab"]),
        ("bad_address", [advert(name, addresses=["::1"]) for name in "ab"]),
        ("wrong_type", [[DNSPointer(_OLLAMA, 12, 1, 4500, name + _ELSEWHERE)] for name in "ab"]),
    ],
)
async def test_bad_adverts_are_ignored_with_one_line(
    reason: str, adverts: list[list[DNSRecord]]
) -> None:
    """One line for each kind, however often it comes; ten minutes later one that counts them."""
    async with browsing() as its:
        for records in adverts:
            its.wire.receive(*records)
        for _ in range(2):
            its.pass_time(0.5)
        assert its.seen == []
        assert its.ignored() == [reason]
        its.now_s += 601
        its.wire.receive(*adverts[0] if reason == "wrong_type" else advert("c", port=0))
        its.wire.receive(*adverts[0])
        lines = [fields for _, _, fields in its.log if fields["reason"] == reason]
        if reason in ("wrong_type", "bad_port"):
            assert lines[-1]["others"] == 1


async def test_an_advert_that_turns_bad_is_gone() -> None:
    """A sighting whose advert now points at this machine's loopback is withdrawn."""
    async with browsing() as its:
        its.wire.receive(*advert(), ago_s=3)
        its.wire.receive(*advert(addresses=["127.0.0.1"]))
        assert its.gone == ["tiny._ollama._tcp.local"]


async def test_a_flood_is_bounded() -> None:
    """Of thousands of adverts 256 are kept, questions go out in small packets four times a second,
    and the log has one line."""
    async with browsing() as its:
        for number in range(3000):
            its.wire.receive(DNSPointer(_OLLAMA, 12, 1, 4500, f"n{number}.{_OLLAMA}"))
        assert len(its.browser._adverts.by_name) == 256
        its.wire.sent.clear()
        its.pass_time(0.2)
        questions = [one for one in its.wire.asked() if one[1] == 33]
        assert 0 < len(questions) <= 24
        assert its.ignored() == ["too_many"]
        its.pass_time(20)
        assert all(len(out.answers) <= 128 for out in its.wire.sent)


async def test_names_with_anything_in_them() -> None:
    """Control characters and script tags: the key is printable and one for each name, the name to
    show harmless."""
    async with browsing() as its:
        names = ["</script><b>x", "a\x1b[31mb", "a\\x1b[31mb", "\u202eevil", "日本", "x" * 63]
        for name in names:
            its.wire.receive(*advert(name))
        assert len(its.seen) == len(names)
        assert len({one.key for one in its.seen}) == len(names)
        assert all(one.key.isprintable() for one in its.seen)
        assert its.seen[0].name == "script-b-x"
        assert all(set(one.name).isdisjoint("<>\x1b/\\") for one in its.seen)


async def test_a_name_that_fits_into_no_question_is_ignored() -> None:
    """A label that was no UTF-8 grows when it is read; asking for it would fail."""
    async with browsing() as its:
        out = DNSOutgoing(0x8400)
        out.add_answer_at_time(DNSPointer(_OLLAMA, 12, 1, 4500, "x" * 63 + "." + _OLLAMA), 0)
        packet = out.packets()[0].replace(b"x" * 63, b"\xff" * 63)
        its.wire.record_manager.async_updates_from_response(DNSIncoming(packet))
        its.pass_time(0.2)
        assert its.ignored() == ["bad_name"]
        assert its.browser._adverts.by_name == {}


async def test_types_are_asked_for_less_and_less() -> None:
    """At once with direct answers wanted, then at growing distances, in the end five minutes."""
    async with browsing(types=["_LLM._tcp.local"]) as its:
        times = []
        for _ in range(6000):
            before = len(its.wire.sent)
            its.pass_time(0.1)
            if len(its.wire.sent) > before:
                times.append(round(its.now_s - 1000))
        assert times == [0, 1, 4, 13, 43, 103, 223, 523]
        assert its.wire.asked()[:2] == [
            ("_llm._tcp.local.", 12, True),
            ("_llm._tcp.local.", 12, False),
        ]


async def test_asking_again_goes_to_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only an answer to a fresh query counts, not the cache, which holds a dead advertiser's
    record for 19 minutes; whoever does not answer is forgotten, and seen again when it is back."""
    async with browsing() as its:
        monkeypatch.setattr(mdns, "_ASK_AGAIN_S", (0.05, 0.05))
        its.wire.receive(*advert())
        key = its.seen[0].key
        its.wire.sent.clear()
        asking = asyncio.ensure_future(its.browser.ask_again(key))
        await eventually(lambda: its.wire.asked(), "a question")
        assert its.wire.asked()[0] == ("tiny._ollama._tcp.local.", 33, True)
        its.wire.receive(advert()[1])
        assert await asking is True

        assert await its.browser.ask_again(key) is False
        assert its.browser._waiting == {}
        assert its.gone == []
        assert await its.browser.ask_again(key) is False
        known = its.wire.cache.async_all_by_details(_OLLAMA, 12, 1)
        assert known == [], "it would be named as known, and not answer"
        its.wire.receive(*advert())
        assert len(its.seen) == 2


async def test_asking_again_without_sockets() -> None:
    """Nobody answers where nobody can be asked; an unknown key has no answer either."""
    its = Seen()
    assert await its.browser.ask_again("tiny._ollama._tcp.local") is False
    async with browsing() as its:
        assert await its.browser.ask_again("tiny._ollama._tcp.local") is False


async def test_another_network_is_asked_anew() -> None:
    """When interfaces change, the types are asked for at once, and the nearest address may be
    another one."""
    async with browsing() as its:
        its.wire.receive(*advert(addresses=("192.168.1.20", "10.0.0.20")))
        its.pass_time(20)
        its.wire.sent.clear()
        await its.browser.moved((OwnAddress("10.0.0.5", 24, "wlan0", 3),))
        its.pass_time(0.1)
        assert (_OLLAMA, 12, True) in its.wire.asked()
        assert [one.addresses[0] for one in its.seen] == ["192.168.1.20", "10.0.0.20"]


async def test_a_fault_of_whoever_listens_ends_nothing() -> None:
    """An exception out of ``on_seen`` is logged as a fault; the next advert is seen."""
    async with browsing() as its:
        faults: list[str] = []
        monkey = cast(Any, its)
        monkey.exception = lambda event, **_: faults.append(event)
        good = its.browser._on_seen
        its.browser._on_seen = cast(Any, lambda _: 1 / 0)
        its.wire.receive(*advert("a"))
        its.browser._on_seen = good
        its.wire.receive(*advert("b"))
        assert faults == ["mdns_fault"]
        assert [one.name for one in its.seen] == ["b"]


@pytest.mark.parametrize(
    "name", ["_ollama._tcp.local", "_Ollama._TCP.local.", " _ollama._tcp.local"]
)
def test_service_types_are_told_with_and_without_a_dot(name: str) -> None:
    """Both mean the same."""
    assert service_type(name) == "_ollama._tcp.local."


@pytest.mark.parametrize(
    "name", ["", "ollama", "_ollama._tcp", "_ollama._sctp.local", "._tcp.local", "_a b._tcp.local"]
)
def test_what_is_no_service_type_is_refused(name: str) -> None:
    """The sentence names it and shows what one looks like."""
    with pytest.raises(ValueError, match=r"is not a service type such as _ollama\._tcp\.local"):
        MdnsBrowser([name], lambda _: None, lambda _: None)


_NAMES = st.text(
    alphabet=st.characters(exclude_characters=".", exclude_categories=["Cs"]),
    min_size=1,
    max_size=15,
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            _NAMES, st.integers(0, 65535), st.binary(max_size=200), st.ip_addresses().map(str)
        ),
        max_size=8,
    ),
    st.binary(max_size=60),
    st.integers(0, 400),
)
def test_any_adverts_are_taken(
    adverts: list[tuple[str, int, bytes, str]], noise: bytes, at: int
) -> None:
    """Adverts with anything in them, and packets with bytes overwritten: nothing is raised, what
    is seen is printable, bounded and not this machine's loopback."""

    async def run() -> None:
        async with browsing() as its:
            for name, port, txt, address in adverts:
                out = DNSOutgoing(0x8400)
                for record in advert(name, port=port, txt=txt, addresses=[address]):
                    out.add_answer_at_time(record, 0)
                packet = out.packets()[0]
                for data in (packet, packet[:at] + noise + packet[at + len(noise) :]):
                    message = DNSIncoming(data)
                    if message.valid and not message.is_query():
                        its.wire.record_manager.async_updates_from_response(message)
                its.pass_time(1)
            for one in its.seen:
                assert one.key.isprintable()
                assert len(one.key) <= 3000
                assert one.name.isprintable()
                assert 0 < len(one.name) <= 63
                assert 0 < one.port < 65536
                assert 0 < len(one.addresses) <= 16
                assert not set(one.addresses) & {"127.0.0.1", "::1", "0.0.0.0", "::"}

    asyncio.run(run())
