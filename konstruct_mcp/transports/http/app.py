"""What answers a request over HTTP: probes, then the checks of `doors`, authentication, and MCP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import translate

from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from konstruct_mcp.config.http import HttpSettings
from konstruct_mcp.protocol.server import KonstructServer
from konstruct_mcp.telemetry.context import TraceContext
from konstruct_mcp.transports.http.doors import (
    bounded,
    guarded,
    hosts_of,
    naming_sessions,
    origins_of,
    read,
    sessionless,
    short_headed,
    trimmed,
)
from konstruct_mcp.transports.http.probes import Probes

_REQUEST_HEADERS = (
    *("accept", "authorization", "content-type", "last-event-id", "traceparent", "tracestate"),
    *("mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name"),
)
_MOST_FORM_BYTES = 100_000  # of a request to anything but the endpoint: a form at most
_RESPONSE_HEADERS = ("mcp-session-id", "mcp-protocol-version", "www-authenticate", "retry-after")


def http_app(
    server: KonstructServer,
    settings: HttpSettings,
    probes: Probes,
    *,
    verified: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    routes: Sequence[BaseRoute] = (),
) -> ASGIApp:
    """The whole ASGI app.

    Args:
        verified: wraps what only verified callers may reach.
        routes: further ones, which see to their own callers.
    """
    mcp = server.streamable_http_app(
        streamable_http_path=settings.path,
        stateless_http=True,
        max_request_body_size=settings.max_body_bytes,
        # `doors.guarded` stands in front of all routes.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    endpoint = next(route for route in mcp.routes if isinstance(route, Route) and route.path == settings.path)
    # Behind the callers' check, so that nobody's body is held in memory before it is known whose it is.
    named = naming_sessions(endpoint.app)
    inner = verified(sessionless(bounded(named, settings.max_body_bytes, settings.body_timeout_s)))
    app: ASGIApp = Starlette(
        routes=[
            Route(settings.path, TraceContext(inner), methods=None),
            Mount("/", bounded(Starlette(routes=routes), _MOST_FORM_BYTES, settings.body_timeout_s)),
        ]
    )
    app = read(app, settings.max_body_bytes, settings.body_timeout_s)
    origins = origins_of(settings)
    app = guarded(app, hosts_of(settings), origins)
    if origins:
        app = CORSMiddleware(
            app,
            allow_origins=("*",) if "*" in origins else (),
            allow_origin_regex="|".join(translate(pattern) for pattern in origins),
            allow_methods=("POST", "GET", "OPTIONS"),  # a page reads by GET where to log in
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_RESPONSE_HEADERS,
        )
    # In front of the checks: a probe names the server by an address, and shows nothing of anybody.
    outer = Starlette(routes=[*probes.routes(), Mount("/", short_headed(trimmed(app), settings.max_header_bytes))])
    outer.router.lifespan_context = mcp.router.lifespan_context
    return outer
