"""What must hold when a run is over: what is left, and what each client saw."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from nexus.core.call import Outcome
from nexus.telemetry.record import CallRecord
from tests.simulation.answers import Reply
from tests.simulation.client import Client, Sent
from tests.simulation.reader import Answer

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["judge_clients", "judge_rest"]

_PIECE = re.compile(rb"<((b\d+)-\d+) (c\d+-\d+|last-0) (\d+)>")
_BUFFER_BYTES_MAX = 24 * 1024
"""What may wait for a slow client: a full buffer, and what its backend had sent by then."""
_SPEECH, _RESPONSES = "/v1/audio/speech", "/v1/responses"


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
