"""What must hold in every run, whatever happens: looked at whenever a call ends, and at the end."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from nexus.core.backend import BackendStatus
from nexus.core.call import Outcome
from nexus.core.live import BackendLive, BreakerState
from nexus.core.snapshot import Candidate, Snapshot
from nexus.telemetry.record import CallRecord
from tests.simulation.answers import Question, Reply
from tests.simulation.client import Client, Sent
from tests.simulation.reader import Answer

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["Truth", "judge_clients", "judge_rest"]

_PIECE = re.compile(rb"<((b\d+)-\d+) (c\d+-\d+|last-0) (\d+)>")
_SLACK_S = 1.7
"""A deadline's length is rounded up to a second, and its tick comes up to half a second late."""
_BUFFER_BYTES_MAX = 24 * 1024
"""What may wait for a slow client: a full buffer, and what its backend had sent by then."""
_SPEECH, _RESPONSES = "/v1/audio/speech", "/v1/responses"


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


# --- at the end of the run --------------------------------------------------------------------


def judge_rest(world: World) -> None:
    """After the stop nothing is left."""
    truth, gateway = world.truth, world.gateway
    for left in truth.world_at_rest():
        truth.complain(f"at the end: {left}")
    if gateway.plane.in_flight:
        truth.complain(f"at the end {gateway.plane.in_flight} calls are in flight")
    if gateway.budget.used_bytes:
        truth.complain(f"at the end the budget holds {gateway.budget.used_bytes} bytes")
    if gateway.server.connections:
        truth.complain(f"at the end {len(gateway.server.connections)} clients are connected")
    for fault in world.loop.faults:
        truth.complain(f"the loop was told of {fault!r}")
    ours = [end.name for end in world.network.open if end.name.endswith("/gateway")]
    if ours:
        truth.complain(f"at the end connections are open: {', '.join(ours)}")
    pending = world.loop.pending()
    if pending:
        truth.complain(f"at the end something is still to happen: {pending[:3]!r}")
    if gateway._recorder.failures:
        truth.complain(f"{gateway._recorder.failures} records could not be counted")
    counted = gateway.stats.view(world.loop.now_s)["requests"]["total"]
    if counted != len(truth.records):
        truth.complain(f"{len(truth.records)} records, but statistics count {counted}")
    for name in world.scenario.saints:
        for live in world.lives[name]:
            if live.errors_total or live.opened_times:
                truth.complain(f"{name} never failed, but has {live.errors_total} errors")
        if world.scenario.lasts_s > 10.0 and not gateway.store.snapshot.backends[name].routable:
            truth.complain(f"{name} never failed, but is not healthy at the end")


def judge_clients(world: World) -> None:
    """What each client saw."""
    for end in world.network.to_clients:
        if end.fullest_bytes > _BUFFER_BYTES_MAX:
            world.truth.complain(f"{end.fullest_bytes} bytes waited for {end.name} to read")
    for client in world.clients:
        if not client.over:
            world.truth.complain(f"{client.name} is still connected at the end")
        for number, request in enumerate(client.sent):
            answers = client.reader.answers
            answer = answers[number] if number < len(answers) else None
            _judge_answer(world, client, request, answer, first=number == 0)


def _judge_answer(
    world: World, client: Client, request: Sent, answer: Answer | None, *, first: bool
) -> None:
    truth = world.truth
    nonce = request.nonce
    record = truth.record_of.get(nonce)
    stayed = not client.left and not client.habits.stops_reading_s
    if answer is None:
        drained = world.drain_began_s is not None and request.sent_at_s >= world.drain_began_s - 1
        if stayed and first and not drained and not request.malformed:
            truth.complain(f"{nonce} was never answered")
        if stayed and record is not None and record.outcome is Outcome.OK:
            truth.complain(f"{nonce} is recorded as ok and was never answered")
        return
    if request.malformed:
        if answer.status != 400:
            truth.complain(f"{nonce} was malformed and was answered {answer.status}")
        return
    if answer.status in (408, 413, 503) and record is None:
        return  # refused before it was a call
    if record is None:
        truth.complain(f"{nonce} was answered and has no record")
        return
    if answer.fields.get(b"x-request-id") != nonce.encode():
        truth.complain(f"{nonce} was answered as {answer.fields.get(b'x-request-id')!r}")
    if nonce in truth.excused:
        return
    reply = _judge_pieces(world, request, answer, record)
    body = bytes(answer.body)
    streamed = answer.fields.get(b"content-type") == b"text/event-stream"
    if answer.torn and request.stream and request.path != _SPEECH:
        truth.complain(f"{nonce} was sent half an event: {answer.torn!r}")
    if stayed and record.outcome is Outcome.CANCELLED:
        truth.complain(f"{nonce} is recorded as cancelled, but its client stayed")
    if not answer.whole:
        if stayed and record.outcome is Outcome.OK:
            truth.complain(f"{nonce} is recorded as ok, but its answer is not whole")
        elif stayed and streamed and request.stream and request.path != _SPEECH:
            truth.complain(f"{nonce}: its stream was cut without a word")
        return
    if record.outcome is Outcome.CANCELLED:
        return  # an answer without a length looks whole wherever its client left
    if record.status != answer.status and not (streamed and answer.status == 200):
        truth.complain(f"{nonce}: status {answer.status}, recorded as {record.status}")
    if streamed and request.stream:
        _judge_stream(world, request, body, record)
    elif answer.status != 200:
        _judge_error(world, request, body, record, reply)
    if record.outcome is Outcome.OK and reply is not None and reply.good:
        pieces = len(_PIECE.findall(body))
        if pieces != reply.pieces:
            truth.complain(f"{nonce} has {pieces} pieces of {reply.pieces} and is recorded as ok")
        if reply.same_bytes and not body.endswith(reply.body):
            truth.complain(f"{nonce} was sent other bytes than {reply.mark} said")


def _judge_pieces(world: World, request: Sent, answer: Answer, record: CallRecord) -> Reply | None:
    """All of an answer is of one backend's one answer to this very request, in order."""
    truth = world.truth
    body = bytes(answer.body)
    if b"intruder" in body:
        truth.complain(f"{request.nonce} was sent bytes that nobody asked for")
    pieces = _PIECE.findall(body)
    if not pieces:
        return None
    marks = {mark for mark, *_ in pieces}
    if len(marks) > 1:
        truth.complain(f"{request.nonce} was sent a mix of {sorted(marks)}")
    if {nonce for _, _, nonce, _ in pieces} != {request.nonce.encode()}:
        truth.complain(f"{request.nonce} was sent another call's answer")
    if [int(number) for *_, number in pieces] != list(range(len(pieces))):
        truth.complain(f"{request.nonce} was sent pieces out of order, twice or not at all")
    engine = pieces[0][1].decode()
    told = answer.fields.get(b"x-nexus-backend", engine.encode()).decode()
    if not engine == told == record.backend:
        truth.complain(
            f"{request.nonce}: {engine} answered, {told} is told, {record.backend} recorded"
        )
    return truth.replies[pieces[0][0].decode()]


def _judge_stream(world: World, request: Sent, body: bytes, record: CallRecord) -> None:
    """Whole events; a stream that was cut says so, and ends as its endpoint's streams end."""
    truth, nonce = world.truth, request.nonce
    if request.path == _SPEECH:
        return
    events = [part for part in body.split(b"\n\n") if part]
    errors = 0
    for event in events:
        if event.startswith(b":") or event == b"data: [DONE]":
            continue
        try:
            document = json.loads(event.rpartition(b"data: ")[2])
        except ValueError:
            if record.outcome is Outcome.OK or b"not json" not in event:
                truth.complain(f"{nonce} was sent an event that is none: {event[:80]!r}")
            continue
        errors += "error" in document
    if record.outcome is Outcome.OK:
        if errors:
            truth.complain(f"{nonce} was sent an error and is recorded as ok")
    elif errors != 1:
        truth.complain(f"{nonce} failed and was sent {errors} error events")
    if request.path == _RESPONSES:
        return
    if body.count(b"data: [DONE]") != 1 or not body.endswith(b"data: [DONE]\n\n"):
        truth.complain(f"{nonce}: the stream does not end with one [DONE]: {body[-80:]!r}")


def _judge_error(
    world: World, request: Sent, body: bytes, record: CallRecord, reply: Reply | None
) -> None:
    """An error is an OpenAI-shaped one, and only a backend's own verdict is passed on as such."""
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        world.truth.complain(f"{request.nonce} was answered an error of no shape: {body[:80]!r}")
        return
    if not message:
        world.truth.complain(f"{request.nonce} was answered an error without a message")
