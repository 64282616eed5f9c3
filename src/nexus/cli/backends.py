"""``nexus backends``: the inference servers behind the running gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nexus.cli.lazy import LazyGroup
from nexus.cli.options import json_option, with_gateway
from nexus.cli.shapes import rows
from nexus.cli.table import echo_json, echo_table, stdout_is_terminal

if TYPE_CHECKING:
    from nexus.cli.gateway import Gateway

__all__ = ["backends", "list_backends"]

_CHANGES = "nexus.cli.backend_changes"


@click.group(
    cls=LazyGroup,
    table={
        "list": ("nexus.cli.backends:list_backends", "List them with status and load."),
        "add": ("nexus.cli.backend_add:add", "Add one to the running gateway."),
        "remove": (f"{_CHANGES}:remove", "Forget one."),
        "drain": (f"{_CHANGES}:drain", "Send it nothing new; what runs there may finish."),
        "resume": (f"{_CHANGES}:resume", "Use it again after a drain."),
        "approve": (f"{_CHANGES}:approve", "Use one that was found and waits for a yes."),
        "probe": ("nexus.cli.probe:probe", "Show what answers at a URL; needs no gateway."),
    },
)
def backends() -> None:
    """See and change the inference servers behind the gateway."""


@click.command("list")
@with_gateway
@json_option
def list_backends(gateway: Gateway, as_json: bool) -> None:
    """List the backends with their status, load and models."""
    answer = gateway.get("/admin/v1/backends", key="data")
    if as_json:
        echo_json(answer)
        return
    listed = [_row(backend) for backend in rows(answer, "data")]
    if listed:
        headings = ("NAME", "ENGINE", "STATUS", "IN FLIGHT", "PRIORITY", "MODELS", "URL", "REASON")
        echo_table(headings, listed)
        if stdout_is_terminal() and any(row[2] == "pending" for row in listed):
            click.echo("\npending ones wait for a yes: `nexus backends approve NAME`")
    else:
        click.echo("no backends: add one with `nexus backends add URL`")


def _row(backend: dict[str, Any]) -> tuple[object, ...]:
    limit = backend.get("max_concurrency") or backend.get("capacity")
    in_flight = backend.get("in_flight")
    return (
        backend.get("name"),
        backend.get("engine"),
        backend.get("status"),
        f"{in_flight}/{limit}" if limit else in_flight,
        backend.get("priority"),
        len(rows(backend, "models")),
        backend.get("url"),
        backend.get("reason"),
    )
