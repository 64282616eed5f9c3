"""A stream's chunks that go on in one step, and the same ones read and looked at: no difference."""

from __future__ import annotations

import json
from dataclasses import dataclass
from unittest.mock import patch

import h11
import msgspec
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from nexus.core.backend import EngineTraits
from nexus.proxy.exchange import Exchange
from nexus.proxy.relay import StreamAnswer
from nexus.telemetry.record import CallRecord
from tests.property.stage import Stage, staged
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
    client leaves, or is cut off (``is_cut``)."""

    path: str
    version: str
    reads: list[bytes]
    ends: str
    leaves_at: int
    is_cut: bool


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
    )


def _ask(stage: Stage, script: _Script) -> None:
    asked = {"model": "m", "messages": [], "input": "a", "prompt": "a", "stream": True}
    body = json.dumps(asked).encode()
    head = f"POST {script.path} HTTP/{script.version}\r\nhost: x\r\n"
    stage.connection.data_received(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


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


def _played(script: _Script, traits: EngineTraits) -> list[object]:
    """What the client had after each read, and the record."""
    told: list[object] = []
    with staged(1) as stage:
        with patch.object(Exchange, "traits", traits):
            _ask(stage, script)
            stage.dialling[0].answer(well=True)
            (connection, wire) = stage.asked[0]
            for number, read in enumerate(script.reads):
                if number == script.leaves_at:
                    if script.is_cut:
                        stage.connection.abort()
                    else:
                        stage.client.end(None)
                if wire.closing:
                    break
                connection.data_received(read)
                stage.clock.advance(1.0)
                told.append(_told(bytes(stage.client.written)))
            if not wire.closing:
                match script.ends:
                    case "whole":
                        connection.data_received(b"0\r\n\r\n")
                    case "reset":
                        wire.end(ConnectionResetError())
                    case "rubbish":
                        connection.data_received(b"rubbish\n\n\r\n")
            for _ in range(4):
                stage.clock.advance(130.0)
            stage.clock.turn()
            told.append(_told(bytes(stage.client.written)))
        assert stage.at_rest() == []
        assert stage.faults == []
        told += [_facts(record) for record in stage.records]
    return told


def _facts(record: CallRecord) -> dict[str, object]:
    facts = msgspec.to_builtins(record)
    return {name: fact for name, fact in facts.items() if name not in _OWN_TO_EACH}


@settings(deadline=None, max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(script=_scripts(), repairs=st.booleans())
def test_chunks_that_go_on_in_one_step_make_no_difference(script: _Script, repairs: bool) -> None:
    """After each read the client has the same bytes, and the record says the same."""
    traits = EngineTraits(stop_for_tool_calls=repairs)
    taken = 0
    take = StreamAnswer.take_chunk

    def counting(answer: StreamAnswer, read: bytes) -> bool:
        nonlocal taken
        took = take(answer, read)
        taken += took
        return took

    with patch.object(StreamAnswer, "take_chunk", counting):
        short = _played(script, traits)
    event(f"{min(taken, 3)} chunks taken")
    with patch.object(StreamAnswer, "take_chunk", lambda *_: False):
        assert short == _played(script, traits)
