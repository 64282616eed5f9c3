from __future__ import annotations

import json
from collections.abc import Iterator

import h11
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.core.backend import BackendStatus
from nexus.core.call import Outcome
from tests.property.stage import Stage, staged

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"boom"}}\n\n'
JSON = b'{"id":"x","choices":[{"finish_reason":"stop"}]}'


def _head(*fields: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    return "\r\n".join((f"HTTP/{version} {status}", *fields, "", "")).encode()


def _sized(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    return _head(f"content-length: {len(body)}", *fields, status=status) + body


def _chunked(*parts: bytes, fields: tuple[str, ...] = ()) -> bytes:
    frames = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return _head("transfer-encoding: chunked", *fields) + frames + b"0\r\n\r\n"


ANSWERS = [
    _sized(JSON),
    _chunked(JSON[:9], JSON[9:]),
    _head() + JSON,
    _sized(b'{"x":"' + b"y" * 900 + b'"}'),
    _chunked(b'{"x":"' + b"y" * 900 + b'"}'),
    _chunked(EVENT, EVENT, FINISH, DONE),
    _chunked(b": hi\n\n", EVENT + FINISH[:20], FINISH[20:] + DONE),
    _chunked(EVENT.replace(b"\n", b"\r\n"), FINISH, DONE),
    _chunked(EVENT, FINISH),
    _chunked(EVENT, EVENT),
    _chunked(EVENT, DONE),
    _chunked(DONE),
    _chunked(ERROR, DONE),
    _chunked(EVENT, ERROR),
    _chunked(EVENT, ERROR, DONE),
    _head("content-type: text/event-stream", "connection: close") + EVENT + FINISH + DONE,
    _head("content-type: text/event-stream") + EVENT,
    _chunked(
        b'{"message":{"content":"a"},"done":false}\n', b'{"message":{"content":""},"done":true}\n'
    ),
    _chunked(b'{"message":{"content":"a"},"done":false}\n', b'{"error":"boom"}\n'),
    _chunked(b'data: {"type":"response.created"}\n\n', b'data: {"type":"response.completed"}\n\n'),
    _chunked(b"\x00\x01\x02sound", b"more sound"),
    _sized(b"\x00\x01\x02sound"),
    _sized(b"not json"),
    _sized(b""),
    _sized(b'{"error":{"message":"no"}}', status="400 No"),
    _sized(b'{"error":{"message":"no"}}', status="500 No"),
    _sized(b"busy", "retry-after: 5", status="429 Busy"),
    _sized(b"busy", "retry-after: 5", status="503 Busy"),
    _sized(b'{"error":{"message":"model x not found"}}', status="404 No"),
    _sized(b"no", status="401 No"),
    _sized(b"later", status="408 Later"),
    _head("location: /", status="302 There"),
    _head(status="204 None"),
    _head("upgrade: x", "connection: upgrade", status="101 No"),
    _head(status="100 Continue") * 3 + _sized(JSON),
    _head(status="100 Continue") * 60,
    _sized(JSON) + _sized(b'{"not":"yours"}'),
    _sized(JSON) + b"\r\n",
    _head("content-length: 5", "content-length: 5") + b"12345",
    b"SSH-2.0\r\n",
]

CHAT = "/v1/chat/completions"
SPEECH = "/v1/audio/speech"
BODIES = [
    (CHAT, {"model": "m", "messages": []}),
    (CHAT, {"model": "m", "messages": [], "stream": True}),
    (CHAT, {"model": "m", "messages": [], "stream": True}),
    ("/v1/responses", {"model": "m", "input": "a", "stream": True}),
    ("/v1/embeddings", {"model": "m", "input": "a"}),
    (SPEECH, {"model": "m", "input": "a"}),
    (SPEECH, {"model": "m", "input": "a", "stream": True}),
    (CHAT, {"model": "unknown", "messages": []}),
    (CHAT, []),
]


def _request(number: int) -> bytes:
    path, document = BODIES[number % len(BODIES)]
    body = json.dumps(document).encode()
    version = "1.0" if number % 7 == 6 else "1.1"
    fields = ["host: x", f"content-length: {len(body)}"]
    if number % 11 == 10:
        fields.append("connection: close")
    if number % 13 == 12:
        fields.append("x-nexus-pin: b0")
    return "\r\n".join((f"POST {path} HTTP/{version}", *fields, "", "")).encode() + body


class Play:
    """One run: ops move the stage; each upstream connection answers from ``ANSWERS``."""

    def __init__(self, stage: Stage, answers: list[int]) -> None:
        self.stage = stage
        self.sent = 0
        self.gone = False
        self._answers = answers
        self._taken = 0
        self._rests: dict[tuple[int, int], bytes] = {}

    def do(self, name: str, value: int) -> None:
        """One event; whenever no call is left nothing of one may be."""
        self._do(name, value)
        if self.stage.plane.in_flight == 0:
            # Requests that wait on their connection hold their bodies.
            assert [left for left in self.stage.at_rest() if not left.startswith("budget")] == []

    def _do(self, name: str, value: int) -> None:
        stage = self.stage
        match name:
            case "request" if not self.gone and not stage.client.closing:
                self.sent += 1
                stage.connection.data_received(_request(value))
            case "dialled" if stage.dialling:
                pool = stage.dialling[value % len(stage.dialling)]
                pool.answer(well=value % 5 != 0, ours=value % 10 == 0)
            case "data":
                self._feed(value, 1 + value % 97)
            case "all":
                self._feed(value, 100_000)
            case "ended":
                self._end(value)
            case "idle bytes" if stage.idle:
                wire = stage.idle[value % len(stage.idle)]
                wire.protocol.data_received(_sized(b'{"not":"yours"}'))
            case "idle end" if stage.idle:
                stage.idle[value % len(stage.idle)].end(None)
            case "pause" if not stage.client.lost and not stage.connection.write_paused:
                stage.connection.pause_writing()
            case "resume" if not stage.client.lost and stage.connection.write_paused:
                stage.connection.resume_writing()
            case "leave" if value % 4 == 0 and not stage.client.lost:
                self.gone = True
                stage.client.end(None)
                assert stage.plane.in_flight == 0, "a call outlived its client"
            case "time":
                stage.clock.advance((0.1, 1.0, 16.0, 61.0, 130.0)[value % 5])
            case "unhealthy":
                stage.mark(BackendStatus.UNHEALTHY, value)
            case "healthy":
                stage.mark(BackendStatus.HEALTHY, value)
            case "turn":
                stage.clock.turn()
            case "shut" if value % 6 == 0:
                stage.plane.cancel_all()

    def _feed(self, value: int, size: int) -> None:
        asked = [(one, wire) for one, wire in self.stage.asked if not wire.closing]
        asked = [(one, wire) for one, wire in asked if not wire.paused]
        if not asked:
            return
        connection, wire = asked[value % len(asked)]
        # One answer for each request on a connection; after it there is only its end.
        key = (id(wire), wire.written.count(b"POST /"))
        if key not in self._rests:
            number = self._answers[self._taken % len(self._answers)]
            self._taken += 1
            self._rests[key] = ANSWERS[number % len(ANSWERS)]
        rest = self._rests[key]
        self._rests[key] = rest[size:]
        if rest:
            connection.data_received(rest[:size])
        else:
            wire.end(None)

    def _end(self, value: int) -> None:
        asked = self.stage.asked
        if asked:
            _, wire = asked[value % len(asked)]
            wire.end(ConnectionResetError() if value % 2 else None)

    def finish(self, *, silent: bool) -> None:
        """Time passes until everything must be over, the backends silent or saying their rest."""
        if not silent:
            for _ in range(40):
                for name in ("turn", "resume", "dialled", "all"):
                    self.do(name, 1)
        for _ in range(2 + 2 * self.sent):
            self.stage.clock.turn()
            self.stage.clock.advance(130.0)


def _responses(
    data: bytes, count: int, *, ended: bool
) -> Iterator[tuple[h11.Response, bytes, bool]]:
    """The responses to ``count`` requests in ``data``, as h11 reads them: head, body, whole."""
    for _ in range(count):
        if not data:
            return
        reader = h11.Connection(h11.CLIENT)
        reader.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
        reader.send(h11.EndOfMessage())
        reader.receive_data(data)
        end_told = False
        head: h11.Response | None = None
        body = b""
        while True:
            try:
                event = reader.next_event()
            except h11.RemoteProtocolError:
                # Only an end in the middle may be what h11 minds.
                assert end_told
                if head is not None:
                    yield head, body, False
                return
            if isinstance(event, h11.InformationalResponse):
                continue
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                yield head, body, True
                break
            elif ended and not end_told:
                end_told = True
                reader.receive_data(b"")
            else:
                if head is not None:
                    yield head, body, False
                return
        data = reader.trailing_data[0]
    assert data == b"", "bytes after the end"


def _check(play: Play) -> None:
    stage = play.stage
    assert stage.faults == []
    assert stage.clock.faults == []
    assert stage.at_rest() == []
    wire = stage.client
    ended = wire.closing or wire.eof
    told = list(_responses(bytes(wire.written), play.sent, ended=ended))
    records = stage.records
    assert len({record.request_id for record in records}) == len(records)
    whole = sum(one[2] for one in told)
    if not play.gone and not ended:
        assert whole == len(told) == play.sent == len(records)
    for (head, body, complete), record in zip(told, records, strict=False):
        names = [bytes(name) for name, _ in head.headers]
        assert len(names) == len(set(names)), names
        if complete:
            cancelled = record.outcome is Outcome.CANCELLED
            assert not cancelled or play.gone
            # Without a length (HTTP/1.0) what a client that left had got looks whole and is not.
            if (
                head.status_code == 200
                and record.stream
                and record.endpoint != SPEECH
                and not cancelled
            ):
                _check_stream(body, record.endpoint)
        elif not play.gone:
            assert record.outcome is not Outcome.OK or stage.client.lost
        assert b"not" not in body or b"yours" not in body


def _check_stream(body: bytes, endpoint: str) -> None:
    assert body.endswith((b"\n\n", b"\r\n\r\n"))
    events = [part for part in body.replace(b"\r\n", b"\n").split(b"\n\n") if part]
    assert all(event.startswith((b"data: ", b": ", b"event: ")) for event in events), events
    assert sum(b'"error"' in event for event in events) <= 1
    if endpoint == CHAT:
        assert events[-1] == b"data: [DONE]"
        assert events.count(b"data: [DONE]") == 1
        assert b'"error"' in body or b'"finish_reason":"stop"' in body


ops = st.tuples(
    st.sampled_from(
        ["request"] * 6
        + ["dialled"] * 12
        + ["data"] * 16
        + ["all"] * 12
        + ["turn"] * 4
        + ["ended", "idle bytes", "idle end", "pause", "resume", "leave", "time", "time"]
        + ["unhealthy", "unhealthy", "healthy", "shut"]
    ),
    st.integers(0, 400),
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    backends=st.integers(1, 3),
    first=st.integers(0, 400),
    answers=st.lists(st.integers(0, len(ANSWERS) - 1), min_size=1, max_size=6),
    script=st.lists(ops, min_size=12, max_size=60),
    silent=st.booleans(),
    tripped=st.booleans(),
)
def test_whatever_happens_the_client_gets_one_answer_and_nothing_leaks(
    backends: int,
    first: int,
    answers: list[int],
    script: list[tuple[str, int]],
    silent: bool,
    tripped: bool,
) -> None:
    """In any order of events of both sides: no second head, no byte after an end, no hang, and
    every counter, timer, budget and connection back at rest."""
    with staged(backends, tripped=tripped) as stage:
        play = Play(stage, answers)
        play.do("request", first)
        for name, value in script:
            play.do(name, value)
        play.finish(silent=silent)
        _check(play)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    first=st.integers(0, len(BODIES) - 1),
    answers=st.lists(st.integers(0, len(ANSWERS) - 1), min_size=1, max_size=3),
    steps=st.lists(st.integers(0, 400), max_size=14),
    end=st.sampled_from(["all", "ended", "time", "leave", "shut", "unhealthy"]),
    tripped=st.booleans(),
)
def test_every_answer_cut_anywhere_ends_well(
    first: int, answers: list[int], steps: list[int], end: str, tripped: bool
) -> None:
    """Each kind of answer in reads of any size, then its rest, an end, silence or a departure."""
    with staged(2, tripped=tripped) as stage:
        play = Play(stage, answers)
        play.do("request", first)
        for step in steps:
            play.do("dialled", 1)
            play.do("data", step)
        for number in range(8):
            play.do("dialled", 1)
            play.do(end, number)
            play.do("turn", 0)
        play.finish(silent=True)
        _check(play)
