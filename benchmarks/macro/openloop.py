"""The open load: requests at a fixed rate, whether answers come or not, and how long each took.

Each request has a time at which it is due, and its latency counts from then: one that had to wait,
for a free connection or for this program itself, took that much longer. Else a proxy that stalls
would be asked less just when it is slow ("coordinated omission").
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections import deque
from time import perf_counter
from typing import cast

import msgspec
import uvloop
from benchmarks.macro.load import PLAIN_ANSWER, Expected, Void, answered, quantile
from benchmarks.macro.wire import plain_request

__all__ = ["Latency", "measure_latency"]

_CONNECTIONS = 64
_WARM_UP_S = 0.5
_END_S = 10.0
_CLOCK_MONOTONIC = 1
_NONBLOCK = 0o4000


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """What one measurement saw: requests per second, how many counted, milliseconds from the time
    a request was due to the end of its answer, and by how much this program itself was late."""

    rate: float
    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    late_p99_ms: float


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Timer(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("first", _Timespec))


def _ticking(period_s: float) -> int:
    """A timerfd(2) that is readable once per period. The loop's own timers move in steps of a
    millisecond, which would make requests come in bursts."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK))
    seconds, nanoseconds = divmod(max(1, round(period_s * 1e9)), 1_000_000_000)
    period = _Timespec(seconds, nanoseconds)
    timer = _Timer(period, period)
    if descriptor < 0 or libc.timerfd_settime(descriptor, 0, ctypes.byref(timer), None):
        raise OSError(ctypes.get_errno(), "timerfd")
    return descriptor


class _Run:
    """What the connections share: who is free, what waits, what was measured."""

    def __init__(self, request: bytes, expected: Expected) -> None:
        self.request = request
        self.expected = expected
        self.free: deque[_Connection] = deque()
        self.waiting: deque[float] = deque()
        self.counts_from_s = float("inf")
        self.took_ms: list[float] = []
        self.late_ms: list[float] = []
        self.asked = 0
        self.done = 0
        self.wrong: str | None = None
        self.ended = asyncio.Event()

    def due(self, at_s: float) -> None:
        """A request is due at that time."""
        self.asked += 1
        if self.free:
            self.late_ms.append((perf_counter() - at_s) * 1e3)
            self.free.popleft().ask(at_s)
        else:
            self.waiting.append(at_s)

    def answer(self, connection: _Connection, due_s: float) -> None:
        """A request was answered."""
        if due_s >= self.counts_from_s:
            self.took_ms.append((perf_counter() - due_s) * 1e3)
        self.done += 1
        if self.waiting:
            connection.ask(self.waiting.popleft())
        else:
            self.free.append(connection)

    def fail(self, what: str) -> None:
        """Something is wrong: the measurement is void."""
        self.wrong = self.wrong or what
        self.ended.set()


class _Connection(asyncio.Protocol):
    def __init__(self, run: _Run) -> None:
        self.run = run
        self.due_s = 0.0
        self.data = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.run.free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.run.fail(f"a connection was closed ({exc or 'FIN'})")

    def ask(self, due_s: float) -> None:
        self.due_s = due_s
        assert self.transport is not None
        self.transport.write(self.run.request)

    def data_received(self, data: bytes) -> None:
        if self.data:
            data = self.data + data
        try:
            if not answered(data, self.run.expected):
                self.data = data
                return
        except (Void, ValueError) as error:
            self.run.fail(str(error))
            return
        self.data = b""
        self.run.answer(self, self.due_s)


async def _measure(port: int, rate: float, seconds: float, run: _Run) -> Latency:
    loop = asyncio.get_running_loop()
    connections = []
    for _ in range(_CONNECTIONS):
        transport, _ = await loop.create_connection(lambda: _Connection(run), "127.0.0.1", port)
        connections.append(transport)
    period_s = 1.0 / rate
    due = 0
    began_s = perf_counter()
    run.counts_from_s = began_s + _WARM_UP_S
    timer = _ticking(period_s)

    def tick() -> None:
        nonlocal due
        try:
            os.read(timer, 8)
        except BlockingIOError:
            return
        now_s = perf_counter()
        while (at_s := began_s + (due + 1) * period_s) <= now_s:
            due += 1
            run.due(at_s)

    loop.add_reader(timer, tick)
    try:
        try:
            async with asyncio.timeout(_WARM_UP_S + seconds):
                await run.ended.wait()
        except TimeoutError:
            pass
    finally:
        loop.remove_reader(timer)
        os.close(timer)
    end_s = perf_counter() + _END_S
    while run.done < run.asked and run.wrong is None and perf_counter() < end_s:
        await asyncio.sleep(0.02)
    wrong = run.wrong
    for transport in connections:
        transport.abort()
    await asyncio.sleep(0.01)
    if wrong is not None:
        raise Void(wrong)
    if run.done < run.asked:
        raise Void(f"{run.asked - run.done} of {run.asked} requests were not answered")
    took, late = sorted(run.took_ms), sorted(run.late_ms)
    return Latency(
        rate=rate,
        count=len(took),
        p50_ms=quantile(took, 0.5),
        p90_ms=quantile(took, 0.9),
        p99_ms=quantile(took, 0.99),
        late_p99_ms=quantile(late, 0.99),
    )


def measure_latency(
    port: int,
    rate: float,
    seconds: float,
    body: bytes | None = None,
    expected: Expected = PLAIN_ANSWER,
) -> Latency:
    """Plain calls at ``rate`` a second, evenly spaced, over 64 kept-alive connections. Raises
    :class:`Void`."""

    async def run() -> Latency:
        return await _measure(port, rate, seconds, _Run(plain_request(port, body), expected))

    return uvloop.run(run())
