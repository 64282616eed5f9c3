"""A world for the directory: it does what the gateway would, and keeps what it was told."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from nexus.core.backend import (
    Backend,
    BackendSpec,
    BackendStatus,
    EngineKind,
    EngineTraits,
    Source,
    parse_backend_url,
)
from nexus.discovery.directory import Directory
from nexus.discovery.found import Finding, Policy, Question
from nexus.discovery.sighting import Sighting
from nexus.engines.fingerprint import Fingerprint

__all__ = ["World", "advert", "known", "scanned"]

OLLAMA = Fingerprint(engine=EngineKind.OLLAMA, label="Ollama", reason="Ollama")


def scanned(port: int = 11434, address: str = "127.0.0.1") -> Sighting:
    """A port of this machine that is listened on."""
    return Sighting(
        key=f"scan:localhost:{port}",
        source=Source.SCAN,
        name=f"localhost:{port}",
        addresses=(address,),
        port=port,
    )


def advert(name: str = "gpu", *addresses: str, port: int = 11434, **more: Any) -> Sighting:
    """An mDNS advert."""
    fields: dict[str, Any] = {
        "key": f"{name}._ollama._tcp.local",
        "source": Source.MDNS,
        "name": name,
        "addresses": addresses or ("192.168.1.20",),
        "port": port,
    }
    return Sighting(**{**fields, **more})


def known(name: str, url: str, source: Source = Source.STATIC, **more: Any) -> BackendSpec:
    """A backend that the operator named."""
    return BackendSpec(name=name, url=url, source=source, **more)


class World:
    """``Outside`` for tests. Time is ``now_s``; :meth:`pass_time` moves it and ticks each second.

    Questions are answered at once by ``answers`` (``None``: kept in ``questions``), by address;
    an address that is not there cannot be reached.
    """

    def __init__(self, *named: BackendSpec, **policy: Any) -> None:
        self.now_s = 1000.0
        self.fleet: dict[str, Backend] = {}
        self.own = {"192.168.1.7", "172.17.0.1", "fe80::7%eth0"}
        self.me: set[tuple[str, int]] = set()
        self.names: dict[str, tuple[str, ...]] = {}
        self.answers: dict[str, Fingerprint] | None = {
            "127.0.0.1": OLLAMA,
            "::1": OLLAMA,
            "192.168.1.20": OLLAMA,
        }
        self.questions: list[Question] = []
        self.queries: list[tuple[str, tuple[str, ...]]] = []
        self.announced = True
        self.notes: list[str] = []
        self.suspected: list[str] = []
        self.events: list[tuple[str, str]] = []
        self.directory = Directory(Policy(**policy), self)
        for spec in named:
            self.add(spec, pending=False)
        self.events.clear()

    # --- what tests do ----------------------------------------------------------------------

    def seen(self, *sightings: Sighting) -> None:
        for one in sightings:
            self.directory.seen(one, self.now_s)

    def gone(self, one: Sighting) -> None:
        self.directory.gone(one.key, self.now_s)

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.now_s += 1
            self.directory.tick(self.now_s)

    def answer(self, question: Question) -> None:
        """As the engines at its addresses would."""
        finding = Finding(server=question.server)
        for address in question.addresses:
            if self.answers is not None and address in self.answers:
                found = self.answers[address]
                finding = Finding(server=question.server, address=address, found=found)
                break
        self.directory.told(finding, self.now_s)

    def becomes(self, name: str, status: BackendStatus) -> None:
        self.fleet[name] = replace(self.fleet[name], status=status)

    @property
    def found(self) -> dict[str, str]:
        """The found backends: name and URL."""
        return {
            name: backend.spec.url
            for name, backend in self.fleet.items()
            if not backend.spec.source.named_by_operator
        }

    # --- Outside ----------------------------------------------------------------------------

    def backends(self) -> dict[str, Backend]:
        return self.fleet

    def is_own(self, address: str) -> bool:
        return address in self.own or address.startswith("127.") or address == "::1"

    def is_me(self, address: str, port: int) -> bool:
        return (address, port) in self.me

    def addresses_of(self, host: str) -> tuple[str, ...]:
        if host == "localhost":
            return ("127.0.0.1", "::1")
        if host[0].isdigit() or ":" in host:
            return (host,)
        return self.names.get(host, ())

    def ask(self, question: Question) -> None:
        self.questions.append(question)
        if self.answers is not None:
            self.answer(question)

    def query(self, name: str, keys: tuple[str, ...]) -> None:
        self.queries.append((name, keys))
        self.directory.queried(name, self.announced, self.now_s)

    def add(self, spec: BackendSpec, *, pending: bool) -> bool:
        if spec.name in self.fleet:
            return False
        self.fleet[spec.name] = Backend(
            spec=spec,
            address=parse_backend_url(spec.url),
            engine=spec.engine or EngineKind.GENERIC,
            traits=EngineTraits(),
            status=BackendStatus.PENDING if pending else BackendStatus.HEALTHY,
        )
        self.events.append(("add", spec.name))
        return True

    def remove(self, name: str, why: str) -> None:
        del self.fleet[name]
        self.events.append(("remove", name))

    def move(self, name: str, url: str) -> bool:
        before = self.fleet[name]
        spec = replace(before.spec, url=url)
        self.fleet[name] = replace(before, spec=spec, address=parse_backend_url(url))
        self.events.append(("move", name))
        return True

    def suspect(self, name: str) -> None:
        self.suspected.append(name)

    def note(self, kind: str, **fields: object) -> None:
        self.notes.append(kind)
