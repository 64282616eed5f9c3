"""A run in words, for whoever has to find out what went wrong."""

from __future__ import annotations

from tests.simulation.loop import START_S
from tests.simulation.world import Run

__all__ = ["told"]

_SHOWN_BYTES = 160


def told(run: Run) -> str:
    """What happened, line by line, and what it broke."""
    lines = [f"seed {run.seed}: {run.calls} calls, {len(run.trace)} events, trace {run.digest}"]
    for at_s, who, what, detail in run.trace:
        shown = detail
        if isinstance(detail, bytes):
            shown = repr(detail[:_SHOWN_BYTES])[2:-1] if detail else ""
            if len(detail) > _SHOWN_BYTES:
                shown += f"... ({len(detail)} bytes)"
        lines.append(f"{at_s - START_S:10.4f}  {who:14} {what:10} {shown}".rstrip())
    lines += [f"BROKEN {what}" for what in run.broken] or ["nothing broken"]
    return "\n".join(lines)
