"""``nexus top``: the gateway's work as it happens, in the terminal."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from nexus.cli.failure import Failure
from nexus.cli.options import with_gateway
from nexus.cli.table import stdout_is_terminal

if TYPE_CHECKING:
    from nexus.cli.gateway import Gateway
    from nexus.cli.top_data import Board

__all__ = ["top"]

_LEAVE = ("q", "Q", "\x03", "\x04")
_ESCAPE = "\x1b"
"""Alone it is the key; what follows makes it another one, an arrow for example."""


@click.command()
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(0.1, 60),
    default=1.0,
    show_default=True,
    metavar="S",
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Print what there is now and leave (so does a pipe).")
@with_gateway
def top(gateway: Gateway, interval_s: float, once: bool) -> None:
    """Watch backends, models and calls live. Leave with q or Ctrl-C."""
    from nexus.cli.top_data import Board

    board = Board()
    board.look(gateway)
    if once or not stdout_is_terminal():
        _print_once(board)
        return
    with contextlib.suppress(KeyboardInterrupt):
        _watch(gateway, board, interval_s)


def _print_once(board: Board) -> None:
    from rich.console import Console

    from nexus.cli.top_frame import frame

    terminal = stdout_is_terminal()
    console = Console(highlight=False, width=None if terminal else 120)
    console.print(frame(board, width=console.width, height=None))


def _watch(gateway: Gateway, board: Board, interval_s: float) -> None:
    from rich.console import Console
    from rich.live import Live

    from nexus.cli.top_frame import frame

    console = Console(highlight=False)
    # The terminal is put back in order whichever way this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with _keys() as key_within, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            size = console.size
            live.update(frame(board, width=size.width, height=size.height), refresh=True)
            keys = key_within(interval_s)
            if keys == _ESCAPE or keys.startswith(_LEAVE):
                return
            try:
                board.look(gateway)
            except Failure as failure:
                board.failure = failure.message


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds for a key and returns what it sends, empty if none
    came."""

    def none_within(seconds: float) -> str:
        time.sleep(seconds)
        return ""

    if not sys.stdin.isatty():
        yield none_within
        return
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def key_within(seconds: float) -> str:
        ready, _, _ = select.select([terminal], [], [], seconds)
        return os.read(terminal, 64).decode(errors="replace") if ready else ""

    try:
        tty.setcbreak(terminal)
        yield key_within
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
