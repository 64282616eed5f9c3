"""Names for the shell's completion, asked from the gateway: quickly, or none."""

from __future__ import annotations

import re
from typing import Any

import click

__all__ = ["complete_backends", "complete_models"]

# Whoever presses TAB waits for this.
_TIMEOUT_S = 0.5
_PLAIN = re.compile(r"[\w./:@+=,%][\w./:@+=,%-]*")


def complete_backends(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """The backends' names that begin with ``begun``."""
    return [name for name in _ask(context, "/admin/v1/backends", "name") if name.startswith(begun)]


def complete_models(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """The models' names that begin with ``begun``."""
    return [name for name in _ask(context, "/v1/models", "id") if name.startswith(begun)]


def _ask(context: click.Context, path: str, key: str) -> list[str]:
    from nexus.cli.gateway import find_gateway
    from nexus.cli.shapes import rows

    given: dict[str, Any] = context.params
    try:
        gateway = find_gateway(
            given.get("gateway"), ca=given.get("ca"), insecure=bool(given.get("insecure"))
        )
        answer = gateway.get(path, key="data", timeout_s=_TIMEOUT_S)
    except click.ClickException:
        return []
    found = (row.get(key) for row in rows(answer, "data"))
    # Engines make up names, and bash puts what is completed on the command line as it is: what it
    # would take apart or act upon is none to offer.
    return [name for name in found if isinstance(name, str) and _PLAIN.fullmatch(name)]
