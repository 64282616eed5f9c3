"""``nexus serve``: run the gateway until it is told to stop."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from nexus.cli.failure import config_failure

__all__ = ["serve"]


@click.command()
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration file (default: nexus.toml here, else in ~/.config/nexus, else none).",
)
@click.option("--host", metavar="HOST", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", help="Port to listen on.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    help="Least level that is logged.",
)
def serve(
    config_file: Path | None, host: str | None, port: int | None, log_level: str | None
) -> None:
    """Run the gateway.

    Backends are those of the configuration file, those that are found on this machine and network,
    and those that `nexus backends add` adds.

    SIGHUP reads the configuration again (so does a change of the file). SIGTERM or Ctrl-C lets
    running calls finish, a second one cuts them.
    """
    from nexus.config.loader import ConfigError
    from nexus.runtime.source import ConfigSource

    overrides = {"server.host": host, "server.port": port, "logging.level": log_level}
    source = ConfigSource(path=config_file, env=os.environ, overrides=overrides)
    try:
        loaded = source.load()
    except ConfigError as error:
        raise config_failure(error) from None
    from nexus.runtime.serve import run

    sys.exit(run(loaded, source))
