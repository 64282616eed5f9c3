"""The load: plain calls in a closed loop, and paced streams. Every answer is checked.

A measurement that saw a single wrong answer is void (:class:`Void`): a proxy that fails fast must
not look fast.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic_ns, perf_counter
from typing import NamedTuple, cast

import httptools
import msgspec
import uvloop
from benchmarks.macro.accounting import Meter
from benchmarks.macro.wire import (
    ANSWER,
    ANSWER_TEXT,
    STAMP,
    plain_request,
    stream_body,
    stream_request,
    without_stamps,
)

__all__ = [
    "PLAIN_ANSWER",
    "Expected",
    "Figure",
    "StreamFigure",
    "Void",
    "answered",
    "measure_plain",
    "measure_streams",
    "quantile",
]

_SAMPLES_PER_S = 1000.0
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


class StreamFigure(Figure, frozen=True, kw_only=True):
    """Also, in milliseconds: how long events took from the engine's write to the client's read, and
    from a request to its first event; and what ``during`` told in the midst of it."""

    delay_p50_ms: float
    delay_p99_ms: float
    first_p50_ms: float
    first_p99_ms: float
    rss_mb: float


def quantile(sorted_values: list[float], share: float) -> float:
    """The value below which that share of them lies; 0 where there are none."""
    if not sorted_values:
        return 0.0
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]


class Expected(NamedTuple):
    """The answer that must come: that body, or, where a gateway writes answers anew, at least that
    text in it."""

    body: bytes
    text: bytes
    exact: bool = True


PLAIN_ANSWER = Expected(ANSWER, ANSWER_TEXT.encode())


def answered(data: bytes, expected: Expected) -> bool:
    """Whether the answer is whole. Raises :class:`Void` when it is not the one expected."""
    body_at = data.find(b"\r\n\r\n") + 4
    if body_at < 4:
        if len(data) > 65536 or not data.startswith(b"HTTP/1.1 200 "[: len(data)]):
            raise Void(f"a wrong answer: {data[:200]!r}")
        return False
    if not data.startswith(b"HTTP/1.1 200 "):
        raise Void(f"a wrong answer: {data[:500]!r}")
    length = len(expected.body)
    if not expected.exact:
        length = int(data[:body_at].lower().partition(b"content-length:")[2].split(b"\r", 1)[0])
    if len(data) < body_at + length:
        return False
    if len(data) > body_at + length or (
        not data.endswith(expected.body) if expected.exact else expected.text not in data
    ):
        raise Void(f"a body that is not the upstream's: {data[body_at : body_at + 200]!r}")
    return True


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
        self.transports: list[asyncio.Transport] = []

    async def __aenter__(self) -> _Load:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is left of a load, however it ended."""
        for transport in self.transports:
            transport.abort()
        await asyncio.sleep(0.01)

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
        self.load.transports.append(self.transport)
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

    def __init__(self, load: _Load, expected: Expected) -> None:
        super().__init__(load)
        self.expected = expected
        self.data = b""

    def data_received(self, data: bytes) -> None:
        if self.data:
            data = self.data + data
        load = self.load
        try:
            if not answered(data, self.expected):
                self.data = data
                return
        except (Void, ValueError) as error:
            load.fail(str(error))
            return
        self.data = b""
        load.units += 1
        if load.stopping:
            self.finish()
        elif self.transport is not None:
            self.transport.write(load.request)


class _Samples:
    """When events came, of one stream in so many; while ``on``."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.on = False
        self.delays_ms: list[float] = []
        self.firsts_ms: list[float] = []

    def take(self, data: bytes) -> None:
        now_us = monotonic_ns() // 1000
        for stamp in STAMP.findall(data):
            self.delays_ms.append((now_us - int(stamp)) / 1000.0)


class _StreamConnection(_Connection):
    """Reads one stream and counts its events: blank lines, which occur nowhere else in it."""

    def __init__(self, load: _Load, samples: _Samples, expected: range, *, number: int) -> None:
        super().__init__(load)
        self.samples = samples
        self.sampled = number % samples.every == 0
        self.expected = expected
        self.events = 0
        self.started = False
        self.asked_s: float | None = None
        self.kept: list[bytes] | None = [] if number == 0 else None
        self.last = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.asked_s = perf_counter()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        load = self.load
        if not self.started:
            self.started = True
            if not data.startswith(b"HTTP/1.1 200 "):
                load.fail(f"a wrong answer: {data[:500]!r}")
                return
        if self.asked_s is not None and b"data: " in data:
            self.samples.firsts_ms.append((perf_counter() - self.asked_s) * 1e3)
            self.asked_s = None
        if self.sampled and self.samples.on:
            self.samples.take(data)
        if self.kept is not None:
            self.kept.append(data)
        events = data.count(b"\n\n")
        last = self.last
        if last and data[0] == 10 and last[-1] == 10:
            events += 1
        self.events += events
        load.units += events
        self.last = data if len(data) > 4 else (last + data)[-5:]
        if self.events >= self.expected.start and self.last.endswith(b"0\r\n\r\n"):
            if self.events not in self.expected:
                load.fail(f"a stream of {self.events} events instead of {self.expected.start}")
            self.finish()


async def _plain(
    port: int,
    connections: int,
    seconds: float,
    meter: Meter,
    request: bytes,
    expected: Expected,
) -> Figure:
    loop = asyncio.get_running_loop()
    async with _Load(request) as load:
        for _ in range(connections):
            await loop.create_connection(
                lambda: _PlainConnection(load, expected), "127.0.0.1", port
            )
        await load.sleep(_WARM_UP_S)
        window = await load.window(seconds, meter)
        load.stopping = True
        await load.end(_END_S)
    return _figure(window, load.units)


async def _streams(
    port: int,
    streams: int,
    events_per_s: float,
    seconds: float,
    meter: Meter,
    opens_per_s: float,
    exact: bool,
    during: Callable[[], float],
) -> StreamFigure:
    opening_s = streams / opens_per_s
    deltas = int(events_per_s * (1.2 * opening_s + 2 * _WARM_UP_S + seconds + 1.0)) + 1
    # Also the finish reason and [DONE]; who writes events anew may add the usage.
    expected = range(deltas + 2, deltas + (3 if exact else 5))
    loop = asyncio.get_running_loop()
    samples = _Samples(max(1, round(streams * events_per_s / _SAMPLES_PER_S)))
    async with _Load(stream_request(port, deltas, events_per_s)) as load:
        opened: list[_StreamConnection] = []
        began_s = perf_counter()
        for number in range(streams):
            _, connection = await loop.create_connection(
                lambda number=number: _StreamConnection(  # type: ignore[misc]
                    load, samples, expected, number=number
                ),
                "127.0.0.1",
                port,
            )
            opened.append(connection)
            ahead_s = (number + 1) / opens_per_s - (perf_counter() - began_s)
            if ahead_s > 0.001:
                await load.sleep(ahead_s)
        if perf_counter() - began_s > 1.2 * opening_s + 0.5:
            raise Void(f"streams could not be opened at {opens_per_s:g} a second")
        await load.sleep(2 * _WARM_UP_S)
        samples.on = True
        window = await load.window(seconds, meter)
        samples.on = False
        rss_mb = during()
        await load.end(_END_S + deltas / events_per_s)
    body = without_stamps(_body_of(opened[0].kept or []))
    if body != stream_body(deltas) if exact else body.count(b"t%016d" % 0) != deltas:
        raise Void("a stream's bytes are not the upstream's")
    rate = window.units / window.took_s / streams
    if not 0.9 * events_per_s < rate < 1.1 * events_per_s:
        raise Void(f"streams ran at {rate:.1f} events/s instead of {events_per_s:g}")
    delays, firsts = sorted(samples.delays_ms), sorted(samples.firsts_ms)
    return StreamFigure(
        **msgspec.structs.asdict(_figure(window, load.units)),
        delay_p50_ms=quantile(delays, 0.5),
        delay_p99_ms=quantile(delays, 0.99),
        first_p50_ms=quantile(firsts, 0.5),
        first_p99_ms=quantile(firsts, 0.99),
        rss_mb=rss_mb,
    )


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


def measure_plain(
    port: int,
    connections: int,
    seconds: float,
    meter: Meter,
    body: bytes | None = None,
    expected: Expected = PLAIN_ANSWER,
) -> Figure:
    """Plain calls over ``connections`` kept-alive connections, each asking as soon as it was
    answered. ``meter`` reads the proxy's CPU time. Raises :class:`Void`."""
    request = plain_request(port, body)
    return uvloop.run(_plain(port, connections, seconds, meter, request, expected))


def measure_streams(
    port: int,
    streams: int,
    events_per_s: float,
    seconds: float,
    meter: Meter,
    *,
    opens_per_s: float = 500.0,
    exact: bool = True,
    during: Callable[[], float] = float,
) -> StreamFigure:
    """``streams`` streams at once, in their steady state; ``during`` is asked for the proxy's
    memory at its end. Not ``exact``: the proxy writes events anew. Raises :class:`Void`, also where
    deltas do not come at the pace at which the engine sends them."""
    return uvloop.run(
        _streams(port, streams, events_per_s, seconds, meter, opens_per_s, exact, during)
    )
