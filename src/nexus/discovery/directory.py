"""What becomes of what was seen: the rules of discovery, without I/O or clock.

Scanner and mDNS browser tell :meth:`Directory.seen` and :meth:`~Directory.gone`; the directory
decides which servers are new, which are known already, which are trusted, and when one that is gone
is forgotten. It acts through :class:`~nexus.discovery.found.Outside`.

Nothing that the operator named is ever touched: a found server that turns out to be one of those is
that backend.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf

from nexus.core.backend import Backend, BackendSpec, BackendStatus, EngineKind
from nexus.core.limits import TokenBucket
from nexus.discovery.found import Finding, FoundServer, Outside, Place, Policy, Question, Stage
from nexus.discovery.naming import Names, base_name
from nexus.discovery.nearness import identity, may_be_used, url_of
from nexus.discovery.recognise import is_backend, same_place
from nexus.discovery.sane import usable
from nexus.discovery.servers import Servers
from nexus.discovery.sighting import Sighting

__all__ = ["Directory"]

_ASKED_AT_ONCE = 30.0
_ASKED_PER_S = 5.0
"""New servers are asked what they are at this rate, after so many at once; those that were of no
use so far at the same rate of their own, lest they keep the new ones waiting."""
_REMEMBERED_MAX = 1024
_UNREACHABLE_S = 1.0
_INTERVALS_MAX = 10
"""A server that is of no use is asked again after 1, 2, 4, ... and at most so many intervals (one
that gives no answer: after 1, 2, 4, ... seconds)."""


class Directory:
    """Every server that was found. All times are monotonic seconds."""

    def __init__(self, policy: Policy, outside: Outside) -> None:
        self._policy = policy
        self._outside = outside
        self._servers = Servers(policy.servers_max)
        self._rate = TokenBucket(_ASKED_AT_ONCE, _ASKED_PER_S)
        self._rate_again = TokenBucket(_ASKED_AT_ONCE, _ASKED_PER_S)
        self._names = Names()
        self._dismissed: OrderedDict[Place, None] = OrderedDict()

    @property
    def servers(self) -> int:
        """How many servers are kept in mind."""
        return len(self._servers)

    # --- what is seen -----------------------------------------------------------------------

    def seen(self, sighting: Sighting, now_s: float) -> None:
        """A server was seen, or seen again, or tells something new under a known key."""
        known = self._servers.of_key(sighting.key)
        try:
            sighting = usable(sighting)
        except ValueError as error:
            self._outside.note("unusable_advert", name=sighting.name, why=str(error))
            self.gone(sighting.key, now_s)
            return
        if known is not None and known.sightings[sighting.key] == sighting:
            return
        who = identity(sighting.addresses, self._outside.is_own)
        place = (who, sighting.port, sighting.base_path)
        if known is not None and len(known.sightings) > 1 and not same_place(known.place, place):
            self.gone(sighting.key, now_s)  # the other sightings were of another server
            known = None
        server = known or self._servers.at(place) or self._servers.new(sighting)
        if server is None:
            self._outside.note("too_many_servers", most=self._servers.most)
            return
        self._servers.attach(server, sighting)
        server.gone_at_s = None
        server.gather(self._outside.is_own)
        server.tries = 0
        if server.stage is not Stage.ASKED:
            self._judge(server, now_s)

    def gone(self, key: str, now_s: float) -> None:
        """It said goodbye, or listens no more. Unknown keys are ignored."""
        server = self._servers.detach(key)
        if server is None:
            return
        server.gather(self._outside.is_own)
        if server.sightings:
            if server.stage is not Stage.ASKED:
                self._judge(server, now_s)
        elif server.name is None:
            self._servers.drop(server)
        else:
            server.gone_at_s = now_s
            self._outside.suspect(server.name)

    def told(self, finding: Finding, now_s: float) -> None:
        """The answer to ``Outside.ask``."""
        server = self._servers.get(finding.server)
        if server is None or server.stage is not Stage.ASKED:
            return
        self._check_name(server)
        if server.name is not None:
            server.stage = Stage.BACKEND
        if not server.sightings:
            return
        interval_s = self._policy.interval_s
        found, address = finding.found, finding.address
        if found is None or address is None:
            self._leave(server, now_s, _UNREACHABLE_S, "unreachable")
        elif found.nexus:
            self._leave(server, now_s, interval_s, "another_nexus")
        elif found.silent:
            self._leave(server, now_s, _UNREACHABLE_S, "silent", why=found.reason)
        elif found.engine is None:
            self._leave(server, now_s, interval_s, "not_an_llm_server", why=found.reason)
        elif found.needs_key and found.engine is EngineKind.GENERIC:
            self._leave(server, now_s, interval_s, "wants_a_key", why=found.reason)
        elif address not in server.reachable or self._twin(server) is not None:
            self._judge(server, now_s)  # things changed meanwhile
        else:
            self._use(server, address, found.engine, pending=not self._trusts(server, address))
            server.again_at_s = now_s + interval_s

    def queried(self, name: str, answered: bool, now_s: float) -> None:
        """The answer to ``Outside.query``: whether ``name`` is still announced."""
        for server in self._servers:
            self._check_name(server)
            if server.name != name:
                continue
            if answered or server.scanned or server.ill_since_s is None:
                server.query_at_s = now_s + self._policy.grace_s
            else:
                self._forget(server, "unhealthy, and announced no more")

    def dismiss(self, name: str) -> None:
        """The operator removed backend ``name``: the server that it was is not found again."""
        for server in self._servers:
            same = server.stage is Stage.SAME and server.same_as == name
            if server.name == name or same:
                server.name = None
                server.stage = Stage.DISMISSED
                self._dismissed[server.place] = None
                if len(self._dismissed) > _REMEMBERED_MAX:
                    self._dismissed.popitem(last=False)

    def tick(self, now_s: float) -> None:
        """Does what time brings: removals, further tries. To be called every few seconds."""
        backends = self._outside.backends()
        named = [one for one in backends.values() if one.spec.source.named_by_operator]
        for server in self._servers:
            self._check_name(server)
            if server.name is None and not server.sightings:
                self._servers.drop(server)
            elif server.name is not None:
                self._mind(server, backends[server.name], named, now_s)
            elif server.stage in (Stage.WAITING, Stage.SAME) or (
                server.stage is Stage.LEFT and now_s >= server.again_at_s
            ):
                self._judge(server, now_s)

    # --- rules ------------------------------------------------------------------------------

    def _judge(self, server: FoundServer, now_s: float) -> None:
        """Decides what becomes of a server that is there."""
        self._check_name(server)
        sighting = server.sighting
        if any(same_place(server.place, one) for one in self._dismissed):
            server.stage = Stage.DISMISSED
            return
        if any(self._outside.is_me(address, sighting.port) for address in server.reachable):
            self._leave(server, now_s, inf, "itself")
            return
        if sighting.nexus and server.name is None:
            self._leave(server, now_s, inf, "another_nexus")
            return
        twin = self._twin(server)
        if twin is not None:
            self._yield_to(server, twin)
            return
        if server.name is not None and server.url in server.urls:
            server.stage = Stage.BACKEND
            return
        addresses = self._to_ask(server)
        if not addresses:
            self._use(server, server.reachable[0], sighting.engine, pending=True)
            return
        self._ask(server, addresses, now_s)

    def _ask(self, server: FoundServer, addresses: tuple[str, ...], now_s: float) -> None:
        rate = self._rate_again if server.tries else self._rate
        if not rate.take(now_s):
            if server.name is None and server.stage is not Stage.LEFT:
                server.stage = Stage.WAITING
            return
        server.stage = Stage.ASKED
        self._outside.ask(
            Question(
                server=server.number,
                addresses=addresses,
                port=server.sighting.port,
                base_path=server.sighting.base_path,
            )
        )

    def _mind(
        self, server: FoundServer, backend: Backend, named: list[Backend], now_s: float
    ) -> None:
        """Looks after a server that is a backend."""
        in_use = self._place_in_use(server, backend)
        for twin in named:
            if is_backend(in_use, twin, self._outside):
                self._yield_to(server, twin)
                return
        if server.gone_at_s is not None:
            if now_s - server.gone_at_s >= self._policy.grace_s:
                self._forget(server, "gone for the grace period")
            return
        if backend.status is not BackendStatus.UNHEALTHY:
            server.ill_since_s = None
            return
        if server.ill_since_s is None:
            server.ill_since_s = now_s
            server.query_at_s = now_s + self._policy.grace_s
        if now_s >= server.query_at_s and not server.scanned:
            server.query_at_s = inf
            self._outside.query(backend.name, tuple(server.sightings))
        elif now_s >= server.again_at_s and server.stage is Stage.BACKEND:
            # Another of its addresses may do, or it was not reached by the one in use.
            addresses = self._to_ask(server)
            if len(addresses) > 1 or server.url not in server.urls:
                self._ask(server, addresses, now_s)

    def _use(
        self, server: FoundServer, address: str, engine: EngineKind | None, *, pending: bool
    ) -> None:
        """Makes it a backend, or moves the one that it is to ``address``."""
        sighting = server.sighting
        url = url_of(address, sighting.port, sighting.base_path)
        if server.name is not None:
            if url == server.url:
                return
            if not pending or self._waits(server.name):
                if self._outside.move(server.name, url):
                    server.url = url
                return
            # What was trusted, or approved, is what was at the old address: anyone on the link can
            # announce another under the same name.
            self._outside.remove(server.name, "it moved to an address that waits for approval")
            server.name = None
        # What an advert says of the engine counts where asking cannot tell; else the checks find it
        # out, now and whenever another engine has taken its place.
        advert_decides = pending or engine is EngineKind.GENERIC
        base = base_name(sighting, engine)
        name = self._names.give(base, server.place, self._outside.backends())
        added = self._outside.add(
            BackendSpec(
                name=name,
                url=url,
                engine=sighting.engine if advert_decides else None,
                source=sighting.source,
                forward_authorization=True if self._policy.forward_authorization else None,
            ),
            pending=pending,
        )
        server.stage = Stage.BACKEND if added else Stage.SAME
        if added:
            server.name, server.url = name, url
            server.ill_since_s, server.tries = None, 0

    def _leave(
        self, server: FoundServer, now_s: float, first_s: float, kind: str, **fields: object
    ) -> None:
        """It is of no use now."""
        longest_s = inf if first_s == inf else _INTERVALS_MAX * self._policy.interval_s
        server.again_at_s = now_s + min(first_s * 2**server.tries, longest_s)
        server.tries = min(server.tries + 1, 20)
        if server.name is None:
            server.stage = Stage.LEFT
            sighting = server.sighting
            where = url_of(server.reachable[0], sighting.port, sighting.base_path)
            self._outside.note(kind, name=sighting.name, url=where, **fields)

    def _yield_to(self, server: FoundServer, twin: Backend) -> None:
        if server.name is not None:
            self._outside.remove(server.name, f"it is backend '{twin.name}'")
            server.name = None
        server.stage, server.same_as = Stage.SAME, twin.name

    def _forget(self, server: FoundServer, why: str) -> None:
        if server.name is not None:
            self._outside.remove(server.name, why)
        self._servers.drop(server)

    def _check_name(self, server: FoundServer) -> None:
        """A backend that somebody took out, or that the operator has made his own, is not ours."""
        if server.name is None:
            return
        backend = self._outside.backends().get(server.name)
        if backend is None or backend.spec.source.named_by_operator:
            server.name = None
            server.stage = Stage.WAITING

    # --- who is who -------------------------------------------------------------------------

    def _twin(self, server: FoundServer) -> Backend | None:
        """Another backend that is this server."""
        for backend in self._outside.backends().values():
            if backend.name != server.name and is_backend(server.place, backend, self._outside):
                return backend
        return None

    def _place_in_use(self, server: FoundServer, backend: Backend) -> Place:
        """Where its backend is reached, which is not yet where it has moved to."""
        if server.url in server.urls:
            return server.place
        address = backend.address
        who = identity(self._outside.addresses_of(address.host), self._outside.is_own)
        return who, address.port, address.base_path

    def _trusts(self, server: FoundServer, address: str) -> bool:
        """Whether it is used unasked. All of this machine's addresses are as good as loopback."""
        return may_be_used("127.0.0.1" if server.here else address, self._policy.auto_approve)

    def _waits(self, name: str) -> bool:
        """Whether this backend of ours waits for approval."""
        return self._outside.backends()[name].status is BackendStatus.PENDING

    def _to_ask(self, server: FoundServer) -> tuple[str, ...]:
        """The addresses that may be asked: what waits for approval is not even talked to, except
        on this machine, where every open port would be waiting else."""
        if server.scanned:
            return server.reachable
        return tuple(one for one in server.reachable if self._trusts(server, one))
