"""Traces and metrics for OpenTelemetry, sent as OTLP over HTTP, where the standard `OTEL_*` variables ask for it.

- MCP's SDK makes a span of each message. It goes on with the trace that `_meta.traceparent` names, else with that of
  the request's header.
- Each try of a deployment is a span of its own within it, `chat MODEL`, of the kind `client`.
- Names of attributes and metrics are those of the GenAI and MCP conventions. No prompt, no answer and no key is sent.

A try is told when it has ended, in the task that made it: its span is given both its times, and its parent is the
current span.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Any, TypeVar

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode

from konstruct_mcp.core.events import Event, TryEnded
from konstruct_mcp.core.money import NUSD
from konstruct_mcp.gateway.konstruct import Konstruct
from konstruct_mcp.telemetry.labels import Labels

_NAME = "konstruct-mcp"
# The boundaries that the conventions advise.
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_MESSAGE_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
# LiteLLM's providers whose names the conventions have in another form.
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
_METHODS = frozenset(
    (
        *("initialize", "ping", "server/discover", "tools/list", "tools/call", "resources/list", "resources/read"),
        *("resources/templates/list", "completion/complete", "subscriptions/listen"),
        *("notifications/initialized", "notifications/cancelled"),
    )
)
_TOOLS = frozenset(("complete", "list_groups"))

_SHOWS_HEADERS = "opentelemetry.util.re"  # the logger of what reads `…_HEADERS`, which hold the collector's key
_Result = TypeVar("_Result")


class OpenTelemetry:
    """A hook of a `Konstruct`, and a middleware of its MCP server. Sends in threads of its own, until `close`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Begin to send what the variables ask for. The SDK reads their details from the process's environment."""
        self._labels = Labels()
        logging.getLogger(_SHOWS_HEADERS).addFilter(_without_values)
        named = environ.get("OTEL_SERVICE_NAME") or _NAME
        resource = Resource.create({"service.name": named, "service.version": version(_NAME)})
        self._traces: TracerProvider | None = None
        self._metrics: MeterProvider | None = None
        # Neither is closed by the interpreter's exit, which would wait for a collector that is gone.
        if _is_asked_for("TRACES", environ):
            self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
            self._traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
            trace.set_tracer_provider(self._traces)  # of MCP's SDK too
        if _is_asked_for("METRICS", environ):
            reader = PeriodicExportingMetricReader(OTLPMetricExporter())
            self._metrics = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._tracer = None if self._traces is None else self._traces.get_tracer(_NAME, version(_NAME))
        meter = (self._metrics or metrics.NoOpMeterProvider()).get_meter(_NAME, version(_NAME))
        self._try_s = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "Duration of a try of a deployment.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Tokens that a try has used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._message_s = meter.create_histogram(
            "mcp.server.operation.duration",
            "s",
            "From the arrival of an MCP message to its answer.",
            explicit_bucket_boundaries_advisory=_MESSAGE_SECONDS,
        )

    def attach(self, konstruct: Konstruct) -> None:
        """From now on the config of this `Konstruct` says which models' names are the operator's own."""
        self._labels.attach(lambda: konstruct.config)

    def __call__(self, event: Event) -> None:
        if isinstance(event, TryEnded):
            if self._tracer is not None:
                self._span(event)
            if self._metrics is not None:
                self._measure(event)

    def _span(self, event: TryEnded) -> None:
        assert self._tracer is not None  # noqa: S101  its caller has looked
        provider, _, model = event.model.partition("/")
        ended_ns = time.time_ns()
        attributes: dict[str, str | int | float] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _PROVIDERS.get(provider, provider),
            "gen_ai.request.model": model,
            "konstruct.group": event.group,
            "konstruct.group_asked": event.group_asked,
            "konstruct.deployment": event.deployment,
            "konstruct.tenant": event.tenant,
        }
        if event.outcome == "ok":
            attributes["gen_ai.usage.input_tokens"] = event.input_tokens
            attributes["gen_ai.usage.output_tokens"] = event.output_tokens
            attributes["gen_ai.usage.cache_read.input_tokens"] = event.cached_tokens
        else:
            attributes["error.type"] = event.outcome
        if event.cost_nusd is not None:
            attributes["konstruct.cost_usd"] = event.cost_nusd / NUSD
        began_ns = ended_ns - round(event.duration_s * 1e9)
        span = self._tracer.start_span(
            f"chat {model}", kind=SpanKind.CLIENT, attributes=attributes, start_time=began_ns
        )
        if event.outcome != "ok":
            span.set_status(Status(StatusCode.ERROR, event.outcome))
        span.end(ended_ns)

    def _measure(self, event: TryEnded) -> None:
        shown = self._labels.model(event.group, event.model)
        provider, _, model = shown.partition("/")
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _PROVIDERS.get(provider, provider),
            "gen_ai.request.model": model or shown,
        }
        failed = {} if event.outcome == "ok" else {"error.type": event.outcome}
        self._try_s.record(event.duration_s, attributes | failed)
        for kind, count in (("input", event.input_tokens), ("output", event.output_tokens)):
            if count:
                self._tokens.record(count, attributes | {"gen_ai.token.type": kind})

    async def middleware(self, ctx: Any, call_next: Callable[[Any], Awaitable[_Result]]) -> _Result:
        """Around every MCP message: how long it takes."""
        if self._metrics is None:
            return await call_next(ctx)
        began, failed = time.monotonic(), "cancelled"
        try:
            result = await call_next(ctx)
            failed = "tool_error" if getattr(result, "is_error", False) else ""
            return result
        except Exception as error:
            failed = str(getattr(getattr(error, "error", None), "code", type(error).__qualname__))
            raise
        finally:
            self._message_s.record(time.monotonic() - began, _message(ctx, failed))

    def close(self, within_s: float) -> None:
        """Send what is left, if that takes no longer; from now on nothing is sent. Safe to call twice."""
        providers = [provider for provider in (self._traces, self._metrics) if provider is not None]
        closing = [threading.Thread(target=provider.shutdown, daemon=True) for provider in providers]
        for thread in closing:
            thread.start()
        until = time.monotonic() + within_s
        for thread in closing:
            thread.join(max(0.0, until - time.monotonic()))
        self._traces = self._metrics = self._tracer = None


def _without_values(record: logging.LogRecord) -> bool:
    """A filter of a logger: a line about what cannot be read does not show it."""
    record.args = tuple("…" for _ in record.args or ())
    return True


def _message(ctx: Any, failed: str) -> dict[str, str]:
    """The attributes of a message's duration. What a client can make up is not among them."""
    attributes = {"mcp.method.name": ctx.method if ctx.method in _METHODS else "_OTHER"}
    tool = ctx.params.get("name") if ctx.method == "tools/call" and ctx.params else None
    if tool in _TOOLS:
        attributes |= {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool}
    return attributes | ({"error.type": failed} if failed else {})


def _is_asked_for(signal: str, environ: Mapping[str, str]) -> bool:
    """Whether a signal, `TRACES` or `METRICS`, is to be sent: a collector is named, and it is not switched off."""
    exporter = environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower()
    places = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return exporter == "otlp" or (exporter == "" and any(environ.get(place, "").strip() for place in places))
