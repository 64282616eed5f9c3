"""``GET /metrics``: everything that ``telemetry/names.py`` lists, made when somebody asks.

What calls amounted to comes from ``telemetry/metrics.py``; what is so at this moment is read from
the gateway's rooms. Imported at the first scrape, and ``prometheus_client`` with it.
"""

from __future__ import annotations

import asyncio
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from math import isinf
from time import monotonic, time
from typing import TYPE_CHECKING, Any
from zlib import crc32

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

import nexus
from nexus.core.backend import BackendStatus
from nexus.core.call import Outcome
from nexus.core.live import BreakerState
from nexus.health import breaker
from nexus.http1.asgi import AsgiApp
from nexus.telemetry.histogram import Histogram
from nexus.telemetry.metrics import Metrics
from nexus.telemetry.names import METRICS, Kind

if TYPE_CHECKING:
    from nexus.runtime.gateway import Gateway

__all__ = ["metrics_app"]

_LABEL_CHARS_MAX = 200

Labels = tuple[str, ...]
Sample = tuple[Labels, float]
HistogramSample = tuple[Labels, Histogram]
Samples = dict[str, list[Sample]]
Histograms = dict[str, list[HistogramSample]]


def metrics_app(gateway: Gateway) -> AsgiApp:
    """An ASGI application that answers a scrape in the text format that ``Accept`` asks for."""
    figures = _Figures(gateway)
    process = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=process)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        accept = ",".join(
            value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"
        )
        encode, content_type = choose_encoder(accept)
        # The numbers are copied on the loop's thread, where nothing changes meanwhile; making text
        # of them takes fifty times as long and needs nothing of the gateway.
        samples, histograms = figures.read()
        body = await asyncio.to_thread(_written, encode, samples, histograms, process)
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", content_type.encode()),
                    (b"content-length", b"%d" % len(body)),
                    (b"cache-control", b"no-store"),
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})

    return app


def _written(
    encode: Callable[[Any], bytes], samples: Samples, histograms: Histograms, process: Collector
) -> bytes:
    return encode(_Page(samples, histograms, process))


class _Page(Collector):
    """Every metric of the table, in its order, then those of the process."""

    def __init__(self, samples: Samples, histograms: Histograms, process: Collector) -> None:
        self._samples = samples
        self._histograms = histograms
        self._process = process

    def collect(self) -> Iterator[Family]:
        for name, metric in METRICS.items():
            if metric.kind is Kind.HISTOGRAM:
                yield _histogram_family(name, self._histograms.get(name, ()))
            else:
                yield _family(name, self._samples.get(name, ()))
        yield from self._process.collect()


class _Figures:
    """Reads the gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def read(self) -> tuple[Samples, Histograms]:
        """Every figure as it is now, by metric."""
        gateway = self._gateway
        gateway.stats.settle()
        metrics = gateway.metrics
        metrics.prune(gateway.store.snapshot.backends, time())
        samples: Samples = {}
        histograms: Histograms = {}
        _add_calls(metrics, samples, histograms)
        self._add_gateway(samples)
        self._add_backends(samples)
        self._add_links(samples, histograms)
        return samples, histograms

    def _add_gateway(self, samples: Samples) -> None:
        gateway = self._gateway
        plane = gateway.plane
        limit = plane.limits.max_concurrent_requests
        samples["nexus_http_errors_total"] = [
            ((str(status),), count) for status, count in sorted(plane.http_errors.items())
        ]
        samples["nexus_saturation_ratio"] = [((), plane.in_flight / limit if limit else 0.0)]
        samples["nexus_buffered_bytes"] = [((), gateway.budget.used_bytes)]
        samples["nexus_client_connections"] = [((), len(gateway.server.connections))]
        samples["nexus_models"] = [((), len(gateway.store.snapshot.listed))]
        samples["nexus_access_log_dropped_total"] = [((), gateway.access_log_dropped)]
        samples["nexus_event_listeners"] = [((), gateway.events.listeners)]
        versions = (nexus.__version__, platform.python_version())
        samples["nexus_build_info"] = [(versions, 1)]

    def _add_backends(self, samples: Samples) -> None:
        gateway = self._gateway
        snapshot = gateway.store.snapshot
        now_s = monotonic()
        for name in (
            "nexus_in_flight_requests",
            "nexus_backend_up",
            "nexus_backend_state",
            "nexus_backend_saturation_ratio",
            "nexus_backend_busy_requests",
            "nexus_backend_waiting_requests",
            "nexus_backend_breaker_open",
            "nexus_backend_check_seconds",
        ):
            samples[name] = []
        kinds: Counter[tuple[str, str]] = Counter()
        at_backends = 0
        for name, backend in snapshot.backends.items():
            live = snapshot.live[name]
            label = (name,)
            at_backends += live.in_flight
            samples["nexus_in_flight_requests"].append((label, live.in_flight))
            samples["nexus_backend_up"].append(
                ((name, backend.engine.value), float(backend.routable))
            )
            for status in BackendStatus:
                samples["nexus_backend_state"].append(
                    ((name, status.value), float(backend.status is status))
                )
            limit = backend.spec.max_concurrency or backend.capacity
            busy = live.busy
            if limit:
                samples["nexus_backend_saturation_ratio"].append((label, busy / limit))
            samples["nexus_backend_busy_requests"].append((label, busy))
            if live.waiting is not None:
                samples["nexus_backend_waiting_requests"].append((label, live.waiting))
            is_open = breaker.state(live, now_s) is not BreakerState.CLOSED
            samples["nexus_backend_breaker_open"].append((label, float(is_open)))
            if backend.last_check_ms is not None:
                samples["nexus_backend_check_seconds"].append((label, backend.last_check_ms / 1e3))
            kinds[backend.spec.source.value, backend.status.value] += 1
        elsewhere = max(gateway.plane.in_flight - at_backends, 0)
        samples["nexus_in_flight_requests"].append((("",), elsewhere))
        samples["nexus_backends"] = [(labels, count) for labels, count in sorted(kinds.items())]

    def _add_links(self, samples: Samples, histograms: Histograms) -> None:
        plane = self._gateway.plane
        connections: list[Sample] = []
        failures: list[Sample] = []
        seconds: list[HistogramSample] = []
        for name in self._gateway.store.snapshot.backends:
            link = plane.link_of(name)
            if link is None:
                continue
            pool = link.pool
            connections.append(((name, "active"), pool.open - pool.idle))
            connections.append(((name, "idle"), pool.idle))
            failures.append(((name,), pool.connects.failed))
            seconds.append(((name,), pool.connects.seconds.copy()))
        samples["nexus_upstream_connections"] = connections
        samples["nexus_upstream_connect_failures_total"] = failures
        histograms["nexus_upstream_connect_seconds"] = seconds


def _add_calls(
    metrics: Metrics,
    samples: Samples,
    histograms: Histograms,
) -> None:
    """What calls amounted to."""
    requests: list[Sample] = []
    durations: list[HistogramSample] = []
    first_tokens: list[HistogramSample] = []
    per_tokens: list[HistogramSample] = []
    tokens: Counter[Labels] = Counter()
    for key, counts in metrics.calls.items():
        _, model, backend = key
        # All outcomes from the start: a rate sees the first error only if there was a zero before.
        requests += [((*key, outcome.value), counts.outcomes[outcome]) for outcome in Outcome]
        durations.append((key, counts.duration.copy()))
        if counts.ttft is not None:
            first_tokens.append((key, counts.ttft.copy()))
        if counts.per_token is not None:
            per_tokens.append((key, counts.per_token.copy()))
        for direction, source, count in (
            ("input", "reported", counts.input_tokens),
            ("output", "reported", counts.output_tokens),
            ("output", "estimated", counts.estimated_tokens),
        ):
            if count:
                tokens[model, backend, direction, source] += count
    samples["nexus_requests_total"] = requests
    histograms["nexus_request_duration_seconds"] = durations
    histograms["nexus_time_to_first_token_seconds"] = first_tokens
    histograms["nexus_time_per_output_token_seconds"] = per_tokens
    histograms["nexus_routing_decision_seconds"] = [((), metrics.routing.copy())]
    samples["nexus_backend_tokens_total"] = list(tokens.items())
    samples["nexus_tokens_total"] = [
        (("input", "reported"), metrics.input_tokens),
        (("output", "reported"), metrics.output_tokens),
        (("output", "estimated"), metrics.estimated_tokens),
    ]
    samples["nexus_body_bytes_total"] = [(("in",), metrics.bytes_in), (("out",), metrics.bytes_out)]
    samples["nexus_requests_cancelled_total"] = [((), metrics.cancelled)]
    samples["nexus_failovers_total"] = [((), metrics.failovers)]
    samples["nexus_retries_total"] = [((), metrics.retries)]
    samples["nexus_internal_errors_total"] = [((), metrics.internal_errors)]
    samples["nexus_prompts_truncated_total"] = [((), metrics.prompts_truncated)]
    samples["nexus_config_reloads_total"] = [
        ((outcome,), count) for outcome, count in metrics.reloads.items()
    ]
    samples["nexus_attempts_total"] = [
        ((name, outcome), count)
        for name, counts in metrics.attempts.items()
        for outcome, count in counts.outcomes.items()
    ]


def _family(name: str, samples: Sequence[Sample]) -> Family:
    metric = METRICS[name]
    family: CounterMetricFamily | GaugeMetricFamily
    if metric.kind is Kind.COUNTER:
        family = CounterMetricFamily(name.removesuffix("_total"), metric.help, labels=metric.labels)
    else:
        family = GaugeMetricFamily(name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric([_label(text) for text in labels], value)
    return family


def _histogram_family(name: str, samples: Sequence[HistogramSample]) -> Family:
    metric = METRICS[name]
    family = HistogramMetricFamily(name, metric.help, labels=metric.labels)
    for labels, histogram in samples:
        buckets = [
            ("+Inf" if isinf(bound) else repr(bound), count)
            for bound, count in histogram.cumulative()
        ]
        family.add_metric([_label(text) for text in labels], buckets, histogram.sum)
    return family


def _label(text: str) -> str:
    """A label's value that can be written: bounded, and valid UTF-8 whatever an engine named its
    model. Names that are cut stay different from each other."""
    if len(text) > _LABEL_CHARS_MAX:
        text = f"{text[:_LABEL_CHARS_MAX]}…{crc32(text.encode('utf-8', 'surrogatepass')):08x}"
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()
