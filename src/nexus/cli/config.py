"""``nexus config``: the configuration, as a file and in the running gateway."""

from __future__ import annotations

import os
from pathlib import Path

import click

from nexus.cli.failure import config_failure
from nexus.cli.lazy import LazyGroup

__all__ = ["check", "config"]


@click.group(
    cls=LazyGroup,
    table={
        "init": ("nexus.cli.config_init:init", "Write a file to start from."),
        "check": ("nexus.cli.config:check", "Say whether a configuration can be used."),
        "show": ("nexus.cli.config_live:show", "Show what the running gateway uses, and why."),
        "reload": ("nexus.cli.config_live:reload", "Have the running gateway read it again."),
    },
)
def config() -> None:
    """Write, check, see and reload the configuration."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
def check(file: Path | None) -> None:
    """Say whether a configuration can be used, or everything that is wrong with it.

    FILE is the one that `nexus serve` would read unless given. The environment counts, as it does
    for the gateway.
    """
    from nexus.config.loader import ConfigError, load_config
    from nexus.runtime.fleet import check_fleet

    try:
        loaded = load_config(path=file, env=os.environ)
        check_fleet(loaded.backends, str(loaded.path or "environment"))
    except ConfigError as error:
        raise config_failure(error) from None
    count = len(loaded.backends)
    backends = f"{count} backend{'' if count == 1 else 's'} named"
    if loaded.path is None:
        click.echo(f"no configuration file: defaults and environment are valid ({backends})")
    else:
        click.echo(f"{loaded.path}: valid ({backends})")
