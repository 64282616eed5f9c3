"""The browser's side of the zeroconf library: what records say, and queries to send.

The library's own browser is not used: it asks for every pointer that a flood of adverts brings,
and says nothing when a server that never said goodbye announces itself again. Imported only when
mDNS starts, since zeroconf comes with it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable

import msgspec
from zeroconf import (  # type: ignore[attr-defined] # public, left out of its __all__
    DNSAddress,
    DNSOutgoing,
    DNSPointer,
    DNSQuestion,
    DNSRecord,
    DNSService,
    DNSText,
    RecordUpdate,
    RecordUpdateListener,
    Zeroconf,
    current_time_millis,
)

from nexus.discovery.adverts import AAAA, SRV, TXT, A, Advert, Question, askable

__all__ = ["Batch", "Listener", "RivalListener", "ask", "ask_for_types", "forget", "read"]

_PTR = 12
_IN = 1
_QUERY = 0
_KNOWN_ANSWERS_MAX = 64
"""Pointers named in a query so that nobody repeats them (RFC 6762 § 7.1); a flood is cut."""


class Batch(msgspec.Struct):
    """What one packet (or one round of expiry) says of the browsed types: instances announced and
    gone by full name; names whose SRV or TXT, hosts whose addresses were heard (lower case)."""

    heard: list[str] = []
    gone: list[str] = []
    touched: set[str] = set()
    answered: set[str] = set()
    servers: set[str] = set()


class Listener(RecordUpdateListener):
    """Sorts out the records that matter, and hands them over once the library has stored them."""

    def __init__(self, types: Iterable[str], deliver: Callable[[Batch], None]) -> None:
        self._types = frozenset(types)
        self._ends = tuple("." + type_ for type_ in self._types)
        self._deliver = deliver
        self._batch = Batch()

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """Called with every record received, known ones too, and with those that expired."""
        batch = self._batch
        for update in records:
            record = update.new
            kind = record.type
            if kind == _PTR:
                if record.key in self._types and isinstance(record, DNSPointer):
                    (batch.gone if record.is_expired(now) else batch.heard).append(record.alias)
            elif record.is_expired(now):
                continue
            elif kind in (SRV, TXT):
                if record.key.endswith(self._ends):
                    batch.touched.add(record.key)
                    if kind == SRV:
                        batch.answered.add(record.key)
            elif kind in (A, AAAA):
                batch.servers.add(record.key)

    def async_update_records_complete(self) -> None:
        """The records are in the cache now."""
        batch = self._batch
        if batch.heard or batch.gone or batch.touched or batch.servers:
            self._batch = Batch()
            self._deliver(batch)


class RivalListener(RecordUpdateListener):
    """Calls ``found`` when another host claims the instance ``name`` that ``server`` announces:
    two that began at the same moment do not hear each other asking (RFC 6762 § 8.2)."""

    def __init__(self, name: str, server: str, found: Callable[[], None]) -> None:
        self._name = name.lower()
        self._server = server.lower()
        self._found = found

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """Called with every record received."""
        for update in records:
            record = update.new
            if (
                record.type == SRV
                and record.key == self._name
                and isinstance(record, DNSService)
                and record.server.lower() != self._server
                and not record.is_expired(now)
            ):
                self._found()


def read(zeroconf: Zeroconf, advert: Advert) -> None:
    """Brings an advert up to date with the library's cache. What has merely expired stays: a live
    host's addresses are told for two minutes, and nobody asks for them all the time."""
    now = current_time_millis()
    service = _newest(zeroconf, advert.name, SRV, now)
    if isinstance(service, DNSService) and askable(service.server):
        server = service.server.lower()
        if server != advert.server:
            advert.server, advert.v4, advert.v6 = server, (), ()
        advert.port = service.port
    text = _newest(zeroconf, advert.name, TXT, now)
    if isinstance(text, DNSText):
        advert.txt = text.text
    if advert.server:
        advert.v4 = _addresses(zeroconf, advert.server, A, now) or advert.v4
        advert.v6 = _addresses(zeroconf, advert.server, AAAA, now) or advert.v6


def ask_for_types(zeroconf: Zeroconf, types: Iterable[str], *, first: bool) -> None:
    """Asks who offers ``types``. The ``first`` query wants direct answers (RFC 6762 § 5.4) and all
    of them; a later one names those known."""
    out = DNSOutgoing(_QUERY)
    now = current_time_millis()
    for type_ in types:
        question = DNSQuestion(type_, _PTR, _IN)
        question.unicast = first
        out.add_question(question)
        if first:
            continue
        known = zeroconf.cache.async_all_by_details(type_, _PTR, _IN)
        fresh = [record for record in known if not record.is_stale(now)]
        for record in fresh[:_KNOWN_ANSWERS_MAX]:
            out.add_answer_at_time(record, now)
    zeroconf.async_send(out)


def ask(zeroconf: Zeroconf, questions: Iterable[Question]) -> None:
    """Sends questions without known answers: whoever is there answers."""
    out = DNSOutgoing(_QUERY)
    for one in questions:
        question = DNSQuestion(one.name, one.type, _IN)
        question.unicast = one.first
        out.add_question(question)
    zeroconf.async_send(out)


def forget(zeroconf: Zeroconf, types: Iterable[str], name: str) -> None:
    """Drops an instance from the cache, so that it is not named as known, which would keep it from
    answering once it is back."""
    cache = zeroconf.cache
    records = cache.async_entries_with_name(name)
    for type_ in types:
        pointer = cache.async_get_unique(DNSPointer(type_, _PTR, _IN, 0, name))
        if pointer is not None:
            records.append(pointer)
    cache.async_remove_records(records)


def _newest(zeroconf: Zeroconf, name: str, kind: int, now: float) -> DNSRecord | None:
    records = _lasting(zeroconf, name, kind, now)
    return max(records, key=lambda record: record.created, default=None)


def _lasting(zeroconf: Zeroconf, name: str, kind: int, now: float) -> list[DNSRecord]:
    """Without those replaced by a newer set, which the library lets live for one second more."""
    records = zeroconf.cache.async_all_by_details(name, kind, _IN)
    return [record for record in records if record.get_remaining_ttl(now) > 1]


def _addresses(zeroconf: Zeroconf, server: str, kind: int, now: float) -> tuple[str, ...]:
    found = set()
    for record in _lasting(zeroconf, server, kind, now):
        if isinstance(record, DNSAddress):
            found.add(_text(record.address, record.scope_id))
    return tuple(sorted(found - {""}))


def _text(packed: bytes, scope: int | None) -> str:
    try:
        text = socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
        link_local = len(packed) == 16 and packed[0] == 0xFE and packed[1] & 0xC0 == 0x80
        return f"{text}%{socket.if_indextoname(scope)}" if link_local and scope else text
    except (OSError, ValueError):
        return ""
