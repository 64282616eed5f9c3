"""The load: plain calls in a closed loop, and paced streams. Every answer is checked.

A measurement that saw a single wrong answer is void (:class:`Void`): a proxy that fails fast must
not look fast.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import NamedTuple, cast

import httptools
import msgspec
import uvloop
from benchmarks.macro.accounting import Meter
from benchmarks.macro.wire import ANSWER, plain_request, stream_body, stream_request

__all__ = ["Figure", "Void", "measure_plain", "measure_streams"]

_WARM_UP_S = 0.5
_END_S = 10.0


class Void(Exception):  # noqa: N818 - what it says of a figure
    """The measurement means nothing; the message says why."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement: CPU of the proxy per unit (a request or an SSE event), microseconds; units
    per second; units in all, warm-up included; the share of its core that the proxy used, and the
    share that other programs used, which distorts the figure."""

    cpu_us: float
    per_s: float
    total: int
    core_share: float
    others_share: float


class _Window(NamedTuple):
    proxy_s: float
    others_s: float
    units: int
    took_s: float


class _Load:
    """What the connections of one measurement share."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.units = 0
        self.stopping = False
        self.open = 0
        self.wrong: str | None = None
        self.ended = asyncio.Event()

    def fail(self, what: str) -> None:
        """Something is wrong: the measurement is void."""
        self.wrong = self.wrong or what
        self.stopping = True
        self.ended.set()

    def closed(self) -> None:
        """One connection has nothing more to do."""
        self.open -= 1
        if self.open == 0:
            self.ended.set()

    async def window(self, seconds: float, meter: Meter) -> _Window:
        """What happened in about ``seconds``."""
        units, before, at_s = self.units, meter(), perf_counter()
        await self.sleep(seconds)
        after = meter()
        proxy_s = after.proxy_s - before.proxy_s
        return _Window(
            proxy_s=proxy_s,
            others_s=max(0.0, after.core_s - before.core_s - proxy_s),
            units=self.units - units,
            took_s=perf_counter() - at_s,
        )

    async def sleep(self, seconds: float) -> None:
        """Lets the load run; raises :class:`Void` as soon as something is wrong."""
        try:
            async with asyncio.timeout(seconds):
                await self.ended.wait()
        except TimeoutError:
            return
        raise Void(self.wrong or "the load ended before the measurement did")

    async def end(self, deadline_s: float) -> None:
        """Waits for all connections to be done."""
        try:
            async with asyncio.timeout(deadline_s):
                await self.ended.wait()
        except TimeoutError:
            raise Void(f"{self.open} answers were not whole after {deadline_s:g} s") from None
        if self.wrong is not None:
            raise Void(self.wrong)


class _Connection(asyncio.Protocol):
    def __init__(self, load: _Load) -> None:
        self.load = load
        self.over = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.load.open += 1
        self.transport.write(self.load.request)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over:
            self.over = True
            self.load.fail(f"a connection was closed in the middle of an answer ({exc or 'FIN'})")

    def finish(self) -> None:
        self.over = True
        self.load.closed()
        if self.transport is not None:
            self.transport.close()


class _PlainConnection(_Connection):
    """Asks, checks the whole answer, asks again."""

    def __init__(self, load: _Load) -> None:
        super().__init__(load)
        self.data = b""

    def data_received(self, data: bytes) -> None:
        if self.data:
            data = self.data + data
            self.data = b""
        load = self.load
        body_at = data.find(b"\r\n\r\n") + 4
        if not data.startswith(b"HTTP/1.1 200 ") or len(data) > body_at + len(ANSWER) > 3:
            if body_at > 3 or len(data) > 12:
                load.fail(f"a wrong answer: {data[:200]!r}")
            else:
                self.data = data
        elif body_at < 4 or len(data) < body_at + len(ANSWER):
            self.data = data
        elif not data.endswith(ANSWER):
            load.fail(f"a body that is not the upstream's: {data[body_at : body_at + 200]!r}")
        else:
            load.units += 1
            if load.stopping:
                self.finish()
            elif self.transport is not None:
                self.transport.write(load.request)


class _StreamConnection(_Connection):
    """Reads one stream and counts its events: blank lines, which occur nowhere else in it."""

    def __init__(self, load: _Load, expected: int, *, keep: bool) -> None:
        super().__init__(load)
        self.expected = expected
        self.events = 0
        self.started = False
        self.kept: list[bytes] | None = [] if keep else None
        self.last = b""

    def data_received(self, data: bytes) -> None:
        load = self.load
        if not self.started:
            self.started = True
            if not data.startswith(b"HTTP/1.1 200 "):
                load.fail(f"a wrong answer: {data[:200]!r}")
                return
        if self.kept is not None:
            self.kept.append(data)
        events = data.count(b"\n\n")
        last = self.last
        if last and data[0] == 10 and last[-1] == 10:
            events += 1
        self.events += events
        load.units += events
        self.last = data if len(data) > 4 else (last + data)[-5:]
        if self.events >= self.expected and self.last.endswith(b"0\r\n\r\n"):
            if self.events != self.expected:
                load.fail(f"a stream of {self.events} events instead of {self.expected}")
            self.finish()


async def _plain(port: int, connections: int, seconds: float, meter: Meter) -> Figure:
    load = _Load(plain_request(port))
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: _PlainConnection(load), "127.0.0.1", port)
    await load.sleep(_WARM_UP_S)
    window = await load.window(seconds, meter)
    load.stopping = True
    await load.end(_END_S)
    return _figure(window, load.units)


async def _streams(
    port: int, streams: int, events_per_s: float, seconds: float, meter: Meter
) -> Figure:
    opening_s = streams / 500.0
    deltas = int(events_per_s * (opening_s + 2 * _WARM_UP_S + seconds + 1.0))
    expected = deltas + 2  # the finish reason and [DONE]
    load = _Load(stream_request(port, deltas))
    loop = asyncio.get_running_loop()
    opened: list[_StreamConnection] = []
    for number in range(streams):
        keep = number == 0
        _, connection = await loop.create_connection(
            lambda keep=keep: _StreamConnection(load, expected, keep=keep),  # type: ignore[misc]
            "127.0.0.1",
            port,
        )
        opened.append(connection)
        if number % 25 == 24:
            await load.sleep(0.05)
    await load.sleep(2 * _WARM_UP_S)
    window = await load.window(seconds, meter)
    await load.end(_END_S + deltas / events_per_s)
    if _body_of(opened[0].kept or []) != stream_body(deltas):
        raise Void("a stream's bytes are not the upstream's")
    rate = window.units / window.took_s / streams
    if not 0.9 * events_per_s < rate < 1.1 * events_per_s:
        raise Void(f"streams ran at {rate:.1f} events/s instead of {events_per_s:g}")
    return _figure(window, load.units)


class _Body:
    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def on_body(self, data: bytes) -> None:
        self.parts.append(data)


def _body_of(parts: list[bytes]) -> bytes:
    """The body of a response, without its framing."""
    body = _Body()
    parser = httptools.HttpResponseParser(body)
    for part in parts:
        parser.feed_data(part)
    return b"".join(body.parts)


def _figure(window: _Window, total: int) -> Figure:
    if window.units == 0:
        raise Void("nothing was answered")
    return Figure(
        cpu_us=window.proxy_s / window.units * 1e6,
        per_s=window.units / window.took_s,
        total=total,
        core_share=window.proxy_s / window.took_s,
        others_share=window.others_s / window.took_s,
    )


def measure_plain(port: int, connections: int, seconds: float, meter: Meter) -> Figure:
    """Plain calls over ``connections`` kept-alive connections, each asking as soon as it was
    answered. ``meter`` reads the proxy's CPU time. Raises :class:`Void`."""
    return uvloop.run(_plain(port, connections, seconds, meter))


def measure_streams(
    port: int, streams: int, events_per_s: float, seconds: float, meter: Meter
) -> Figure:
    """``streams`` streams at once, in their steady state. Raises :class:`Void`, also where deltas
    do not come at the pace at which the engine sends them."""
    return uvloop.run(_streams(port, streams, events_per_s, seconds, meter))
