"""``nexus backends remove|drain|resume|approve``: change one of the gateway's backends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from nexus.cli.failure import Failure
from nexus.cli.names import complete_backends
from nexus.cli.options import json_option, with_gateway
from nexus.cli.table import echo_json
from nexus.telemetry.text import printable

if TYPE_CHECKING:
    from nexus.cli.gateway import Gateway

__all__ = ["approve", "drain", "remove", "resume"]

_POLL_S = 0.2

_name_argument = click.argument("name", shell_complete=complete_backends)


@click.command()
@_name_argument
@click.option("--save", is_flag=True, help="Take it out of the gateway's configuration file, too.")
@with_gateway
@json_option
def remove(gateway: Gateway, name: str, save: bool, as_json: bool) -> None:
    """Forget the backend NAME. What runs there may finish.

    One that the configuration file names needs --save: it would come back with the next start.
    """
    query = "?save=true" if save else ""
    hint = f"`nexus backends drain {name}` or `nexus backends remove {name} --save` would do it."
    hints = {} if save else {409: printable(hint)}
    gone = gateway.send("DELETE", _path(name) + query, hints=hints)
    _tell(gone, as_json, f"removed {printable(name)}")


@click.command()
@_name_argument
@click.option("--wait", is_flag=True, help="Return when nothing runs there any more.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="With --wait: seconds after which to give up (exit 1).",
)
@with_gateway
@json_option
def drain(gateway: Gateway, name: str, wait: bool, timeout_s: float | None, as_json: bool) -> None:
    """Send the backend NAME nothing new; what runs there may finish.

    `nexus backends resume NAME` ends the drain.
    """
    backend = gateway.send("POST", f"{_path(name)}/drain")
    if wait:
        backend = _drained(gateway, name, backend, timeout_s)
    running = backend.get("in_flight")
    left = f", {running} still running there" if running else ""
    _tell(backend, as_json, f"{printable(name)} is draining{left}")


@click.command()
@_name_argument
@with_gateway
@json_option
def resume(gateway: Gateway, name: str, as_json: bool) -> None:
    """Use the backend NAME again after a drain."""
    backend = gateway.send("POST", f"{_path(name)}/resume")
    _tell(backend, as_json, f"{printable(name)} is {printable(str(backend.get('status')))}")


@click.command()
@_name_argument
@with_gateway
@json_option
def approve(gateway: Gateway, name: str, as_json: bool) -> None:
    """Use the backend NAME, which was found on the network and waits for a yes."""
    backend = gateway.send("POST", f"{_path(name)}/approve")
    status = printable(str(backend.get("status")))
    _tell(backend, as_json, f"approved {printable(name)}: it is {status}")


def _path(name: str) -> str:
    from nexus.cli.gateway import segment

    return f"/admin/v1/backends/{segment(name)}"


def _tell(backend: dict[str, Any], as_json: bool, words: str) -> None:
    if as_json:
        echo_json(backend)
    else:
        click.echo(words)


def _drained(
    gateway: Gateway, name: str, backend: dict[str, Any], timeout_s: float | None
) -> dict[str, Any]:
    """The backend once nothing runs there. Raises :class:`Failure` when that takes too long."""
    end_s = None if timeout_s is None else time.monotonic() + timeout_s
    while backend.get("in_flight"):
        if end_s is not None and time.monotonic() > end_s:
            raise Failure(
                f"after {timeout_s:g} s {backend.get('in_flight')} still run on {printable(name)}, "
                f"which goes on draining"
            )
        time.sleep(_POLL_S)
        backend = gateway.get(_path(name), key="status")
    return backend
