"""Patches that bound what is read of HTTP responses."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any

from konstruct_mcp.providers.litellm.pools import Connections
from konstruct_mcp.providers.litellm.provider_call import call_settings, provider_call
from konstruct_mcp.providers.litellm.response_limits import ENCODINGS, Intake

_MAX_TOKEN_RESPONSE_BYTES = 2**20  # of what a token comes in, which is a few thousand


def bound_responses() -> None:
    """Read no more of a response to us than `response_limits` lets pass, in steps between which the event loop goes on.

    httpx reads everything that comes and unpacks each piece at once, however large it becomes. The stream of each
    response is replaced by a bounded one; LiteLLM's aiohttp client delivers such streams too. Redirects are not
    followed, and no more connections are opened at once than the process may have files.

    Wraps: `httpx.Client.send`, `httpx.AsyncClient.send`.
    Noticed by: `test_response_limits.py`.
    """
    import httpx

    clients: list[Any] = [httpx.Client, httpx.AsyncClient]
    sync, on_loop = clients
    sync.send, on_loop.send = _bounding(sync.send), _bounding_async(on_loop.send)


def _bounding(send: Callable[..., Any]) -> Callable[..., Any]:
    from konstruct_mcp.providers.litellm.patches.streams import BoundedSyncStream

    @functools.wraps(send)
    def sent(self: Any, request: Any, *, stream: bool = False, **kwargs: Any) -> Any:
        if call_settings.get() is None:
            return send(self, request, stream=stream, **kwargs)
        request.headers["accept-encoding"] = ENCODINGS
        # The operator has not sent the request to where a redirect points; and all of that answer would be read.
        response = send(self, request, stream=True, **kwargs | {"follow_redirects": False})
        try:
            _bound(response, BoundedSyncStream, is_stream=stream)
            if not stream:
                response.read()
        except BaseException:
            response.close()
            raise
        return response

    return sent


def _bounding_async(send: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    from konstruct_mcp.providers.litellm.patches.streams import BoundedStream

    @functools.wraps(send)
    async def sent(self: Any, request: Any, *, stream: bool = False, **kwargs: Any) -> Any:
        if call_settings.get() is None:
            return await send(self, request, stream=stream, **kwargs)
        request.headers["accept-encoding"] = ENCODINGS
        give_back = await Connections.here().take(self)
        try:
            response = await send(self, request, stream=True, **kwargs | {"follow_redirects": False})
            try:
                _bound(response, functools.partial(BoundedStream, give_back=give_back), is_stream=stream)
                if not stream:
                    await response.aread()
            except BaseException:
                await response.aclose()
                raise
        except BaseException:
            give_back()
            raise
        return response

    return sent


def _bound(response: Any, stream: Callable[[Any, Intake], Any], *, is_stream: bool) -> None:
    """Put a bounded stream in the place of a response's own."""
    call = provider_call.get()
    packed = response.headers.get("content-encoding")
    response.stream = stream(
        response.stream,
        Intake(
            _MAX_TOKEN_RESPONSE_BYTES if call is None else call.max_response_bytes,
            packed or "",
            is_error=not response.is_success,
            is_stream=is_stream and response.is_success,
        ),
    )
    if packed is not None:
        del response.headers["content-encoding"]  # it is unpacked by then
    response.encoding = "utf-8"  # what JSON is in; some of the others that Python knows take hours to read


def bound_google_tokens() -> None:
    """Bound what Google's library reads when it fetches a token.

    Only then, since nobody else here needs `requests`, which it uses.

    Wraps: `VertexBase.refresh_auth`.
    Noticed by: `test_response_limits.py`.
    """
    from litellm.llms.vertex_ai.vertex_llm_base import VertexBase

    loose: Any = VertexBase
    refresh = loose.refresh_auth

    @functools.wraps(refresh)
    def refreshed(*args: Any, **kwargs: Any) -> Any:
        bound_token_responses()
        return refresh(*args, **kwargs)

    loose.refresh_auth = refreshed


@functools.cache
def bound_token_responses() -> None:
    """Bound what the libraries of Google and Microsoft read, which fetch tokens with `requests`.

    Wraps: `requests.adapters.HTTPAdapter.send`, through which each response comes, redirects included.
    Noticed by: `test_response_limits.py`.
    """
    from requests.adapters import HTTPAdapter

    loose: Any = HTTPAdapter
    send = loose.send

    @functools.wraps(send)
    def sent(self: Any, request: Any, stream: bool = False, *args: Any, **kwargs: Any) -> Any:
        if call_settings.get() is None:
            return send(self, request, stream, *args, **kwargs)
        response = send(self, request, True, *args, **kwargs)
        packed = response.headers.get("content-encoding", "")
        intake = Intake(_MAX_TOKEN_RESPONSE_BYTES, packed, is_error=not response.ok)
        with response:
            coming = response.raw.stream(2**16, decode_content=False)
            response._content, response._content_consumed = b"".join(intake.all_of(coming)), True
        return response

    loose.send = sent
