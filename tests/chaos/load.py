"""An open-loop load: calls begin when they are due, however the ones before them fare, and each is
told apart by what its client has seen."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

import httptools

__all__ = ["Address", "Call", "Connection", "Load", "request_bytes"]

Address = int | str
"""A port on loopback, or the path of a Unix socket."""

HANG_S = 60.0
"""A call that has not ended by then hangs."""


def request_bytes(
    *, stream: bool, model: str = "demo-model", text: str = "tell me of the fleet", **fields: Any
) -> bytes:
    """One chat completion, head and body."""
    messages = [{"role": "user", "content": text}]
    body = json.dumps({"model": model, "messages": messages, "stream": stream, **fields}).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )


class Call:
    """One request and what its client saw.

    ``outcome`` is ``ok``; ``told`` (a stream that broke after its first data event, and said so: an
    error event, ``[DONE]``, a clean end); ``left`` (the client's own doing); or what went wrong:
    ``status 503``, ``error first`` (an error event before any data), ``broken`` (a whole answer
    that is not what was asked for), ``cut`` (the connection ended inside the answer, or before it),
    ``no connection``, ``hung``.
    """

    __slots__ = (
        "_last",
        "began_s",
        "data_events",
        "ended_s",
        "error_events",
        "finished",
        "first_s",
        "headers",
        "outcome",
        "status",
        "stream",
        "text",
    )

    def __init__(self, *, stream: bool) -> None:
        self.stream = stream
        self.began_s = monotonic()
        self.first_s = 0.0
        self.ended_s = 0.0
        self.status = 0
        self.headers: dict[str, str] = {}
        self.text = b""
        self.data_events = 0
        self.error_events = 0
        self.finished = False
        self._last = b""
        self.outcome = ""

    @property
    def backend(self) -> str:
        """Who answered."""
        return self.headers.get("x-nexus-backend", "")

    @property
    def took_s(self) -> float:
        """From the request to the end."""
        return self.ended_s - self.began_s

    def take(self, data: bytes) -> None:
        """Bytes of the body."""
        if not self.first_s:
            self.first_s = monotonic()
        if not self.stream or self.status != 200:
            self.text += data
            return
        *events, self._last = (self._last + data).split(b"\n\n")
        for event in events:
            if event.startswith(b'data: {"error"'):
                self.error_events += 1
                self.text = event
            elif event.startswith(b"data: {"):
                self.data_events += 1
                self.finished = self.finished or b'"finish_reason":"' in event
            elif event == b"data: [DONE]":
                self._last += event

    def judged(self) -> str:
        """What became of it, now that the answer is whole."""
        if self.status != 200:
            return f"status {self.status}"
        if not self.stream:
            return "ok" if b'"choices"' in self.text else "broken"
        if self._last != b"data: [DONE]":
            return "broken"
        if self.error_events:
            return "told" if self.data_events else "error first"
        return "ok" if self.finished else "broken"


class Connection(asyncio.Protocol):
    """A kept-alive connection of a client, one call at a time."""

    def __init__(self, ended: Callable[[Connection, Call], None]) -> None:
        self._ended = ended
        self._parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport | None = None
        self.call: Call | None = None
        self.alive = False
        self.answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.alive = True

    def ask(self, call: Call, request: bytes) -> None:
        """Sends a call's request."""
        self.call = call
        assert self.transport is not None
        self.transport.write(request)

    def end(self, outcome: str) -> None:
        """Ends the call at hand, and the connection with it unless all went well."""
        call, self.call = self.call, None
        if outcome not in ("ok", "told") and self.transport is not None:
            self.alive = False
            self.transport.abort()
        if call is not None:
            call.ended_s = monotonic()
            call.outcome = outcome
            self._ended(self, call)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.end(f"malformed: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        self.end("cut")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.call is not None:
            self.call.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self.call is not None:
            self.call.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self.call is not None:
            self.call.take(body)

    def on_message_complete(self) -> None:
        call = self.call
        self.answered += 1
        if call is not None:
            self.alive = call.headers.get("connection", "").lower() != "close"
            self.end(call.judged())


class Load:
    """``rate_per_s`` calls a second to ``address``, every other one streamed.

    Connections are kept and shared; more are opened when all are at work. ``calls`` has every call
    that ended. ``leave_share`` of the clients leave in the middle of their stream. ``stale``: calls
    that found a kept connection closed before a byte came, and were made anew, as clients do (RFC
    9112 § 9.3.1: a server may close what idles at any time).
    """

    def __init__(
        self,
        address: Address,
        rate_per_s: float,
        *,
        model: str = "demo-model",
        leave_share: float = 0.0,
        keep: bool = True,
        **fields: Any,
    ) -> None:
        self._address = address
        self.rate_per_s = rate_per_s
        self._requests = [
            request_bytes(stream=stream, model=model, **fields) for stream in (False, True)
        ]
        self._leave_every = round(1 / leave_share) if leave_share else 0
        self._keep = keep
        self.calls: list[Call] = []
        self.outcomes: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self.begun = 0
        self.stale = 0
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._ending = asyncio.Event()
        self._pacer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Load:
        self._pacer = asyncio.create_task(self._pace())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    @property
    def under_way(self) -> int:
        """Calls that have not ended."""
        return self.begun - self.outcomes.total()

    async def end(self) -> None:
        """No further calls; returns when each has ended, the last ones as ``hung``."""
        self._ending.set()
        if self._pacer is not None:
            await self._pacer
            self._pacer = None
        until_s = monotonic() + HANG_S
        while self.under_way and monotonic() < until_s:
            await asyncio.sleep(0.01)
        for connection in list(self._open):
            connection.end("hung")
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.gather(*self._dials)

    def since(self, began_s: float) -> Counter[str]:
        """What became of the calls that ended after ``began_s``."""
        return Counter(call.outcome for call in self.calls if call.ended_s >= began_s)

    async def _pace(self) -> None:
        began_s = monotonic()
        due = 0.0
        while not self._ending.is_set():
            due += self.rate_per_s * 0.005
            while self.begun < due:
                self._begin()
            # What a busy machine kept us from is not made up for: it would be a burst.
            began_s = max(began_s + 0.005, monotonic() - 0.1)
            await asyncio.sleep(max(0.0, began_s - monotonic()))

    def _begin(self) -> None:
        number = self.begun
        self.begun += 1
        call = Call(stream=number % 2 == 1)
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                self._ask(connection, call, number)
                return
        self._begin_dial(call, number)

    def _begin_dial(self, call: Call, number: int) -> None:
        dial = asyncio.ensure_future(self._dial(call, number))
        self._dials.add(dial)
        dial.add_done_callback(self._dials.discard)

    async def _dial(self, call: Call, number: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection: Connection
            if isinstance(self._address, str):
                _, connection = await loop.create_unix_connection(self._connection, self._address)
            else:
                _, connection = await loop.create_connection(
                    self._connection, "127.0.0.1", self._address
                )
        except OSError:
            call.ended_s = monotonic()
            call.outcome = "no connection"
            self._count(call)
            return
        self._open.add(connection)
        self._ask(connection, call, number)

    def _connection(self) -> Connection:
        return Connection(self._ended)

    def _ask(self, connection: Connection, call: Call, number: int) -> None:
        connection.ask(call, self._requests[call.stream])
        if self._leave_every and number % self._leave_every == 0:
            loop = asyncio.get_running_loop()
            loop.call_later(0.02, self._leave, connection, call)

    @staticmethod
    def _leave(connection: Connection, call: Call) -> None:
        if connection.call is call:
            connection.end("left")

    def _ended(self, connection: Connection, call: Call) -> None:
        if call.outcome == "cut" and connection.answered and not call.status:
            self.stale += 1
            self._open.discard(connection)
            self._begin_dial(call, 1)
            return
        self._count(call)
        if connection.alive and self._keep:
            self._idle.append(connection)
        else:
            self._open.discard(connection)
            if connection.transport is not None:
                connection.transport.close()

    def _count(self, call: Call) -> None:
        self.calls.append(call)
        self.outcomes[call.outcome] += 1
        if call.outcome == "ok":
            self.served[call.backend] += 1
