"""The life of a call: one class, read top to bottom.

    begin      admit, read the profile, route
    attempt    the next candidate of the plan: build the request, take a connection, send
    on_*       what the backend does: relayed, or a verdict and the next attempt
    finish     recorded once, whatever happened

An explicit state machine (:class:`CallState`), driven by callbacks of both connections and of
coarse timers; no task, no coroutine. Until the commit (behaviour § 5.2) a failure is invisible to
the client; after it the client is told what is missing. Every way out passes :meth:`_finish`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from math import ceil, inf
from time import monotonic, time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from nexus.core.backend import EngineTraits
from nexus.core.call import Outcome, RequestProfile, RouteReason
from nexus.core.errors import ApiError, AttemptFailure, FailureKind
from nexus.core.live import BackendLive, BreakerState
from nexus.dialects.body import copy_field, replace_string
from nexus.dialects.errors import (
    error_event,
    normalise_error_body,
    responses_error_event,
)
from nexus.dialects.multipart import read_multipart_model
from nexus.dialects.table import Dialect, StreamTranslator
from nexus.engines.adapter import Adapter, ErrorMeaning
from nexus.health import breaker
from nexus.http1.headers import Headers, encode_value, status_line
from nexus.http1.message import kept_id
from nexus.http1.pool import Dial
from nexus.http1.timers import DeadlineQueue
from nexus.http1.upstream import UpstreamConnection
from nexus.proxy.admission import admit, decode_body
from nexus.proxy.endpoints import AnswerKind, Endpoint
from nexus.proxy.heads import (
    ClientFields,
    answer_fields,
    client_fields,
    pinned_name,
    public_query,
)
from nexus.proxy.hops import check_loop
from nexus.proxy.relay import ErrorAnswer, HeldAnswer, PassThrough, Relay, StreamAnswer
from nexus.proxy.retry import (
    Failed,
    failure_of_status,
    final_error,
    may_repeat_here,
    parse_retry_after,
)
from nexus.routing.plan import Plan, Scored
from nexus.routing.profile import BodyView, read_profile
from nexus.streams.tap import Tap, Terminal
from nexus.telemetry.history import is_small
from nexus.telemetry.record import AttemptRecord, CallRecord

if TYPE_CHECKING:
    from nexus.http1.message import Request
    from nexus.http1.server import ServerConnection
    from nexus.proxy.link import Link
    from nexus.proxy.plane import DataPlane

__all__ = ["CallState", "Exchange"]

_KEEPALIVE = b": keep-alive\n\n"
_PLAIN_ANSWER = (
    b"%b%b%bx-request-id: %b\r\n%b%b%b"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
)
_EVENT_STREAM = (
    b"content-type: text/event-stream\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
)
_NO_FIELDS: Headers = []
"""Never changed: what takes its place is another list."""
_OUTCOME_OF_KIND = {FailureKind.TIMEOUT: Outcome.TIMEOUT}


class CallState(Enum):
    """Where a call stands. It moves down this list, and back to ``DIALING`` or ``WAITING`` with
    each further attempt."""

    NEW = "admitted, not yet sent anywhere"
    DIALING = "waiting for a connection"
    WAITING = "sent, no answer yet"
    HELD = "an answer is coming; the client has seen nothing of it"
    RELAYING = "committed: the client is reading this backend's answer"
    DONE = "over, recorded"


class Exchange:
    """One call from a client: its request, its attempts, its answer."""

    __slots__ = (
        "_answered",
        "_attempt_at_s",
        "_attempts",
        "_began_s",
        "_body",
        "_chunked",
        "_client",
        "_close_after",
        "_connection",
        "_cors",
        "_dial",
        "_early_head",
        "_failed",
        "_fields",
        "_head",
        "_held_answer_bytes",
        "_held_bytes",
        "_index",
        "_is_trial",
        "_keepalive_s",
        "_link",
        "_outgoing",
        "_plan",
        "_plane",
        "_poisoned",
        "_record",
        "_request",
        "_scored",
        "_silent_s",
        "_stale_retried",
        "_streams",
        "_timer",
        "_upstream_headers",
        "_view",
        "_warning",
        "client_credential",
        "committed",
        "endpoint",
        "last_read_s",
        "profile",
        "relay",
        "request_id",
        "state",
        "upstream_status",
    )

    # Set by the first attempt.
    _plan: Plan
    _scored: Scored
    _link: Link

    def __init__(
        self,
        plane: DataPlane,
        request: Request,
        client: ServerConnection,
        endpoint: Endpoint,
    ) -> None:
        self._plane = plane
        self._request = request
        self._client: ServerConnection | None = client
        self.endpoint = endpoint
        self.profile = _UNREAD
        self._began_s = monotonic()
        memo = request.memo
        fields = None if memo is None else memo.reading
        if not isinstance(fields, ClientFields):
            fields = client_fields(request.headers)
            if memo is not None:
                memo.reading = fields
        self._fields = fields
        kept = fields.request_id
        self.request_id = (None if kept is None else kept_id(kept)) or plane.next_id()
        self._body = body = request.body
        self._held_bytes = request.held_bytes
        self._record = CallRecord(
            request_id=self.request_id,
            at_s=time(),
            endpoint=endpoint.path,
            bytes_in=len(body),
            attempts=[],
        )
        self.state = CallState.NEW
        self.committed = False
        """Whether the client has seen something of this backend's answer."""
        self.relay: Relay | None = None
        self.upstream_status = 0
        self.client_credential = False
        self._view: BodyView | None = None
        self._cors: Headers = _NO_FIELDS
        self._index = 0
        self._attempts = 0
        self._attempt_at_s = 0.0
        self._failed: tuple[Failed, ...] = ()
        self._poisoned: tuple[Scored, ...] = ()
        self._connection: UpstreamConnection | None = None
        self._dial: Dial | None = None
        self._outgoing = (b"", b"")
        self._stale_retried = False
        self._is_trial = False
        self._streams = False
        self._silent_s = 0.0
        self._keepalive_s = 0.0
        self.last_read_s = 0.0
        self._timer: DeadlineQueue[Exchange] | None = None
        self._held_answer_bytes = 0
        self._upstream_headers: Headers = _NO_FIELDS
        self._head = b""
        self._chunked = False
        self._early_head = False
        self._close_after = False
        self._answered: ServerConnection | None = None
        self._warning = b""

    # --- begin ------------------------------------------------------------------------------

    def begin(self) -> None:
        """Admits the call, routes it and makes the first attempt, or refuses it."""
        plane = self._plane
        plane.began()
        try:
            if self._fields.origin is not None:
                refusal, self._cors = plane.hooks.check_origin(self._request)
                if refusal is not None:
                    raise refusal
            if self._fields.hops:
                check_loop(self._fields.hops, plane.hop)
            admit(plane.draining, plane.in_flight, plane.limits.max_concurrent_requests)
            self._read_request()
            now_s = monotonic()
            self._plan = plane.router.route(
                plane.snapshot, self.profile, now_s=now_s, rng=plane.rng
            )
            self._record.routing_s = monotonic() - now_s
            self._attempt(now_s)
        except ApiError as error:
            self._answer_error(error)
        except Exception as error:
            self.on_crash(error)

    def _read_request(self) -> None:
        request = self._request
        record = self._record
        encoding = self._fields.encoding
        if encoding is not None:
            body = decode_body(self._body, encoding, self._plane.limits.max_body_bytes)
            if not self._plane.budget.take(len(body) - len(self._body)):
                raise ApiError.service_unavailable(
                    "Too many request bodies are held right now (server.max_buffered_bytes).", 1
                )
            self._held_bytes += len(body) - len(self._body)
            self._body = body
        pin_field = self._fields.pin
        pin = pinned_name(pin_field, self._plane.snapshot.backends) if pin_field else None
        if self.endpoint.multipart:
            content_type = (request.header(b"content-type") or b"").decode("latin-1")
            model = read_multipart_model(self._body, content_type)
            self.profile = RequestProfile(endpoint=self.endpoint.path, model=model, pin=pin)
        else:
            self.profile, self._view = read_profile(
                self._body,
                self.endpoint.path,
                requires_messages=self.endpoint.requires_messages,
                pin=pin,
            )
        profile = self.profile
        # A short body may have been packed densely: what it held may be too big to keep.
        record.profile = profile if encoding is None or is_small(profile) else None
        record.model = profile.model
        record.stream = profile.stream
        if self.profile.stream and self.endpoint.terminal is not Terminal.END:
            self._streams = True

    # --- attempts ---------------------------------------------------------------------------

    def _attempt(self, now_s: float) -> None:
        """Tries the candidate at hand. Raises ``ApiError`` when the request cannot go there."""
        plane = self._plane
        candidates = self._plan.candidates
        if self._view is None:
            # The name in a form cannot be changed: who takes it as it is comes first.
            while self._index + 1 < len(candidates) and not self._fits(candidates[self._index]):
                self._index += 1
        self._scored = scored = candidates[self._index]
        candidate = scored.candidate
        backend = candidate.backend
        link = self._link = plane.link(backend)
        head, body = self._upstream_request(candidate.model.engine_name)
        self._attempts += 1
        self._attempt_at_s = now_s
        if self._stale_retried:
            self._stale_retried = False
        live = candidate.live
        live.begin()
        if live.breaker is not BreakerState.CLOSED:
            self._is_trial = breaker.begin_trial(live, now_s)
        link.active.add(self)
        self._start_timer(now_s)
        connection = link.pool.take()
        if connection is not None:
            self._send(connection, head, body)
        else:
            self._outgoing = (head, body)
            self.state = CallState.DIALING
            self._dial = link.pool.dial(self)

    def _upstream_request(self, engine_name: str) -> tuple[bytes, bytes]:
        """Head and body as they go to the backend at hand, with the edits of § 2.1 in force."""
        backend = self._scored.candidate.backend
        traits = backend.traits
        link = self._link
        body = self._body
        view = self._view
        if view is not None:
            if self.profile.model != engine_name and not self._fits(self._scored):
                body = replace_string(body, "model", view.fields, engine_name)
            for copy in traits.field_copies:
                if copy.field in self.profile.fields:
                    body = copy_field(body, view.fields, copy.field, copy.target)
        elif not self._fits(self._scored):
            raise ApiError.bad_request(
                f"'{self.profile.model}' is another name for '{engine_name}', which cannot be "
                "applied to multipart requests: send the model's own name.",
                param="model",
            )
        fields = self._fields
        self.client_credential = link.forwards_credentials and bool(fields.credentials)
        if fields.start_to is not link:  # a head has one target: only whereto may differ
            parts = [
                link.prefix(b"POST", self.endpoint.path.encode(), self._query()),
                fields.lines(link.dropped_headers),
            ]
            if self.client_credential:
                parts += fields.credentials
            fields.start_to = link
            fields.start = b"".join(parts)
        own_id = self.request_id
        if fields.request_id is not None and b"x-request-id" in traits.dropped_headers:
            own_id = self._plane.next_id()
        return fields.start + self._plane.last_fields % (own_id.encode(), len(body)), body

    def _query(self) -> bytes:
        """The client's query; where its credentials may not go, those in the query may not."""
        query = self._request.query
        return query if not query or self._link.forwards_credentials else public_query(query)

    def _fits(self, scored: Scored) -> bool:
        """Whether the engine itself understands the name the client used."""
        model = scored.candidate.model
        asked = self.profile.model
        return asked == model.engine_name or (
            model.id == model.engine_name and asked in model.aliases
        )

    def _takes(self, scored: Scored) -> bool:
        """Whether the request can be put as the engine wants it: not a form with another name."""
        return self._view is not None or self._fits(scored)

    def _send(self, connection: UpstreamConnection, head: bytes, body: bytes) -> None:
        self.state = CallState.WAITING
        self._connection = connection
        connection.start(self, head, body)
        if self._client is not None and self._client.write_paused:
            connection.pause()

    def _leave(self, outcome: str, status: int, now_s: float | None = None) -> None:
        """The attempt at hand is over: every counter that it moved moves back."""
        scored = self._scored
        scored.candidate.live.end()
        link = self._link
        link.active.discard(self)
        relay = self.relay
        if relay is not None:
            relay.note(self._record)
            self.relay = None
        if self._held_answer_bytes:
            self._plane.budget.give(self._held_answer_bytes)
            self._held_answer_bytes = 0
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        connection = self._connection
        if connection is not None:
            self._connection = None
            if connection.handler is self:
                connection.discard()
        took_s = (monotonic() if now_s is None else now_s) - self._attempt_at_s
        self._record.attempts.append(AttemptRecord(link.name, outcome, status, _ms(took_s)))

    def _release_trial(self) -> None:
        """The attempt ends without a verdict: if it was the breaker's trial, another may be."""
        if self._is_trial:
            self._is_trial = False
            breaker.release_trial(self._scored.candidate.live)

    def fail(self, failure: AttemptFailure) -> None:
        """The attempt at hand failed before the commit: the next candidate, or the final answer."""
        scored = self._scored
        plane = self._plane
        name = scored.candidate.backend.spec.name
        now_s = monotonic()
        if failure.kind is FailureKind.INVALID and self._connection is not None:
            # Nonsense may be the answer to somebody else: no further request on this connection.
            self._connection.discard()
        self._leave(failure.kind.value, failure.status)
        self._failed += (Failed(name, failure),)
        self._blame(scored, failure, now_s)
        if self._may_go_on(failure, now_s):
            try:
                self._attempt(now_s)
            except ApiError as error:
                self._answer_error(error)
            return
        if failure.status in (408, 409) and failure.kind is FailureKind.STATUS:
            self.relay_error(failure.status, failure.body, left=True)
            return
        self._answer_error(final_error(self._failed, self.profile.model, plane.snapshot.listed))

    def _blame(self, scored: Scored, failure: AttemptFailure, now_s: float) -> None:
        """What the failure says of the backend (behaviour § 4)."""
        plane = self._plane
        live = scored.candidate.live
        backend = scored.candidate.backend
        name = backend.spec.name
        kind = failure.kind
        if failure.against_backend:
            live.errors_total += 1
            lost = kind in (FailureKind.CONNECT, FailureKind.RESET)
            breaker.record_failure(live, now_s, hard=lost)
            self._is_trial = False  # that was its verdict; another backend's is not ours
            if lost or kind in (FailureKind.TIMEOUT, FailureKind.BROKEN_STREAM):
                plane.hooks.suspect(name)
        else:
            self._release_trial()
            if failure.status >= 500 and kind in (FailureKind.STATUS, FailureKind.ERROR_EVENT):
                self._poisoned += (scored,)
        if failure.retry_after_s and not self.client_credential:
            live.park(now_s + failure.retry_after_s)
        if kind is FailureKind.MODEL_NOT_HERE:
            plane.hooks.forget_model(name, scored.candidate.model.id)
        elif kind in (FailureKind.CREDENTIALS, FailureKind.LOADING):
            plane.hooks.suspect(name)

    def _may_go_on(self, failure: AttemptFailure, now_s: float) -> bool:
        """Whether there is another attempt to make; moves ``_index`` to its candidate."""
        plane = self._plane
        candidates = self._plan.candidates
        if self._client is None or not failure.elsewhere:
            return False
        if self._attempts > plane.limits.max_retries:
            return False
        index = self._index + 1
        while index < len(candidates) and self._unready(candidates[index], now_s):
            index += 1
        if index == len(candidates):
            index = self._plan_on(now_s)
        if index == 0:
            # Nobody else. The only one there is may do better at once.
            if len(candidates) > 1 or self.profile.pin is not None or not may_repeat_here(failure):
                return False
            if candidates[0].candidate.live.parked_until_s > now_s:
                return False
        if not self._loads_nobody(failure) and not plane.may_fail_over(now_s):
            return False
        self._index = index
        return True

    def _loads_nobody(self, failure: AttemptFailure) -> bool:
        """Whether the retry budget is not for this: the backend is gone, and all calls that were
        there come at once (behaviour § 5.2). A reset is no storm's when the call began before the
        breaker opened."""
        kind = failure.kind
        if kind is FailureKind.CONNECT or kind is FailureKind.BACKEND_LOST:
            return True
        live = self._scored.candidate.live
        opened_s = live.open_until_s - live.open_for_s
        return (
            kind is FailureKind.RESET
            and live.breaker is BreakerState.OPEN
            and self._attempt_at_s <= opened_s
        )

    def _plan_on(self, now_s: float) -> int:
        """Puts whom the plan did not know, or passed over, at its end: who came back, or joined,
        while earlier attempts took their time. Where they begin, 0 if there is nobody."""
        plan = self._plan
        plane = self._plane
        try:
            anew = plane.router.route(plane.snapshot, self.profile, now_s=now_s, rng=plane.rng)
        except ApiError:
            return 0
        failed = {one.backend for one in self._failed}
        others = [
            one
            for one in anew.candidates
            if one.candidate.backend.spec.name not in failed and self._takes(one)
        ]
        if not others or anew.model != plan.model:
            return 0
        names = {one.candidate.backend.spec.name for one in others}
        kept = [one for one in plan.candidates if one.candidate.backend.spec.name not in names]
        self._plan = replace(plan, candidates=(*kept, *others))
        return len(kept)

    def _unready(self, scored: Scored, now_s: float) -> bool:
        """Whether a candidate was parked, reached its limit, turned unhealthy or was removed since
        the plan was made, or cannot be asked at all."""
        live = scored.candidate.live
        spec = scored.candidate.backend.spec
        now = self._plane.snapshot.backends.get(spec.name)
        limit = spec.max_concurrency
        return (
            now is None
            or not now.routable
            or live.parked_until_s > now_s
            or (limit > 0 and live.in_flight >= limit)
            or not self._takes(scored)
        )

    # --- what the backend's connection tells ------------------------------------------------

    def on_connected(self, connection: UpstreamConnection) -> None:
        """The dial is done: send."""
        self._dial = None
        head, body = self._outgoing
        self._outgoing = (b"", b"")
        self._send(connection, head, body)

    def on_connect_failed(self, failure: AttemptFailure) -> None:
        """No connection."""
        self._dial = None
        self._outgoing = (b"", b"")
        self.fail(failure)

    def on_head(self, status: int, headers: Headers) -> None:
        """The answer's head: decide how its body will be treated."""
        self.state = CallState.HELD
        self.upstream_status = status
        self._upstream_headers = headers
        if not 200 <= status < 300:
            self.relay = ErrorAnswer(self)
            self._silent_s = monotonic() + self._plane.limits.silence_s
        elif self.endpoint.answer is AnswerKind.BYTES:
            self.relay = PassThrough(self)
        elif self._streams or (self.profile.stream and _is_event_stream(headers)):
            self.relay = StreamAnswer(self)
        else:
            self.relay = HeldAnswer(self)

    def on_body(self, data: bytes) -> None:
        """The body bytes of one read."""
        self.last_read_s = monotonic()
        if self.relay is not None:
            self.relay.take(data)

    def on_end(self) -> None:
        """The answer is whole, as its framing says. Its connection may serve again already; which
        one it was is remembered until the relay has judged the answer."""
        if self.relay is not None:
            self.relay.end()

    def on_failure(self, failure: AttemptFailure, *, stale: bool) -> None:
        """The answer will not come, or not all of it."""
        self._connection = None
        if stale and not self._stale_retried:
            # A kept-alive connection that was already closed: not an attempt, try a fresh one.
            self._stale_retried = True
            try:
                self._outgoing = self._upstream_request(self._scored.candidate.model.engine_name)
            except ApiError as error:  # cannot be: the same request was built before
                self._answer_error(error)
                return
            self.state = CallState.DIALING
            self._dial = self._link.pool.dial(self)
        elif self.relay is None:
            self.fail(failure)
        else:
            self.relay.broken(failure)

    def on_crash(self, error: BaseException) -> None:
        """A fault of our own, in this call: 500, logged; no other call is touched."""
        self._plane.hooks.unexpected(error, self.request_id)
        if self.state is CallState.DONE:
            return
        if self.committed:
            self.cut(Outcome.UPSTREAM_ERROR)
        else:
            self._answer_error(ApiError.internal(self.request_id))

    def is_at(self, live: BackendLive) -> bool:
        """Whether its attempt is at the backend with these figures, whatever that is called."""
        return self._scored.candidate.live is live

    @property
    def heard_s(self) -> float:
        """When the body of the answer at hand was last read, or its client caught up with it."""
        return self.last_read_s if self.last_read_s > self._attempt_at_s else -inf

    def on_backend_lost(self, failure: AttemptFailure) -> None:
        """The backend turned unhealthy: a call that is not committed goes elsewhere (§ 5.3)."""
        if not self.committed and self.state is not CallState.NEW:
            self.fail(failure)

    # --- deadlines --------------------------------------------------------------------------
    #
    # One timer per call, set to the earliest of what may come next; when it rings, the clock tells
    # which it was (behaviour § 5.3). Most calls end before it ever rings.

    def _start_timer(self, now_s: float) -> None:
        limits = self._plane.limits
        self._silent_s = now_s + limits.silence_s
        link = self._link
        if self._attempts == 1:
            keepalive_s = limits.stream_keepalive_s if self._streams else 0.0
            if keepalive_s:
                self._keepalive_s = now_s + keepalive_s
            if not 0.0 < keepalive_s < link.first_ring_s:
                self._timer = link.timer
                link.timer.add(self)
                return
        self._set_timer(self._next_ring_s(now_s))

    def _next_ring_s(self, now_s: float) -> float:
        """Seconds until something is due, before the commit."""
        # All attempts share one deadline; a backend with its own brings that one along.
        link = self._link
        due_s = self._silent_s
        if link.request_timeout_s:
            due_s = min(due_s, self._began_s + link.request_timeout_s)
        first_byte_s = self._first_byte_timeout_s
        if first_byte_s:
            due_s = min(due_s, self._attempt_at_s + first_byte_s)
        if self._keepalive_s and self._keepalive_s < due_s:
            due_s = self._keepalive_s
        return due_s - now_s

    @property
    def _first_byte_timeout_s(self) -> float:
        """How long the attempt may take to its first byte, 0 for no limit. Of a stream that is its
        first data event, of a plain answer any byte of its body."""
        if not self._streams and self.last_read_s > self._attempt_at_s:
            return 0.0
        return self._link.first_byte_timeout_s

    def _set_timer(self, length_s: float) -> None:
        # Lengths are rounded up so that few queues serve all calls.
        if length_s > 2.0:
            timer = self._plane.timers.of(ceil(length_s - 1e-6))
        else:
            timer = self._plane.timers.of(max(0.05, 0.05 * ceil(length_s * 20.0 - 1e-6)))
        if self._timer is not None and self._timer is not timer:
            self._timer.discard(self)
        self._timer = timer
        timer.add(self)

    def on_timer(self) -> None:
        """The timer rang."""
        self._timer = None
        if self.state is CallState.RELAYING:
            self._on_timer_relaying()
            return
        if self.state is CallState.DONE:
            return
        now_s = monotonic()
        link = self._link
        if link.request_timeout_s and now_s >= self._began_s + link.request_timeout_s:
            self._on_deadline()
            return
        first_byte_s = self._first_byte_timeout_s
        if first_byte_s and now_s >= self._attempt_at_s + first_byte_s:
            self.fail(
                AttemptFailure(FailureKind.TIMEOUT, f"no first byte within {first_byte_s:g} s")
            )
            return
        if now_s >= self._silent_s:
            if isinstance(self.relay, ErrorAnswer):
                self.relay.end()  # its status tells enough: nobody waits for the rest
                return
            # Nothing yet for a while: is the backend still there?
            self._silent_s = now_s + self._plane.limits.silence_s
            self._plane.hooks.suspect(self._link.name)
        if self._keepalive_s and now_s >= self._keepalive_s:
            self._keepalive_s = now_s + self._plane.limits.stream_keepalive_s
            self._keep_alive()
        self._set_timer(self._next_ring_s(now_s))

    def _on_deadline(self) -> None:
        """The call took too long (a stream: to its first data event): perhaps a long one, perhaps
        a stuck backend. A probe tells which."""
        self._release_trial()
        self._leave(FailureKind.TIMEOUT.value, 0)
        self._plane.hooks.suspect(self._link.name)
        self._answer_error(ApiError.gateway_timeout())

    def _on_timer_relaying(self) -> None:
        now_s = monotonic()
        # A client that does not read makes its backend wait: no fault of that one's.
        slow_client = self._client is not None and self._client.write_paused
        if not self.profile.stream:
            total_s = self._link.request_timeout_s
            if not total_s:
                return
            if now_s < self._began_s + total_s:
                self._set_timer(self._began_s + total_s - now_s)
            else:
                failure = AttemptFailure(
                    FailureKind.TIMEOUT, "no whole answer in time", against_backend=not slow_client
                )
                self.break_off(failure)
            return
        idle_s = self._link.stream_idle_timeout_s
        left_s = self.last_read_s + idle_s - now_s
        if slow_client:
            left_s = idle_s
        if left_s > 0:
            self._set_timer(left_s)
            return
        connection = self._connection
        self._connection = None
        if connection is not None:
            connection.discard()
        if self.relay is not None:
            self.relay.broken(AttemptFailure(FailureKind.TIMEOUT, f"silent for {idle_s:g} s"))

    def _keep_alive(self) -> None:
        """The stream has nothing to say yet: a head and a comment keep proxies in front content."""
        client = self._client
        if client is None:
            return
        if not self._early_head:
            self._early_head = True
            self._chunked = not client.http10
            head = [status_line(200), _EVENT_STREAM, self._own_fields(), self._framing_line()]
            self._head = b"".join(head) + b"\r\n"
        self.send(_KEEPALIVE)

    # --- what relays use --------------------------------------------------------------------

    @property
    def adapter(self) -> Adapter:
        """The adapter of the backend at hand."""
        return self._link.adapter

    @property
    def traits(self) -> EngineTraits:
        """What the engine at hand is known for."""
        return self._scored.candidate.backend.traits

    def retry_after_s(self) -> float | None:
        """What the backend's ``Retry-After`` asks for."""
        for name, value in self._upstream_headers:
            if name == b"retry-after":
                return parse_retry_after(value)
        return None

    def hold(self, size: int) -> bool:
        """Whether an answer of ``size`` bytes so far may be held on; takes them of the budget."""
        plane = self._plane
        more = size - self._held_answer_bytes
        if size <= plane.limits.max_held_response_bytes and plane.budget.take(more):
            self._held_answer_bytes = size
            return True
        plane.budget.give(self._held_answer_bytes)
        self._held_answer_bytes = 0
        return False

    def translate(self, dialect: Dialect, body: bytes) -> bytes | None:
        """A plain answer of another dialect in OpenAI's."""
        return dialect.plain(
            body,
            model=self._scored.candidate.model.id,
            created=int(time()),
            call_id=self.request_id,
            chat=self.endpoint.requires_messages,
        )

    def translator(self, dialect: Dialect) -> StreamTranslator:
        """A translator for a stream in another dialect."""
        return dialect.stream(
            self._scored.candidate.model.id,
            created=int(time()),
            call_id=self.request_id,
            include_usage=self._view is not None and self._view.include_usage,
            chat=self.endpoint.requires_messages,
        )

    def fail_error_object(self, body: bytes) -> None:
        """A 2xx that carries an error object: like the status it names (behaviour § 5.2)."""
        read = self.adapter.read_error(self.upstream_status, body)
        failure = failure_of_status(
            503 if read.meaning is ErrorMeaning.OVERLOADED else 500,
            read,
            body,
            self.retry_after_s(),
            client_credential=False,
        )
        if failure is None or failure.kind is FailureKind.STATUS:
            failure = AttemptFailure(
                FailureKind.ERROR_EVENT,
                read.message[:300] or "answered with an error object",
                status=500,
                against_backend=False,
            )
        self.fail(failure)

    def commit_stream(self) -> None:
        """The first data event is here: from now on this backend's stream is the answer."""
        self._commit()
        self._stream_clocks()
        if self._early_head:
            return
        client = self._client
        self._chunked = client is not None and not client.http10
        lines = [status_line(200), _EVENT_STREAM]
        answer_fields(
            [field for field in self._upstream_headers if field[0] not in _STREAM_OWN], lines
        )
        lines.append(self._route_fields())
        lines.append(self._own_fields())
        lines.append(self._framing_line())
        lines.append(b"\r\n")
        self._head = b"".join(lines)

    def _stream_clocks(self) -> None:
        """A stream has begun: the call's deadline is over, silence counts from now on (§ 5.3)."""
        idle_s = self._link.stream_idle_timeout_s
        if idle_s:
            self._set_timer(idle_s)
        else:
            self._stop_timer()

    def commit_bytes(self) -> None:
        """A body of bytes begins: its head, framed as the backend framed it."""
        self._commit()
        if self.profile.stream:
            self._stream_clocks()
        client = self._client
        http10 = client is None or client.http10
        connection = self._connection
        length: bytes | None = b"0"  # of an answer that is over already, and empty
        if connection is not None and connection.handler is self:
            length = connection.length
        lines = [status_line(self.upstream_status)]
        content_type = answer_fields(self._upstream_headers, lines)
        lines.append(b"content-type: " + (content_type or b"application/octet-stream") + b"\r\n")
        lines.append(self._route_fields())
        lines.append(self._own_fields())
        self._chunked = length is None and not http10
        if length is not None:
            lines.append(b"content-length: " + length + b"\r\n")
            lines.append(self._connection_line())
        else:
            lines.append(self._framing_line())
        lines.append(b"\r\n")
        self._head = b"".join(lines)

    def _commit(self) -> None:
        self.state = CallState.RELAYING
        self.committed = True
        now_s = monotonic()
        self._record.ttft_ms = _ms(now_s - self._began_s)
        candidate = self._scored.candidate
        if self.profile.stream:
            candidate.live.first_token(candidate.model.id, now_s - self._attempt_at_s, now_s)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.discard(self)
            self._timer = None

    def pass_chunks(self, taker: Callable[[bytes], bool]) -> asyncio.WriteTransport | None:
        """From now on the backend's connection asks ``taker`` first. What it is to write to, as
        chunks; ``None`` if that cannot be."""
        client = self._client
        connection = self._connection
        # An answer that is over has given its connection back: it may be another call's already.
        if (
            client is None
            or connection is None
            or connection.handler is not self
            or not self._chunked
        ):
            return None
        connection.chunk_taker = taker
        return client.transport

    def send(self, data: bytes) -> None:
        """Relays bytes, with the head before the first of them."""
        client = self._client
        if client is None or not data:
            return
        self._record.bytes_out += len(data)
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._head:
            data = self._head + data
            self._head = b""
        client.write(data)

    def complete(self, data: bytes) -> None:
        """The answer is whole; ``data`` are its last bytes."""
        if self._chunked:
            self._record.bytes_out += len(data)
            last = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            self._last_write(last + b"0\r\n\r\n")
        else:
            self.send(data)
            self._last_write(b"")
        self._succeed()

    def deliver_json(self, body: bytes) -> None:
        """A plain answer, known to be JSON, in one write."""
        self._commit()
        size = len(body)
        self._record.bytes_out += size
        self._last_write(
            _PLAIN_ANSWER
            % (
                status_line(self.upstream_status),
                self._link.passed_fields(self._upstream_headers),
                self._route_fields(),
                self.request_id.encode(),
                self._cors_fields() if self._cors else b"",
                self._warning,
                self._connection_line(),
                size,
                body,
            )
        )
        self._succeed()

    def relay_error(self, status: int, body: bytes, *, left: bool = False) -> None:
        """The backend's own error is the answer: its status, its body (behaviour § 2.1)."""
        headers = self._upstream_headers
        if not left:
            breaker.record_success(self._scored.candidate.live, monotonic())
            self._leave("relayed", status)
        lines: list[bytes] = []
        content_type = answer_fields(headers, lines) or b""
        normalised = normalise_error_body(status, body, content_type.decode("latin-1"))
        if normalised is not None:
            body = normalised
            content_type = b"application/json"
            # What is ours now is not coded as the backend's was.
            lines = [line for line in lines if not line.startswith(b"content-encoding:")]
        if self._early_head:
            data = body.replace(b"\n", b" ").replace(b"\r", b" ").lstrip()
            if self.endpoint.terminal is Terminal.RESPONSE_EVENT:
                event = b'event: error\ndata: {"type":"error",' + data[1:] + b"\n\n"
            else:
                event = b"data: " + data + b"\n\n"
                if self.endpoint.has_done:
                    event += b"data: [DONE]\n\n"
            self._end_early(event)
        else:
            lines.insert(0, status_line(status))
            lines.append(b"content-type: " + (content_type or b"application/json") + b"\r\n")
            lines.append(self._route_fields())
            lines.append(self._own_fields())
            lines.append(self._connection_line())
            lines.append(b"content-length: %d\r\n\r\n" % len(body))
            lines.append(body)
            self._record.bytes_out += len(body)
            self._last_write(b"".join(lines))
        self._served_by()
        self._finish(Outcome.CLIENT_ERROR, status, error=f"backend answered {status}")

    def end_broken(
        self, failure: AttemptFailure, data: bytes, *, with_done: bool, said: bool = False
    ) -> None:
        """The stream broke after the commit: the client is told so within it (behaviour § 6).
        ``said``: the engine sent an error event itself."""
        error = ApiError.bad_gateway(
            f"The stream of backend '{self._name}' broke: {failure.message}."
        )
        if not said:
            data += self._error_event(error)
        if with_done and self.endpoint.has_done:
            data += b"data: [DONE]\n\n"
        self.send(data)
        self._last_write(b"0\r\n\r\n" if self._chunked else b"")
        scored = self._scored
        self._leave(FailureKind.BROKEN_STREAM.value, self.upstream_status)
        self._blame(scored, failure, monotonic())
        self._served_by()
        self._finish(
            _OUTCOME_OF_KIND.get(failure.kind, Outcome.UPSTREAM_ERROR), 200, error=failure.message
        )

    def break_off(self, failure: AttemptFailure) -> None:
        """A committed answer that is no stream broke: the connection is cut, so that the client
        sees it is not whole."""
        scored = self._scored
        self._leave(failure.kind.value, self.upstream_status)
        self._blame(scored, failure, monotonic())
        self._served_by()
        client = self._client
        self._client = None
        if client is not None:
            client.cut()
        self._finish(
            _OUTCOME_OF_KIND.get(failure.kind, Outcome.UPSTREAM_ERROR),
            self.upstream_status,
            error=failure.message,
        )

    def learn_usage(self, prompt_tokens: int | None, completion_tokens: int | None) -> None:
        """Keeps the engine's token counts; they teach the bytes-per-token ratio."""
        self._record.prompt_tokens = prompt_tokens
        self._record.completion_tokens = completion_tokens
        if self._teach():
            self._warning = b"x-nexus-warning: prompt-truncated\r\n"

    def _teach(self) -> bool:
        """Learns from the usage of the record; whether the prompt seems to have been cut."""
        prompt_tokens = self._record.prompt_tokens
        profile = self.profile
        if not prompt_tokens or profile.text_bytes < 1024:
            return False
        candidate = self._scored.candidate
        cut = self._plane.router.ratios.learn(
            candidate.model.id,
            profile.text_bytes,
            prompt_tokens,
            self.traits.truncates_prompts,
            monotonic(),
            images=profile.images,
        )
        if cut:
            self._plane.hooks.truncated(candidate.backend.spec.name, candidate.model.id)
        return cut

    def whole_if_cut(self, tap: Tap) -> bool:
        """Whether a stream whose connection broke after its finish reason may pass for whole: its
        text is complete, only a usage event that was asked for may be missing."""
        asked = self._view is not None and self._view.include_usage
        return tap.done_seen or not asked or tap.completion_tokens is not None

    # --- the client -------------------------------------------------------------------------

    def on_client_gone(self) -> None:
        """The client left: cancel upstream at once, leave every counter whole."""
        client = self._client
        self._client = None
        relay = self.relay
        read_all = client is not None and not client.write_paused
        if read_all and isinstance(relay, StreamAnswer) and relay.told:
            # It read to the terminal event and hung up, as some do, before the last chunk came.
            self._succeed()
            return
        self.cut(Outcome.CANCELLED)

    def on_client_paused(self) -> None:
        """The client reads slowly: so do we."""
        connection = self._connection
        if connection is not None and connection.handler is self:
            connection.pause()

    def on_client_resumed(self) -> None:
        """The client caught up."""
        self.last_read_s = monotonic()
        connection = self._connection
        if connection is not None and connection.handler is self:
            connection.resume()

    def shut(self) -> None:
        """The drain is over: the client is told, then cut off."""
        failure = AttemptFailure(
            FailureKind.BACKEND_LOST, "Nexus was shut down", against_backend=False
        )
        if self.state is CallState.DONE:
            return
        if not self.committed:
            self._answer_error(ApiError.service_unavailable("Nexus is shutting down.", 1))
        elif self.relay is not None:
            self.relay.broken(failure)

    def cut(self, outcome: Outcome) -> None:
        """Ends the call now, wherever it stands."""
        if self.state is CallState.DONE:
            return
        client = self._client
        self._client = None
        if client is not None:
            client.cut()
        if self._at_backend:
            self._release_trial()
            self._served_by()
            self._leave(outcome.value, self.upstream_status)
        self._finish(outcome, 0, error="client left" if client is None else "cut")

    @property
    def _at_backend(self) -> bool:
        return self._attempts > 0 and self in self._link.active

    @property
    def _name(self) -> str:
        return self._link.name

    # --- answers of our own -----------------------------------------------------------------

    def _answer_error(self, error: ApiError) -> None:
        """The call ends with an error of ours."""
        if self._at_backend:
            self._release_trial()
            self._leave("abandoned", 0)
        status = error.status
        if self._early_head:
            done = b"data: [DONE]\n\n" if self.endpoint.has_done else b""
            self._end_early(self._error_event(error) + done)
        elif self._client is not None:
            client = self._client
            close = error.close or client.must_close
            headers: Headers = [(b"x-request-id", self.request_id.encode())]
            if self._attempts:
                headers.append((b"x-nexus-attempts", b"%d" % self._attempts))
            headers += self._cors
            body = self._plane.render_error(error, close=close, headers=headers)
            self._record.bytes_out += len(body) - body.index(b"\r\n\r\n") - 4
            self._client = None
            client.write(body)
            self._close_after = close
            self._answered = client
        if status == 504:
            outcome = Outcome.TIMEOUT
        elif self._attempts and status in (429, 500, 502, 503):
            outcome = Outcome.UPSTREAM_ERROR
        elif status in (429, 503) or status == 403 or (status == 508 and not self._attempts):
            outcome = Outcome.REFUSED
        elif status >= 500:
            outcome = Outcome.UPSTREAM_ERROR
        else:
            outcome = Outcome.CLIENT_ERROR
        self._finish(outcome, status, error=error.message)

    def _error_event(self, error: ApiError) -> bytes:
        if self.endpoint.terminal is Terminal.RESPONSE_EVENT:
            return responses_error_event(error)
        return error_event(error)

    def _end_early(self, data: bytes) -> None:
        """Ends a stream whose head is long out."""
        self.send(data)
        self._last_write(b"0\r\n\r\n" if self._chunked else b"")

    # --- lines ------------------------------------------------------------------------------

    @property
    def _reason(self) -> RouteReason:
        """Why this backend: a failover once another one has failed; a retry here is none."""
        if self._failed and any(one.backend != self._link.name for one in self._failed):
            return RouteReason.FAILOVER
        return self._plan.reason

    def _route_fields(self) -> bytes:
        """Who answered and why (behaviour § 2.3)."""
        plan = self._plan
        scored = self._scored
        fields = self._link.answer_head(
            scored.candidate.model.id, self._reason if self._failed else plan.reason, self._attempts
        )
        if plan.fallback_model is not None:
            fields += b"x-nexus-fallback-model: " + encode_value(plan.fallback_model) + b"\r\n"
        if scored.ignored:
            names = b", ".join([encode_value(name) for name in scored.ignored])
            fields += b"x-nexus-ignored: " + names + b"\r\n"
        return fields

    def _own_fields(self) -> bytes:
        return b"x-request-id: %b\r\n" % self.request_id.encode() + self._cors_fields()

    def _cors_fields(self) -> bytes:
        return b"".join([b"%b: %b\r\n" % field for field in self._cors])

    def _connection_line(self) -> bytes:
        client = self._client
        return b"connection: close\r\n" if client is None or client.must_close else b""

    def _framing_line(self) -> bytes:
        """How a body of unknown length ends: the last chunk, or for HTTP/1.0 the connection."""
        if not self._chunked:
            self._close_after = True
            return b"connection: close\r\n"
        return b"transfer-encoding: chunked\r\n" + self._connection_line()

    def _last_write(self, data: bytes) -> None:
        client = self._client
        self._client = None
        if client is not None:
            if self._head:
                data = self._head + data
                self._head = b""
            if data:
                client.write(data)
            self._answered = client

    # --- finish -----------------------------------------------------------------------------

    def _succeed(self) -> None:
        scored = self._scored
        now_s = monotonic()
        breaker.record_success(scored.candidate.live, now_s)
        for poisoned in self._poisoned:
            # The same call succeeded here: so the 500 there was that backend's own (§ 4).
            if poisoned.candidate.live is not scored.candidate.live:
                breaker.record_failure(poisoned.candidate.live, now_s)
        self._leave("ok", self.upstream_status, now_s)
        if self.profile.stream:
            self._teach()
        self._served_by()
        self._finish(Outcome.OK, self.upstream_status, now_s=now_s)

    def _served_by(self) -> None:
        record = self._record
        scored = self._scored
        record.backend = self._link.name
        record.served_model = scored.candidate.model.id
        record.reason = self._reason if self._failed else self._plan.reason

    def _finish(
        self, outcome: Outcome, status: int, *, error: str = "", now_s: float | None = None
    ) -> None:
        """Every way out: timers, budget and counters whole, one record."""
        if self.state is CallState.DONE:
            return
        self.state = CallState.DONE
        plane = self._plane
        self._stop_timer()
        plane.budget.give(self._held_bytes)
        self._held_bytes = 0
        self._body = b""
        self.relay = None
        record = self._record
        record.outcome = outcome
        record.status = status
        record.error = error
        if not record.backend and record.attempts:
            record.backend = record.attempts[-1].backend
            record.routed_model = self._scored.candidate.model.id
        if self._attempts and len(self._plan.candidates) > 1:
            record.considered = tuple(
                [(one.candidate.backend.spec.name, one.score) for one in self._plan.candidates]
            )
        record.duration_ms = _ms((monotonic() if now_s is None else now_s) - self._began_s)
        client = self._answered
        try:
            plane.finished(record)
        finally:
            # Last of all: the client's next request begins within, and must find every counter
            # moved back.
            if client is not None:
                self._answered = None
                client.finish(close=self._close_after)


_UNREAD = RequestProfile(endpoint="", model="")
_STREAM_OWN = frozenset({b"cache-control", b"x-accel-buffering"})


def _ms(seconds: float) -> float:
    """Milliseconds with three digits; ``round`` takes four times as long."""
    return int(seconds * 1e6) / 1e3


def _is_event_stream(headers: Headers) -> bool:
    return any(
        name == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in headers
    )
