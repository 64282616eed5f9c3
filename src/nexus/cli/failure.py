"""How a command fails: one message on standard error, exit code 1."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from nexus.config.problem import ConfigError

__all__ = ["Failure", "NoGateway", "Refused", "config_failure"]


class Failure(click.ClickException):
    """The command could not do what it was asked; ``message`` says why and what to do.

    Exit code 1. (Wrong usage is click's ``UsageError``, exit code 2.)
    """

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        """Prints the message on standard error."""
        click.echo(f"nexus: {self.message}", file=file, err=file is None)


class NoGateway(Failure):
    """Nobody listens where the gateway should be."""


class Refused(Failure):
    """The gateway said no, with ``status``."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def config_failure(error: ConfigError) -> Failure:
    """All problems of a configuration, one a line."""
    count = len(error.problems)
    heading = f"configuration has {count} problem{'' if count == 1 else 's'}:"
    return Failure("\n  ".join([heading, *map(str, error.problems)]))
