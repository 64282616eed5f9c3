"""Streams and answers of engines: events, lines, and what is made of them."""

from __future__ import annotations

import json
from itertools import pairwise

from nexus.core.errors import ApiError
from nexus.dialects.errors import engine_message, normalise_error_body
from nexus.dialects.multipart import read_multipart_model
from nexus.dialects.ollama import OllamaStream
from nexus.dialects.table import recognise
from nexus.dialects.views import read_answer, read_chunk
from nexus.streams.ndjson import LineTooLong, NdjsonSplitter
from nexus.streams.sse import EventBuffer, payloads
from nexus.streams.tap import Tap, Terminal
from tests.captures import captured, captured_names
from tests.fuzz.target import Target

__all__ = ["DIALECTS", "NDJSON", "SSE", "cuts"]

_EVENT_MAX = 300
_LINE_MAX = 200


def cuts(data: bytes) -> list[list[bytes]]:
    """``data`` in one piece, in a few that its own bytes decide upon, and byte by byte."""
    places = sorted({0, len(data), *((byte * 31 + at) % (len(data) + 1)
                                     for at, byte in enumerate(data[:4]))})  # fmt: skip
    few = [data[start:end] for start, end in pairwise(places)]
    return [[data], few, [data[at : at + 1] for at in range(min(len(data), 60))] + [data[60:]]]


def _run_sse(data: bytes) -> None:
    """Nothing is lost or changed on the way, whole events only, and the tap says the same however
    the bytes come in."""
    seen = []
    for pieces in cuts(data):
        buffer = EventBuffer(_EVENT_MAX)
        tap = Tap(Terminal.FINISH_REASON, read_chunk, repairs_tool_finish=True)
        passed = []
        events = []
        for piece in pieces:
            block = buffer.feed(piece)
            if block:
                passed.append(block)
                may_pass = tap.may_pass(block)
                assert may_pass == tap.may_pass(b"%x\r\n%b\r\n" % (len(block), block))
                before = _seen(tap)
                events += payloads(block)
                tap.watch(block)
                assert not may_pass or _seen(tap) == before
                at = tap.premature_done(block)
                assert at is None or block[at:].startswith(b"data:")
                tap.repair(block)
        assert len(buffer.rest) <= _EVENT_MAX + max(map(len, pieces), default=0)
        assert b"".join(passed) + buffer.rest == data
        if not buffer.overflowed:
            seen.append((events, *_seen(tap)))
            for one in passed:
                assert one.endswith((b"\n", b"\r"))
    assert all(one == seen[0] for one in seen)
    for terminal in (Terminal.RESPONSE_EVENT, Terminal.END):
        tap = Tap(terminal, read_chunk)
        tap.watch(data)
        assert 0 <= tap.content_events <= max(tap.events, 0)


def _seen(tap: Tap) -> tuple[object, ...]:
    """All that a tap knows of a stream, the number of its events apart."""
    return (tap.finish_seen, tap.done_seen, tap.error_seen, tap.whole,
            tap.prompt_tokens, tap.completion_tokens)  # fmt: skip


def _run_ndjson(data: bytes) -> None:
    """The lines that there are, however the bytes come in; too long a line is always told."""
    plain = [line.removesuffix(b"\r") for line in data.split(b"\n")]
    long = any(len(line) > _LINE_MAX for line in plain[:-1])
    for pieces in cuts(data):
        splitter = NdjsonSplitter(_LINE_MAX)
        lines: list[bytes] = []
        try:
            for piece in pieces:
                lines += splitter.feed(piece)
        except LineTooLong:
            assert long or len(plain[-1]) >= _LINE_MAX
            continue
        assert not long
        assert lines == [line for line in plain[:-1] if line]
        assert splitter.end() == plain[-1]


def _run_dialects(data: bytes) -> None:
    """Whatever an engine says, what comes of it is what OpenAI's clients can read."""
    for chat in (True, False):
        stream = OllamaStream("m", created=1, call_id="c", include_usage=True, chat=chat)
        out = b"".join(stream.feed(line) for line in data.split(b"\n") if line)
        assert not out or out.endswith(b"\n\n")
        ends = 0
        for _, event in payloads(out):
            if event == b"[DONE]":
                ends += 1
                continue
            assert ends == 0
            chunk = json.loads(event)
            assert isinstance(chunk["choices"], list)
        assert ends == int(stream.finished)
    dialect = recognise(data)
    for chat in (True, False):
        answer = None if dialect is None else dialect.plain(
            data, model="m", created=1, call_id="c", chat=chat)  # fmt: skip
        if answer is not None:
            assert json.loads(answer)["choices"][0]["index"] == 0
    for status in (400, 503):
        body = normalise_error_body(status, data, "text/html" if data[:1] == b"<" else "")
        if body is not None:
            error = json.loads(body)["error"]
            assert isinstance(error["message"], str)
            assert len(body) < 4 * len(data) + 10_000
    engine_message(data).encode("utf-8", "surrogatepass")
    for view in (read_answer(data), read_chunk(data)):
        if view is not None:
            _ = (view.is_error, view.error_status, view.error_code, view.error_message)
            _ = (view.prompt_tokens, view.completion_tokens, view.finish_reason)
    try:
        read_multipart_model(data, "multipart/form-data; boundary=b")
    except ApiError as error:
        assert error.status == 400


SSE = Target(
    name="sse",
    run=_run_sse,
    seeds=tuple(captured(name).body[:800] for name in captured_names("*/*stream*")),
)
NDJSON = Target(name="ndjson", run=_run_ndjson, blocks=(b"x" * 100,))
DIALECTS = Target(
    name="dialects",
    run=_run_dialects,
    seeds=(
        *(captured(name).body[:1500] for name in captured_names("ollama/*")[::3]),
        *(captured(name).body[:800] for name in captured_names("*/err*")[::3]),
    ),
    blocks=(b"9" * 5000, b"[" * 300, b'{"a":' * 200),
)
