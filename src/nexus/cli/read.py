"""Commands that show what the running gateway knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nexus.cli.options import json_option, with_gateway
from nexus.cli.shapes import part, rows
from nexus.cli.table import echo_json, echo_table
from nexus.cli.units import milliseconds, uptime

if TYPE_CHECKING:
    from nexus.cli.gateway import Gateway

__all__ = ["health", "models", "stats"]


@click.command()
@with_gateway
@json_option
def health(gateway: Gateway, as_json: bool) -> None:
    """Show the running gateway's health.

    Exit code 0 when a gateway answers, whatever it says.
    """
    answer = gateway.get("/health", key="backends")
    if as_json:
        echo_json(answer)
        return
    backends = part(answer, "backends")
    table = [
        ("status", answer.get("status")),
        ("version", answer.get("version")),
        ("uptime", uptime(answer.get("uptime_seconds"))),
        ("backends", f"{backends.get('healthy')} of {backends.get('total')} healthy"),
        ("models", answer.get("models")),
    ]
    echo_table(("HEALTH", ""), table)


@click.command()
@with_gateway
@json_option
def models(gateway: Gateway, as_json: bool) -> None:
    """List the models and the backends that have them.

    A backend that cannot be used now stands in parentheses.
    """
    answer = gateway.get("/admin/v1/models", key="data")
    if as_json:
        echo_json(answer)
        return
    listed = [_model_row(model) for model in rows(answer, "data")]
    if listed:
        echo_table(("MODEL", "KIND", "CONTEXT", "CAPABILITIES", "BACKENDS"), listed)
    else:
        click.echo("no models: no backend serves one (see `nexus backends list`)")


def _model_row(model: dict[str, Any]) -> tuple[object, ...]:
    """What some backend can do counts, as in ``/v1/models``."""
    served = rows(model, "backends")
    windows = [window for one in served if isinstance(window := one.get("context_length"), int)]
    can = dict.fromkeys(flag for one in served for flag, yes in _flags(one) if yes)
    places = [_place(one) for one in served]
    kinds = dict.fromkeys(str(one["kind"]) for one in served if one.get("kind"))
    return (
        model.get("id"),
        ", ".join(kinds),
        max(windows, default=None),
        ", ".join(can),
        ", ".join(places),
    )


def _flags(served: dict[str, Any]) -> list[tuple[str, Any]]:
    return list(part(served, "capabilities").items())


def _place(served: dict[str, Any]) -> str:
    name = str(served.get("name") or served.get("backend"))
    return name if served.get("status", "healthy") == "healthy" else f"({name})"


@click.command()
@click.option(
    "--window",
    type=click.Choice(["1m", "5m", "1h"]),
    help="Only the last minute, five minutes or hour (default: since the start).",
)
@with_gateway
@json_option
def stats(gateway: Gateway, window: str | None, as_json: bool) -> None:
    """Show requests, tokens and durations of backends and models."""
    answer = gateway.get("/admin/v1/stats", {"window": window}, key="requests")
    if as_json:
        echo_json(answer)
        return
    table = [("uptime", uptime(answer.get("uptime_seconds")))]
    table += [(name.replace("_", " "), count) for name, count in part(answer, "requests").items()]
    table += [(f"{name} tokens", count) for name, count in part(answer, "tokens").items()]
    echo_table(("REQUESTS", ""), table)
    for heading, key in (("BACKEND", "backends"), ("MODEL", "models")):
        entries = rows(answer, key)
        if entries:
            click.echo()
            shown = f"{heading} (LAST {window.upper()})" if window else heading
            echo_table(
                (shown, "REQUESTS", "ERRORS", "TTFT P50", "P95", "DURATION P50", "P95"),
                [_stats_row(entry) for entry in entries],
            )


def _stats_row(entry: dict[str, Any]) -> tuple[object, ...]:
    ttft_ms, duration_ms = part(entry, "ttft_ms"), part(entry, "duration_ms")
    return (
        entry.get("name"),
        entry.get("requests"),
        entry.get("errors"),
        milliseconds(ttft_ms.get("p50")),
        milliseconds(ttft_ms.get("p95")),
        milliseconds(duration_ms.get("p50")),
        milliseconds(duration_ms.get("p95")),
    )
