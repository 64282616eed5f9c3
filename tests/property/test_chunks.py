"""A stream's chunks that go on in one step, and the same ones read and looked at: no difference."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from unittest.mock import patch

import h11
import msgspec
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from nexus.core.backend import EngineTraits
from nexus.http1.server import ServerConnection
from nexus.proxy.exchange import Exchange
from nexus.proxy.relay import StreamAnswer
from nexus.telemetry.record import CallRecord
from tests.property.stage import Stage, Wire, staged
from tests.property.test_exchange import CHAT, DONE, ERROR, EVENT, FINISH

_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _delta(content: object, finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"


_TOOLS = _delta(None).replace(b'"content"', b'"tool_calls": [{"index":0,"id":"a"}], "content"')
_EVENTS = [
    EVENT,
    EVENT,
    EVENT,
    FINISH,
    DONE,
    ERROR,
    EVENT + EVENT,
    EVENT[:20],
    EVENT[20:],
    EVENT[:-1],
    EVENT.replace(b"\n", b"\r\n")[:-2],
    EVENT.replace(b"\n", b"\r\n"),
    EVENT + FINISH,
    FINISH + DONE,
    b": comment\n\n",
    b"\n\n",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"event: x\n" + EVENT,
    b"event: error\ndata: boom\n\n",
    b"data: [DONE]",
    b"data: not JSON\n\n",
    _delta("error"),
    _delta('"finish_reason":'),
    _delta("x" * 300),
    _delta("", usage=None),
    _delta("", usage={"prompt_tokens": 3, "completion_tokens": 5}),
    _TOOLS,
    b'data: {"type":"response.output_text.delta","delta":"a"}\n\n',
    b'data: {"type":"response.completed"}\n\n',
]
_OWN_TO_EACH = ("request_id", "at_s", "routing_s")
_HOW = st.sampled_from(["chunk"] * 6 + ["cut", "joined", "capitals"])


@dataclass
class _Script:
    """What is asked, and the reads in which the answer comes; ``ends`` how. Before one of them the
    client leaves, or is cut off (``is_cut``); before another one it reads nothing for a while."""

    path: str
    version: str
    reads: list[bytes]
    ends: str
    leaves_at: int
    is_cut: bool
    pauses_at: int


@st.composite
def _scripts(draw: st.DrawFn) -> _Script:
    reads = [_HEAD + draw(st.sampled_from([_chunk(EVENT)] * 4 + [b""]))]
    for data in draw(st.lists(st.sampled_from(_EVENTS), max_size=12)):
        chunk = _chunk(data)
        match draw(_HOW):
            case "chunk":
                reads.append(chunk)
            case "cut":
                at = draw(st.integers(1, len(chunk) - 1))
                reads += [chunk[:at], chunk[at:]]
            case "joined":
                reads[-1] += chunk
            case "capitals":
                reads.append(b"%04X\r\n%b\r\n" % (len(data), data))
    return _Script(
        path=draw(st.sampled_from([CHAT, CHAT, "/v1/responses", "/v1/completions"])),
        version=draw(st.sampled_from(["1.1"] * 5 + ["1.0"])),
        reads=reads,
        ends=draw(st.sampled_from(["whole", "whole", "reset", "silence", "rubbish"])),
        leaves_at=draw(st.sampled_from([99] * 5 + [0, 1, 2, 3, 5])),
        is_cut=draw(st.booleans()),
        pauses_at=draw(st.sampled_from([99] * 3 + [0, 1, 2, 4])),
    )


def _ask(client: ServerConnection, script: _Script) -> None:
    asked = {"model": "m", "messages": [], "input": "a", "prompt": "a", "stream": True}
    body = json.dumps(asked).encode()
    head = f"POST {script.path} HTTP/{script.version}\r\nhost: x\r\n"
    client.data_received(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


def _told(data: bytes) -> tuple[bytes, bool]:
    """The body so far, without its framing, and whether it is whole."""
    if not data:
        return b"", False
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(data)
    body = b""
    while True:
        match reader.next_event():
            case h11.Data() as part:
                body += bytes(part.data)
            case h11.EndOfMessage():
                return body, True
            case h11.NEED_DATA:
                return body, False


def _played(scripts: list[_Script], traits: EngineTraits) -> list[object]:
    """What each client had after each read, and the records. The calls come one after the other,
    each from a client of its own, all on one connection to the backend if it may be kept."""
    told: list[object] = []
    with staged(1) as stage, patch.object(Exchange, "traits", traits):
        clients: list[Wire] = []
        for script in scripts:
            connection = ServerConnection(stage.server)
            clients.append(Wire(stage.clock, connection))
            _ask(connection, script)
            while stage.dialling and not stage.asked:
                stage.dialling[0].answer(well=True)
            if not stage.asked:
                told.append("refused: the last call opened the breaker")
                continue
            for _ in _answering(stage, script, connection, clients[-1]):
                told.append([_told(bytes(client.written)) for client in clients])
            assert stage.at_rest() == []
        assert stage.faults == []
        told += [_facts(record) for record in stage.records]
    return told


def _answering(
    stage: Stage, script: _Script, connection: ServerConnection, client: Wire
) -> Iterator[None]:
    """Answers the one call there is, read by read, and lets time pass until it must be over."""
    [(upstream, wire)] = stage.asked
    for number, read in enumerate(script.reads):
        if number == script.leaves_at:
            if script.is_cut:
                connection.abort()
            else:
                client.end(None)
        if number == script.pauses_at and not client.closing and upstream.handler is not None:
            connection.pause_writing()
            assert wire.paused
            stage.clock.advance(3.0)
            connection.resume_writing()
        if wire.closing:
            break
        upstream.data_received(read)
        stage.clock.advance(1.0)
        yield
    if not wire.closing and upstream.handler is not None:
        match script.ends:
            case "whole":
                upstream.data_received(b"0\r\n\r\n")
            case "reset":
                wire.end(ConnectionResetError())
            case "rubbish":
                upstream.data_received(b"rubbish\n\n\r\n")
    yield
    for _ in range(4):
        stage.clock.advance(130.0)
    stage.clock.turn()
    yield


def _facts(record: CallRecord) -> dict[str, object]:
    facts = msgspec.to_builtins(record)
    return {name: fact for name, fact in facts.items() if name not in _OWN_TO_EACH}


@settings(deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(scripts=st.lists(_scripts(), min_size=1, max_size=3), repairs=st.booleans())
def test_chunks_that_go_on_in_one_step_make_no_difference(
    scripts: list[_Script], repairs: bool
) -> None:
    """After each read every client has the same bytes, and the records say the same."""
    traits = EngineTraits(stop_for_tool_calls=repairs)
    taken = 0
    take = StreamAnswer.take_chunk

    def counting(answer: StreamAnswer, read: bytes) -> bool:
        nonlocal taken
        took = take(answer, read)
        taken += took
        return took

    with patch.object(StreamAnswer, "take_chunk", counting):
        short = _played(scripts, traits)
    event(f"{min(taken, 3)} chunks taken")
    with patch.object(StreamAnswer, "take_chunk", lambda *_: False):
        assert short == _played(scripts, traits)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(
    "first", [[_chunk(EVENT), _chunk(FINISH), _chunk(DONE[:-2])], [_chunk(EVENT[:-2])]]
)
def test_a_stream_judged_when_its_connection_serves_again_keeps_nothing_of_it(
    first: list[bytes], version: str
) -> None:
    """What an answer left without a blank line is looked at when it is over, and its connection
    another call's: that one's chunks must not go to the first one's client."""
    end = _Script(
        CHAT, "1.1", [_HEAD, *first], ends="whole", leaves_at=99, is_cut=False, pauses_at=99
    )
    begin = [
        _HEAD + _chunk(b": hi\n\n"),
        _chunk(EVENT),
        _chunk(EVENT),
        _chunk(FINISH),
        _chunk(DONE),
    ]
    second = _Script(CHAT, version, begin, ends="whole", leaves_at=99, is_cut=False, pauses_at=99)
    *_, last, _, _ = _played([end, second], EngineTraits())
    assert isinstance(last, list)
    assert last[0][0].count(EVENT) == 1
    assert last[1][0] == b": hi\n\n" + EVENT + EVENT + FINISH + DONE
