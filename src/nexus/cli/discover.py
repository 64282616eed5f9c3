"""``nexus discover``: which inference servers are on this machine and this network."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from nexus.cli.failure import Refused
from nexus.cli.options import read_options
from nexus.cli.shapes import names
from nexus.cli.table import echo_json, echo_table
from nexus.telemetry.text import printable

if TYPE_CHECKING:
    from nexus.cli.gateway import Gateway
    from nexus.discovery.sweep import Network
    from nexus.runtime.exploring import Explored

__all__ = ["discover"]

_ADD_TIMEOUT_S = 60.0
_NAMES_SHOWN = 4


@click.command()
@click.option(
    "--subnet",
    "subnets",
    multiple=True,
    metavar="CIDR",
    help="Scan these private addresses, such as 192.168.1.0/24; repeatable, 1024 at most.",
)
@click.option(
    "--port",
    "ports",
    multiple=True,
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Ports to try (default: those that engines listen on by themselves); repeatable.",
)
@click.option(
    "--mdns/--no-mdns",
    default=True,
    show_default=True,
    help="Also ask the network who announces itself.",
)
@click.option("--add", is_flag=True, help="Add what is found to the running gateway.")
@read_options
def discover(
    gateway: str | None,
    as_json: bool,
    subnets: tuple[str, ...],
    ports: tuple[int, ...],
    mdns: bool,
    add: bool,
) -> None:
    """Look for inference servers: on this machine, by mDNS, and on subnets that you name.

    Needs no gateway (except with --add) and runs no inference. Public addresses are refused: scan
    your own network only.
    """
    from nexus.config.schema import DiscoveryConfig
    from nexus.discovery.sweep import private_ranges, sweep_s

    try:
        networks = private_ranges(subnets)
    except ValueError as error:
        raise click.BadParameter(printable(str(error)), param_hint="--subnet") from None
    tried = ports or DiscoveryConfig().scan_ports
    into = None
    if add:
        from nexus.cli.gateway import find_gateway

        into = find_gateway(gateway)
        into.get("/health", key="status")  # says so before the scan if nobody is there
    if networks and sys.stderr.isatty():
        click.echo(f"scanning, about {sweep_s(networks, tried):.0f} s ...", err=True)
    found = _explore(networks, tried, DiscoveryConfig().service_types if mdns else ())
    rows = [_view(one) for one in found]
    if into is not None:
        for one, row in zip(found, rows, strict=True):
            row["added"] = _add(into, one)
    if as_json:
        echo_json({"data": rows})
    elif rows:
        _show(rows)
    else:
        places = [str(network) for network in networks] or ["this machine"]
        click.echo(
            f"no inference server found on {', '.join(places)} (ports "
            f"{', '.join(map(str, tried))}){' nor by mDNS' if mdns else ''}"
        )


def _explore(
    networks: tuple[Network, ...], ports: tuple[int, ...], service_types: tuple[str, ...]
) -> list[Explored]:
    import asyncio

    import uvloop

    from nexus.runtime.exploring import explore

    work = explore(networks, ports, loopback=not networks, service_types=service_types)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _view(one: Explored) -> dict[str, Any]:
    """As ``POST /admin/v1/probe`` shows it, and where it was seen."""
    from nexus.registry.views import probe_view

    report = one.report
    view = probe_view(report.url, report.engine, report.result, label=report.label)
    nexus = report.found is not None and report.found.nexus
    return {**view, "source": one.source.value, "announced_as": one.name, "nexus": nexus}


def _add(gateway: Gateway, one: Explored) -> str:
    """What came of it: ``added as NAME``, or why not."""
    report = one.report
    if report.found is not None and report.found.nexus:
        return "not added: a gateway; name it in [[backends]] if you mean it"
    try:
        added = gateway.send(
            "POST", "/admin/v1/backends", {"url": report.url}, timeout_s=_ADD_TIMEOUT_S
        )
    except Refused as refusal:
        if refusal.status == 409:
            return "known already"
        if refusal.status != 422:
            raise
        return "not added: it cannot be used as it is"
    return f"added as {added.get('name')}"


def _show(rows: list[dict[str, Any]]) -> None:
    headings: tuple[str, ...] = ("URL", "ENGINE", "VERSION", "STATUS", "MODELS", "SEEN BY")
    lines: list[tuple[object, ...]] = []
    for row in rows:
        models = names(row["models"])
        more = f" and {len(models) - _NAMES_SHOWN} more" if len(models) > _NAMES_SHOWN else ""
        seen = f"mdns ({row['announced_as']})" if row["announced_as"] else row["source"]
        lines.append(
            (
                row["url"],
                "nexus" if row["nexus"] else row["engine"],
                row["engine_version"],
                row["reason"],
                ", ".join(models[:_NAMES_SHOWN]) + more,
                seen,
            )
        )
    if any("added" in row for row in rows):
        headings = (*headings, "GATEWAY")
        lines = [(*line, row["added"]) for line, row in zip(lines, rows, strict=True)]
    echo_table(headings, lines)
