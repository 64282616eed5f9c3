"""The figures of a run as Markdown."""

from __future__ import annotations

from benchmarks.macro.load import Figure
from benchmarks.peers.results import Added, Plain, Results, Streams, middle
from benchmarks.peers.startup import START_MAX_S

__all__ = ["TITLES", "markdown", "verdicts"]

TITLES = {
    "nginx": "nginx",
    "haproxy": "HAProxy",
    "nexus": "**Nexus**",
    "vllm-router": "vllm-router",
    "vllm-router-rr": "vllm-router, round robin",
    "smg": "smg",
    "litellm": "LiteLLM",
    "direct": "(no proxy)",
}
_SMALL = "0.3 kB → 0.5 kB"
_RUST = ("vllm-router", "vllm-router-rr", "smg")
_FULL_CORE = 0.9
_P99_NEEDS = 300
_OTHERS_SHARE_MAX = 0.05
_STREAMS = 10_000
_NONE = "-"


def markdown(results: Results) -> str:
    """All tables, verdicts and notes."""
    versions = ", ".join(f"{TITLES[k].strip('*')} {v}" for k, v in results.versions.items())
    about = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    parts = [
        (
            f"{results.at}: {about}; {versions}. {results.rounds} rounds of {results.seconds:g} s, "
            "interleaved; medians, in brackets the least."
        )
    ]
    for name, reason in results.left_out.items():
        parts.append(f"{TITLES[name].strip('*')} was left out: {reason}")
    parts += _busy(results)
    for case, plain in results.plain.items():
        parts += [f"### Plain calls, {case}", _plain_table(plain)]
    if results.streams:
        parts += ["### Streams", *(_stream_table(found) for found in results.streams.values())]
    if results.memory:
        parts += ["### Memory", _memory_table(results)]
    if results.starts:
        parts += ["### From start to first answer", _start_table(results)]
    told = verdicts(results)
    if told:
        parts += ["### Aims", "\n".join(told)]
    void = [
        why
        for group in (results.plain, results.streams)
        for found in group.values()
        for series in found.values()
        for why in series.void
    ]
    if void or results.notes:
        parts += ["### Not measured", "\n".join(f"- {_cell(why)}" for why in results.notes + void)]
    return "\n\n".join(parts) + "\n"


def _busy(results: Results) -> list[str]:
    figures: list[Figure] = [
        figure
        for plain in results.plain.values()
        for one in plain.values()
        for figure in one.saturated
    ]
    others = middle([figure.others_share for figure in figures])
    if others is None or others <= _OTHERS_SHARE_MAX:
        return []
    return [
        (
            f"**Do not rely on these figures**: other programs used {others:.0%} of the proxies' "
            "core meanwhile, which makes requests dearer and events cheaper, and delays both."
        )
    ]


def _table(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _both(values: list[float], form: str = ",.1f") -> str:
    typical = middle(values)
    return _NONE if typical is None else f"{typical:{form}} ({min(values):{form}})"


def _one(values: list[float], form: str) -> str:
    typical = middle(values)
    return _NONE if typical is None else f"{typical:{form}}"


def _plain_table(plain: dict[str, Plain]) -> str:
    same = [pair.direct.rate for one in plain.values() for pair in one.same]
    titles = [
        "proxy",
        "CPU µs/request",
        "requests/s",
        "half of it: added p50 / p90 / p99, ms",
        f"at {same[0]:,.0f}/s: added p50 / p90 / p99, ms" if same else "at the same rate",
        "void",
    ]
    rows = []
    for name, one in plain.items():
        rate = _one([figure.per_s for figure in one.saturated], ",.0f")
        share = middle([figure.core_share for figure in one.saturated]) or 0.0
        others = middle([figure.others_share for figure in one.saturated]) or 0.0
        if one.saturated and share + others < _FULL_CORE:
            rate = f"≥ {rate}"
        rows.append(
            [
                TITLES[name],
                _both([figure.cpu_us for figure in one.saturated]),
                rate,
                _quantiles(one.half),
                _quantiles(one.same),
                str(len(one.void)),
            ]
        )
    return _table(titles, rows)


def _quantiles(pairs: list[Added]) -> str:
    if not pairs:
        return _NONE
    told = []
    for field in ("p50_ms", "p90_ms", "p99_ms"):
        few = field == "p99_ms" and sum(pair.proxied.count for pair in pairs) < _P99_NEEDS
        told.append(_NONE if few else _one([pair.ms(field) for pair in pairs], ".2f"))
    return " / ".join(told)


def _stream_table(found: dict[str, Streams]) -> str:
    direct = found.get("direct")
    some = next(iter(found.values()))
    titles = [
        f"{some.streams:,} streams",
        "events/s each",
        "CPU µs/event",
        "added delay p50 / p99, ms",
        "added time to first p50 / p99, ms",
        "RSS, MB",
        "void",
    ]
    rows = []
    for name, one in found.items():
        if name == "direct":
            continue
        rows.append(
            [
                TITLES[name],
                f"{one.events_per_s:g}",
                _both([figure.cpu_us for figure in one.figures]),
                _over(direct, one, "delay"),
                _over(direct, one, "first"),
                _one([figure.rss_mb for figure in one.figures], ",.0f"),
                str(len(one.void)),
            ]
        )
    return _table(titles, rows)


def _over(direct: Streams | None, one: Streams, field: str) -> str:
    """By how much a quantile is over that of the streams without a proxy, medians of both."""
    told = []
    for name in (f"{field}_p50_ms", f"{field}_p99_ms"):
        there = middle([getattr(figure, name) for figure in one.figures])
        without = middle([getattr(figure, name) for figure in direct.figures] if direct else [])
        told.append(_NONE if there is None or without is None else f"{there - without:.2f}")
    return " / ".join(told)


def _memory_table(results: Results) -> str:
    most = max((int(case) for case in results.streams), default=0)
    titles = ["proxy", "idle, MB", "after plain calls, MB"]
    if most:
        titles.append("with most streams, MB (kB per stream)")
    rows = []
    for name, memory in results.memory.items():
        row = [TITLES[name]]
        for value in (memory.idle_mb or memory.before_streams_mb, memory.loaded_mb):
            row.append(f"{value:,.0f}" if value else _NONE)
        if most:
            one = results.streams[str(most)].get(name)
            each_kb = _each_kb(results, name, one) if one else None
            if one is None or each_kb is None:
                row.append(_NONE)
            else:
                top = _one([figure.rss_mb for figure in one.figures], ",.0f")
                row.append(f"{top} ({each_kb:.1f})")
        rows.append(row)
    return _table(titles, rows)


def _each_kb(results: Results, name: str, one: Streams) -> float | None:
    """What each stream takes in a proxy, kB."""
    top = middle([figure.rss_mb for figure in one.figures])
    memory = results.memory.get(name)
    if top is None or memory is None:
        return None
    return (top - memory.before_streams_mb) * 1024 / one.streams


def _start_table(results: Results) -> str:
    rows = []
    for label, runs in results.starts.items():
        took = [one.took_s for one in runs]
        shown = (
            middle(took) or 0.0,
            min(took),
            max(took),
            middle([one.cpu_s for one in runs]) or 0,
        )
        rows.append([label, *(f"{value:.2f}" for value in shown)])
    return _table(["`nexus serve`", "median, s", "least", "most", "CPU time, s"], rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


class _Aims:
    """Collects what was to be shown and whether it is."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def at_most(self, what: str, value: float | None, most: float | None, unit: str = "") -> None:
        """One aim; nothing is said where it was not measured."""
        if value is None or most is None:
            return
        verdict = "met" if value <= most else "**missed**"
        self.lines.append(f"- {what}: {value:.2f}{unit}, at most {most:.2f}{unit}: {verdict}")

    def at_least(self, what: str, value: float, least: float) -> None:
        """One aim the other way round."""
        verdict = "met" if value >= least else "**missed**"
        self.lines.append(f"- {what}: {value:.2f}, at least {least:.2f}: {verdict}")


def verdicts(results: Results) -> list[str]:
    """Each aim with what was measured. CPU time is compared by the least of the rounds: what else
    the machine does only ever adds to a round."""
    aims = _Aims()
    plain = results.plain.get(_SMALL, {})

    def cpu(name: str) -> float | None:
        series = plain.get(name)
        return min((f.cpu_us for f in series.saturated), default=None) if series else None

    def rate(name: str) -> float | None:
        series = plain.get(name)
        return middle([f.per_s for f in series.saturated]) if series else None

    nexus = cpu("nexus")
    for name, factor in (("nginx", 3.2), *((peer, 0.5) for peer in _RUST)):
        peer = cpu(name)
        if nexus and peer:
            aims.at_most(f"CPU per request, times that of {TITLES[name]}", nexus / peer, factor)
    mine = rate("nexus")
    for name in _RUST[:2]:
        theirs = rate(name)
        if mine and theirs:
            aims.at_least(f"requests/s, times those of {TITLES[name]}", mine / theirs, 2.0)
    events = results.streams.get("100", {})
    event = _least_event(events, "nexus")
    for name, factor in (("nginx", 1.35), *((peer, 1.0) for peer in _RUST)):
        peer = _least_event(events, name)
        if event and peer:
            what = f"CPU per event (100 streams), times that of {TITLES[name]}"
            aims.at_most(what, event / peer, factor)
    half = {name: one.half for name, one in plain.items()}
    for field, most in (("p50_ms", 0.25), ("p99_ms", 1.5)):
        added = middle([pair.ms(field) for pair in half.get("nexus", [])])
        aims.at_most(f"added {field[:3]} at half load", added, most, " ms")
        for name in _RUST:
            peer = middle([pair.ms(field) for pair in half.get(name, [])])
            what = f"added {field[:3]} at half load, beside {TITLES[name]}"
            aims.at_most(what, added, peer, " ms")
    many = results.streams.get("10000", {}).get("nexus")
    if many is not None:
        top = middle([figure.rss_mb for figure in many.figures])
        what = "10,000 open streams, RSS"
        if top is not None and many.streams < _STREAMS:
            # Of a machine that does not allow as many files: the rest at what each of these took.
            top += (_STREAMS - many.streams) * (_each_kb(results, "nexus", many) or 0.0) / 1024
            what += f" ({many.streams:,} measured)"
        aims.at_most(what, top, 200.0, " MB")
        if many.void:
            aims.lines.append(f"- {many.streams:,} open streams: {len(many.void)} void: **missed**")
    for label, runs in results.starts.items():
        took = middle([one.took_s for one in runs])
        aims.at_most(f"start to first answer, {label}", took, START_MAX_S, " s")
    return aims.lines


def _least_event(events: dict[str, Streams], name: str) -> float | None:
    series = events.get(name)
    return min((f.cpu_us for f in series.figures), default=None) if series else None
