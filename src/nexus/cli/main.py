"""The ``nexus`` command: a table of commands, each imported when it is called.

``nexus --help`` imports click and this file, nothing else (behaviour § 9: under 150 ms); the short
help of every command therefore stands here.
"""

from __future__ import annotations

import io
import sys

import click

from nexus import __version__
from nexus.cli.lazy import LazyGroup

__all__ = ["main"]


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    table={
        "serve": ("nexus.cli.serve:serve", "Run the gateway."),
        "health": ("nexus.cli.read:health", "Show the running gateway's health."),
        "models": ("nexus.cli.read:models", "List the models and who has them."),
        "chat": ("nexus.cli.chat:chat", "Talk to a model in the terminal."),
        "backends": ("nexus.cli.backends:backends", "See and change the servers behind it."),
        "discover": ("nexus.cli.discover:discover", "Look for servers on this network."),
        "route": ("nexus.cli.route:route", "See where a request would go, and why."),
        "stats": ("nexus.cli.read:stats", "Show requests, tokens and durations."),
        "history": ("nexus.cli.history:history", "List the last calls."),
        "top": ("nexus.cli.top:top", "Watch backends, models and calls live."),
        "config": ("nexus.cli.config:config", "Write, check, see and reload the configuration."),
        "demo": ("nexus.cli.demo:demo", "Run a gateway in front of two made-up engines."),
        "demo-engine": ("nexus.cli.demo:demo_engine", "Run one made-up engine."),
        "completions": ("nexus.cli.completions:completions", "Teach your shell to complete."),
    },
)
@click.version_option(__version__, "-V", "--version", message="nexus %(version)s")
def main() -> None:
    """One OpenAI-compatible endpoint in front of every inference server you own.

    Start with `nexus serve`, or `nexus demo` to look around without any model.
    """
    for stream in (sys.stdout, sys.stderr):
        # What an engine says must not end a command, whatever the terminal can show.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
