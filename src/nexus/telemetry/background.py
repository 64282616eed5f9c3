"""A log handler whose reader may be slow: lines are written by a thread, the loop never waits."""

from __future__ import annotations

import logging
import queue
import threading
from typing import BinaryIO, TextIO

from nexus.telemetry.sending import sender

__all__ = ["BackgroundHandler"]


class BackgroundHandler(logging.Handler):
    """Formats and writes each record to ``stream`` in a thread of its own.

    At most ``lines_max`` records wait; what comes while they do is dropped and counted, and a line
    says so once there is room again.
    """

    def __init__(self, stream: TextIO | BinaryIO, lines_max: int = 1_000) -> None:
        super().__init__()
        self.stream = stream
        self.dropped = 0
        self._told = 0
        self._send, self._release = sender(stream)
        self._queue: queue.Queue[logging.LogRecord | None] = queue.Queue(lines_max)
        self._thread = threading.Thread(target=self._run, name="nexus-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queues one record. Never blocks, never raises."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def finish(self, timeout_s: float = 2.0) -> None:
        """Writes out what is queued, for at most ``timeout_s`` seconds, then gives up."""
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (record := self._queue.get()) is not None:
            dropped = self.dropped
            if dropped != self._told:
                count, self._told = dropped - self._told, dropped
                text = "%d log lines dropped: they came faster than they were read"
                self._write(
                    logging.LogRecord(
                        "nexus.telemetry", logging.WARNING, "", 0, text, (count,), None
                    )
                )
            self._write(record)
        self._release()

    def _write(self, record: logging.LogRecord) -> None:
        try:
            self._send(self.format(record).encode("utf-8", "backslashreplace") + b"\n")
        except Exception:  # an odd record, or a stream that was closed: never the thread
            self.dropped += 1
