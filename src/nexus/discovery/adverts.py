"""The adverts heard so far, and what is still missing of each. No I/O; time is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from nexus.core.backend import Source
from nexus.discovery.addresses import OwnAddress, nearest_first
from nexus.discovery.sighting import Sighting
from nexus.discovery.txt import display_name, parse_txt

__all__ = ["Advert", "Adverts", "Due", "Ignored", "Question", "askable", "key_of", "service_type"]

_ADVERTS_MAX = 256
_KEY_MAX_CHARS = 255
_ASK_AFTER_S = (0.1, 0.4, 1.0, 2.0, 4.0)
"""Waits before each question for what is missing: the first lets the rest of a burst come in."""
_SETTLED_ASKED = 2
"""After so many questions an advert is taken without what it may lack."""

SRV, TXT, A, AAAA = 33, 16, 1, 28


class Question(msgspec.Struct, frozen=True):
    """A question to send: name and record type; ``first`` is asked for a direct answer (QU)."""

    name: str
    type: int
    first: bool


class Due(msgspec.Struct, frozen=True):
    """The questions to ask now, the names given up, and when to come again (``None``: when
    something new is heard)."""

    questions: list[Question]
    forgotten: list[str]
    next_s: float | None


class Ignored(msgspec.Struct, frozen=True):
    """An advert that is of no use: which kind of fault (one log line each), and where."""

    kind: str
    key: str


class Advert:
    """One instance. ``server`` is its host's name in lower case; ``txt`` is ``None`` until heard;
    addresses are as records told them, each family replaced when a newer record set of that family
    is heard."""

    __slots__ = ("ask_at_s", "asked", "name", "port", "server", "told", "txt", "v4", "v6")

    def __init__(self, name: str, now_s: float) -> None:
        self.name = name
        self.server = ""
        self.port = 0
        self.txt: bytes | None = None
        self.v4: tuple[str, ...] = ()
        self.v6: tuple[str, ...] = ()
        self.asked = 0
        self.ask_at_s = now_s + _ASK_AFTER_S[0]
        self.told: Sighting | Ignored | None = None

    @property
    def key(self) -> str:
        """The sighting's key: the instance's full name, printable, two names never alike."""
        return key_of(self.name)

    @property
    def resolved(self) -> bool:
        """Whether it is known where the server is. A TXT record is due (RFC 6763 § 6), and most
        have an IPv4 address, which may come a moment after the other; an advert that stays without
        is taken after all."""
        settled = self.asked >= _SETTLED_ASKED
        known = bool(self.server and (self.v4 or (self.v6 and settled)))
        return known and (self.txt is not None or settled)

    def questions(self) -> list[Question]:
        """What to ask for next."""
        first = self.asked == 0
        wanted: list[Question] = []
        if not self.server:
            wanted.append(Question(self.name, SRV, first))
        if self.txt is None:
            wanted.append(Question(self.name, TXT, first))
        if self.server and not self.v4 and (not self.v6 or self.asked < _SETTLED_ASKED):
            wanted.append(Question(self.server, A, first))
            if not self.v6:
                wanted.append(Question(self.server, AAAA, first))
        return wanted


class Adverts:
    """All instances of the browsed types, by lower-case name; at most 256, further ones are
    ignored. ``own_id`` is this gateway's, whose advert is passed over."""

    def __init__(self, types: Iterable[str], own_id: str = "") -> None:
        self.types = frozenset(types)
        self.by_name: dict[str, Advert] = {}
        self._own_id = own_id

    def heard(self, name: str, now_s: float) -> Advert | Ignored:
        """An instance is announced."""
        advert = self.by_name.get(name.lower())
        if advert is not None:
            return advert
        if self._instance(name) is None:
            return Ignored("wrong_type", key_of(name))
        if not askable(name):
            return Ignored("bad_name", key_of(name))
        if len(self.by_name) >= _ADVERTS_MAX:
            return Ignored("too_many", key_of(name))
        advert = self.by_name[name.lower()] = Advert(name, now_s)
        return advert

    def gone(self, name: str) -> Advert | None:
        """An instance said goodbye, or is to be forgotten."""
        return self.by_name.pop(name.lower(), None)

    def _instance(self, name: str) -> str | None:
        """The instance's own part of a full name; ``None`` when its type is not browsed."""
        for type_ in self.types:
            if name.lower().endswith("." + type_):
                return name[: -len(type_) - 1]
        return None

    def named(self, key: str) -> Advert | None:
        """The advert of a sighting's key."""
        return next((advert for advert in self.by_name.values() if advert.key == key), None)

    def at_server(self, server: str) -> list[Advert]:
        """The adverts that point at a host (its name in lower case)."""
        return [one for one in self.by_name.values() if one.server == server]

    def due(self, now_s: float, most: int) -> Due:
        """What to do now; at most about ``most`` questions. An advert that stays unanswered is
        forgotten."""
        questions: list[Question] = []
        forgotten: list[str] = []
        next_s: float | None = None
        for folded, advert in list(self.by_name.items()):
            wanted = [] if advert.asked > len(_ASK_AFTER_S) else advert.questions()
            if not wanted:
                continue
            if advert.ask_at_s <= now_s and len(questions) < most:
                if advert.asked == len(_ASK_AFTER_S):
                    if advert.resolved:
                        advert.asked += 1  # it has no TXT record
                    else:
                        del self.by_name[folded]
                        forgotten.append(advert.name)
                    continue
                questions += wanted
                advert.asked += 1
                wait_s = _ASK_AFTER_S[min(advert.asked, len(_ASK_AFTER_S) - 1)]
                advert.ask_at_s = now_s + wait_s
            next_s = advert.ask_at_s if next_s is None else min(next_s, advert.ask_at_s)
        return Due(questions, forgotten, next_s)

    def sighting(self, advert: Advert, own: Sequence[OwnAddress]) -> Sighting | Ignored | None:
        """What an advert that is resolved comes to; ``None``: it is this gateway's own."""
        txt = parse_txt(advert.txt or b"")
        if self._own_id and txt.instance_id == self._own_id:
            return None
        if not 0 < advert.port < 65536:
            return Ignored("bad_port", advert.key)
        addresses = nearest_first((*advert.v4, *advert.v6), own)
        if not addresses:
            return Ignored("bad_address", advert.key)
        instance = self._instance(advert.name)
        return Sighting(
            key=advert.key,
            source=Source.MDNS,
            name=display_name(instance or "") or display_name(advert.server) or "mdns",
            addresses=addresses,
            port=advert.port,
            base_path=txt.base_path,
            engine=txt.engine,
            version=txt.version,
            models=txt.models,
            nexus=txt.nexus,
        )


def service_type(name: str) -> str:
    """A service type as records name it: lower case, with the dot at its end. Raises
    ``ValueError`` when it is none (``_ollama._tcp.local``)."""
    folded = name.strip().lower().rstrip(".") + "."
    labels = folded.split(".")
    if (
        len(labels) != 4
        or labels[2:] != ["local", ""]
        or labels[1] not in ("_tcp", "_udp")
        or not labels[0].startswith("_")
        or not labels[0][1:].replace("-", "").isalnum()
        or not labels[0].isascii()
        or len(labels[0]) > 64
    ):
        raise ValueError(f"{name!r} is not a service type such as _ollama._tcp.local")
    return folded


def askable(name: str) -> bool:
    """Whether a name fits into a question: labels of 1 to 63 bytes, 255 in all (RFC 1035 § 2.3.4).
    A name that was not UTF-8 may have grown when it was read."""
    labels = name.encode("utf-8", "replace").removesuffix(b".").split(b".")
    return all(0 < len(label) < 64 for label in labels) and len(name.encode()) <= 254


def key_of(name: str) -> str:
    """An instance's full name, lower case, what is not printable escaped."""
    folded = name.lower().rstrip(".")[:_KEY_MAX_CHARS]
    if folded.isprintable() and "\\" not in folded:
        return folded
    return folded.encode("unicode_escape").decode("ascii")
