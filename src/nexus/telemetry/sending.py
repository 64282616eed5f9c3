"""Writing to a stream from a thread of one's own, past Python's buffers and their locks."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import BinaryIO, TextIO, cast

__all__ = ["sender"]


def sender(
    stream: TextIO | BinaryIO,
) -> tuple[Callable[[bytes | bytearray], None], Callable[[], None]]:
    """How to write to ``stream``, and how to be done with it."""
    try:
        number = stream.fileno()
    except (OSError, AttributeError, ValueError):
        binary = cast("BinaryIO", getattr(stream, "buffer", stream))

        def send(data: bytes | bytearray) -> None:
            binary.write(data)
            binary.flush()

        return send, lambda: None

    # Our own descriptor: the number of a stream that somebody closes would soon be another's.
    fd = os.dup(number)

    def send_to_fd(data: bytes | bytearray) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                # Somebody made the other end non-blocking (it is shared with our parent).
                poll = select.poll()
                poll.register(fd, select.POLLOUT)
                poll.poll()

    return send_to_fd, lambda: os.close(fd)
