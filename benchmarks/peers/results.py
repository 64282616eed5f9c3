"""What a run found: every single measurement, in the shape in which it is kept as JSON."""

from __future__ import annotations

from statistics import median

import msgspec
from benchmarks.macro.load import Figure, StreamFigure
from benchmarks.macro.openloop import Latency

__all__ = ["Added", "Memory", "Plain", "Results", "Start", "Streams", "middle"]


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """The same load on the upstream directly and through the proxy, one after the other."""

    direct: Latency
    proxied: Latency

    def ms(self, field: str) -> float:
        """What the proxy adds: the difference of both quantiles, milliseconds."""
        return float(getattr(self.proxied, field) - getattr(self.direct, field))


class Plain(msgspec.Struct, kw_only=True):
    """One proxy, one size of requests and answers: a figure per round and measurement. ``half`` is
    at half of its own saturation, ``same`` at a rate that is the same for all. ``void`` says which
    measurements mean nothing and why."""

    saturated: list[Figure] = []
    half: list[Added] = []
    same: list[Added] = []
    void: list[str] = []


class Streams(msgspec.Struct, kw_only=True):
    """One proxy, so many streams at once."""

    streams: int
    events_per_s: float
    figures: list[StreamFigure] = []
    void: list[str] = []


class Memory(msgspec.Struct, kw_only=True):
    """Of one proxy, MB: after its start, after the plain load; and the same before streams."""

    idle_mb: float = 0.0
    loaded_mb: float = 0.0
    before_streams_mb: float = 0.0


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """From the start of the process to its first proxied answer: seconds, and those of CPU time."""

    took_s: float
    cpu_s: float


class Results(msgspec.Struct, kw_only=True):
    """A whole run. ``plain`` and ``streams`` are by case, then by proxy; the streams of the proxy
    ``direct`` are those without one. ``starts`` are those of ``nexus serve``, by whether
    discovery was on."""

    at: str
    machine: dict[str, str]
    versions: dict[str, str]
    left_out: dict[str, str]
    seconds: float
    rounds: int
    load_1m: float
    plain: dict[str, dict[str, Plain]] = {}
    streams: dict[str, dict[str, Streams]] = {}
    memory: dict[str, Memory] = {}
    starts: dict[str, list[Start]] = {}
    notes: list[str] = []


def middle(values: list[float]) -> float | None:
    """The median; None where there are none."""
    return float(median(values)) if values else None
