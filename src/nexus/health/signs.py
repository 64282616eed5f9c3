"""Signs of life: what calls saw of a backend while a check of it was under way.

A check takes seconds to fail; meanwhile the backend may have come back, and calls may have found it
there. Then the check tells of a time that is over. What contradicts it must be newer than its
beginning, and worth as much as what it missed:

| the check | contradicted by |
|---|---|
| was answered, wrongly | nothing: that it is alive is not in doubt |
| connected and heard nothing | something of an answer |
| could not connect | the same, or a connection |

A connection alone says little: the kernel makes them for a process that is stopped, too. And a
contradicted check is only made again (``health/checker.py``); the second one decides, whatever
calls saw meanwhile, so that traffic puts a verdict off by no more than one check.
"""

from __future__ import annotations

from math import inf

import msgspec

from nexus.health.probe import Probe

__all__ = ["Signs", "contradicted"]


class Signs(msgspec.Struct, frozen=True, kw_only=True):
    """What calls have seen of one backend so far. ``connects``: connections they made to it;
    ``heard_s``: when they last heard something of an answer, monotonic seconds."""

    connects: int = 0
    heard_s: float = -inf


def contradicted(failed: Probe, began_s: float, connects: int, now: Signs) -> bool:
    """Whether a ``failed`` check, begun at ``began_s`` when calls had made so many ``connects``, is
    outweighed by what they have seen since."""
    if failed.unanswered and now.heard_s > began_s:
        return True
    return failed.unreached and now.connects > connects
