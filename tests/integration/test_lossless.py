from __future__ import annotations

import asyncio
import gzip
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.core.backend import EngineKind
from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from nexus.engines.table import adapter_for
from tests.harness import Raw, Running, chat, raw, running
from tests.integration.scripted import Scripted, Talk, chunked, head, plain, playing

lossless = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

ANSWER = {"id": "x", "object": "chat.completion", "choices": [{"finish_reason": "stop"}]}


def post(body: bytes, *fields: str, path: str = "/v1/chat/completions") -> bytes:
    lines = (f"POST {path} HTTP/1.1", "host: nexus", *fields, f"content-length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode() + body


class Pair:
    """A gateway, the scripted backend behind it, and one client connection."""

    def __init__(self, upstream: Scripted, gateway: Running, client: Raw) -> None:
        self.upstream = upstream
        self.gateway = gateway
        self.client = client

    async def ask(
        self, body: bytes, *fields: str, path: str = "/v1/chat/completions"
    ) -> tuple[int, dict[str, str], bytes]:
        self.client.send(post(body, *fields, path=path))
        return await self.client.response()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with (
        Scripted(playing(plain(ANSWER))) as upstream,
        running(upstream.spec()) as gateway,
        raw(gateway.port) as client,
    ):
        yield Pair(upstream, gateway, client)


# --- requests -----------------------------------------------------------------------------------

numbers = st.sampled_from(
    ["0", "-0", "0.0", "1.0", "1.50", "1e5", "1E+5", "-1.0e-7", "12345678901234567890123", "1e400"]
)
strings = st.one_of(
    st.text(max_size=8).map(json.dumps),
    st.text(st.characters(codec="utf-8"), max_size=8).map(
        lambda text: json.dumps(text, ensure_ascii=False)
    ),
    st.sampled_from(['"\\/"', '"\\u00e9"', '"\\ud83d\\ude00"', '"\\"model\\""', '"caf\u00e9"']),
)
spaces = st.sampled_from(["", "", " ", "\n", "\t ", "\r\n"])


def _joined(open_: str, close: str) -> Any:
    return lambda parts: open_ + ",".join(parts) + close


values = st.recursive(
    st.one_of(numbers, strings, st.sampled_from(["null", "true", "false"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(_joined("[", "]")),
        st.lists(st.tuples(strings, spaces, inner).map("{0[0]}:{0[1]}{0[2]}".format), max_size=3)
        .map(_joined("{", "}")),
    ),
    max_leaves=8,
)  # fmt: skip
tool_calls = st.sampled_from(
    [
        '[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\\"a\\": 1.0}"}}]',
        "null",
        "[]",
    ]
)
messages = st.lists(
    st.one_of(
        strings.map(lambda text: '{"role":"user","content":' + text + "}"),
        tool_calls.map(
            lambda calls: '{"role":"assistant","content":null,"tool_calls":' + calls + "}"
        ),
        values.map(lambda value: '{"content":[{"type":"text","text":"a","x":' + value + "}]}"),
    ),
    max_size=3,
).map(_joined("[", "]"))
extras = st.lists(st.tuples(strings, spaces, values), max_size=5).filter(
    lambda found: all(
        str(json.loads(name)).casefold() not in ("model", "stream", "messages", "tools")
        and not str(json.loads(name)).startswith(("max_", "response_", "stream_", "n"))
        for name, _, _ in found
    )
)
tails = st.sampled_from(
    ['"stop":"a"', '"stop":["a","b"]', '"logprobs":true', '"max_tokens":16', '"n":1', '"user":"é"']
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A chat request with whatever a client may put into it, in any order and spacing."""
    members = [
        f'"model"{draw(spaces)}:{draw(spaces)}"demo-model"',
        f'"messages":{draw(spaces)}{draw(messages)}',
        draw(tails),
        *(f"{name}{gap}:{value}" for name, gap, value in draw(extras)),
    ]
    gap = draw(spaces)
    text = "{" + gap + f",{gap}".join(draw(st.permutations(members))) + gap + "}" + draw(spaces)
    return text.encode("utf-8", "surrogatepass")


@lossless
@given(body=bodies())
async def test_a_request_reaches_the_engine_byte_for_byte(pair: Pair, body: bytes) -> None:
    """Unknown fields, order, spacing, escapes, tool calls, huge numbers: nothing changes."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return  # such a body is refused, see the seed tests
    status, _, answer = await pair.ask(body)
    assert status == 200, answer
    assert pair.upstream.talks[-1].body == body


@lossless
@given(value=values, places=st.lists(st.integers(0, 300), max_size=6))
async def test_an_answer_reaches_the_client_byte_for_byte(
    pair: Pair, value: str, places: list[int]
) -> None:
    """A plain JSON answer arrives as the engine wrote it, however it was cut on the way."""
    body = f'{{ "object":"chat.completion" ,"x":{value},"choices":[]}}\n'.encode()
    whole = plain(body)
    pair.upstream.script = playing(*split(whole, places))
    status, headers, answer = await pair.ask(json.dumps(chat()).encode())
    assert (status, answer) == (200, body)
    assert headers["content-type"] == "application/json"


# --- streams ------------------------------------------------------------------------------------


def split(data: bytes, places: list[int]) -> list[bytes]:
    """``data`` in pieces that end at ``places``."""
    edges = sorted({0, len(data), *(place for place in places if place < len(data))})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


FIRST = 'data: {"choices":[{"index":0,"delta":{"content":"h\u00e9"},"finish_reason":null}]}'
FINISH = 'data:{"choices":[{"index":0,"delta":{},"finish_reason": "stop"}],"x":1.50}'
DONE = "data: [DONE]"
noise = st.sampled_from(
    [
        ": keep-alive",
        "event: message\nid: 7\n" + FIRST,
        "retry: 10",
        'data: {"choices":[],"usage":{"prompt_tokens":1}}',
        'data: {"a":\ndata: 1}',
        "data: " + json.dumps({"choices": [{"delta": {"content": "data: [DONE]\n\nerror"}}]}),
        FIRST,
        "unknown: field",
    ]
)


@st.composite
def sse_streams(draw: st.DrawFn) -> bytes:
    """A chat stream that ends properly, with any line ends and oddities that SSE allows."""
    events = [FIRST, *draw(st.lists(noise, max_size=5)), FINISH, DONE]
    if draw(st.booleans()):
        events.insert(0, ": hello")
    stream = ""
    mixed = st.sampled_from(["\n", "\r\n", "\r"])
    uniform = draw(st.one_of(st.none(), mixed))
    for event in events:
        for line in event.split("\n"):
            stream += line + (uniform or draw(mixed))
        blank = uniform or draw(mixed)
        # CR and LF in a row would be one line end, not a blank line.
        stream += "\r\n" if blank == "\n" and stream.endswith("\r") else blank
    return stream.encode()


@settings(lossless, max_examples=100)
@given(
    stream=sse_streams(),
    chunks=st.lists(st.integers(0, 900), max_size=8),
    reads=st.lists(st.integers(0, 1200), max_size=8),
)
async def test_a_stream_reaches_the_client_byte_for_byte(
    pair: Pair, stream: bytes, chunks: list[int], reads: list[int]
) -> None:
    """Any stream that ends properly arrives as it was, wherever chunks and reads cut it."""
    answer = head("content-type: text/event-stream", "transfer-encoding: chunked")
    answer += chunked(*split(stream, chunks))
    pair.upstream.script = playing(*split(answer, reads))
    status, headers, got = await pair.ask(json.dumps(chat(stream=True)).encode())
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert got == stream
    await pair.gateway.settled()
    assert pair.gateway.records[-1].outcome.value == "ok"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_a_stream_cut_at_every_byte_stays_whole(pair: Pair, end: str) -> None:
    """A stream that comes byte by byte arrives whole under each line end."""
    stream = (end.join((FIRST, "", ": c", "", FINISH, "", DONE, "")) + end).encode()
    answer = head("content-type: text/event-stream", "transfer-encoding: chunked")
    answer += chunked(*(bytes([byte]) for byte in stream))
    pair.upstream.script = playing(answer)
    _, _, got = await pair.ask(json.dumps(chat(stream=True)).encode())
    assert got == stream


async def test_bytes_of_an_audio_answer_pass_as_they_are(pair: Pair) -> None:
    """What is neither JSON nor SSE goes through with its own type and length."""
    sound = bytes(range(256)) * 40
    pair.upstream.script = playing(
        head("content-type: audio/mpeg", f"content-length: {len(sound)}"), sound[:100], sound[100:]
    )
    body = json.dumps({"model": "demo-model", "input": "a", "voice": "b"}).encode()
    status, headers, got = await pair.ask(body, path="/v1/audio/speech")
    assert (status, headers["content-type"], got) == (200, "audio/mpeg", sound)
    assert headers["content-length"] == str(len(sound))


async def test_a_multipart_body_goes_on_untouched(pair: Pair) -> None:
    """The form that carries a file is searched for its model and left alone."""
    body = (
        b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        + bytes(range(256))
        + b'\r\n--X\r\nContent-Disposition: form-data; name="model"\r\n\r\ndemo-model\r\n--X--\r\n'
    )
    pair.upstream.script = playing(plain({"text": "hi"}))
    kind = "content-type: multipart/form-data; boundary=X"
    status, _, got = await pair.ask(body, kind, path="/v1/audio/transcriptions")
    assert (status, got) == (200, b'{"text": "hi"}')
    assert pair.upstream.talks[-1].body == body
    assert pair.upstream.talks[-1].field("content-type") == ["multipart/form-data; boundary=X"]


# --- the edits, one by one (behaviour § 2.1) ----------------------------------------------------

SPELLED = (
    b'{ "x": 1.50, "model" : "%s","messages":[{"role":"user","content":"caf\xc3\xa9","model":"no"}]'
    b', "y": {"model": "no"}, "z": 12345678901234567890 }'
)


async def test_edit_model_of_an_alias() -> None:
    """An alias is replaced by the model's name: that one value and nothing else."""
    async with (
        FakeEngine(models=["real/model"]) as engine,
        running(engine, routing={"aliases": {"gpt-4": "real/model"}}) as gateway,
        raw(gateway.port) as client,
    ):
        client.send(post(SPELLED % b"gpt-4"))
        status, headers, _ = await client.response()
        assert status == 200
        assert engine.calls[-1].body == SPELLED % b"real/model"
        assert headers["x-nexus-model"] == "real/model"


async def test_edit_model_of_a_fallback() -> None:
    """The model of a fallback takes the place of the one asked for."""
    async with (
        FakeEngine(models=["small"]) as engine,
        running(engine, routing={"fallbacks": {"big": ("small",)}}) as gateway,
        raw(gateway.port) as client,
    ):
        client.send(post(SPELLED % b"big"))
        status, headers, _ = await client.response()
        assert (status, headers["x-nexus-fallback-model"]) == (200, "small")
        assert engine.calls[-1].body == SPELLED % b"small"


async def test_edit_model_of_a_per_backend_name() -> None:
    """``model_names`` gives the engine its own name for what is served under another."""
    async with (
        Scripted(playing(plain(ANSWER)), models=["engine-name"]) as upstream,
        running(upstream.spec(model_names={"served": "engine-name"})) as gateway,
        raw(gateway.port) as client,
    ):
        client.send(post(SPELLED % b"served"))
        status, headers, _ = await client.response()
        assert (status, headers["x-nexus-model"]) == (200, "served")
        assert upstream.talks[-1].body == SPELLED % b"engine-name"


async def test_edit_of_a_field_the_engine_misreads() -> None:
    """Ollama gets ``max_tokens`` beside ``max_completion_tokens``; whoever sent both is left
    alone, and so is every other engine."""
    alone = b'{"model":"demo-model","messages":[],"max_completion_tokens":5,"x":1.0}'
    both = b'{"model":"demo-model","messages":[],"max_tokens":7,"max_completion_tokens":5}'
    async with (
        FakeEngine(dialect="ollama", name="o") as ollama,
        running(ollama) as gateway,
        raw(gateway.port) as client,
    ):
        client.send(post(alone))
        assert (await client.response())[0] == 200
        got = ollama.calls[-1].body
        assert json.loads(got) == json.loads(alone) | {"max_tokens": 5}
        assert b'"x":1.0' in got
        assert got.startswith(b'{"model":"demo-model","messages":[],')
        client.send(post(both))
        assert (await client.response())[0] == 200
        assert ollama.calls[-1].body == both
    async with (
        FakeEngine() as other,
        running(other) as gateway,
        raw(gateway.port) as client,
    ):
        client.send(post(alone))
        assert (await client.response())[0] == 200
        assert other.calls[-1].body == alone


def _stream(*events: str) -> bytes:
    return "".join(event + "\n\n" for event in events).encode()


async def test_edit_done_is_appended(pair: Pair) -> None:
    """A stream that ended properly without ``[DONE]`` gets it, and nothing else."""
    said = _stream(FIRST, FINISH)
    pair.upstream.script = playing(
        head("content-type: text/event-stream", "transfer-encoding: chunked") + chunked(said)
    )
    _, _, got = await pair.ask(json.dumps(chat(stream=True)).encode())
    assert got == said + b"data: [DONE]\n\n"


async def test_edit_error_event_is_appended(pair: Pair) -> None:
    """A stream that broke in the middle: its whole events, our error event, ``[DONE]``."""
    said = _stream(FIRST, FIRST)
    pair.upstream.script = playing(
        head("content-type: text/event-stream", "transfer-encoding: chunked"),
        b"%x\r\n%b\r\n" % (len(said) + 30, said + b'data: {"choices":[{"half":"ev"'),
        close=True,
    )
    _, _, got = await pair.ask(json.dumps(chat(stream=True)).encode())
    assert got.startswith(said)
    error, done, rest = got[len(said) :].split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "bad_gateway"


TOOL = (
    'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","type":"function",'
    '"function":{"name":"f","arguments":"{}"}}]},"finish_reason":null}],"y":1.50}'
)


async def test_edit_finish_reason_of_tool_calls(pair: Pair) -> None:
    """Where an engine ends streamed tool calls with ``stop``, that one word becomes
    ``tool_calls``; for engines without the habit and streams without tools nothing changes."""
    said = _stream(FIRST, TOOL, FINISH, DONE)
    mended = said.replace(b'"finish_reason": "stop"', b'"finish_reason": "tool_calls"')
    answer = head("content-type: text/event-stream", "transfer-encoding: chunked") + chunked(said)
    pair.upstream.script = playing(answer)
    _, _, got = await pair.ask(json.dumps(chat(stream=True)).encode())
    assert got == said
    async with FakeEngine(dialect="ollama", name="o") as ollama, running(ollama) as gateway:
        for stream, wanted in ((said, mended), (_stream(FIRST, FINISH, DONE),) * 2):
            framed = head("content-type: text/event-stream", "transfer-encoding: chunked")
            ollama.faults.set(Fault.RAW, body=framed + chunked(stream))
            got = (await gateway.client.post("/v1/chat/completions", json=chat(stream=True))).read()
            assert got == wanted


async def test_edit_another_dialect_is_translated_whole(pair: Pair) -> None:
    """Ollama's own lines become OpenAI's chunks, its plain answer a chat completion."""
    lines = (
        b'{"message":{"role":"assistant","content":"a"},"done":false}\n'
        b'{"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}\n'
    )
    framed = head("content-type: application/x-ndjson", "transfer-encoding: chunked")
    pair.upstream.script = playing(framed + chunked(lines[:20], lines[20:]))
    _, headers, got = await pair.ask(json.dumps(chat(stream=True)).encode())
    assert headers["content-type"] == "text/event-stream"
    events = [part.removeprefix(b"data: ") for part in got.split(b"\n\n") if part]
    assert events[-1] == b"[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    pair.upstream.script = playing(
        plain({"message": {"role": "assistant", "content": "b"}, "done": True})
    )
    _, _, answer = await pair.ask(json.dumps(chat()).encode())
    assert json.loads(answer)["choices"][0]["message"]["content"] == "b"


async def test_edit_early_head_and_comments() -> None:
    """A stream that is silent for long begins with a head that names nobody and comments; then
    it is the engine's, byte for byte."""

    async def slow(talk: Talk) -> None:
        await gateway_said.wait()
        await talk.write(
            head("content-type: text/event-stream", "transfer-encoding: chunked"),
            chunked(_stream(FIRST, FINISH, DONE)),
        )

    gateway_said = asyncio.Event()
    async with (
        Scripted(slow) as upstream,
        running(upstream.spec(), server={"stream_keepalive_seconds": 0.05}) as gateway,
        raw(gateway.port) as client,
    ):
        client.send(post(json.dumps(chat(stream=True)).encode()))
        early = await client.until(b": keep-alive\n\n\r\n")
        assert b"x-nexus-" not in early
        assert b"content-type: text/event-stream\r\n" in early
        await client.until(b": keep-alive\n\n\r\n")
        gateway_said.set()
        rest = await client.until(b"0\r\n\r\n")
    payload = b"".join(part for part in _dechunk(rest) if part != b": keep-alive\n\n")
    assert payload == _stream(FIRST, FINISH, DONE)


def _dechunk(data: bytes) -> list[bytes]:
    parts = []
    while data:
        size, _, data = data.partition(b"\r\n")
        parts.append(data[: int(size, 16)])
        data = data[int(size, 16) + 2 :]
    return parts


async def test_edit_a_coded_body_is_decoded(pair: Pair) -> None:
    """gzip comes off, with its header; what was inside goes upstream byte for byte."""
    body = SPELLED % b"demo-model"
    status, _, _ = await pair.ask(gzip.compress(body), "content-encoding: gzip")
    assert status == 200
    assert pair.upstream.talks[-1].body == body
    assert pair.upstream.talks[-1].field("content-encoding") == []


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b'{"detail":"bad temperature"}', "bad temperature"),
        (b'{"error":"just words"}', "just words"),
        (b"plain words", "plain words"),
        (b'{"object":"error","message":"flat","type":"BadRequest","code":400}', "flat"),
    ],
)
async def test_edit_errors_take_the_openai_shape(pair: Pair, said: bytes, message: str) -> None:
    """An error in another shape keeps its status and its text."""
    pair.upstream.script = playing(plain(said, status="422 Unprocessable"))
    status, _, got = await pair.ask(json.dumps(chat()).encode())
    assert status == 422
    assert json.loads(got)["error"]["message"] == message


async def test_no_edit_of_errors_in_the_openai_shape(pair: Pair) -> None:
    """An error that has the shape already is relayed byte for byte."""
    said = b'{ "error" : {"message": "no", "code":null, "extra": 1.50} }\n'
    pair.upstream.script = playing(plain(said, status="400 Bad Request"))
    status, _, got = await pair.ask(json.dumps(chat()).encode())
    assert (status, got) == (400, said)


def test_the_openai_kind_edits_nothing() -> None:
    """The engine of these tests has no habits that call for edits."""
    traits = adapter_for(EngineKind.OPENAI).traits
    assert not traits.field_copies
    assert not traits.stop_for_tool_calls
