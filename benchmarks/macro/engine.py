"""An engine that streams: one delta per period and stream, each one HTTP chunk and one write.

``python -m benchmarks.macro.engine RATE`` binds a port from the kernel and prints it. Streams
are spread over the period in steps of a millisecond, so that deltas come as from many engines and
not all at once. It costs as little as it can: it shares a core with the load generator.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

import uvloop
from benchmarks.macro.wire import STREAM_MODEL, model_list, stream_chunks

_HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: bench\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_TICK_S = 0.001


class Pacer:
    """Gives each stream its turn once per period."""

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

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._transport: asyncio.Transport | None = None
        self._input = b""
        self._left = 0
        self._slot: set[Engine] | None = None
        self._delta, self._end = stream_chunks()

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
        if head.startswith(b"GET "):
            self._input = body
            found = head.split(b" ", 2)[1] == b"/v1/models"
            listing = model_list(STREAM_MODEL) if found else b"{}"
            self._transport.write(
                b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (b"200 OK" if found else b"404 Not Found", len(listing), listing)
            )
            return
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._input = body[length:]
        self._left = json.loads(body[:length])["max_tokens"]
        self._transport.write(_HEAD)
        self._slot = self._pacer.add(self)

    def step(self) -> None:
        """One delta, or the end."""
        if self._transport is None:
            return
        if self._left:
            self._left -= 1
            self._transport.write(self._delta)
        else:
            self._leave()
            self._transport.write(self._end)

    def _leave(self) -> None:
        if self._slot is not None:
            self._slot.discard(self)
            self._slot = None


async def _serve(events_per_s: float) -> None:
    loop = asyncio.get_running_loop()
    pacer = Pacer(loop, 1.0 / events_per_s)
    server = await loop.create_server(lambda: Engine(pacer), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(float(sys.argv[1])))
