"""``nexus backends add``: the gateway looks at the server, and takes it in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nexus.cli.options import json_option, with_gateway
from nexus.cli.shapes import names
from nexus.cli.table import echo_json
from nexus.telemetry.text import printable

if TYPE_CHECKING:
    from nexus.cli.gateway import Gateway

__all__ = ["add", "found_in_words"]

# The gateway probes before it answers: several requests, each within its own deadline.
_PROBE_TIMEOUT_S = 60.0
_NAMES_SHOWN = 5


@click.command()
@click.argument("url")
@click.option("--name", metavar="NAME", help="What to call it (default: made from the URL).")
@click.option(
    "--type",
    "engine",
    type=click.Choice(
        ["ollama", "vllm", "llamacpp", "exo", "lmstudio", "sglang", "openai", "generic"],
        case_sensitive=False,
    ),
    help="Its engine (default: found out by asking it).",
)
@click.option(
    "--priority", type=click.IntRange(0), metavar="N", help="Lower is preferred (default: 50)."
)
@click.option(
    "--max-concurrency",
    type=click.IntRange(0),
    metavar="N",
    help="Calls at once; 0 = no limit (default).",
)
@click.option(
    "--api-key-env",
    metavar="VARIABLE",
    help="The gateway's environment variable that holds the server's key.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    help="A model that it serves even if it does not list it; repeatable.",
)
@click.option("--zone", metavar="ZONE", help="Where it stands.")
@click.option("--save", is_flag=True, help="Write it into the gateway's configuration file, too.")
@click.option("--force", is_flag=True, help="Add it even if nothing useful answers there yet.")
@with_gateway
@json_option
def add(
    gateway: Gateway,
    as_json: bool,
    url: str,
    engine: str | None,
    models: tuple[str, ...],
    save: bool,
    force: bool,
    **settings: Any,
) -> None:
    """Add the inference server at URL to the running gateway.

    The gateway asks the server which engine and models it has; what is no inference server is
    refused (but see --force). Without --save it is forgotten when the gateway ends.
    """
    wanted: dict[str, Any] = {"url": url if "://" in url else f"http://{url}", "type": engine}
    wanted |= {**settings, "models": list(models) or None}
    wanted |= {"save": save or None, "force": force or None}
    body = {key: value for key, value in wanted.items() if value is not None}
    added = gateway.send(
        "POST",
        "/admin/v1/backends",
        body,
        hints={422: "`nexus backends add --force` adds it all the same."},
        timeout_s=_PROBE_TIMEOUT_S,
    )
    if as_json:
        echo_json(added)
        return
    click.echo(f"added {printable(str(added.get('name')))}: {found_in_words(added)}")
    if save:
        click.echo("saved in the gateway's configuration file")
    else:
        click.echo("it is forgotten when the gateway ends: --save keeps it")


def found_in_words(backend: dict[str, Any]) -> str:
    """``vllm 0.9.1 at http://..., healthy, 2 models: a, b``."""
    version = backend.get("engine_version")
    engine = f"{backend.get('engine')} {version}" if version else f"{backend.get('engine')}"
    status = f"{backend.get('status')}"
    if status != "healthy" and backend.get("reason"):
        status += f" ({backend.get('reason')})"
    models = names(backend.get("models"))
    listed = ", ".join(models[:_NAMES_SHOWN])
    if len(models) > _NAMES_SHOWN:
        listed += ", ..."
    count = f"{len(models)} model{'' if len(models) == 1 else 's'}"
    words = f"{engine} at {backend.get('url')}, {status}, {count}{': ' if models else ''}{listed}"
    return printable(words)
