"""A collector of OpenTelemetry on loopback: takes OTLP over HTTP, and gives what it was sent."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.processes import WAIT_S


@dataclass(frozen=True)
class Span:
    """A span as it was sent; ids in hexadecimal, and times in seconds."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    began_s: float
    ended_s: float
    attributes: dict[str, Any]
    status: int


@dataclass(frozen=True)
class Point:
    """What was sent of a histogram for one set of attributes."""

    name: str
    unit: str
    count: int
    sum: float
    attributes: dict[str, Any]


class Collector:
    """Listens until the block ends. `sent` is all that it was sent, as bytes."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.points: list[Point] = []
        self.resources: list[dict[str, Any]] = []
        self.sent = b""
        self._changed = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.take(self.path, gzip.decompress(body) if "content-encoding" in self.headers else body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def environ(self) -> dict[str, str]:
        """The variables with which a server sends here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "NO_PROXY": "127.0.0.1",
        }

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until what was sent is as it should be."""
        with self._changed:
            assert self._changed.wait_for(holds, WAIT_S), (self.spans, self.points)

    def take(self, path: str, body: bytes) -> None:
        with self._changed:
            self.sent += body
            if path == "/v1/traces":
                self._take_spans(body)
            elif path == "/v1/metrics":
                self._take_points(body)
            self._changed.notify_all()

    def _take_spans(self, body: bytes) -> None:
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(_plain(of_resource.resource.attributes))
            for scope in of_resource.scope_spans:
                self.spans += [
                    Span(
                        *(span.name, span.kind, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()),
                        *(span.start_time_unix_nano / 1e9, span.end_time_unix_nano / 1e9),
                        *(_plain(span.attributes), span.status.code),
                    )
                    for span in scope.spans
                ]

    def _take_points(self, body: bytes) -> None:
        for of_resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            self.resources.append(_plain(of_resource.resource.attributes))
            for scope in of_resource.scope_metrics:
                self.points += [
                    Point(metric.name, metric.unit, point.count, point.sum, _plain(point.attributes))
                    for metric in scope.metrics
                    for point in metric.histogram.data_points
                ]


def _plain(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
