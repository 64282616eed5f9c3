"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

__all__ = ["read_options"]


def read_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--gateway`` and ``--json``, as every command has that reads from the running gateway."""
    with_json = click.option(
        "--json", "as_json", is_flag=True, help="Print what the gateway answers, as JSON."
    )
    with_gateway = click.option(
        "--gateway",
        metavar="URL",
        help="The gateway to ask (default: NEXUS_GATEWAY, else as configured).",
    )
    return with_gateway(with_json(command))
