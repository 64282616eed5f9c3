"""An engine that streams: one delta per period and stream, each one HTTP chunk and one write.

``python -m benchmarks.macro.engine`` binds a port from the kernel and prints it. A request's
question tells how many deltas and their pace (``100 deltas at 50 per second: ...``). The first
delta follows the head at once, so that the time to it is the proxy's; the others come when it is
the stream's turn: streams of one pace are spread over the period in steps of a millisecond, so that
deltas come as from many engines and not all at once. Each delta says when it was written. The
engine costs as little as it can: it shares a core with the load generator.
"""

from __future__ import annotations

import asyncio
import json
from time import monotonic_ns
from typing import cast

import uvloop
from benchmarks.macro.wire import DELTA_PARTS, STREAM_END, STREAM_MODEL, model_list

_HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: bench\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_TICK_S = 0.001
_BACKLOG = 4096
_BEFORE, _AFTER = DELTA_PARTS


class Pacer:
    """Gives each stream of one pace its turn once per period."""

    def __init__(self, loop: asyncio.AbstractEventLoop, period_s: float) -> None:
        self._loop = loop
        self._slots: list[set[Engine]] = [set() for _ in range(max(1, round(period_s / _TICK_S)))]
        self._ticks = 0
        self._began_s = loop.time()
        self._tick()

    def add(self, stream: Engine) -> set[Engine]:
        """Puts a stream where the fewest are; returns the slot, to leave it by."""
        slot = min(self._slots, key=len)
        slot.add(stream)
        return slot

    def _tick(self) -> None:
        due = int((self._loop.time() - self._began_s) / _TICK_S) + 1
        while self._ticks < due:
            self._ticks += 1
            for stream in tuple(self._slots[self._ticks % len(self._slots)]):
                stream.step()
        self._loop.call_at(self._began_s + self._ticks * _TICK_S, self._tick)


class Engine(asyncio.Protocol):
    """One connection: requests one after the other."""

    def __init__(self, pacers: dict[float, Pacer]) -> None:
        self._pacers = pacers
        self._transport: asyncio.Transport | None = None
        self._input = b""
        self._left = 0
        self._slot: set[Engine] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left."""
        self._transport = None
        self._leave()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        self._input += data
        head, blank, body = self._input.partition(b"\r\n\r\n")
        if not blank or self._transport is None:
            return
        method, path, rest = head.split(b" ", 2)
        if not rest.startswith(b"HTTP/1.1"):
            self._transport.close()  # somebody tries HTTP/2
            return
        after = (head.lower() + b"\r\n").partition(b"content-length:")[2]
        length = int(after.split(b"\r\n", 1)[0] or 0)
        if len(body) < length:
            return
        self._input = body[length:]
        if method != b"POST" or path != b"/v1/chat/completions":
            self._answer(path)
            return
        question = json.loads(body[:length])["messages"][-1]["content"].split(maxsplit=4)
        self._left = int(question[0])
        events_per_s = float(question[3])
        self._transport.write(_HEAD)
        self.step()
        pacer = self._pacers.get(events_per_s)
        if pacer is None:
            loop = asyncio.get_running_loop()
            pacer = self._pacers[events_per_s] = Pacer(loop, 1.0 / events_per_s)
        self._slot = pacer.add(self)

    def _answer(self, path: bytes) -> None:
        """What gateways ask besides: health, models, and things that this engine does not know."""
        assert self._transport is not None
        listing = model_list(STREAM_MODEL) if path == b"/v1/models" else b"{}"
        status = b"200 OK" if path in (b"/v1/models", b"/health") else b"404 Not Found"
        self._transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (status, len(listing), listing)
        )
        if self._input:
            self.data_received(b"")

    def step(self) -> None:
        """One delta, or the end."""
        if self._transport is None:
            return
        if self._left:
            self._left -= 1
            self._transport.write(b"%b%016d%b" % (_BEFORE, monotonic_ns() // 1000, _AFTER))
        else:
            self._leave()
            self._transport.write(STREAM_END)

    def _leave(self) -> None:
        if self._slot is not None:
            self._slot.discard(self)
            self._slot = None


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    pacers: dict[float, Pacer] = {}
    server = await loop.create_server(lambda: Engine(pacers), "127.0.0.1", 0, backlog=_BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
