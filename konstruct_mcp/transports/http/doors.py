"""What is checked of each request before MCP sees it, as ASGI wrappers, and the name of a session.

- `Host` and `Origin`, against web pages that reach a server through a visitor's browser (DNS rebinding);
- the size of headers;
- the size of a body, and the time for it to come; of a caller who is refused nothing is kept;
- methods: no session is kept, so there is no stream to `GET` and nothing to `DELETE`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from fnmatch import fnmatch
from ipaddress import ip_address
from urllib.parse import urlsplit

from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from konstruct_mcp.config.http import HttpSettings
from konstruct_mcp.core.audit import refusals
from konstruct_mcp.protocol.clients import SESSION, session_name

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_ALLOW = {"allow": "POST, OPTIONS"}
_VERSION = "mcp-protocol-version"


def address_of(scope: Scope) -> str | None:
    """From which address a request came; None where that is not known. What a proxy has passed on may be any text."""
    try:
        return str(ip_address(scope["client"][0]))
    except (KeyError, TypeError, ValueError):
        return None


def guarded(app: ASGIApp, hosts: Collection[str] | None, origins: Collection[str]) -> ASGIApp:
    """The app for requests to these hosts, from no web page but those of these origins.

    Args:
        hosts: patterns of the header `Host` without its port; None for any.
        origins: values of the header `Origin`, `*` for any. A request without one comes from no web page, and the
            server's own pages may always ask.
    """

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host, origin = _host_of(headers.get("host", "")), headers.get("origin")
            # Brackets, as an IPv6 address has them, are a set of characters in a pattern.
            if hosts is not None and not any(host == p or fnmatch(host, p.lower()) for p in hosts):
                refusals.refused("foreign_host", client=address_of(scope))
                await PlainTextResponse("this server has another name\n", 421)(scope, receive, send)
                return
            is_foreign = origin is not None and origin.partition("://")[2] != headers.get("host")
            if is_foreign and not any(origin == p or fnmatch(origin or "", p) for p in origins):
                refusals.refused("foreign_origin", client=address_of(scope))
                await PlainTextResponse("web pages of this origin may not ask here\n", 403)(scope, receive, send)
                return
        await app(scope, receive, send)

    return guard


def trimmed(app: ASGIApp) -> ASGIApp:
    """The app with no blanks around the values of headers, which are no part of them (RFC 9110); httptools leaves some
    behind a value."""

    async def trim(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [(name, value.strip(b" \t")) for name, value in scope["headers"]]}
        await app(scope, receive, send)

    return trim


def short_headed(app: ASGIApp, most_bytes: int) -> ASGIApp:
    """The app for requests whose first line and headers have at most so many bytes. A longer head that comes in one
    piece has been read before anybody can count it."""

    async def measure(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            lines = (len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
            if len(scope.get("raw_path", b"")) + len(scope["query_string"]) + sum(lines) > most_bytes:
                refusal = f"a request's headers may have {most_bytes} bytes here\n"
                await PlainTextResponse(refusal, 431, {"connection": "close"})(scope, receive, send)
                return
        await app(scope, receive, send)

    return measure


def hosts_of(settings: HttpSettings) -> Collection[str] | None:
    """Which hosts a server is asked as; None for any. What others reach may have names that it does not know, and its
    callers are verified."""
    public = [] if settings.public_url is None else [_host_of(urlsplit(settings.public_url).netloc)]
    if not (settings.is_loopback or public or settings.allowed_hosts):
        return None
    return [*_LOOPBACK, _host_of(settings.address), *public, *settings.allowed_hosts]


def origins_of(settings: HttpSettings) -> Collection[str]:
    """Of which origins web pages may ask. What only this machine reaches may be asked by pages of its own servers."""
    local = [f"http://{host}" for host in ("127.0.0.1", "localhost", "[[]::1]")] if settings.is_loopback else []
    public = [] if settings.public_url is None else ["://".join(urlsplit(settings.public_url)[:2])]
    return [*(f"{origin}{port}" for origin in local for port in ("", ":*")), *public, *settings.allowed_origins]


def bounded(app: ASGIApp, most_bytes: int, within_s: float) -> ASGIApp:
    """The app with bodies of at most so many bytes, that come within so many seconds."""

    async def bound(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdigit() or int(length) > most_bytes:
            await _too_large(most_bytes)(scope, receive, send)
            return
        body, message = bytearray(), None
        try:
            async with asyncio.timeout(within_s):
                while message is None or message.get("more_body", False):
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    body += message.get("body", b"")
                    if len(body) > most_bytes:
                        await _too_large(most_bytes)(scope, receive, send)
                        return
        except TimeoutError:
            late = PlainTextResponse("the request did not come in time\n", 408, {"connection": "close"})
            await late(scope, receive, send)
            return
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def taking() -> Message:
            return whole.pop() if whole else await receive()

        await app(scope, taking, send)

    return bound


def read(app: ASGIApp, most_bytes: int, within_s: float) -> ASGIApp:
    """The app, which may answer without a look at the body: what it leaves of it is read and thrown away before the
    answer goes out, up to so many bytes and seconds. A client that is still sending would see a broken connection, and
    not the 401 by which it learns that it has to log in."""

    async def throw_away(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        is_read = "expect" in Headers(scope=scope)  # a client that asks first sends nothing once it has its answer

        async def taking() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = message["type"] == "http.disconnect" or not message.get("more_body", False)
            return message

        async def answering(message: Message) -> None:
            nonlocal is_read
            size = 0
            if not is_read and message.get("status") != 408:  # which was waited for already
                with suppress(TimeoutError):
                    async with asyncio.timeout(within_s):
                        while not is_read and size <= most_bytes:
                            size += len((await taking()).get("body", b""))
                is_read = True
            await send(message)

        await app(scope, taking, answering)

    return throw_away


def sessionless(app: ASGIApp) -> ASGIApp:
    """The MCP app without sessions, for requests that need none."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":  # of a page that may not ask, or of nobody's page
            await Response(status_code=204, headers=_ALLOW)(scope, receive, send)
            return
        if scope["method"] != "POST":
            refusal = "there are no sessions and no streams of their own here; POST each message\n"
            await PlainTextResponse(refusal, 405, _ALLOW)(scope, receive, send)
            return
        await app(scope, receive, send)

    return serve


def naming_sessions(app: ASGIApp) -> ASGIApp:
    """The app for whole bodies, which gives each session a name, so that a client can say which of its requests it
    cancels, and its other requests say which client they come from."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        version = headers.get(_VERSION)
        if SESSION in headers or (version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS):
            await app(scope, receive, send)
            return
        body = b""

        async def taking() -> Message:
            nonlocal body
            message = await receive()
            body = body or message.get("body", b"")
            return message

        async def naming(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                MutableHeaders(scope=message)[SESSION] = session_name(body)
            await send(message)

        await app(scope, taking, naming)

    return serve


def _too_large(most_bytes: int) -> PlainTextResponse:
    return PlainTextResponse(f"a request may have {most_bytes} bytes here\n", 413, {"connection": "close"})


def _host_of(header: str) -> str:
    """The host in a header `Host`, without its port."""
    if header.startswith("["):
        return header.partition("]")[0].lower() + "]"
    return header.partition(":")[0].lower()
