"""Log lines in the background: in order, bounded, and never in anybody's way."""

from __future__ import annotations

import io
import logging
import threading

from nexus.telemetry.background import BackgroundHandler


class SlowStream(io.BytesIO):
    """Takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.asked = threading.Event()

    def fileno(self) -> int:
        raise OSError("none")

    def write(self, data: object) -> int:
        self.asked.set()
        assert self.open.wait(10.0)
        return super().write(data)  # type: ignore[arg-type]


def _say(handler: BackgroundHandler, text: str) -> None:
    handler.handle(logging.LogRecord("nexus", logging.INFO, "", 0, text, None, None))


def test_lines_come_out_in_order_and_whole_at_the_end() -> None:
    """``finish`` waits for what is queued."""
    out = io.BytesIO()
    handler = BackgroundHandler(out)
    for number in range(100):
        _say(handler, str(number))
    handler.finish()
    assert out.getvalue().split() == [b"%d" % number for number in range(100)]
    assert handler.dropped == 0


def test_who_does_not_read_holds_up_nobody() -> None:
    """What does not fit is dropped, and a line says how much once somebody reads again."""
    out = SlowStream()
    handler = BackgroundHandler(out, lines_max=5)
    _say(handler, "first")
    assert out.asked.wait(10.0)  # the thread has taken it and cannot go on
    for number in range(8):
        _say(handler, str(number))
    assert handler.dropped == 3
    handler.finish(0.01)  # gives up
    out.open.set()
    handler.finish()
    lines = out.getvalue().decode().splitlines()
    assert lines[0] == "first"
    assert lines[1].startswith("3 log lines dropped")
    assert lines[2:] == ["0", "1", "2", "3", "4"]


def test_an_odd_record_costs_its_own_line() -> None:
    """A record that cannot be formatted does not end the thread."""
    out = io.BytesIO()
    handler = BackgroundHandler(out)
    handler.handle(logging.LogRecord("nexus", logging.INFO, "", 0, "%d", ("x",), None))
    _say(handler, "next")
    handler.finish()
    assert out.getvalue() == b"1 log lines dropped: they came faster than they were read\nnext\n"
