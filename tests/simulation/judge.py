"""What must hold in every run, looked at whenever a call ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus.core.backend import BackendStatus
from nexus.core.call import Outcome
from nexus.core.live import BackendLive, BreakerState
from nexus.core.snapshot import Candidate, Snapshot
from nexus.telemetry.record import CallRecord
from tests.simulation.answers import Question, Reply
from tests.simulation.client import Client, Sent

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["Truth"]

_SLACK_S = 1.7
"""A deadline's length is rounded up to a second, and its tick comes up to half a second late."""


class Truth:
    """What really happened, as engines and clients know it, and what was found wrong."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.complaints: list[str] = []
        self.records: list[CallRecord] = []
        self.record_of: dict[str, CallRecord] = {}
        self.sent_by: dict[str, tuple[Client, Sent]] = {}
        self.replies: dict[str, Reply] = {}
        self.excused: set[str] = set()
        """Whose answer cannot be told from what came unasked on the same connection."""

    def complain(self, what: str) -> None:
        """An invariant is broken."""
        now_s = self.world.loop.now_s
        self.complaints.append(f"at {now_s - 1000.0:.3f} s: {what}")
        self.world.network.note("judge", "BROKEN", what)

    # --- what is told -------------------------------------------------------------------------

    def sent(self, client: Client, request: Sent) -> None:
        """A client asked."""
        self.sent_by[request.nonce] = (client, request)

    def asked(self, nonce: str, path: str, body: bytes) -> None:
        """An engine was asked."""
        _, request = self.sent_by[nonce]
        same = request.body.replace(b'"model": "%b"' % request.model.encode(), b'"model": "m"')
        if path != request.path or body not in (request.body, same):
            self.complain(f"the request of {nonce} was changed on its way")

    def replied(self, engine: str, question: Question, reply: Reply) -> None:
        """An engine will say this."""
        self.replies[reply.mark] = reply
        known = self.world.gateway.store.snapshot.backends.get(engine)
        if known is not None and not known.spec.headers:  # else its limit was changed under way
            limit, live = known.spec.max_concurrency, self.world.gateway.store.live(engine)
            if 0 < limit < live.in_flight:
                self.complain(f"{engine} may have {limit} calls and has {live.in_flight}")
        self.world.network.note(engine, "answers", f"{question.nonce}: {reply.kind}")

    def look_at_saints(self, before: Snapshot, after: Snapshot) -> None:
        """Who never fails is never unhealthy."""
        for name in self.world.scenario.saints:
            was, now = before.backends.get(name), after.backends.get(name)
            if now is not None and now.status is BackendStatus.UNHEALTHY and was != now:
                self.complain(f"{name} never failed, and is unhealthy: {now.reason}")

    # --- at the end of each call --------------------------------------------------------------

    def take(self, record: CallRecord) -> None:
        """A call is over."""
        self.records.append(record)
        attempts = ", ".join(f"{one.backend} {one.outcome}" for one in record.attempts)
        said = f"{record.outcome.value} {record.status} [{attempts}] {record.error}"
        self.world.network.note(record.request_id, "over", said)
        if record.request_id in self.record_of:
            self.complain(f"{record.request_id} has two records")
        self.record_of[record.request_id] = record
        if self.world.gateway.plane.in_flight == 0:
            for left in self.world_at_rest():
                self.complain(f"nothing is in flight, but {left}")
        if record.status == 500 and record.outcome is Outcome.UPSTREAM_ERROR:
            self.complain(f"{record.request_id} ended with a fault of our own")
        self._judge_attempts(record)
        self._judge_failure(record)
        self._judge_duration(record)

    def world_at_rest(self) -> list[str]:
        """What is not back at zero although no call is in flight."""
        world = self.world
        plane = world.gateway.plane
        lives = [live for lives in world.lives.values() for live in lives]
        stuck = {
            "calls at backends": plane.active,
            "deadlines": plane.timers_waiting,
            "in flight at backends": sum(live.in_flight for live in lives),
            "trials": sum(live.trial_in_flight for live in lives),
        }
        return [f"{what}: {count}" for what, count in stuck.items() if count]

    def _judge_attempts(self, record: CallRecord) -> None:
        """As many as are allowed, on different backends but where there is only one."""
        considered = [name for name, _ in record.considered]
        if len(set(considered)) < len(considered):
            self.complain(f"{record.request_id} considered a backend twice: {considered}")
        names = [attempt.backend for attempt in record.attempts]
        if len(names) > self.world.scenario.routing.max_retries + 1:
            self.complain(f"{record.request_id} made {len(names)} attempts")
        while len(names) > 1 and names[0] == names[1]:
            names.pop(0)
        if len(set(names)) < len(names):
            self.complain(f"{record.request_id} asked a backend again: {names}")

    def _judge_failure(self, record: CallRecord) -> None:
        """No call fails for a backend's failure while another could be asked."""
        world = self.world
        now_s = world.loop.now_s
        attempts = record.attempts
        if (
            record.outcome in (Outcome.OK, Outcome.CANCELLED)
            or record.ttft_ms is not None  # committed
            or record.profile is None
            or record.profile.pin is not None
            or (attempts and attempts[-1].outcome == "relayed")
            or len(attempts) > world.scenario.routing.max_retries
            or world.bucket.denied_at_s == now_s
            or world.gateway.plane.draining
            or "max_concurrent_requests" in record.error
            or "max_buffered_bytes" in record.error
            or record.duration_ms >= world.scenario.server.request_timeout_seconds * 1000 - 1
        ):
            return
        tried = {attempt.backend for attempt in attempts}
        untried = [
            candidate.backend.name
            for candidate in self._candidates(record.model)
            if candidate.backend.name not in tried and self._could_serve(candidate, now_s)
        ]
        if untried:
            self.complain(
                f"{record.request_id} failed ({record.error}) while {', '.join(untried)} "
                f"could have been asked"
            )

    def _candidates(self, model: str) -> tuple[Candidate, ...]:
        model = {"gpt": "m", "old": "m"}.get(model, model)
        return self.world.gateway.store.snapshot.candidates.get(model, ())

    def _could_serve(self, candidate: Candidate, now_s: float) -> bool:
        live, backend = candidate.live, candidate.backend
        limit = backend.spec.max_concurrency
        return (
            backend.status is BackendStatus.HEALTHY
            and live.parked_until_s <= now_s
            and _lets_through(live, now_s)
            and not (limit and live.in_flight >= limit)
        )

    def _judge_duration(self, record: CallRecord) -> None:
        """Each call ends within its deadlines."""
        server = self.world.scenario.server
        taken_s = record.duration_ms / 1000
        streams = record.stream and record.ttft_ms is not None
        if taken_s <= server.request_timeout_seconds + _SLACK_S:
            return
        if not streams or record.request_id not in self.sent_by:
            self.complain(f"{record.request_id} took {taken_s:.1f} s")
            return
        # As long as its backend speaks or its client catches up, a stream may go on.
        client, _ = self.sent_by[record.request_id]
        heard_s = self.world.network.heard_s.get(record.request_id, 0.0)
        silent_s = self.world.loop.now_s - max(heard_s, client.last_read_s)
        stalls_s = 2 * server.client_body_timeout_seconds
        if silent_s > max(server.stream_idle_timeout_seconds, stalls_s) + _SLACK_S:
            self.complain(f"{record.request_id} was silent for {silent_s:.1f} s")


def _lets_through(live: BackendLive, now_s: float) -> bool:
    """Whether its breaker would take a call: closed, or waiting for a trial."""
    if live.breaker is BreakerState.CLOSED:
        return True
    waits = live.breaker is BreakerState.HALF_OPEN or live.open_until_s <= now_s
    return waits and not live.trial_in_flight
