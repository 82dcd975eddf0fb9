"""The trace that a piece of work is part of. Needs OpenTelemetry's API alone, which comes with MCP's SDK."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

_HEADERS = (b"traceparent", b"tracestate")
_W3C = TraceContextTextMapPropagator()


def current_trace() -> tuple[str, str] | None:
    """The ids of the current trace and span, in hexadecimal; None where there is none."""
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return None
    return trace.format_trace_id(span.trace_id), trace.format_span_id(span.span_id)


class TraceContext:
    """An ASGI layer: what a request leads to is part of the trace that its header `traceparent` names. Without one it
    is part of none: a request that was sent behind another begins in the context of that one. A `traceparent` in the
    `_meta` of a message counts before the header, which MCP's SDK sees to."""

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope.get("headers") or ()
            if name in _HEADERS
        }
        token = context.attach(_W3C.extract(headers))
        try:
            await self._app(scope, receive, send)
        finally:
            context.detach(token)
