"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

__all__ = ["json_option", "read_options", "with_gateway"]

Function = Callable[..., Any]

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print what the gateway answers, as JSON."
)
_gateway_option = click.option(
    "--gateway",
    metavar="URL",
    help="The gateway to ask (default: NEXUS_GATEWAY, else as configured).",
)


def with_gateway(command: Function) -> Function:
    """Gives ``command`` the gateway to talk to as its first argument, found by ``--gateway``,
    ``--ca`` and ``--insecure``."""

    @_gateway_option
    @click.option("--ca", metavar="FILE", help="Authority (PEM) to trust for https.")
    @click.option("--insecure", is_flag=True, help="Do not check the certificate of https.")
    @functools.wraps(command)
    def found(*args: Any, gateway: str | None, ca: str | None, insecure: bool, **rest: Any) -> Any:
        from nexus.cli.gateway import find_gateway

        return command(find_gateway(gateway, ca=ca, insecure=insecure), *args, **rest)

    return found


def read_options(command: Function) -> Function:
    """``--gateway`` and ``--json`` as plain arguments."""
    return _gateway_option(json_option(command))
