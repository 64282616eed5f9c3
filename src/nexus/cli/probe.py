"""``nexus backends probe URL``: what answers there, without a gateway."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from nexus.cli.table import echo_json, echo_table
from nexus.telemetry.text import printable

if TYPE_CHECKING:
    from nexus.core.backend import EngineKind
    from nexus.runtime.probing import ProbeReport

__all__ = ["probe"]

_ENGINES = ("ollama", "vllm", "llamacpp", "exo", "lmstudio", "sglang", "openai", "generic")
_FLAGS = ("vision", "tools", "json_mode", "reasoning", "embeddings")
_NAMES_SHOWN = 3


@click.command()
@click.argument("url")
@click.option(
    "--type",
    "engine",
    type=click.Choice(_ENGINES),
    help="The engine, if you know it (default: find out).",
)
@click.option(
    "--api-key-env", metavar="NAME", help="Environment variable that holds the server's key."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="S",
    help="Seconds for each round of requests.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as POST /admin/v1/probe does.")
def probe(
    url: str, engine: str | None, api_key_env: str | None, timeout_s: float, as_json: bool
) -> None:
    """Show which engine answers at URL, what its models can do and how busy it is.

    Needs no gateway, changes nothing and runs no inference. Exit code 0: it can be used; 1: it
    cannot (unreachable, no LLM server, still loading, wants a key).
    """
    from nexus.core.backend import EngineKind

    report = _run(
        url if "://" in url else f"http://{url}",
        None if engine is None else EngineKind(engine),
        _key(api_key_env),
        timeout_s,
    )
    from nexus.registry.views import probe_view

    view = probe_view(report.url, report.engine, report.result, label=report.label)
    if as_json:
        echo_json(view)
    else:
        _show(view, usable=report.usable)
    sys.exit(0 if report.usable else 1)


def _key(variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise click.BadParameter(
            f"the environment variable {variable} is unset or empty", param_hint="--api-key-env"
        )
    if not key.isascii() or not key.isprintable():
        raise click.BadParameter(
            f"{variable} holds characters that cannot stand in a header",
            param_hint="--api-key-env",
        )
    return key


def _run(url: str, engine: EngineKind | None, api_key: str, timeout_s: float) -> ProbeReport:
    import asyncio

    import uvloop

    from nexus.runtime.probing import probe_url

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(probe_url(url, engine=engine, api_key=api_key, timeout_s=timeout_s))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="URL") from None


def _show(view: dict[str, Any], *, usable: bool) -> None:
    name = view["label"] or view["engine"] or "nothing that Nexus can use"
    version = f" {view['engine_version']}" if view["engine_version"] else ""
    if not usable:
        found = f" ({name}{version})" if view["engine"] else ""
        click.echo(printable(f"nexus: {view['url']}{found}: {view['reason']}"), err=True)
        hint = _hint(view)
        if hint:
            click.echo(f"  {hint}", err=True)
        return
    click.echo(printable(f"{view['url']}: {name}{version}, type {view['engine']}"))
    click.echo(printable(f"  {view['reason']}"))
    click.echo(printable(f"  load: {_load(view)}"))
    if view["models"]:
        click.echo()
        echo_table(
            ("MODEL", "KIND", "CONTEXT", *_headings(), "LOADED", "SIZE", "QUANT", "FAMILY"),
            [_row(model) for model in view["models"]],
        )
    evidence = _evidence(view)
    if evidence:
        click.echo()
        echo_table(("FACT", "READ FROM", "OF"), evidence)


def _hint(view: dict[str, Any]) -> str:
    reason = view["reason"]
    if "credentials refused" in reason or "wants a key" in reason:
        return "name the variable that holds its key with --api-key-env"
    if "refused" in reason and not view["reachable"]:
        return "is the server running, and is this its port?"
    return ""


def _load(view: dict[str, Any]) -> str:
    load = view["load"]
    parts = [f"{load[key]} {key}" for key in ("running", "waiting") if load[key] is not None]
    if load["kv_usage"] is not None:
        parts.append(f"KV cache {load['kv_usage']:.0%} full")
    if view["capacity"] is not None:
        parts.append(f"takes {view['capacity']} at once")
    return ", ".join(parts) or "not told by this engine"


def _headings() -> tuple[str, ...]:
    return tuple("JSON" if flag == "json_mode" else flag.upper() for flag in _FLAGS)


def _row(model: dict[str, Any]) -> tuple[object, ...]:
    can = model["capabilities"]
    return (
        model["id"],
        model["kind"],
        model["context_length"],
        *(_flag(can[flag]) for flag in _FLAGS),
        _flag(model["loaded"]),
        _size(model["size_bytes"]),
        model["quantization"],
        model["family"],
    )


def _flag(value: bool | None) -> str:
    return "?" if value is None else "yes" if value else "no"


def _size(size_bytes: int | None) -> str | None:
    if size_bytes is None:
        return None
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _evidence(view: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Fact, source, and the models that it was read so of: one row per fact and source."""
    rows = [(fact, source, "") for fact, source in view["evidence"].items()]
    told: dict[tuple[str, str], list[str]] = {}
    for model in view["models"]:
        for fact, source in model["evidence"].items():
            told.setdefault((fact, source), []).append(model["id"])
    count = len(view["models"])
    return rows + [
        (fact, source, _names(names, count)) for (fact, source), names in sorted(told.items())
    ]


def _names(names: list[str], count: int) -> str:
    if len(names) == count:
        return "every model" if count > 1 else names[0]
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
