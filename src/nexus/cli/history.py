"""``nexus history``: the last calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nexus.cli.names import complete_backends, complete_models
from nexus.cli.options import json_option, with_gateway
from nexus.cli.shapes import completion_tokens, part, rows
from nexus.cli.table import echo_json, echo_table
from nexus.cli.units import clock, milliseconds

if TYPE_CHECKING:
    from nexus.cli.gateway import Gateway

__all__ = ["history", "way"]

OUTCOMES = ["ok", "client_error", "upstream_error", "timeout", "cancelled", "refused"]


@click.command()
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", default=20, show_default=True, help="How many."
)
@click.option(
    "--backend", metavar="NAME", shell_complete=complete_backends, help="Only those it served."
)
@click.option(
    "--model", metavar="MODEL", shell_complete=complete_models, help="Only those of this model."
)
@click.option("--outcome", type=click.Choice(OUTCOMES), help="Only those that ended so.")
@with_gateway
@json_option
def history(
    gateway: Gateway,
    limit: int,
    backend: str | None,
    model: str | None,
    outcome: str | None,
    as_json: bool,
) -> None:
    """List the last calls, newest first."""
    asked = {"limit": limit, "backend": backend, "model": model, "outcome": outcome}
    answer = gateway.get("/admin/v1/history", asked, key="data")
    if as_json:
        echo_json(answer)
        return
    listed = [_row(call) for call in rows(answer, "data")]
    if listed:
        headings = ("TIME", "MODEL", "BACKEND", "OUTCOME", "STATUS", "TTFT", "DURATION", "TOKENS")
        echo_table((*headings, "REQUEST ID"), listed)
    else:
        click.echo("no calls" if not (backend or model or outcome) else "no such calls")


def _row(call: dict[str, Any]) -> tuple[object, ...]:
    prompt = part(call, "tokens").get("prompt")
    completion, estimated = completion_tokens(call)
    words = [str(prompt) if isinstance(prompt, int) else "?"]
    words.append("?" if completion is None else f"~{completion}" if estimated else str(completion))
    return (
        clock(call.get("at")),
        call.get("model"),
        way(call),
        call.get("outcome"),
        call.get("status") or None,
        milliseconds(call.get("ttft_ms")),
        milliseconds(call.get("duration_ms")),
        None if words == ["?", "?"] else "+".join(words),
        call.get("request_id"),
    )


def way(call: dict[str, Any]) -> str:
    """The backends that were tried, in order: ``gpu > mac``."""
    tried = [str(attempt.get("backend")) for attempt in rows(call, "attempts")]
    return " > ".join(tried) or str(call.get("backend") or "")
