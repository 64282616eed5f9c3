"""``nexus chat``: talk to a model in the terminal, or ask it one thing from a script."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from nexus.cli.chat_answer import Answer, ask
from nexus.cli.chat_screen import Screen, make_screen
from nexus.cli.failure import Failure
from nexus.cli.names import complete_backends, complete_models
from nexus.cli.options import with_gateway
from nexus.cli.shapes import names
from nexus.cli.table import stdout_is_terminal

if TYPE_CHECKING:
    from nexus.cli.gateway import Gateway

__all__ = ["Conversation", "chat"]

_INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended: 128 + SIGINT."""


@click.command()
@click.argument("model", required=False, shell_complete=complete_models)
@click.argument("message", nargs=-1)
@click.option("--system", metavar="TEXT", help="What the model is told first.")
@click.option("--temperature", type=click.FloatRange(0), metavar="T", help="0 is most exact.")
@click.option("--max-tokens", type=click.IntRange(1), metavar="N", help="Longest answer.")
@click.option(
    "--backend", metavar="NAME", shell_complete=complete_backends, help="Ask this backend only."
)
@click.option("--plain", is_flag=True, help="Show the text as it is, not as Markdown.")
@with_gateway
def chat(
    gateway: Gateway,
    model: str | None,
    message: tuple[str, ...],
    system: str | None,
    temperature: float | None,
    max_tokens: int | None,
    backend: str | None,
    plain: bool,
) -> None:
    """Talk to MODEL; with a MESSAGE (or one on standard input) ask just that.

    Ctrl-C stops the answer, a second one ends the talk. Into a pipe goes the bare answer.
    """
    if model is None:
        raise _which_model(gateway)
    said = _said(" ".join(message))
    fields = {"temperature": temperature, "max_tokens": max_tokens}
    talk = Conversation(gateway, model, make_screen(plain=plain), system, backend, fields)
    if said is not None:
        if not said.strip():
            raise Failure("there is nothing to ask: the message is empty")
        _ask_once(talk, said)
        return
    from nexus.cli.chat_talk import run

    run(talk)


class Conversation:
    """What was said so far, and to whom. ``fields`` are further fields of each request."""

    def __init__(
        self,
        gateway: Gateway,
        model: str,
        screen: Screen,
        system: str | None = None,
        backend: str | None = None,
        fields: dict[str, Any] | None = None,
    ) -> None:
        self.model = model
        self._gateway = gateway
        self._screen = screen
        self._system = system
        self._backend = backend
        self._fields = {key: value for key, value in (fields or {}).items() if value is not None}
        self._messages: list[dict[str, str]] = []
        self.forget()

    def forget(self) -> None:
        """Begins anew: only the system message stays."""
        told = [] if self._system is None else [{"role": "system", "content": self._system}]
        self._messages = told

    def turn(self, text: str) -> tuple[Answer, bool]:
        """Says ``text`` and shows the answer; true when Ctrl-C stopped it. A question without an
        answer is not remembered. Raises :class:`Failure`."""
        asked = [*self._messages, {"role": "user", "content": text}]
        request = {"model": self.model, "messages": asked, **self._fields}
        answer, stopped = Answer(), False
        self._screen.wait()
        try:
            with closing(ask(self._gateway, request, answer, backend=self._backend)) as pieces:
                for thought, more in pieces:
                    if thought:
                        self._screen.thought(thought)
                    self._screen.text(more)
        except KeyboardInterrupt:
            stopped = True
        finally:
            self._screen.end()
        if answer.text:
            self._messages = [*asked, {"role": "assistant", "content": answer.text}]
        return answer, stopped


def _ask_once(talk: Conversation, said: str) -> None:
    answer, stopped = talk.turn(said)
    if sys.stderr.isatty():
        dim = not os.environ.get("NO_COLOR")
        note = ("stopped; " if stopped else "") + answer.summary()
        click.echo(click.style(note, dim=True) if dim else note, err=True)
    if stopped:
        sys.exit(_INTERRUPTED)


def _said(message: str) -> str | None:
    """The one thing to ask: ``message``, followed by what was piped in; ``None`` to talk."""
    if sys.stdin.isatty():
        if message or stdout_is_terminal():
            return message or None
        click.echo("Type the message; Ctrl-D on a line of its own ends it.", err=True)
        return sys.stdin.read()
    if not message:
        return sys.stdin.read()
    # With a message, other things than pipes and files (/dev/null, a socket) have nothing to add.
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
        piped = stat.S_ISFIFO(mode) or stat.S_ISREG(mode)
    except (OSError, ValueError):
        piped = False
    more = sys.stdin.read() if piped else ""
    return f"{message}\n\n{more}" if more.strip() else message


def _which_model(gateway: Gateway) -> click.UsageError:
    found = names(gateway.get("/v1/models", key="data").get("data"))
    if not found:
        return click.UsageError("Name a MODEL; this gateway has none now (`nexus backends list`).")
    from nexus.telemetry.text import printable

    return click.UsageError(f"Name a MODEL: {printable(', '.join(found))}.")
