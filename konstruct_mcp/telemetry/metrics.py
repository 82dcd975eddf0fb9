"""Metrics for Prometheus: counters and histograms from a `Konstruct`'s events, and gauges of how things stand.

A scrape is answered in a thread of its own. It asks the event loop how things stand, and waits for no more than a
second: where the loop does not answer, the gauges are those of the last answer, and `konstruct_gauges_age_seconds` says
how old they are. All metrics of one process are its own: sum them over the replicas.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import platform
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Self
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from konstruct_mcp.core.errors import KonstructError
from konstruct_mcp.core.events import CallClosed, Event, HealthChange, Refused, TryEnded
from konstruct_mcp.core.money import NUSD
from konstruct_mcp.gateway.gauges import Gauges
from konstruct_mcp.gateway.konstruct import Konstruct
from konstruct_mcp.telemetry.labels import Labels

disable_created_metrics()  # type: ignore[no-untyped-call]  # the time at which each series began would double their number

_PATIENCE_S = 1.0  # of a scrape for the event loop; Prometheus waits for ten by default
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)  # of a call: from a cached word to a long answer
_TOKENS = (16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)


class Metrics:
    """The metrics of one `Konstruct`: a hook of it, until `attach` without its gauges.

    metrics = Metrics()
    konstruct = Konstruct.from_config(hooks=[metrics])
    metrics.attach(konstruct)
    stop = serve_metrics(metrics, "127.0.0.1", 9321)
    """

    def __init__(self, *, by_tenant: bool = False) -> None:
        """`by_tenant`: whether there are counters with the tenant as a label."""
        self.registry = registry = CollectorRegistry()
        self._labels = Labels()
        ProcessCollector(registry=registry)
        self._gauges = _GaugeCollector()
        registry.register(self._gauges)
        self._calls = Counter(
            "konstruct_calls",
            "Calls that ended with a row in the ledger. group is the one asked for; model is who answered.",
            ("group", "model", "outcome"),
            registry=registry,
        )
        self._call_s = Histogram(
            "konstruct_call_duration_seconds",
            "From a call's arrival to its end, waits included.",
            ("group",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._refused = Counter(
            "konstruct_refusals",
            "Requests that were turned away at the door, and have no row in the ledger, by the error's code.",
            ("code",),
            registry=registry,
        )
        self._tries = Counter(
            "konstruct_tries",
            "Tries of deployments. group is the one in whose name the deployment was tried.",
            ("group", "deployment", "model", "outcome"),
            registry=registry,
        )
        self._try_s = Histogram(
            "konstruct_try_duration_seconds",
            "From the wait for its turn at the deployment to the end of a try.",
            ("model",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._tokens = Counter(
            "konstruct_tokens",
            "Tokens that providers counted; kind is input, output, or cached, which is a part of input.",
            ("group", "model", "kind"),
            registry=registry,
        )
        self._call_tokens = Histogram(
            "konstruct_call_tokens",
            "Tokens of one call, all its tries together; kind is input or output.",
            ("kind",),
            buckets=_TOKENS,
            registry=registry,
        )
        self._cost = Counter(
            "konstruct_cost_usd", "US dollars, as far as they are known.", ("group", "model"), registry=registry
        )
        self._unknown_cost = Counter(
            "konstruct_calls_of_unknown_cost", "Calls whose cost is not known.", registry=registry
        )
        self._cooldowns = Counter(
            "konstruct_cooldowns",
            "How often a deployment began to cool down, or to do so for others too.",
            ("deployment", "group"),
            registry=registry,
        )
        self._by_tenant = _TenantMetrics(registry, self._labels) if by_tenant else None

    def attach(self, konstruct: Konstruct) -> None:
        """From now on show the gauges of this `Konstruct`, which runs on the event loop that runs now."""
        self._labels.attach(lambda: konstruct.config)
        self._gauges.attach(konstruct, asyncio.get_running_loop())

    def show(self, now: Gauges) -> None:
        """Show these gauges until the next look."""
        self._gauges.show(now)

    def __call__(self, event: Event) -> None:
        match event:
            case TryEnded():
                self._try_ended(event)
            case CallClosed():
                self._call_closed(event)
            case Refused():
                self._refused.labels(event.code).inc()
            case HealthChange():
                if event.state == "cooling_down":
                    label = self._labels.deployment(event.group, event.deployment)
                    self._cooldowns.labels(label, self._labels.group(event.group)).inc()
        if self._by_tenant is not None:
            self._by_tenant(event)

    def refused(self, code: str) -> None:
        """Count a request that was refused before it came to be a call."""
        self._refused.labels(code).inc()

    def _try_ended(self, event: TryEnded) -> None:
        group, model = self._labels.group(event.group), self._labels.model(event.group, event.model)
        deployment = self._labels.deployment(event.group, event.deployment)
        self._tries.labels(group, deployment, model, event.outcome).inc()
        self._try_s.labels(model).observe(event.duration_s)
        for kind, count in _kinds(event):
            if count:
                self._tokens.labels(group, model, kind).inc(count)
        if event.cost_nusd:
            self._cost.labels(group, model).inc(event.cost_nusd / NUSD)

    def _call_closed(self, event: CallClosed) -> None:
        group = self._labels.group(event.group_asked)
        self._calls.labels(group, self._labels.model(event.group_served, event.model), event.outcome).inc()
        self._call_s.labels(group).observe(event.duration_s)
        if event.input_tokens or event.output_tokens:
            self._call_tokens.labels("input").observe(event.input_tokens)
            self._call_tokens.labels("output").observe(event.output_tokens)
        if event.cost_nusd is None:
            self._unknown_cost.inc()


class _TenantMetrics:
    """Counters with the tenant as a label, and without groups and models: a thousand tenants times all those would be
    more than Prometheus likes. What a tenant spent on what is in the ledger."""

    def __init__(self, registry: CollectorRegistry, labels: Labels) -> None:
        self._labels = labels
        self._calls = Counter(
            "konstruct_tenant_calls", "Calls of a tenant that ended.", ("tenant", "outcome"), registry=registry
        )
        self._refused = Counter(
            "konstruct_tenant_refusals",
            "Calls of a tenant that were turned away.",
            ("tenant", "code"),
            registry=registry,
        )
        self._tokens = Counter(
            "konstruct_tenant_tokens", "Tokens on a tenant's account.", ("tenant", "kind"), registry=registry
        )
        self._cost = Counter(
            "konstruct_tenant_cost_usd", "US dollars on a tenant's account.", ("tenant",), registry=registry
        )

    def __call__(self, event: Event) -> None:
        if isinstance(event, CallClosed):
            tenant = self._labels.tenant(event.tenant)
            self._calls.labels(tenant, event.outcome).inc()
            for kind, count in _kinds(event):
                if count:
                    self._tokens.labels(tenant, kind).inc(count)
            if event.cost_nusd:
                self._cost.labels(tenant).inc(event.cost_nusd / NUSD)
        elif isinstance(event, Refused):
            self._refused.labels(self._labels.tenant(event.tenant), event.code).inc()


def _kinds(event: TryEnded | CallClosed) -> tuple[tuple[str, int], ...]:
    return ("input", event.input_tokens), ("output", event.output_tokens), ("cached", event.cached_tokens)


class _GaugeCollector(Collector):
    """The gauges, as they are when Prometheus asks."""

    def __init__(self) -> None:
        self._konstruct: Konstruct | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last: Gauges | None = None
        self._taken_at = time.monotonic()

    def attach(self, konstruct: Konstruct, loop: asyncio.AbstractEventLoop) -> None:
        self._konstruct, self._loop = konstruct, loop

    def show(self, now: Gauges) -> None:
        self._last, self._taken_at = now, time.monotonic()

    def collect(self) -> Iterator[Metric]:
        self._look()
        build = GaugeMetricFamily("konstruct_build_info", "Which version runs.", labels=("version", "python"))
        build.add_metric((version("konstruct-mcp"), platform.python_version()), 1)
        yield build
        age_s = time.monotonic() - self._taken_at
        yield _gauge("konstruct_gauges_age_seconds", "How old the gauges are.", age_s)
        if (now := self._last) is not None:
            yield _gauge("konstruct_calls_under_way", "Calls under way.", now.calls_under_way)
            yield _gauge("konstruct_calls_waiting", "Calls that wait for their turn.", now.calls_waiting)
            yield _gauge("konstruct_ledger_up", "1 while the database takes rows, else 0.", now.ledger_is_up)
            yield _gauge("konstruct_reservations_open", "Calls that hold a part of a budget.", now.open_reservations)
            if now.spool_rows is not None:
                yield _gauge(
                    "konstruct_spool_rows", "Calls that are not in the database yet, but in the spool.", now.spool_rows
                )
            if now.shared_state_is_up is not None:
                yield _gauge(
                    "konstruct_shared_state_up",
                    "1 while the Valkey server that servers share answers, else 0.",
                    now.shared_state_is_up,
                )
            yield from _of_deployments(now)

    def _look(self) -> None:
        """Take note of how things stand, if the event loop says so in time."""
        if self._konstruct is None or self._loop is None:
            return
        asked = self._konstruct.gauges()
        try:
            answer = asyncio.run_coroutine_threadsafe(asked, self._loop)
        except RuntimeError:  # the loop has ended
            asked.close()
            return
        try:
            now = answer.result(_PATIENCE_S)
        except (KonstructError, TimeoutError, concurrent.futures.CancelledError):
            answer.cancel()
        else:
            self.show(now)


def _of_deployments(now: Gauges) -> Iterator[Metric]:
    labels = ("deployment", "group", "model")
    ready = GaugeMetricFamily("konstruct_deployment_ready", "1 where it can be called now, else 0.", labels=labels)
    cooling = GaugeMetricFamily(
        "konstruct_deployment_cooling_down",
        "1 where it is passed over after failures or by a limit, else 0.",
        labels=labels,
    )
    for one in now.deployments:
        ready.add_metric((one.id, one.group, one.model), one.state == "ready")
        cooling.add_metric((one.id, one.group, one.model), one.state == "cooling_down")
    yield ready
    yield cooling


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=value)


class MetricsServer:
    """Answers scrapes, each in a thread, until the block ends.

    Attributes:
        url: what Prometheus asks.
    """

    def __init__(self, server: WSGIServer, thread: threading.Thread, host: str) -> None:
        self._server, self._thread = server, thread
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_PATIENCE_S)


def serve_metrics(metrics: Metrics, host: str, port: int) -> MetricsServer:
    """Answer scrapes of `http://host:port/metrics` from now on. Port 0 is one that is free.

    Raises:
        OSError: it cannot listen there.
    """
    server, thread = start_http_server(port, host, metrics.registry)
    return MetricsServer(server, thread, host)
