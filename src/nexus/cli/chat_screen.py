"""Where an answer is shown: Markdown on a terminal, the bare text in a pipe."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol

from nexus.cli.table import stdout_is_terminal
from nexus.telemetry.text import harmless

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live

__all__ = ["MarkdownScreen", "PlainScreen", "Screen", "finished_end", "make_screen"]

_REFRESH_S = 0.08
_FENCES = ("```", "~~~")


class Screen(Protocol):
    """Shows one answer after the other: any number of pieces, then its end."""

    def wait(self) -> None:
        """An answer was asked for."""
        ...

    def thought(self, text: str) -> None:
        """More of what the model thinks before it answers."""
        ...

    def text(self, text: str) -> None:
        """More of the answer."""
        ...

    def end(self) -> None:
        """The answer is over, be it whole or not."""
        ...


def make_screen(*, plain: bool) -> Screen:
    """The one that fits standard output."""
    import os

    if plain or not stdout_is_terminal() or os.environ.get("TERM") == "dumb":
        return PlainScreen(terminal=stdout_is_terminal())
    return MarkdownScreen()


class PlainScreen:
    """The text as it comes, nothing else: thoughts are left out. For a ``terminal`` control
    characters are, too; into a pipe goes what the model said."""

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal
        self._last = "\n"

    def wait(self) -> None:
        """Not shown."""

    def thought(self, text: str) -> None:
        """Not shown."""

    def text(self, text: str) -> None:
        """Written at once."""
        if text:
            sys.stdout.write(harmless(text) if self._terminal else text)
            sys.stdout.flush()
            self._last = text[-1]

    def end(self) -> None:
        """The last line is ended."""
        if self._last != "\n":
            sys.stdout.write("\n")
            sys.stdout.flush()
        self._last = "\n"


class MarkdownScreen:
    """Markdown, rendered while it grows.

    Blocks that are finished are printed for good; only the last, unfinished one is drawn again and
    again, and of one that is higher than the screen its end.
    """

    def __init__(self, console: Console | None = None) -> None:
        if console is None:
            from rich.console import Console

            console = Console(highlight=False)
        self._console = console
        self._live: Live | None = None
        self._pending = ""
        self._thoughts = ""
        self._blocks = 0
        self._drawn_s = 0.0

    def wait(self) -> None:
        """Shown until something comes: a model that must be loaded first takes its time."""
        self._draw(now=True)

    def thought(self, text: str) -> None:
        """Shown dim while it comes, and gone when the answer begins."""
        self._thoughts += harmless(text)
        self._draw()

    def text(self, text: str) -> None:
        """Shown soon: the screen is drawn a few times a second."""
        if not text:
            return
        self._thoughts = ""
        self._pending += harmless(text)
        end = finished_end(self._pending)
        if end:
            finished, self._pending = self._pending[:end], self._pending[end:]
            self._draw(now=True)
            self._print(finished)
        self._draw()

    def end(self) -> None:
        """What was unfinished is finished."""
        if self._live is not None:
            self._live.update("", refresh=True)
            self._live.stop()
            self._live = None
        self._print(self._pending)
        self._pending = self._thoughts = ""
        self._blocks = 0

    def _print(self, text: str) -> None:
        if not text.strip():
            return
        from rich.markdown import Markdown

        if self._blocks:
            self._console.print()
        self._blocks += 1
        self._console.print(Markdown(text))

    def _draw(self, *, now: bool = False) -> None:
        now_s = time.monotonic()
        if not now and now_s - self._drawn_s < _REFRESH_S:
            return
        self._drawn_s = now_s
        if self._live is None:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(_Tail(self._pending, self._thoughts), refresh=True)


class _Tail:
    """The last lines of what is unfinished, as many as the screen has room for."""

    def __init__(self, text: str, thoughts: str) -> None:
        self._text = text
        self._thoughts = thoughts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.markdown import Markdown
        from rich.segment import Segment
        from rich.text import Text

        thoughts = self._thoughts or ("" if self._text else "...")
        shown = Text(thoughts, style="dim") if thoughts else Markdown(self._text)
        lines = console.render_lines(shown, options.update(height=None), pad=False)
        for line in lines[-max(1, console.height - 2) :]:
            yield from line
            yield Segment.line()


def finished_end(text: str) -> int:
    """How far ``text`` consists of blocks that nothing to come can change: up to a blank line that
    is outside of a fence and followed by a line that is not indented (CommonMark § 5: an indented
    one would continue a list's item)."""
    end = offset = 0
    fence = ""
    after_blank = False
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        if after_blank and not fence and bare and not line[0].isspace():
            end = offset
        if bare:
            after_blank = False
            if fence:
                fence = "" if bare.startswith(fence) and not bare.strip(fence[0]) else fence
            elif bare.startswith(_FENCES):
                fence = bare[: len(bare) - len(bare.lstrip(bare[0]))]
        else:
            after_blank = after_blank or line.endswith("\n")
        offset += len(line)
    return end
