"""``nexus config show|reload``: the configuration that the running gateway uses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from nexus.cli.options import json_option, with_gateway
from nexus.cli.shapes import part, rows
from nexus.cli.table import echo_json, echo_table
from nexus.telemetry.text import printable

if TYPE_CHECKING:
    from nexus.cli.gateway import Gateway

__all__ = ["reload", "show"]

_RELOAD_TIMEOUT_S = 60.0


@click.command()
@click.option("--changed", is_flag=True, help="Only what is not the default.")
@with_gateway
@json_option
def show(gateway: Gateway, changed: bool, as_json: bool) -> None:
    """Show the configuration in effect and where each value is from; secrets are masked."""
    answer = gateway.get("/admin/v1/config", key="config")
    if as_json:
        echo_json(answer)
        return
    origins = part(answer, "origins")
    listed = [
        (key, _value(value), origin)
        for key, value in _leaves(answer["config"])
        for origin in (_origin(key, origins),)
        if not (changed and origin == "default")
    ]
    if listed:
        echo_table(("SETTING", "VALUE", "FROM"), listed)
    else:
        click.echo("everything is at its default")


@click.command()
@with_gateway
@json_option
def reload(gateway: Gateway, as_json: bool) -> None:
    """Have the gateway read its configuration again: all of it, or nothing if it has problems."""
    diff = gateway.send("POST", "/admin/v1/config/reload", timeout_s=_RELOAD_TIMEOUT_S)
    if as_json:
        echo_json(diff)
        return
    lines = list(_diff_lines(diff))
    click.echo("\n".join(map(printable, lines)) if lines else "read again: nothing has changed")


def _diff_lines(diff: dict[str, Any]) -> Iterator[str]:
    """``+ gpu``, ``- old``, ``~ mac: priority 50 -> 10``, ``~ routing.strategy ...``."""
    for sign, key in (("+", "added"), ("-", "removed")):
        found = diff.get(key)
        if isinstance(found, list):
            yield from (f"{sign} backend {name}" for name in found)
    for backend in rows(diff, "changed"):
        changes = ", ".join(map(_change, rows(backend, "changes")))
        yield f"~ backend {backend.get('name')}: {changes}"
    yield from (f"~ {_change(change)}" for change in rows(diff, "settings"))
    for change in rows(diff, "needs_restart"):
        yield f"! {_change(change)}: only after a restart"


def _change(change: dict[str, Any]) -> str:
    before, after = _value(change.get("before")), _value(change.get("after"))
    return f"{change.get('key')} {before} -> {after}"


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its dotted key, lists of tables by position: ``backends[0].url``."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for position, inner in enumerate(value):
            yield from _leaves(inner, f"{key}[{position}]")
    else:
        yield key, value


def _origin(key: str, origins: dict[str, Any]) -> str:
    """Where a setting is from: told for itself or for what it is a part of."""
    while key:
        if key in origins:
            return str(origins[key])
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return "default"


def _value(value: object) -> str:
    """As in the file: TOML writes text, numbers and lists as JSON does."""
    return "unset" if value is None else json.dumps(value, ensure_ascii=False)
