"""The data plane: what all calls share, and where a request finds who answers it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from time import time
from typing import Protocol

from nexus.core.backend import Backend, BackendStatus, BackendUrl
from nexus.core.call import Outcome
from nexus.core.errors import ApiError, AttemptFailure, FailureKind
from nexus.core.limits import Budget, TokenBucket
from nexus.core.live import BackendLive
from nexus.core.snapshot import Snapshot
from nexus.dialects.errors import error_body
from nexus.health.signs import Signs
from nexus.http1.headers import Headers, serialise_response
from nexus.http1.message import Request
from nexus.http1.server import ClientHandler, ServerConnection
from nexus.http1.timers import DeadlineQueues
from nexus.http1.tunnel import Proxy
from nexus.proxy.endpoints import ENDPOINTS, Endpoint
from nexus.proxy.exchange import Exchange
from nexus.proxy.hops import hop_mark, via_line
from nexus.proxy.limits import PlaneLimits
from nexus.proxy.link import Link
from nexus.routing.router import Router
from nexus.telemetry.record import CallRecord

__all__ = ["DataPlane", "Hooks", "PlaneLimits"]


_FAILOVERS_PER_CALL = 0.2


class Hooks(Protocol):
    """What the data plane tells the control plane; every method returns at once."""

    def suspect(self, backend: str) -> None:
        """Traffic saw this backend fail: probe it now."""

    def forget_model(self, backend: str, model_id: str) -> None:
        """It says that it does not have this model: list its models anew."""

    def record(self, record: CallRecord) -> None:
        """A call is over."""

    def unexpected(self, error: BaseException, request_id: str) -> None:
        """A fault of our own, caught."""

    def truncated(self, backend: str, model_id: str) -> None:
        """An engine seems to have cut a prompt without a word."""

    def check_origin(self, request: Request) -> tuple[ApiError | None, Headers]:
        """Whether a browser's page may ask, and the CORS fields for the answer (behaviour § 11)."""

    def page(
        self, request: Request, connection: ServerConnection
    ) -> tuple[bool, ClientHandler | None]:
        """Answers what is not relayed: ``(False, None)`` when the path is unknown."""


class DataPlane:
    """The service behind the HTTP server (``http1.server.Service``).

    ``instance_id`` is how this gateway recognises its own mark on a request.
    """

    __slots__ = (
        "_calls_uncredited",
        "_id_prefix",
        "_ids",
        "_links",
        "_proxy_of",
        "budget",
        "draining",
        "exchange",
        "hooks",
        "hop",
        "http_errors",
        "in_flight",
        "last_fields",
        "limits",
        "loop",
        "on_quiet",
        "retry_budget",
        "rng",
        "router",
        "snapshot",
        "timers",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        hooks: Hooks,
        router: Router,
        snapshot: Snapshot,
        limits: PlaneLimits,
        budget: Budget,
        rng: Random,
        proxy_of: Callable[[BackendUrl], Proxy | None] = lambda _: None,
        instance_id: str = "",
    ) -> None:
        self.loop = loop
        self.hooks = hooks
        self.router = router
        self.snapshot = snapshot
        self.limits = limits
        self.budget = budget
        self.rng = rng
        self._proxy_of = proxy_of
        bits = f"{rng.getrandbits(80):020x}"
        self.hop = hop_mark(instance_id or bits)
        # A request's last header fields: made once, since every call has them.
        self.last_fields = via_line((self.hop,)) + b"x-request-id: %b\r\ncontent-length: %d\r\n\r\n"
        self.draining = False
        self.in_flight = 0
        self.exchange: type[Exchange] = Exchange
        """What a call is made of: the class, or one that also logs its content."""
        # Status → answers to what was no call: unknown paths, wrong methods, malformed HTTP.
        self.http_errors: dict[int, int] = {}
        self.on_quiet: Callable[[], None] | None = None
        self.retry_budget = TokenBucket(100.0, 10.0)
        self._calls_uncredited = 0
        self._links: dict[str, Link] = {}
        self._ids = 0
        # Shaped like a UUID (version 4): some engines refuse any other request id.
        self._id_prefix = f"{bits[:8]}-{bits[8:12]}-4{bits[12:15]}-8{bits[15:18]}-"
        self.timers: DeadlineQueues[Exchange] = DeadlineQueues(loop, _ring)

    # --- http1.server.Service ---------------------------------------------------------------

    def handle(self, request: Request, connection: ServerConnection) -> ClientHandler | None:
        """Finds who answers: a relayed endpoint's exchange, or a page of our own."""
        endpoint = _endpoint(request.path)
        if endpoint is not None and request.method == b"POST":
            exchange = self.exchange(self, request, connection, endpoint)
            exchange.begin()
            return exchange
        self.budget.give(request.held_bytes)
        request.held_bytes = 0
        request_id = request.kept_id() or self.next_id()
        refusal, cors = self.hooks.check_origin(request)
        own: Headers = [(b"x-request-id", request_id.encode()), *cors]
        try:
            if refusal is None and endpoint is None:
                found, handler = self.hooks.page(request, connection)
                if found:
                    return handler
            if refusal is None and request.method == b"OPTIONS" and cors:
                connection.write(serialise_response(204, own, b"", close=connection.must_close))
                connection.finish()
                return None
            if refusal is None:
                path = request.path.decode("latin-1")[:200]
                refusal = (
                    ApiError.not_found(path)
                    if endpoint is None
                    else ApiError.method_not_allowed(request.method.decode(), path, ("POST",))
                )
        except ApiError as error:
            refusal = error
        except Exception as error:
            self.hooks.unexpected(error, request_id)
            refusal = ApiError.internal(request_id)
        assert refusal is not None
        self._count_http_error(refusal.status)
        connection.write(
            self.render_error(
                refusal,
                close=connection.must_close,
                head_only=request.method == b"HEAD",
                headers=own,
            )
        )
        connection.finish()
        return None

    def refuse(self, error: ApiError, target: bytes) -> bytes:
        """An error of the HTTP layer; what was meant for an endpoint is recorded as a call."""
        endpoint = _endpoint(target.partition(b"?")[0])
        request_id = self.next_id()
        if endpoint is None:
            self._count_http_error(error.status)
        else:
            self.hooks.record(
                CallRecord(
                    request_id=request_id,
                    at_s=time(),
                    endpoint=endpoint.path,
                    outcome=Outcome.CLIENT_ERROR if error.status < 500 else Outcome.REFUSED,
                    status=error.status,
                    error=error.message,
                )
            )
        return self.render_error(
            error, close=True, headers=[(b"x-request-id", request_id.encode())]
        )

    def _count_http_error(self, status: int) -> None:
        self.http_errors[status] = self.http_errors.get(status, 0) + 1

    def render_error(
        self,
        error: ApiError,
        *,
        close: bool,
        head_only: bool = False,
        headers: Headers | None = None,
    ) -> bytes:
        """The whole response for an error of ours, with a request id of its own."""
        fields = [(b"content-type", b"application/json")]
        own = headers or []
        if not any(name == b"x-request-id" for name, _ in own):
            fields.append((b"x-request-id", self.next_id().encode()))
        fields += own
        fields += [(name.lower().encode(), value.encode()) for name, value in error.headers]
        if error.retry_after_s is not None:
            fields = [field for field in fields if field[0] != b"x-should-retry"]
            fields.append((b"retry-after", b"%d" % max(1, round(error.retry_after_s))))
        return serialise_response(
            error.status, fields, error_body(error), close=close, head_only=head_only
        )

    def unexpected(self, error: BaseException) -> None:
        """A fault of our own outside of any call."""
        self.hooks.unexpected(error, "")

    # --- what exchanges use -----------------------------------------------------------------

    def next_id(self) -> str:
        """A request id, unique in this process and unlikely elsewhere."""
        self._ids += 1
        return f"{self._id_prefix}{self._ids:012x}"

    def link(self, backend: Backend) -> Link:
        """The way to ``backend``, made anew when it changed."""
        link = self._links.get(backend.spec.name)
        if link is None or not link.serves(backend):
            link = self._new_link(backend, link)
        return link

    def _new_link(self, backend: Backend, before: Link | None) -> Link:
        link = self._links[backend.spec.name] = Link(
            self.loop,
            backend,
            self.limits,
            self.timers,
            proxy=self._proxy_of(backend.address),
            before=before,
        )
        return link

    def began(self) -> None:
        """A call begins."""
        self.in_flight += 1
        self._calls_uncredited += 1

    def may_fail_over(self, now_s: float) -> bool:
        """Takes one failover of the retry budget, if there is one left (behaviour § 5.2)."""
        self.retry_budget.refill(_FAILOVERS_PER_CALL * self._calls_uncredited)
        self._calls_uncredited = 0
        return self.retry_budget.take(now_s)

    def finished(self, record: CallRecord) -> None:
        """A call is over."""
        self.in_flight -= 1
        self.hooks.record(record)
        if self.in_flight == 0 and self.on_quiet is not None:
            self.on_quiet()

    # --- what the control plane uses --------------------------------------------------------

    def adopt(self, snapshot: Snapshot) -> None:
        """Routes on ``snapshot`` from now on. Calls that are not committed leave backends that
        turned unhealthy; links to backends that are gone close when idle."""
        before = self.snapshot
        self.snapshot = snapshot
        for name, new in snapshot.backends.items():
            if new.status is BackendStatus.UNHEALTHY and before.backends.get(name) is not new:
                live = snapshot.live[name]
                if _status(before, live) not in (None, BackendStatus.UNHEALTHY):
                    self._leave(live, new.reason)
        for name in [name for name in self._links if name not in snapshot.backends]:
            link = self._links[name]
            link.pool.close_idle()
            if not link.active:  # else it is looked at again with the next snapshot
                del self._links[name]

    def _leave(self, live: BackendLive, reason: str) -> None:
        """Ends the attempts at the backend with these figures: it may have been called otherwise,
        and another one as it is called now, when they began."""
        failure = AttemptFailure(
            FailureKind.BACKEND_LOST, f"turned unhealthy ({reason})", against_backend=False
        )
        for link in list(self._links.values()):
            for exchange in [one for one in link.active if one.is_at(live)]:
                try:
                    exchange.on_backend_lost(failure)
                except Exception as error:
                    exchange.on_crash(error)

    def change_limits(self, limits: PlaneLimits) -> None:
        """Other limits for the calls to come; those under way keep their own timeouts, and
        connections stay open."""
        self.limits = limits
        for link in list(self._links.values()):
            self._new_link(link.backend, link)

    def drop_connections(self) -> None:
        """Closes all idle upstream connections (the machine slept, the network changed)."""
        for link in self._links.values():
            link.pool.close_idle()

    def cancel_all(self) -> None:
        """Ends every call: the drain is over."""
        for link in list(self._links.values()):
            for exchange in list(link.active):
                try:
                    exchange.shut()
                except Exception as error:  # one call's fault must not keep the others, nor us
                    exchange.on_crash(error)

    def close(self) -> None:
        """Ends all upstream connections and timers."""
        for link in self._links.values():
            link.pool.close()
        self._links.clear()
        self.timers.clear()

    @property
    def active(self) -> int:
        """How many calls are at a backend."""
        return sum(len(link.active) for link in self._links.values())

    @property
    def timers_waiting(self) -> int:
        """How many deadlines are pending: 0 when nothing is in flight."""
        return len(self.timers)

    def link_of(self, name: str) -> Link | None:
        """The way to a backend that was asked already."""
        return self._links.get(name)

    def pooled(self, name: str) -> tuple[int, int, int]:
        """Connections to a backend: open, idle, opened ever."""
        link = self._links.get(name)
        if link is None:
            return 0, 0, 0
        return link.pool.open, link.pool.idle, link.pool.opened_total

    def connects(self, name: str) -> int:
        """How often calls have connected to a backend, 0 to one that is not known."""
        link = self._links.get(name)
        return 0 if link is None else link.pool.connects.seconds.count

    def signs(self, name: str) -> Signs:
        """What calls have seen of a backend: nothing of one that is not known."""
        link = self._links.get(name)
        live = self.snapshot.live.get(name)
        if link is None or live is None:
            return Signs()
        coming_s = [one.heard_s for one in link.active if one.is_at(live)]
        return Signs(connects=self.connects(name), heard_s=max((live.answered_s, *coming_s)))


def _status(snapshot: Snapshot, live: BackendLive) -> BackendStatus | None:
    """That of the backend with these figures, ``None`` if there was none."""
    return next(
        (snapshot.backends[name].status for name, one in snapshot.live.items() if one is live), None
    )


def _endpoint(path: bytes) -> Endpoint | None:
    """The relayed endpoint at ``path``; a trailing slash is forgiven."""
    endpoint = ENDPOINTS.get(path)
    if endpoint is None and path.endswith(b"/"):
        endpoint = ENDPOINTS.get(path.rstrip(b"/"))
    return endpoint


def _ring(exchange: Exchange) -> None:
    """A call's timer rang. A fault of ours ends that call: without a timer it would hang."""
    try:
        exchange.on_timer()
    except Exception as error:
        exchange.on_crash(error)
