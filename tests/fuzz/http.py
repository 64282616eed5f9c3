"""Bytes of clients and of backends, through the connections that read them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from typing import Any
from unittest.mock import patch

from nexus.core.limits import Budget
from nexus.http1.known_head import KnownHead
from nexus.http1.server import HttpServer, ServerConnection, ServerLimits
from nexus.http1.upstream import UpstreamConnection
from tests.captures import captured_names, read_raw
from tests.fuzz.target import Target
from tests.unit.http1.asked import Call, Owner, Taker, Wire
from tests.unit.http1.served import FakeTransport, Recorder

__all__ = ["SERVER", "UPSTREAM"]

_PIPELINED_MAX = 60
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,4})\r\n")
_LIMITS = ServerLimits(head_bytes=600, body_bytes=400)


_LOOP_RUNS = 500
_runs = count(1)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _tidy() -> None:
    """A loop that never runs keeps every timer that was ever cancelled."""
    if next(_runs) % _LOOP_RUNS == 0:
        loop = _loop()
        loop.call_soon(loop.stop)
        loop.run_forever()


def _pieces(data: bytes) -> list[bytes]:
    """``data`` in reads that its own bytes decide upon."""
    if len(data) < 2:
        return [data]
    first = 1 + (data[0] * 7 + len(data)) % (len(data) - 1)
    second = 1 + (data[-1] * 13 + len(data)) % (len(data) - 1)
    low, high = sorted((first, second))
    return [piece for piece in (data[:low], data[low:high], data[high:]) if piece]


@contextmanager
def _without_memory() -> Iterator[None]:
    with patch.object(KnownHead, "body_of", lambda *_: None):
        yield


def _served(pieces: list[bytes]) -> tuple[Any, ...]:
    budget = Budget(1 << 30)
    recorder = Recorder(budget)
    server = HttpServer(_loop(), recorder, _LIMITS, budget)
    connection = ServerConnection(server)
    transport = FakeTransport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    for piece in pieces:
        connection.data_received(piece)
    connection.connection_lost(None)
    assert not recorder.faults, recorder.faults
    assert not server.connections
    assert budget.used_bytes == 0
    server.close()
    _tidy()
    for request in recorder.requests:
        assert len(request.body) <= _LIMITS.body_bytes
        for name, value in request.headers:
            assert not {0, 10, 13} & {*name, *value}
    # How many requests of one read wait before the rest is dropped, and whether a head is too long
    # or malformed first, is for the reads to decide; that nothing wrong passes is not.
    told = [(r.method, r.path, r.query, r.headers, r.body) for r in recorder.requests]
    if len(told) > _PIPELINED_MAX:
        return told[:_PIPELINED_MAX], True
    return told, recorder.refusal is not None, transport.ended or transport.closed


def _run_server(data: bytes) -> None:
    """The same requests and the same refusal however the bytes come in, memory or not."""
    whole = _served([data])
    assert _served(_pieces(data)) == whole
    # A client that sends the same head again and again, and then this.
    first = data[: data.find(b"\r\n\r\n") + 4]
    known = _served([first, data])
    with _without_memory():
        assert _served([first, data]) == known


def _chunks(data: bytes) -> list[bytes]:
    """``data`` in the reads of an engine that writes chunk by chunk, as far as it looks so."""
    at = data.find(b"\r\n\r\n") + 4
    reads = [data[:at]]
    while match := _SIZE.match(data, at):
        at = match.end() + int(match[1], 16) + 2
        reads.append(data[match.start() : at])
    return [read for read in (*reads, data[at:]) if read]


def _told(answers: list[list[bytes]], asks: type[Call] = Call) -> list[Any]:
    """What calls one after the other on one connection are told, while it can serve."""
    wire = Wire()
    connection = UpstreamConnection(Owner())
    connection.connection_made(wire)  # type: ignore[arg-type]
    told: list[list[object]] = []
    for pieces in answers:
        call = asks()
        call.connection = connection
        connection.start(call, b"", b"")
        for piece in pieces:
            if not wire.closing:
                connection.data_received(piece)
        if not call.told or not _is_end(call.told[-1]):
            connection.connection_lost(None)
        told.append(call.told)
        if wire.closing or not connection.usable:
            break
    for one in told:
        assert [_is_end(part) for part in one] == [False] * (len(one) - 1) + [True], one
        assert sum(isinstance(part, tuple) for part in one[:-1]) <= 1, one
    return [_joined(one) for one in told]


def _is_end(part: object) -> bool:
    return part == "end" or (isinstance(part, tuple) and not isinstance(part[0], int))


def _joined(told: list[object]) -> tuple[object, ...]:
    """Head, body, how it ended. In how many reads a body came is the network's affair, and how much
    of it comes before a failure."""
    if told[-1] != "end":
        return ("failed",)
    body = b"".join(part for part in told if isinstance(part, bytes))
    return *(part for part in told if isinstance(part, tuple)), body


def _run_upstream(data: bytes) -> None:
    """Each call ends exactly once; the same is told however the bytes come in, and to who takes
    whole chunks."""
    whole = _told([[data]])
    assert _told([_pieces(data)]) == whole
    assert _told([_chunks(data)], Taker) == whole
    known = _told([[data], [data]])
    with _without_memory():
        assert _told([[data], [data]]) == known


SERVER = Target(name="server", run=_run_server, blocks=(b"X: 1\r\n" * 40,))
UPSTREAM = Target(
    name="upstream",
    run=_run_upstream,
    seeds=tuple(read_raw(name)[:1500] for name in captured_names()[::12]),
    blocks=(b"X: 1\r\n" * 40,),
)
