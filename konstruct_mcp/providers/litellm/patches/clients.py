"""Patches of how LiteLLM makes and keeps its HTTP clients."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from weakref import WeakSet

from konstruct_mcp.core.fairness import Step, turn
from konstruct_mcp.providers.litellm.provider_call import call_settings

_HTTP_CLIENT_KEYS = ("async_httpx_client", "httpx_client")  # the beginnings of LiteLLM's keys for bare HTTP clients


def send_once() -> None:
    """Have LiteLLM's HTTP clients send each request once, and fail where they would send it again.

    - Redirects are not followed: the operator has not sent the conversation and the key there. On the way to another
      origin httpx leaves out `authorization`, but neither Anthropic's `x-api-key` nor the body.
    - A connection that breaks is a failure: LiteLLM would ask Anthropic again at once, and one try would be paid twice.
    - No cookies are kept: one client asks for everybody who has a key at that provider.
    - Each client has its deployment's proxy and certificates.

    Wraps: `AsyncHTTPHandler.create_client`, `BaseOpenAILLM._get_async_http_client`, and the `send` of each client that
    they make.
    Noticed by: `test_faults.py`, redirects; `test_fault_matrix.py`, `reset` on Anthropic; `test_complete.py`, a cookie
    is not kept; `test_transport.py`.
    """
    import litellm
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler
    from litellm.llms.openai.common_utils import BaseOpenAILLM

    known: WeakSet[Any] = WeakSet()

    def once(make: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(make)
        def made(*args: Any, **kwargs: Any) -> Any:
            settings = call_settings.get()
            if settings is None or settings.transport is None:
                client = make(*args, **kwargs)
            else:
                client = _client_with(settings.transport, kwargs.get("timeout"))
            client.follow_redirects = False
            if client not in known:  # else it is one that somebody has set for all calls
                known.add(client)
                client.send = _sending_once(client.send)
                if client is not litellm.aclient_session:
                    _keep_no_cookies(client)
            return client

        return made

    AsyncHTTPHandler.create_client = once(AsyncHTTPHandler.create_client)  # type: ignore[method-assign]
    BaseOpenAILLM._get_async_http_client = staticmethod(  # type: ignore[method-assign]
        once(BaseOpenAILLM._get_async_http_client)
    )


def _sending_once(send: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    import httpx

    @functools.wraps(send)
    async def sent(*args: Any, **kwargs: Any) -> Any:
        try:
            response = await send(*args, **kwargs)
        except (httpx.RemoteProtocolError, httpx.ConnectError) as error:  # after these two LiteLLM sends again
            raise httpx.TransportError(str(error)) from error
        if response.is_closed:
            # Its own stream refers back to it: all that was read would wait for the garbage collector, which comes
            # after so many objects and not after so many megabytes.
            response.stream = httpx.ByteStream(response.content)
        if call_settings.get() is not None:
            # The turn to read the answer is waited for here, and not where the client of a deployment reads it: what
            # LiteLLM makes of the response, on its way there, is most of that work, and it gives nobody a turn between.
            with contextlib.suppress(asyncio.CancelledError):  # the response is here, and its cost is to be known
                await turn(Step.READ)
        return response

    return sent


def _client_with(transport: Any, timeout: Any) -> Any:
    """A client for a deployment whose config says how it is reached."""
    import httpx

    async def add_query(request: Any) -> None:  # a client's own `params` would take the place of what is there
        request.url = request.url.copy_merge_params(transport.query)

    client = httpx.AsyncClient(verify=transport.context(), proxy=transport.proxy, timeout=timeout)
    if transport.query:
        client.event_hooks["request"].append(add_query)
    return client


def _keep_no_cookies(client: Any) -> None:
    import aiohttp

    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
    transport = client._transport
    if make_session := getattr(transport, "_client_factory", None):  # aiohttp's, which keeps cookies of its own

        def session() -> Any:
            made = make_session()
            made._cookie_jar = aiohttp.DummyCookieJar()
            return made

        transport.client = transport._client_factory = session


def leave_idle_connections_alone() -> None:
    """Have no time run out on a connection that aiohttp keeps for the next request.

    Where an answer is so long that its reading pauses, aiohttp counts anew how long the provider says nothing when the
    rest is taken, although the answer is complete and the connection idle. Once that time is up, the next request on
    the connection fails at once, as if the provider had been silent for all of it.

    Wraps: `ResponseHandler.resume_reading` of aiohttp.
    Noticed by: `test_transport.py`, idle connections after long answers.
    """
    from aiohttp.client_proto import ResponseHandler

    resume = ResponseHandler.resume_reading

    @functools.wraps(resume)
    def resumed(self: Any, *args: Any, **kwargs: Any) -> None:
        resume(self, *args, **kwargs)
        if self._payload is not None and self._payload.is_eof():
            self._drop_timeout()

    ResponseHandler.resume_reading = resumed  # type: ignore[method-assign]


def keep_token_clients_to_the_address() -> None:
    """Follow no redirects and keep no cookies in the blocking clients, which fetch tokens.

    Wraps: `HTTPHandler.__init__`; `litellm.module_level_client` is one that was made before.
    Noticed by: `test_isolation.py`, what fetches a token.
    """
    import litellm
    from litellm.llms.custom_httpx.http_handler import HTTPHandler

    def restrict(handler: Any) -> None:
        handler.client.follow_redirects = False
        _keep_no_cookies(handler.client)

    loose: Any = HTTPHandler
    make = loose.__init__

    @functools.wraps(make)
    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        restrict(self)

    loose.__init__ = made
    if (made_before := vars(litellm).get("module_level_client")) is not None:
        restrict(made_before)


def separate_clients() -> None:
    """Keep a client for each transport; and for each account, where it is more than a client of HTTP: OpenAI's and
    Google's hold credentials.

    Wraps: `LLMClientCache.update_cache_key_with_event_loop`, which makes the key of a client.
    Noticed by: `test_transport.py`, `test_isolation.py`.
    """
    from litellm.caching.llm_caching_handler import LLMClientCache

    loose: Any = LLMClientCache
    key_of = loose.update_cache_key_with_event_loop

    @functools.wraps(key_of)
    def separated(self: Any, key: Any) -> Any:
        settings = call_settings.get()
        found = key_of(self, key)
        if settings is None:
            return found
        if settings.transport is not None:
            found = f"{found}-{hash(settings.transport)}"
        return found if str(key).startswith(_HTTP_CLIENT_KEYS) else f"{found}-{settings.account}"

    loose.update_cache_key_with_event_loop = separated
