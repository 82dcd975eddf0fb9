"""Patches that take note of what leaves the process, and keep foreign credentials out of it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Coroutine
from typing import Any

from konstruct_mcp.providers.litellm.patches.wrapping import skip_for_ours
from konstruct_mcp.providers.litellm.provider_call import provider_call
from konstruct_mcp.routing.outcomes import FaultError


def note_requests() -> None:
    """Note for each call of ours whether a request has left the process, its last response, and whether it still waits
    for a connection: LiteLLM raises the same errors for what a provider has refused and for what was never sent.

    - A request that is larger than what a budget has reserved for is not sent.
    - A request for a token counts as one where it goes through these clients: in doubt, something has left.
    - Google's library for its oldest models is not seen here.

    Wraps: `httpx.Client.send`, `httpx.AsyncClient.send` (LiteLLM's own clients and OpenAI's are httpx's underneath),
    `aiohttp.ClientSession._request`, `aiohttp.BaseConnector.connect` (one of LiteLLM's clients is aiohttp's).
    Noticed by: `test_budgets.py`, nothing is held of what never left; `test_quotes.py`, what became larger.
    """
    import aiohttp
    import httpx

    clients: list[Any] = [httpx.Client, httpx.AsyncClient, aiohttp.ClientSession, aiohttp.BaseConnector]
    sync, on_loop, session, connector = clients
    sync.send, on_loop.send = _noting(sync.send), _noting_async(on_loop.send)
    session._request = _noting_aiohttps(session._request)
    connector.connect = _noting_connections(connector.connect)


def _noting(send: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(send)
    def sent(*args: Any, **kwargs: Any) -> Any:
        if (call := provider_call.get()) is None:
            return send(*args, **kwargs)
        call.leave(_body_of(*args, **kwargs))
        call.answer = response = send(*args, **kwargs)
        return response

    return sent


def _noting_async(send: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    @functools.wraps(send)
    async def sent(*args: Any, **kwargs: Any) -> Any:
        if (call := provider_call.get()) is None:
            return await send(*args, **kwargs)
        call.leave(_body_of(*args, **kwargs))
        call.answer = response = await send(*args, **kwargs)
        return response

    return sent


def _noting_aiohttps(send: Callable[..., Any]) -> Callable[..., Any]:
    import httpx

    @functools.wraps(send)
    def sent(session: Any, *args: Any, **kwargs: Any) -> Any:
        if (call := provider_call.get()) is not None:
            data, value = kwargs.get("data"), kwargs.get("json")
            body = data if value is None else json.dumps(value)
            if isinstance(kwargs.get("headers"), httpx.Headers):
                body = None  # it comes from httpx, where it was looked at
            call.leave(body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else b"")
            call.waits = True
            session._trust_env = False  # LiteLLM names the proxy itself; beside that it is a `.netrc` that is read
        return send(session, *args, **kwargs)

    return sent


def _noting_connections(
    connect: Callable[..., Coroutine[Any, Any, Any]],
) -> Callable[..., Coroutine[Any, Any, Any]]:
    @functools.wraps(connect)
    async def connected(*args: Any, **kwargs: Any) -> Any:
        connection = await connect(*args, **kwargs)
        if (call := provider_call.get()) is not None:
            call.waits = False
            try:
                call.check_wanted()
            except FaultError:
                connection.close()
                raise
        return connection

    return connected


def _body_of(_: Any, request: Any, **__: Any) -> bytes:
    """The body that a client of httpx's is about to send; empty for a form, which only asks for a token."""
    import httpx

    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return b""
    try:
        return bytes(request.content)
    except httpx.RequestNotRead:
        return b""


def read_no_netrc() -> None:
    """Take no credentials for our calls from a `.netrc`, which is for other programs.

    `requests`, which fetches Google's and Azure's tokens, does so for each server that the file names.

    Wraps: `netrc.netrc.authenticators`.
    Noticed by: `test_transport.py`, no password is looked up.
    """
    from netrc import netrc

    loose: Any = netrc
    loose.authenticators = skip_for_ours(loose.authenticators)
