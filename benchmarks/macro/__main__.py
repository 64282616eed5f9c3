"""``python -m benchmarks.macro`` (``make bench``): see ``docs/benchmarks.md``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from benchmarks.macro.accounting import Meter, rss_mb
from benchmarks.macro.awake import awake
from benchmarks.macro.load import Figure, Void, measure_plain, measure_streams
from benchmarks.macro.processes import CannotRun
from benchmarks.macro.report import (
    Report,
    Series,
    machine,
    markdown,
    nginx_version,
    now,
    table,
)
from benchmarks.macro.servers import Proxy, Servers, find_nginx

_RESULTS = Path(__file__).resolve().parents[1] / "results"
_LOG_WAIT_S = 5.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.macro",
        description="CPU time of Nexus per request and per streamed event, beside nginx.",
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each kind")
    parser.add_argument("--connections", type=int, default=32, help="plain calls at once")
    parser.add_argument("--streams", type=int, default=200, help="streams at once")
    parser.add_argument("--events-per-s", type=float, default=50.0, help="pace of a stream")
    parser.add_argument(
        "--let-sleep", action="store_true", help="let idle cores sleep: who wakes them pays for it"
    )
    parser.add_argument("--quick", action="store_true", help="3 rounds of 2 s: a first look")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seconds, arguments.rounds = 2.0, 3
    return arguments


def main() -> int:
    """Runs the benchmark; returns the exit code: 1 when there is no figure to trust."""
    arguments = _arguments()
    try:
        nginx = find_nginx()
        cores = _cores()
        # The load generator is this process; what it starts is put where it belongs.
        os.sched_setaffinity(0, {cores[1]})
        with tempfile.TemporaryDirectory(prefix="nexus-bench-") as directory:
            servers = Servers(
                Path(directory),
                proxy_core=cores[0],
                load_core=cores[1],
            )
            with servers as proxies, awake(not arguments.let_sleep) as idle_cores:
                series = _measure(proxies, cores[0], arguments)
    except (CannotRun, Void) as error:
        sys.stderr.write(f"benchmark: {error}\n")
        return 1
    report = Report(
        at=now(),
        machine={**machine(), "nginx": nginx_version(nginx), "idle cores": idle_cores},
        seconds=arguments.seconds,
        rounds=arguments.rounds,
        connections=arguments.connections,
        streams=arguments.streams,
        events_per_s=arguments.events_per_s,
        series=series,
    )
    _RESULTS.mkdir(exist_ok=True)
    stem = "macro-" + report.at[:16].replace(" ", "-").replace(":", "")
    (_RESULTS / f"{stem}.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    (_RESULTS / f"{stem}.md").write_text(markdown(report))
    print(table(report))
    return 0


def _cores() -> tuple[int, int]:
    if not hasattr(os, "sched_getaffinity"):
        raise CannotRun("CPU time is read from Linux's /proc: run this on Linux")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise CannotRun("two cores are needed: one for the proxy, one for the load")
    return cores[0], cores[1]


def _measure(
    proxies: tuple[Proxy, ...], core: int, arguments: argparse.Namespace
) -> dict[str, Series]:
    meters = {proxy.name: Meter(proxy.pid, core) for proxy in proxies}
    series = {proxy.name: Series(requests=[], events=[]) for proxy in proxies}
    time.sleep(1.0)
    for proxy in proxies:
        series[proxy.name].rss_idle_mb = rss_mb(proxy.pid)
    for number in range(arguments.rounds):
        for proxy in proxies:
            figure = _logged(
                proxy,
                lambda proxy=proxy: measure_plain(  # type: ignore[misc]
                    proxy.plain_port,
                    arguments.connections,
                    arguments.seconds,
                    meters[proxy.name],
                ),
            )
            series[proxy.name].requests.append(figure)
            _progress(number, proxy, figure, "request")
    for number in range(arguments.rounds):
        for proxy in proxies:
            figure = measure_streams(
                proxy.stream_port,
                arguments.streams,
                arguments.events_per_s,
                arguments.seconds,
                meters[proxy.name],
            )
            series[proxy.name].events.append(figure)
            _progress(number, proxy, figure, "event")
    for proxy in proxies:
        series[proxy.name].rss_after_mb = rss_mb(proxy.pid)
    return series


def _logged(proxy: Proxy, measure: Callable[[], Figure]) -> Figure:
    """A measurement in which each call has left its line in the access log: one that is not
    written, or dropped, is work not done."""
    before = _lines(proxy.access_log)
    figure = measure()
    expected = before + figure.total
    end_s = time.monotonic() + _LOG_WAIT_S
    while (found := _lines(proxy.access_log)) < expected and time.monotonic() < end_s:
        time.sleep(0.05)
    if found != expected:
        raise Void(f"{proxy.name} wrote {found - before} access log lines for {figure.total} calls")
    return figure


def _lines(log: Path) -> int:
    with log.open("rb") as file:
        return sum(line.count(b"/v1/chat/completions") for line in file)


def _progress(number: int, proxy: Proxy, figure: Figure, unit: str) -> None:
    sys.stderr.write(
        f"round {number + 1}  {proxy.name:<6} {figure.cpu_us:6.1f} µs/{unit} "
        f"{figure.per_s:9,.0f} {unit}s/s  {figure.core_share:4.0%} of a core, "
        f"others {figure.others_share:.0%}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
