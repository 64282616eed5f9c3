"""What is made of a run: tables, aims, plots."""

from __future__ import annotations

from xml.etree import ElementTree

from benchmarks.macro.load import Figure
from benchmarks.macro.openloop import Latency
from benchmarks.peers.plots import bars, plots
from benchmarks.peers.results import Added, Plain, Results
from benchmarks.peers.tables import markdown, verdicts


def _figure(cpu_us: float, per_s: float = 10_000.0) -> Figure:
    return Figure(cpu_us=cpu_us, per_s=per_s, total=1, core_share=1.0, others_share=0.0)


def _latency(ms: float) -> Latency:
    return Latency(rate=100.0, count=1000, p50_ms=ms, p90_ms=ms, p99_ms=ms, late_p99_ms=0.0)


def _results(**cpu_us: float) -> Results:
    added = Added(direct=_latency(0.1), proxied=_latency(0.3))
    plain = {
        name.replace("_", "-"): Plain(saturated=[_figure(us), _figure(us * 2)], half=[added])
        for name, us in cpu_us.items()
    }
    return Results(
        at="now",
        machine={},
        versions={},
        left_out={"smg": "it does not start | here"},
        seconds=1.0,
        rounds=2,
        load_1m=0.0,
        plain={"0.3 kB → 0.5 kB": plain},
    )


def test_an_aim_that_is_missed_is_said_to_be() -> None:
    """Aims are judged by the least of the rounds, and each says whether it is met."""
    told = verdicts(_results(nginx=20.0, nexus=60.0, vllm_router=100.0))
    assert "- CPU per request, times that of nginx: 3.00, at most 3.20: met" in told
    assert "- CPU per request, times that of vllm-router: 0.60, at most 0.50: **missed**" in told
    assert "- added p50 at half load: 0.20 ms, at most 0.25 ms: met" in told


def test_a_proxy_without_figures_has_a_row_and_a_reason() -> None:
    """What could not be measured stands in the table as such, and why below it."""
    results = _results(nginx=20.0, nexus=60.0)
    results.plain["0.3 kB → 0.5 kB"]["haproxy"] = Plain(void=["saturation: a wrong answer | <x>"])
    page = markdown(results)
    assert "| HAProxy | - | - | - | - | 1 |" in page
    assert "- saturation: a wrong answer \\| <x>" in page
    assert "smg was left out: it does not start" in page


def test_plots_are_drawn_of_what_was_measured_and_of_nothing_else() -> None:
    """A run of plain calls only has no plot of streams."""
    drawn = plots(_results(nginx=20.0, nexus=60.0))
    assert "cpu-per-request" in drawn
    assert "memory" not in drawn


def test_a_bar_of_another_order_of_magnitude_is_cut_and_the_others_stay_readable() -> None:
    """LiteLLM's bar does not shrink all others to nothing."""
    drawing = ElementTree.fromstring(bars("<CPU>", "µs", {"nginx": 20.0, "litellm": 19_000.0}))  # noqa: S314
    widths = [float(bar.attrib["width"]) for bar in drawing.iter() if bar.tag.endswith("rect")]
    assert widths[0] > widths[1] / 2
    assert [one.tag.rpartition("}")[2] for one in drawing].count("line") == 1
