"""What of a running server is watched: OpenTelemetry where the standard variables ask for it; and over HTTP the metrics
for Prometheus, and the audit log. What is not asked for is not imported.

None of it can keep a server from serving: what cannot be had is said in the log.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from konstruct_mcp.config.metrics import MetricsSettings
from konstruct_mcp.config.packages import installed
from konstruct_mcp.core.audit import refusals
from konstruct_mcp.core.errors import install_advice
from konstruct_mcp.gateway.konstruct import Konstruct
from konstruct_mcp.protocol.server import KonstructServer

_log = logging.getLogger(__name__)


@contextmanager
def traced(konstruct: Konstruct, server: KonstructServer, *, last_s: float) -> Iterator[Callable[[], None]]:
    """Send traces and metrics while the block runs, where `OTEL_*` variables name a collector. Gives what sends the
    rest, which the end of the block does too: it takes `last_s` seconds at most."""
    if not _is_collector_named(os.environ):
        yield lambda: None
        return
    if not (installed("opentelemetry.sdk") and installed("opentelemetry.exporter.otlp.proto.http")):
        _log.warning("OTEL_* variables name a collector, which needs the extra `otel`: %s", install_advice("otel"))
        yield lambda: None
        return
    from konstruct_mcp.telemetry.otlp import OpenTelemetry

    sending = OpenTelemetry(os.environ)
    sending.attach(konstruct)
    konstruct.add_hook(sending)
    server.middleware.insert(1, sending.middleware)  # within the SDK's own, which makes the span of a message

    def close() -> None:
        sending.close(last_s)

    try:
        yield close
    finally:
        close()


def _is_collector_named(environ: Mapping[str, str]) -> bool:
    """Whether anything may have to be sent. Looks at names alone, so that nothing is imported for it."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    names = ("OTEL_EXPORTER_OTLP_", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER")
    return any(name.startswith(names) for name in environ)


@contextmanager
def audited(konstruct: Konstruct) -> Iterator[None]:
    """Write into the audit log who is refused."""
    konstruct.add_hook(refusals)
    try:
        yield
    finally:
        refusals.flush()


@contextmanager
def measured(konstruct: Konstruct, settings: MetricsSettings) -> Iterator[None]:
    """Offer metrics to Prometheus while the block runs, on whose event loop the `Konstruct` is."""
    if (address := settings.address) is None:
        yield
        return
    if not installed("prometheus_client"):
        _log.error("there are no metrics: they need the extra `http`: %s", install_advice("http"))
        yield
        return
    from konstruct_mcp.telemetry.metrics import Metrics, serve_metrics

    metrics = Metrics(by_tenant=settings.by_tenant)
    metrics.attach(konstruct)
    konstruct.add_hook(metrics)
    with contextlib.ExitStack() as ends:
        ends.callback(refusals.watch(metrics.refused))
        try:
            ends.enter_context(server := serve_metrics(metrics, *address))
        except OSError as error:
            _log.error(
                "there are no metrics: cannot listen on %s (konstruct.metrics.listen): %s",
                settings.listen,
                error.strerror or error,
            )
        else:
            _log.info("metrics at %s", server.url)
        yield
