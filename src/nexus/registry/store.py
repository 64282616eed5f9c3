"""The registry: the one source of truth about backends, and its only writer.

Control plane only, on one thread. Whoever reads takes ``store.snapshot`` and keeps it for as long
as a decision takes; each change replaces it whole, so a reader never sees half of one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping

from msgspec.structs import replace

from nexus.core.backend import (
    Backend,
    BackendSpec,
    BackendStatus,
    BackendUrl,
    EngineKind,
    EngineTraits,
    parse_backend_url,
)
from nexus.core.live import BackendLive
from nexus.core.model import Model
from nexus.core.snapshot import Candidate, Snapshot
from nexus.engines.adapter import CheckResult, Health
from nexus.engines.listing import served
from nexus.health import breaker
from nexus.health.report import CheckReport
from nexus.registry.overrides import ModelFacts, overridden
from nexus.registry.snapshot import build_snapshot, renewed, routes_of

__all__ = ["Listener", "Store", "is_same_place", "is_same_server"]

Listener = Callable[[Snapshot, Snapshot], None]
"""Told of a change: the snapshot before and the one after."""

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class _Member:
    """One backend as the store keeps it.

    ``truth`` has the status its health gives it and the models as its engine lists them; ``shown``
    is what snapshots show: draining, overrides and dropped models applied.
    """

    __slots__ = ("draining", "dropped", "live", "routes", "shown", "truth")

    def __init__(self, truth: Backend) -> None:
        self.truth = truth
        self.live = BackendLive()
        self.draining = False
        self.dropped: frozenset[str] = frozenset()
        self.shown = truth
        self.routes: dict[str, Candidate] = {}


class Store:
    """Every backend known, and the current :class:`~nexus.core.snapshot.Snapshot` of them.

    ``traits_of`` tells what all servers of an engine have in common. Methods that name a backend
    raise ``KeyError`` when there is none of that name, except where they say otherwise.
    """

    def __init__(
        self,
        *,
        traits_of: Callable[[EngineKind], EngineTraits],
        overrides: Mapping[str, ModelFacts] | None = None,
    ) -> None:
        self.snapshot = Snapshot()
        self._traits_of = traits_of
        self._overrides: Mapping[str, ModelFacts] = overrides or {}
        self._members: dict[str, _Member] = {}
        self._listeners: list[Listener] = []
        self._untold: deque[tuple[Snapshot, Snapshot]] = deque()
        self._telling = False

    def subscribe(self, listener: Listener) -> None:
        """Calls ``listener`` after each change, on the writer's thread, in the order of changes."""
        self._listeners.append(listener)

    def add(self, spec: BackendSpec, *, status: BackendStatus = BackendStatus.UNKNOWN) -> Backend:
        """Takes in a backend; ``PENDING`` awaits :meth:`approve`. ``ValueError`` when its name or
        its server is known already, or its URL is none."""
        if spec.name in self._members:
            raise ValueError(f"a backend named '{spec.name}' exists already")
        twin = self.same_server(spec)
        if twin is not None:
            raise ValueError(f"{spec.url} is the same server as backend '{twin.name}'")
        member = _Member(self._new(spec, status))
        self._members[spec.name] = member
        self._show(member)
        return member.shown

    def _new(self, spec: BackendSpec, status: BackendStatus) -> Backend:
        reason = "waits for approval" if status is BackendStatus.PENDING else "not checked yet"
        engine = spec.engine or EngineKind.GENERIC
        return Backend(
            spec=spec,
            address=parse_backend_url(spec.url),
            engine=engine,
            traits=self._traits_of(engine),
            status=status,
            reason=reason,
        )

    def same_server(self, spec: BackendSpec) -> Backend | None:
        """The backend that is the server ``spec`` points to, if one is known."""
        for member in self._members.values():
            if member.truth.spec.name != spec.name and is_same_server(spec, member.truth.spec):
                return member.shown
        return None

    def remove(self, name: str) -> None:
        """Forgets a backend. Calls under way there keep the live figures they hold."""
        del self._members[name]
        self._publish()

    def replace(self, spec: BackendSpec) -> Backend:
        """Takes a changed spec of a known name; live figures, drain and, unless it is another
        server or engine now, health stay. ``ValueError`` when another backend is that server."""
        member = self._members[spec.name]
        twin = self.same_server(spec)
        if twin is not None:
            raise ValueError(f"{spec.url} is the same server as backend '{twin.name}'")
        self._respecify(member, spec)
        self._show(member)
        return member.shown

    def reform(
        self, removed: Collection[str], moves: Iterable[tuple[str | None, BackendSpec]]
    ) -> list[Backend]:
        """Many changes in one snapshot (a reload): forgets ``removed``; each move takes in a spec,
        ``None`` as a new backend, else in the place of the backend of that name, whose live
        figures, drain and, if it is the same server, health it takes over. Names may be exchanged.

        Nothing is checked: the caller has made sure that names and servers are unique.
        """
        members = {name: one for name, one in self._members.items() if name not in removed}
        came: list[_Member] = []
        for was, spec in moves:
            if was is None:
                came.append(_Member(self._new(spec, BackendStatus.UNKNOWN)))
            else:
                member = self._members[was]
                if members.get(was) is member:
                    del members[was]
                self._respecify(member, spec)
                came.append(member)
        members.update((member.truth.name, member) for member in came)
        self._members = members
        for member in came:
            self._refresh(member)
        self._publish()
        return [member.shown for member in came]

    def _respecify(self, member: _Member, spec: BackendSpec) -> None:
        """Gives a backend another spec; see :meth:`replace`."""
        before = member.truth
        address = parse_backend_url(spec.url)
        engine = spec.engine or before.engine
        truth = replace(
            before, spec=spec, address=address, engine=engine, traits=self._traits_of(engine)
        )
        moved = _server(address) != _server(before.address) or engine is not before.engine
        if moved:
            truth = replace(truth, engine_version=None, capacity=None)
            member.live.another_server()
        if moved and before.status is not BackendStatus.PENDING:
            # Its models stay known until the check, so that calls are told 503 and not 404.
            truth = replace(truth, status=BackendStatus.UNKNOWN, reason="changed, not checked yet")
        elif before.status is BackendStatus.PENDING and spec.source.named_by_operator:
            truth = replace(truth, status=BackendStatus.UNKNOWN, reason="not checked yet")
        member.truth = truth

    def apply(self, report: CheckReport) -> None:
        """Takes in a health check. Ignored when the backend is gone or still awaits approval."""
        member = self._members.get(report.name)
        if member is None or member.truth.status is BackendStatus.PENDING:
            return
        result, before = report.result, member.truth
        engine = report.engine or before.engine
        if engine is not before.engine:
            before = replace(before, engine_version=None, capacity=None)
            member.live.another_server()
        well = result.health is Health.HEALTHY
        member.truth = replace(
            before,
            engine=engine,
            traits=self._traits_of(engine),
            status=report.status,
            reason=report.reason,
            engine_version=result.engine_version or before.engine_version,
            models=before.models if result.models is None else result.models,
            capacity=before.capacity if result.capacity is None else result.capacity,
            last_check_at_s=report.at_s,
            last_check_ms=report.duration_ms,
            last_check_error=None if well else result.reason or result.health.value,
        )
        if result.models is not None:
            member.dropped = frozenset()
        self._update_live(member.live, report, result)
        self._show(member)

    def drain(self, name: str) -> Backend:
        """Gives it no new calls, whatever its health, until :meth:`resume`."""
        member = self._members[name]
        member.draining = True
        self._show(member)
        return member.shown

    def resume(self, name: str) -> Backend:
        """Ends a drain; its health is what the checks said meanwhile."""
        member = self._members[name]
        member.draining = False
        self._show(member)
        return member.shown

    def approve(self, name: str) -> Backend:
        """Lets a pending backend in; its first check decides. Others stay as they are."""
        member = self._members[name]
        if member.truth.status is BackendStatus.PENDING:
            member.truth = replace(
                member.truth, status=BackendStatus.UNKNOWN, reason="not checked yet"
            )
            self._show(member)
        return member.shown

    def forget_model(self, name: str, model_id: str) -> None:
        """The engine said "model not here": drops that model of that backend (by its served id)
        until the next refresh lists it again. Unknown names are ignored."""
        member = self._members.get(name)
        if member is None or all(model.id != model_id for model in member.shown.models):
            return
        member.dropped |= {model_id}
        self._show(member)

    def override(self, overrides: Mapping[str, ModelFacts]) -> None:
        """Takes new ``[models]`` facts (a reload)."""
        self._overrides = overrides
        for member in self._members.values():
            self._refresh(member)
        self._publish()

    def live(self, name: str) -> BackendLive:
        """The live figures of a backend."""
        return self._members[name].live

    def _update_live(self, live: BackendLive, report: CheckReport, result: CheckResult) -> None:
        if report.round_trip_s is not None:
            live.probed(report.round_trip_s)
        if result.health is Health.HEALTHY:
            breaker.probe_ok(live, report.now_s)
        if result.running is not None or result.waiting is not None:
            live.polled(result.running, result.waiting, result.kv_usage)
        elif result.health is not Health.HEALTHY:
            live.polled(None, None)  # old figures say nothing of what is there now

    def _models(self, member: _Member) -> tuple[Model, ...]:
        spec = member.truth.spec
        models: dict[str, Model] = {}
        for model in member.truth.models:
            models.setdefault(model.id, model)
        taken = set(models).union(*(model.aliases for model in models.values()))
        # Named by the operator: served although the engine does not list it (or is not there yet).
        for model in served((), spec):
            if model.id not in taken:
                models[model.id] = model
        return tuple(
            overridden(model, self._overrides)
            for model in models.values()
            if model.id not in member.dropped
        )

    def _refresh(self, member: _Member) -> None:
        shown = replace(member.truth, models=self._models(member))
        if member.draining:
            shown = replace(shown, status=BackendStatus.DRAINING, reason="draining")
        member.shown = shown
        member.routes = routes_of(shown, member.live)

    def _show(self, member: _Member) -> None:
        before, names = self.snapshot, member.routes.keys()
        self._refresh(member)
        shown, live, routes = member.shown, member.live, member.routes
        old = before.backends.get(shown.name)
        in_its_place = old is not None and old.spec.priority == shown.spec.priority
        if in_its_place and before.live[shown.name] is live and names == routes.keys():
            self._tell(renewed(before, before.version + 1, shown, live, routes))
        else:
            self._publish()

    def _publish(self) -> None:
        fleet = ((member.shown, member.live, member.routes) for member in self._members.values())
        self._tell(build_snapshot(self.snapshot.version + 1, fleet))

    def _tell(self, snapshot: Snapshot) -> None:
        before = self.snapshot
        self.snapshot = snapshot
        self._untold.append((before, self.snapshot))
        if self._telling:
            return  # a listener made this change; it is told once all have heard of the last
        self._telling = True
        faults: list[Exception] = []
        while self._untold:
            old, new = self._untold.popleft()
            for listener in self._listeners:
                try:
                    listener(old, new)
                except Exception as error:
                    faults.append(error)
        self._telling = False
        # Every listener has been told; the first fault still reaches whoever made the change.
        if faults:
            raise faults[0]


def is_same_server(one: BackendSpec, other: BackendSpec) -> bool:
    """Whether two specs mean one server. Two that the operator named with different credentials are
    two (two accounts at one cloud). Raises ``ValueError`` when a URL is none."""
    if not is_same_place(one, other):
        return False
    by_operator = one.source.named_by_operator and other.source.named_by_operator
    return not by_operator or _credentials(one) == _credentials(other)


def is_same_place(one: BackendSpec, other: BackendSpec) -> bool:
    """Whether two specs lead to one address, whatever their credentials. Raises ``ValueError`` when
    a URL is none."""
    return _server(parse_backend_url(one.url)) == _server(parse_backend_url(other.url))


def _server(address: BackendUrl) -> tuple[str, int, str, str]:
    host = "localhost" if address.host in _LOOPBACK_NAMES else address.host
    return host, address.port, address.base_path, address.query


def _credentials(spec: BackendSpec) -> tuple[str, dict[str, str], dict[str, str]]:
    return spec.api_key, spec.headers, spec.query
