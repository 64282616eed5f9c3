"""The ends of a byte stream: windows that fill up, FIN and RST in their order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from tests.simulation.network import Network

__all__ = ["WINDOW_BYTES", "End", "ResetError"]

WINDOW_BYTES = 16 * 1024
"""What fits between two ends when nobody reads: the kernels' buffers."""
_WATERMARK_SHARE = 64
"""Write buffers are this much smaller than the real ones, since so are the answers."""


class ResetError(ConnectionResetError):
    """The other end reset the connection."""


class End(asyncio.Transport):
    """One end of a connection: a transport as strict as uvloop's."""

    def __init__(self, network: Network, name: str, window_bytes: int = WINDOW_BYTES) -> None:
        super().__init__()
        self.network = network
        self.name = name
        self.peer: End
        self.protocol: asyncio.BaseProtocol
        self.closing = False
        self.lost = False
        self.speaks_of = ""
        """Which request the bytes that come are the answer to."""
        self.fullest_bytes = 0
        """The most that ever waited to be sent."""
        self._window_bytes = window_bytes
        self._out = bytearray()
        self._unread_bytes = 0
        self._high, self._low = 64 * 1024, 16 * 1024
        self._write_paused = False
        self._reading = True
        self._inbox: deque[bytes] = deque()
        self._eof_in = self._reset_in = False
        self._eof_out = self._eof_sent = False
        self._next_s = 0.0

    # --- transport ----------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends bytes."""
        if self.lost:
            raise RuntimeError("written after connection_lost")
        if self.closing:
            return
        assert not self._eof_out, "written after write_eof"
        self.network.note(self.name, "write", bytes(data))
        if self._reset_in:
            self.network.loop.call_soon(self.lose, ResetError())
            return
        self._out += data
        self._push()
        self._look_at_marks()

    def writelines(self, parts: Any) -> None:
        """Sends bytes."""
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        """Sends FIN after what was written."""
        self._eof_out = True
        self._push()

    def can_write_eof(self) -> bool:
        """It can."""
        return True

    def close(self) -> None:
        """Ends it once what was written is on its way."""
        if not self.closing:
            self.closing = True
            self._push()

    def abort(self) -> None:
        """Ends it now."""
        if not self.lost:
            self.closing = True
            self._out.clear()
            self.network.loop.call_soon(self.lose, None)

    def is_closing(self) -> bool:
        """Whether its end has begun."""
        return self.closing

    def pause_reading(self) -> None:
        """Reads no more for now."""
        assert self._reading
        self._reading = False

    def resume_reading(self) -> None:
        """Reads on."""
        assert not self._reading
        self._reading = True
        self.network.loop.call_soon(self._read)

    def get_write_buffer_size(self) -> int:
        """What is not on its way yet."""
        return len(self._out)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When to pause and resume who writes."""
        self._high = (high or 0) // _WATERMARK_SHARE
        self._low = (low or 0) // _WATERMARK_SHARE

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Nothing is known."""
        return default

    # --- the stream ---------------------------------------------------------------------------

    def _push(self) -> None:
        """Sends as much as the window takes, then what ends the stream."""
        if self.lost:
            return
        out = self._out
        while out and self._unread_bytes < self._window_bytes:
            size = min(len(out), self._window_bytes - self._unread_bytes)
            size = self.network.cut_size(size)
            data = bytes(out[:size])
            del out[:size]
            self._unread_bytes += size
            self._send(self.peer._arrive, data)
        if out:
            return
        if (self._eof_out or self.closing) and not self._eof_sent:
            self._eof_sent = True
            unread = self.closing and (self._inbox or self._reset_in)
            self._send(self.peer._arrive_reset if unread else self.peer._arrive_eof)
        if self.closing:
            self.network.loop.call_soon(self.lose, None)

    def _send(self, arrive: Callable[..., None], *args: bytes) -> None:
        network = self.network
        # Never before what was sent earlier.
        self._next_s = max(self._next_s, network.loop.now_s + network.delay_s())
        network.loop.happen_at(self._next_s, network.carry, self, arrive, args)

    def _arrive(self, data: bytes) -> None:
        if self.lost or self.closing:
            self._send(self.peer._arrive_reset)
            return
        self._inbox.append(data)
        self._read()

    def _arrive_eof(self) -> None:
        self._eof_in = True
        self._read()

    def _arrive_reset(self) -> None:
        self._reset_in = True
        self._inbox.clear()
        if self._out:
            # Who still has something to write finds out by that, reading or not.
            self.network.loop.call_soon(self.lose, ResetError())
        self._read()

    def _read(self) -> None:
        """Hands over what came. Who does not read sees neither FIN nor RST."""
        protocol = cast(asyncio.Protocol, self.protocol)
        while self._reading and not self.closing and not self.lost:
            if self._inbox:
                data = self._inbox.popleft()
                self.network.note(self.name, "read", data)
                self.peer._acknowledged(len(data))
                if self.speaks_of:
                    self.network.heard_s[self.speaks_of] = self.network.loop.now_s
                protocol.data_received(data)
            elif self._reset_in:
                self.network.note(self.name, "reset")
                self.lose(ResetError())
            elif self._eof_in:
                self._eof_in = False
                self.network.note(self.name, "eof")
                if not protocol.eof_received():
                    self.close()
            else:
                return

    def _acknowledged(self, size: int) -> None:
        self._unread_bytes -= size
        if self._out or self._write_paused:
            self.network.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """There is room again."""
        if not self.lost:
            self._push()
            self._look_at_marks()

    def _look_at_marks(self) -> None:
        size = len(self._out)
        self.fullest_bytes = max(self.fullest_bytes, size)
        if not self._write_paused and size > self._high:
            self._write_paused = True
            self.protocol.pause_writing()
        elif self._write_paused and size <= self._low and not self.lost:
            self._write_paused = False
            self.protocol.resume_writing()

    def lose(self, error: Exception | None) -> None:
        """It is over here; the other end hears of it unless it was the one who reset."""
        if self.lost:
            return
        self.lost = self.closing = True
        unread = bool(self._inbox) or bool(self._out)
        self._inbox.clear()
        self._out.clear()
        self.network.note(self.name, "lost")
        self.network.left(self)
        if not self._reset_in and (unread or not self._eof_sent):
            self._send(self.peer._arrive_reset if unread else self.peer._arrive_eof)
        self.protocol.connection_lost(error)

    def reset(self) -> None:
        """Ends it with RST: a process that died, or one that means to be rude."""
        if not self.lost:
            self._inbox.append(b"")  # whatever it had not read
            self.lose(None)
