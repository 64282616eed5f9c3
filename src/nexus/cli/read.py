"""Commands that show what the running gateway knows."""

from __future__ import annotations

from typing import Any

import click

from nexus.cli.gateway import find_gateway
from nexus.cli.options import read_options
from nexus.cli.table import echo_json, echo_table

__all__ = ["health", "models", "stats"]


@click.command()
@read_options
def health(gateway: str | None, as_json: bool) -> None:
    """Show the running gateway's health."""
    answer = find_gateway(gateway).get("/health")
    if as_json:
        echo_json(answer)
        return
    backends = _part(answer, "backends")
    rows = [
        ("status", answer.get("status")),
        ("version", answer.get("version")),
        ("uptime", _duration(answer.get("uptime_seconds"))),
        ("backends", f"{backends.get('healthy')} of {backends.get('total')} healthy"),
        ("models", answer.get("models")),
    ]
    echo_table(("HEALTH", ""), rows)


@click.command()
@read_options
def models(gateway: str | None, as_json: bool) -> None:
    """List the models that can be used."""
    answer = find_gateway(gateway).get("/v1/models")
    if as_json:
        echo_json(answer)
        return
    rows = [
        (
            model.get("id"),
            model.get("context_length"),
            ", ".join(name for name, can in _part(model, "capabilities").items() if can),
            ", ".join(_names(_part(model, "nexus").get("backends"))),
        )
        for model in _rows(answer, "data")
    ]
    if rows:
        echo_table(("MODEL", "CONTEXT", "CAPABILITIES", "BACKENDS"), rows)
    else:
        click.echo("no models: no healthy backend serves one (see `nexus backends list`)")


@click.command()
@read_options
def stats(gateway: str | None, as_json: bool) -> None:
    """Show requests, tokens and durations since the gateway's start."""
    answer = find_gateway(gateway).get("/admin/v1/stats")
    if as_json:
        echo_json(answer)
        return
    tokens = _part(answer, "tokens")
    rows = [("uptime", _duration(answer.get("uptime_seconds")))]
    rows += [(name.replace("_", " "), count) for name, count in _part(answer, "requests").items()]
    rows += [(f"{name} tokens", count) for name, count in tokens.items()]
    echo_table(("REQUESTS", ""), rows)
    for heading, key in (("BACKEND", "backends"), ("MODEL", "models")):
        entries = _rows(answer, key)
        if entries:
            click.echo()
            echo_table(
                (heading, "REQUESTS", "ERRORS", "TTFT MS P50", "P95", "DURATION MS P50", "P95"),
                [_stats_row(entry) for entry in entries],
            )


def _stats_row(entry: dict[str, Any]) -> tuple[Any, ...]:
    ttft_ms, duration_ms = _part(entry, "ttft_ms"), _part(entry, "duration_ms")
    return (
        entry.get("name"),
        entry.get("requests"),
        entry.get("errors"),
        ttft_ms.get("p50"),
        ttft_ms.get("p95"),
        duration_ms.get("p50"),
        duration_ms.get("p95"),
    )


def _part(answer: dict[str, Any], key: str) -> dict[str, Any]:
    part = answer.get(key)
    return part if isinstance(part, dict) else {}


def _rows(answer: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = answer.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _names(entries: object) -> list[str]:
    """Names out of a list of names or of objects that have one."""
    if not isinstance(entries, list):
        return []
    return [str(entry.get("name")) if isinstance(entry, dict) else str(entry) for entry in entries]


def _duration(seconds: object) -> str | None:
    if not isinstance(seconds, int | float):
        return None
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    shown = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(shown[:2]) or "0 s"
