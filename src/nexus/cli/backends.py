"""``nexus backends``: the inference servers behind the running gateway."""

from __future__ import annotations

import click

from nexus.cli.gateway import find_gateway
from nexus.cli.lazy import LazyGroup
from nexus.cli.options import read_options
from nexus.cli.table import echo_json, echo_table

__all__ = ["backends", "list_backends"]


@click.group(
    cls=LazyGroup,
    table={
        "list": ("nexus.cli.backends:list_backends", "List them with status and load."),
        "probe": ("nexus.cli.probe:probe", "Show what answers at a URL; needs no gateway."),
    },
)
def backends() -> None:
    """See the inference servers behind the gateway."""


@click.command("list")
@read_options
def list_backends(gateway: str | None, as_json: bool) -> None:
    """List the backends with their status, load and models."""
    answer = find_gateway(gateway).get("/admin/v1/backends")
    if as_json:
        echo_json(answer)
        return
    rows = [
        (
            backend.get("name"),
            backend.get("engine"),
            backend.get("status"),
            backend.get("in_flight"),
            backend.get("priority"),
            len(backend.get("models") or ()),
            backend.get("url"),
            backend.get("reason"),
        )
        for backend in answer.get("data") or ()
    ]
    if rows:
        headings = ("NAME", "ENGINE", "STATUS", "IN FLIGHT", "PRIORITY", "MODELS", "URL", "REASON")
        echo_table(headings, rows)
    else:
        click.echo("no backends: name one in nexus.toml under [[backends]]")
