"""Every single byte of a message whose head is known, changed, put in and taken out: what comes of
it is what comes of it without the memory of heads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from nexus.core.limits import Budget
from nexus.http1.known_head import KnownHead
from nexus.http1.server import HttpServer, ServerConnection, ServerLimits
from tests.unit.http1.asked import told_of
from tests.unit.http1.served import FakeTransport, Recorder

REQUEST = b"POST /v1/x?q HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nX-A: b\r\n\r\nhello, world"
BARE = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n"
LAST = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nhello, world"
ANSWER = b"HTTP/1.1 200 OK\r\nX-A: b\r\ncontent-length: 12\r\nDate: x\r\n\r\nhello, world"
ODD = b"\x00\t\n\r\x0b \"',-+/0129:;=AEax\x7f\x80\xff"


def edits(data: bytes) -> Iterator[bytes]:
    """``data`` with one byte changed, put in or taken out, at every place; cut, doubled, joined."""
    for at in range(len(data)):
        yield data[:at] + data[at + 1 :]
        yield data[:at]
        for byte in ODD:
            yield data[:at] + bytes((byte,)) + data[at:]
            yield data[:at] + bytes((byte,)) + data[at + 1 :]
    for tail in (b"\r", b"\n", b"\r\n", b" ", data, data[:10], b"\x00"):
        yield data + tail
        yield tail + data


@contextmanager
def _without_memory() -> Iterator[None]:
    with patch.object(KnownHead, "body_of", lambda *_: None):
        yield


def _served(server: HttpServer, recorder: Recorder, pieces: list[bytes]) -> tuple[Any, ...]:
    recorder.requests.clear()
    recorder.refusal = None
    connection = ServerConnection(server)
    transport = FakeTransport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    for piece in pieces:
        connection.data_received(piece)
    connection.connection_lost(None)
    refusal = recorder.refusal
    assert not recorder.faults
    assert recorder.budget.used_bytes == 0
    return (
        [(r.method, r.path, r.query, r.headers, r.body, r.keep_alive) for r in recorder.requests],
        None if refusal is None else (refusal.status, refusal.message),
        transport.written,
        transport.ended or transport.closed,
    )


@pytest.mark.parametrize("first", [REQUEST, BARE, LAST], ids=["inside", "bare", "last"])
def test_an_edited_request_behind_its_twin(first: bytes) -> None:
    """The service is handed the same requests, the client told the same, the connection closed or
    kept the same, and the request behind it read the same."""
    loop = asyncio.new_event_loop()
    budget = Budget(1 << 30)
    recorder = Recorder(budget)
    server = HttpServer(loop, recorder, ServerLimits(head_bytes=200, body_bytes=40), budget)
    count = 0
    try:
        for edited in edits(first):
            pieces = [first, edited, first]
            known = _served(server, recorder, pieces)
            with _without_memory():
                assert known == _served(server, recorder, pieces), edited
            count += 1
    finally:
        server.close()
        loop.close()
    assert count > 2000


def test_an_edited_answer_behind_its_twin() -> None:
    """Each asker is told the same, and the connection is kept or lost the same."""
    count = 0
    for edited in edits(ANSWER):
        answers = [ANSWER, edited, ANSWER]
        known = told_of(answers)
        with _without_memory():
            assert known == told_of(answers), edited
        count += 1
    assert count > 2000
