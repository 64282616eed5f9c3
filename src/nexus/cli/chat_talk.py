"""A talk in the terminal: one line after the other, with the line editor's history."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import click

from nexus.cli.chat import Conversation
from nexus.cli.failure import Failure
from nexus.telemetry.text import printable

__all__ = ["run"]

_PROMPT = ">>> "
_MORE = "... "
_BLOCK = '"""'
_HISTORY_LINES = 1000
_COMMAND = re.compile(r"/([a-z?]+)(?:\s+(.*))?")
_HELP = """\
/new            forget what was said
/model NAME     go on with another model
/exit           leave (as Ctrl-D does)
\"\"\"             begins and ends a message of several lines"""


def run(talk: Conversation) -> None:
    """Asks and answers until the person leaves."""
    _note(f"talking to {printable(talk.model)}; /help says what else there is")
    with _line_editor():
        while True:
            try:
                line = _read_message()
            except (EOFError, KeyboardInterrupt):
                click.echo()
                return
            command = _COMMAND.fullmatch(line.strip())
            if command is not None:
                if not _obey(talk, command[1], (command[2] or "").strip()):
                    return
            elif line.strip():
                _turn(talk, line)


def _turn(talk: Conversation, line: str) -> None:
    try:
        answer, stopped = talk.turn(line)
    except Failure as failure:
        failure.show()
    else:
        _note(("stopped; " if stopped else "") + answer.summary())
        click.echo()


def _obey(talk: Conversation, command: str, argument: str) -> bool:
    """Whether the talk goes on."""
    if command in ("exit", "quit", "bye"):
        return False
    if command in ("help", "?"):
        click.echo(_HELP)
    elif command == "new":
        talk.forget()
        _note("forgotten")
    elif command == "model" and argument:
        talk.model = argument
        _note(f"talking to {printable(argument)} from here on")
    elif command == "model":
        _note(f"talking to {printable(talk.model)}")
    else:
        _note(f"there is no /{command}: /help says what there is")
    return True


def _read_message() -> str:
    line = input(_PROMPT)
    if not line.lstrip().startswith(_BLOCK):
        return line
    lines = [line.lstrip().removeprefix(_BLOCK)]
    while not lines[-1].rstrip().endswith(_BLOCK):
        lines.append(input(_MORE))
    lines[-1] = lines[-1].rstrip().removesuffix(_BLOCK)
    return "\n".join(lines).strip("\n")


def _note(text: str) -> None:
    click.echo(text if os.environ.get("NO_COLOR") else click.style(text, dim=True))


@contextlib.contextmanager
def _line_editor() -> Iterator[None]:
    """Arrow keys and a history that outlives the talk, where Python has readline. The history is
    for its owner only; one that cannot be read or written is done without."""
    try:
        import readline
    except ImportError:
        yield
        return
    file = _history_file()
    with contextlib.suppress(OSError):
        readline.read_history_file(file)
    readline.set_history_length(_HISTORY_LINES)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)
            readline.write_history_file(file)


def _history_file() -> Path:
    base = os.environ.get("XDG_STATE_HOME", "")
    state = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state"
    return state / "nexus" / "chat_history"
