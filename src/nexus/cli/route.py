"""``nexus route explain``: where a request would go, and why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexus.cli.failure import Failure
from nexus.cli.lazy import LazyGroup
from nexus.cli.names import complete_models
from nexus.cli.options import json_option, with_gateway
from nexus.cli.shapes import names, part, rows
from nexus.cli.table import echo_json, echo_table
from nexus.telemetry.text import printable

if TYPE_CHECKING:
    from nexus.cli.gateway import Gateway

__all__ = ["explain", "route"]

_TIMEOUT_S = 30.0
_REASONS = {
    "capability-match": "the best of those that can do it",
    "failover": "better ones cannot be used now",
    "fallback": "a fallback for the model asked for",
    "privacy-requirement": "privacy demands it",
    "capacity-overflow": "better ones are full",
    "affinity": "it served this conversation before",
}
_BEHIND = {
    "tripped": "circuit breaker open",
    "full": "full",
    "output": "input and requested output exceed its window",
    "ignored": "ignores fields",
    "unknown": "capabilities not known",
}
"""Words for the reasons to rank behind others whatever the score."""


@click.group(
    cls=LazyGroup,
    table={"explain": ("nexus.cli.route:explain", "Show the plan for a request.")},
)
def route() -> None:
    """See how requests are routed."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), required=False)
@click.option(
    "--model", metavar="MODEL", shell_complete=complete_models, help="Model to ask for, if no FILE."
)
@click.option("--message", metavar="TEXT", help="What to say to it (default: Hi).")
@click.option(
    "--endpoint",
    metavar="PATH",
    help="The endpoint that the request is for (default: /v1/chat/completions).",
)
@with_gateway
@json_option
def explain(
    gateway: Gateway,
    file: Path | None,
    model: str | None,
    message: str | None,
    endpoint: str | None,
    as_json: bool,
) -> None:
    """Show which backend a request would go to, and why. Nothing is sent to any backend.

    FILE holds a whole request body in JSON (- for standard input). Without one, a request is made
    from --model and --message.
    """
    query = ""
    if endpoint is not None:
        from urllib.parse import urlencode

        query = "?" + urlencode({"endpoint": endpoint})
    target = f"/admin/v1/routes/explain{query}"
    if file is None:
        if model is None:
            raise click.UsageError("Name a model with --model, or a FILE with a request body.")
        body = _request(model, "Hi" if message is None else message, endpoint)
        plan = gateway.send("POST", target, body, timeout_s=_TIMEOUT_S)
    else:
        if model is not None or message is not None:
            raise click.UsageError("FILE is a whole request: it goes without --model or --message.")
        plan = gateway.send("POST", target, body=_read(file), timeout_s=_TIMEOUT_S)
    if as_json:
        echo_json(plan)
    else:
        _show(plan)


def _request(model: str, message: str, endpoint: str | None) -> dict[str, Any]:
    """A body of the shape that the endpoint takes, as far as routing looks at it."""
    path = (endpoint or "/v1/chat/completions").rstrip("/")
    if path.endswith("/chat/completions"):
        return {"model": model, "messages": [{"role": "user", "content": message}]}
    if path.endswith("/rerank"):
        return {"model": model, "query": message, "documents": [message]}
    if path.endswith(("/embeddings", "/responses", "/audio/speech")):
        return {"model": model, "input": message}
    return {"model": model, "prompt": message}


def _read(file: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror or error}") from None


def _show(plan: dict[str, Any]) -> None:
    for label, text in _summary(plan):
        click.echo(f"{label + ':':<10}{printable(text)}")
    candidates = rows(plan, "candidates")
    if candidates:
        click.echo()
        headings = ("", "BACKEND", "SCORE", "PRIORITY", "LOAD", "LATENCY", "NOTES")
        numbered = enumerate(candidates, start=1)
        echo_table(headings, [_candidate_row(number, one) for number, one in numbered])
    dropped = rows(plan, "dropped")
    if dropped:
        click.echo()
        told = [(one.get("backend"), one.get("reason"), one.get("detail")) for one in dropped]
        echo_table(("LEFT OUT", "BECAUSE OF", ""), told)


def _summary(plan: dict[str, Any]) -> list[tuple[str, str]]:
    chosen, reason = plan.get("chosen"), str(plan.get("reason"))
    chain = plan.get("alias_chain")
    model = str(plan.get("model"))
    if isinstance(chain, list) and len(chain) > 1:
        model = " -> ".join(map(str, chain)) + " (alias)"
    elif model != plan.get("requested_model"):
        model = f"{plan.get('requested_model')} -> {model}"
    if plan.get("fallback_model"):
        model += f", served by the fallback {plan['fallback_model']}"
    lines = [("model", model), ("request", _profile(part(plan, "profile")))]
    if chosen is not None:
        lines.append(("chosen", f"{chosen} ({reason}: {_REASONS.get(reason, 'see below')})"))
    else:
        error = part(plan, "error")
        why = str(error.get("message") or "no backend can take it")
        status = f"{error.get('status')} {error.get('code')}: " if error.get("status") else ""
        lines.append(("chosen", f"none; the answer would be {status}{why}"))
    decision_us = plan.get("decision_us")
    if isinstance(decision_us, int | float):
        lines.append(("decided", f"in {decision_us:.0f} µs"))
    return lines


def _profile(profile: dict[str, Any]) -> str:
    needs = [key.removeprefix("needs_") for key, on in profile.items() if on is True]
    words = [f"about {profile.get('estimated_tokens')} tokens in"]
    output = profile.get("max_output_tokens") or profile.get("output_tokens")
    if isinstance(output, int):
        words.append(f"up to {output} out")
    words += ["streamed" if need == "stream" else f"needs {need}" for need in needs]
    return ", ".join(words)


def _candidate_row(number: int, candidate: dict[str, Any]) -> tuple[object, ...]:
    parts = part(candidate, "parts")
    ignored = ", ".join(names(candidate.get("ignored")))
    notes = []
    for name in names(candidate.get("behind")):
        words = _BEHIND.get(name, name)
        notes.append(f"{words}: {ignored}" if name == "ignored" and ignored else words)
    note = "behind: " + "; ".join(notes) if notes else " "
    figures = [candidate.get("score"), *(parts.get(k) for k in ("priority", "load", "latency"))]
    return (number, candidate.get("backend"), *map(_figure, figures), note)


def _figure(value: object) -> str | None:
    return f"{value:.3f}" if isinstance(value, int | float) else None
