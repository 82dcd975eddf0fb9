"""What LiteLLM is spared: what it does of a call beside asking the provider, and nobody here needs.

It has no settings for these, so that functions of it are wrapped, once for a process. They do as ever for whoever else
uses LiteLLM in it, since a context variable says which calls are ours; but its HTTP clients are shared by all.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from importlib.machinery import ModuleSpec
from types import CoroutineType, ModuleType, SimpleNamespace
from typing import Any, Literal
from weakref import WeakSet

from konstruct_mcp.config.access import installed
from konstruct_mcp.config.model import Deployment, is_price
from konstruct_mcp.config.models import entry
from konstruct_mcp.core.fairness import Step, turn
from konstruct_mcp.core.schemas import set_apart
from konstruct_mcp.providers.litellm.formats.openai_responses import correct_tools, input_items
from konstruct_mcp.providers.litellm.intake import ENCODINGS, Intake
from konstruct_mcp.providers.litellm.pools import Connections
from konstruct_mcp.providers.litellm.profiles.profile import SHAPED
from konstruct_mcp.providers.litellm.transport import TRANSPORT, Transport
from konstruct_mcp.routing.outcomes import Fault, FaultError, FaultKind

# These, Anthropic and Ollama count the tokens of their answers, and LiteLLM fetches nothing for a request to them.
_OPENAI = ("openai", "embedded")
# All that may be set of a deployment that is asked without OpenAI's client. What only that client knows (extra_headers,
# organization) is not among them.
_WITHOUT_CLIENT = {
    *("model", "api_key", "api_base", "seed", "stop", "user", *SHAPED, *TRANSPORT),
}
# Coroutines of LiteLLM that write down how a call went; none waits for one of them.
_LOGS = (
    *("async_service_success_hook", "async_service_failure_hook"),
    *("_client_async_logging_helper", "send_llm_exception_alert"),
)
_OF_ENTRA = (
    *("tenant_id", "client_id", "client_secret", "azure_username", "azure_password", "azure_scope", "azure_ad_token"),
)
_MOST_LOGINS = 256  # that are kept
_HTTP_CLIENTS = ("async_httpx_client", "httpx_client")  # begin the keys by which LiteLLM keeps those
_PIECES_AT_ONCE = 64  # of an answer that are taken in
_MOST_OF_A_LOGIN = 2**20  # bytes of what a token comes in, which are a few thousand
# Of the call, and of no provider's body. With `extra_headers` goes the header that has the key.
_NO_BODY = frozenset(("extra_headers", "max_retries", "token", "watsonx_token"))
_OF_THE_CLIENT = ("OPENAI_ORGANIZATION", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS")


@dataclass(frozen=True, slots=True)
class Manner:
    """How LiteLLM is to deal with a call of ours.

    Attributes:
        format: what the provider speaks, OpenAI's format, Anthropic's or Ollama's.
        at_once: its request is prepared on the loop, and no tokens of its answer are counted.
        plain: it goes out through LiteLLM's own HTTP client.
        transport: how it is reached, where the config says so.
        has_system: whether the model has a system prompt.
        account: a digest of all that a client or a login is made of: what two deployments differ in here, they share
            no client and no token for.
    """

    format: Literal["openai", "anthropic", "ollama"]
    at_once: bool
    plain: bool
    transport: Transport | None = None
    has_system: bool = True
    account: str = field(default="", compare=False)

    @classmethod
    def of(cls, deployment: Deployment, variables: Mapping[str, str]) -> Manner:
        """That of a deployment of a config that sets these variables in the environment."""
        provider = deployment.model.partition("/")[0]
        is_openai = provider in _OPENAI
        needs_client = any(key not in _WITHOUT_CLIENT and not is_price(key) for key in deployment.params)
        return cls(
            format="anthropic" if provider == "anthropic" else "ollama" if provider == "ollama" else "openai",
            at_once=is_openai or provider in ("anthropic", "ollama"),
            plain=is_openai and not needs_client and not any(map(os.environ.get, _OF_THE_CLIENT)),
            transport=Transport.of(deployment.params),
            has_system=entry(deployment).get("supports_system_messages") is not False,
            account=_account(deployment.params, variables),
        )


def _account(params: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    """Of anything that may be a credential, in doubt: only which model is asked, and in which way, is none."""
    made_of = {key: params[key] for key in params if key not in ("model", *SHAPED) and not is_price(key)}
    return hashlib.sha256(repr((sorted(made_of.items()), sorted(variables.items()))).encode()).hexdigest()


ours: ContextVar[Manner | None] = ContextVar("ours", default=None)  # of the call that is being made; None: not ours

Shape = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(slots=True)
class Exchange:
    """What passes between a call of ours and its provider beside LiteLLM: one object for each, which all that is done
    for it shares.

    Attributes:
        shape: what is done to the body that LiteLLM makes of it, where it is not in OpenAI's format; None: nothing.
        outputs: what the Responses API is to see of its own earlier output, by the id of a call in it.
        most: how many bytes its body may have, but for those of `images`, where a budget pays for no more.
        images: the base64 of those in the request, in their order.
        most_bytes: that are read of an answer.
        left: whether a request was handed to an HTTP client.
        waits: whether that one has no connection for it yet, as far as it lets us know.
        is_over: whether nobody waits for the call any more, which then sends nothing.
        answer: the HTTP answer that came last, as httpx has it.
        turn: the turn whose results are written, and its calls by their ids.
    """

    most_bytes: int

    shape: Shape | None = None
    outputs: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    most: int | None = None
    images: Sequence[str] = ()
    left: bool = False
    waits: bool = False
    is_over: bool = False
    answer: Any = None
    turn: tuple[Any, dict[str, Any]] = (None, {})

    def begin(self, shape: Shape | None, outputs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Nothing has left, and nothing come."""
        self.shape, self.outputs, self.left, self.waits, self.answer = shape, outputs, False, False, None

    def end(self) -> None:
        """Let go of what was asked and answered, whoever may still hold this."""
        self.give_up()
        self.shape, self.outputs, self.images, self.answer, self.turn = None, {}, (), None, (None, {})

    def leave(self, body: bytes = b"") -> None:
        """Take note that a request is handed to an HTTP client.

        Raises:
            FaultError: its body is larger than what was reserved for it; it is not to be handed on.
        """
        if self.most is not None and len(body) > self.most and (size := self._size(body)) > self.most:
            reason = f"its request grew to {size:,} bytes on the way, and what is reserved pays for {self.most:,}"
            raise FaultError(Fault(FaultKind.UNFIT, reason=reason, sent=False))
        self.left, self.answer = True, None  # one before may have been for a token
        self.go_on()

    def go_on(self) -> None:
        """Raises:
        FaultError: nobody waits for the call any more: nothing of it is to be sent. Looked at after it is noted what is
            about to be sent, as whoever gives up notes that first: one of two threads sees the other.
        """
        if self.is_over:
            raise FaultError(Fault(FaultKind.CONNECTION, "call broken off", sent=False))

    def give_up(self) -> bool:
        """Have nothing more leave; whether anything may have reached the provider."""
        self.is_over = True
        return self.left and not self.waits

    def _size(self, body: bytes) -> int:
        """Of what is said in it, with no letter escaped that need not be; images are paid for by their number."""
        parts, place = [], 0
        for image in self.images:
            if (found := body.find(image.encode(), place)) >= 0:
                parts.append(body[place:found])
                place = found + len(image)
        body = b"".join((*parts, body[place:]))
        with contextlib.suppress(ValueError, RecursionError):
            body = json.dumps(json.loads(body), ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        return len(body)

    @property
    def content(self) -> bytes | None:
        """The body of the last answer, if it is a successful one."""
        answer = self.answer
        return answer.content if answer is not None and answer.is_success and answer.is_closed else None


exchange: ContextVar[Exchange | None] = ContextVar("exchange", default=None)  # of the call that is being made


def spare() -> None:
    """Wrap them; a second time does nothing."""
    from litellm import main

    module: Any = main
    if isinstance(module.asyncio, ModuleType):  # else another Konstruct was here before
        _take_in_so_much()
        _take_note_of_requests()
        _send_once()
        _look_up_no_passwords()
        _shape_bodies()
        _write_each_call_once()
        _send_no_settings()
        _log_nothing()
        _write_no_tracebacks()
        _load_no_token_table()
        _download_no_tokenizers()
        _ask_without_openais_client()
        _write_text_as_it_is()
        _write_out_references_once()
        _price_nothing()
        _prepare_at_once()
        _speak_responses()
        _log_in_nobody()
        _keep_azures_tokens()
        _share_no_logins()
        _log_in_to_azures_v1()
        _want_no_google_sdk()


def _but_for(
    which: Callable[[Manner], bool], function: Callable[..., Any], nothing: Callable[[], Any] = lambda: None
) -> Callable[..., Any]:
    """The function, but for those calls of ours; for them what `nothing` gives."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        manner = ours.get()
        return nothing() if manner is not None and which(manner) else function(*args, **kwargs)

    return wrapped


def _any(_: Manner) -> bool:
    return True


def _take_in_so_much() -> None:
    """Have of each answer to us no more taken in than `intake` lets pass, in steps between which the loop goes on:
    httpx reads all that comes, and unpacks each piece at once, whatever it may become.

    Its answers are streams, in whose place others are put. Those of LiteLLM's own aiohttp client are one of them.
    """
    import httpx

    class Later(httpx.AsyncByteStream):
        def __init__(self, inner: Any, intake: Intake, give_back: Callable[[], None]) -> None:
            self._inner, self._intake, self._give_back = inner, intake, give_back

        async def __aiter__(self) -> AsyncIterator[bytes]:
            pieces = 0
            async with contextlib.aclosing(self._inner.__aiter__()) as coming:
                async for raw in coming:
                    for piece in self._intake.take(raw):
                        yield piece
                        await turn(Step.TAKE)
                    if self._intake.is_full:
                        break
                    if (pieces := pieces + 1) % _PIECES_AT_ONCE == 0:  # which may have come in one, a byte each
                        await turn(Step.TAKE)
            for index, piece in enumerate(self._intake.end()):
                if index:  # not a small one
                    await turn(Step.TAKE)
                yield piece

        async def aclose(self) -> None:
            try:
                await self._inner.aclose()
            finally:
                self._give_back()

    class AtOnce(httpx.SyncByteStream):
        """In a thread."""

        def __init__(self, inner: Any, intake: Intake) -> None:
            self._inner, self._intake = inner, intake

        def __iter__(self) -> Iterator[bytes]:
            return self._intake.all_of(self._inner)

        def close(self) -> None:
            self._inner.close()

    def bounded(response: Any, stream: Callable[[Any, Intake], Any], *, is_stream: bool) -> None:
        call = exchange.get()
        packed = response.headers.get("content-encoding")
        response.stream = stream(
            response.stream,
            Intake(
                _MOST_OF_A_LOGIN if call is None else call.most_bytes,
                packed or "",
                is_error=not response.is_success,
                is_stream=is_stream and response.is_success,
            ),
        )
        if packed is not None:
            del response.headers["content-encoding"]  # of what is unpacked by then
        response.encoding = "utf-8"  # what JSON is in; of the others that Python knows, some take it hours to read

    def asking(send: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(send)
        def sent(self: Any, request: Any, *, stream: bool = False, **kwargs: Any) -> Any:
            if ours.get() is None:
                return send(self, request, stream=stream, **kwargs)
            request.headers["accept-encoding"] = ENCODINGS
            # Where it points to is not where the operator has sent it; and all of that answer would be read.
            response = send(self, request, stream=True, **kwargs | {"follow_redirects": False})
            try:
                bounded(response, AtOnce, is_stream=stream)
                if not stream:
                    response.read()
            except BaseException:
                response.close()
                raise
            return response

        return sent

    def asking_later(send: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
        @functools.wraps(send)
        async def sent(self: Any, request: Any, *, stream: bool = False, **kwargs: Any) -> Any:
            if ours.get() is None:
                return await send(self, request, stream=stream, **kwargs)
            request.headers["accept-encoding"] = ENCODINGS
            give_back = await Connections.here().take(self)
            try:
                response = await send(self, request, stream=True, **kwargs | {"follow_redirects": False})
                try:
                    bounded(response, functools.partial(Later, give_back=give_back), is_stream=stream)
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

    clients: list[Any] = [httpx.Client, httpx.AsyncClient]
    sync, on_loop = clients
    sync.send, on_loop.send = asking(sync.send), asking_later(on_loop.send)

    from litellm.llms.vertex_ai.vertex_llm_base import VertexBase

    loose: Any = VertexBase
    refresh = loose.refresh_auth

    @functools.wraps(refresh)
    def refreshed(*args: Any, **kwargs: Any) -> Any:
        _take_in_so_much_of_tokens()
        return refresh(*args, **kwargs)

    loose.refresh_auth = refreshed


@functools.cache
def _take_in_so_much_of_tokens() -> None:
    """The same for what Google's and Microsoft's libraries fetch tokens with, which nobody else here needs."""
    from requests.adapters import HTTPAdapter  # where each answer comes by, that which points elsewhere too

    loose: Any = HTTPAdapter
    send = loose.send

    @functools.wraps(send)
    def sent(self: Any, request: Any, stream: bool = False, *args: Any, **kwargs: Any) -> Any:
        if ours.get() is None:
            return send(self, request, stream, *args, **kwargs)
        response = send(self, request, True, *args, **kwargs)
        intake = Intake(_MOST_OF_A_LOGIN, response.headers.get("content-encoding", ""), is_error=not response.ok)
        with response:
            coming = response.raw.stream(2**16, decode_content=False)
            response._content, response._content_consumed = b"".join(intake.all_of(coming)), True
        return response

    loose.send = sent


def _take_note_of_requests() -> None:
    """Have it known of each call of ours whether a request left the process. LiteLLM raises the same errors for what a
    provider has refused and for what it has not even asked.

    Its own clients and OpenAI's are httpx's underneath, in a thread or on the loop, and one of its own is aiohttp's.
    Google's library for its oldest models is not seen here. What fetches a token is not the request, but counts as one
    where it goes by these clients: in doubt something has left. What is larger than quoted does not.
    """
    import aiohttp
    import httpx

    def noting(send: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(send)
        def sent(*args: Any, **kwargs: Any) -> Any:
            if (call := exchange.get()) is None:
                return send(*args, **kwargs)
            call.leave(_body_of(*args, **kwargs))
            call.answer = response = send(*args, **kwargs)
            return response

        return sent

    def noting_later(send: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
        @functools.wraps(send)
        async def sent(*args: Any, **kwargs: Any) -> Any:
            if (call := exchange.get()) is None:
                return await send(*args, **kwargs)
            call.leave(_body_of(*args, **kwargs))
            call.answer = response = await send(*args, **kwargs)
            return response

        return sent

    def leaving(send: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(send)
        def sent(session: Any, *args: Any, **kwargs: Any) -> Any:
            if (call := exchange.get()) is not None:
                data, value = kwargs.get("data"), kwargs.get("json")
                body = data if value is None else json.dumps(value)
                if isinstance(kwargs.get("headers"), httpx.Headers):
                    body = None  # it comes from httpx, and has been looked at
                call.leave(body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else b"")
                call.waits = True
                session._trust_env = False  # LiteLLM says by which proxy; what is left of it is a `.netrc`
            return send(session, *args, **kwargs)

        return sent

    def connecting(connect: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
        @functools.wraps(connect)
        async def connected(*args: Any, **kwargs: Any) -> Any:
            connection = await connect(*args, **kwargs)
            if (call := exchange.get()) is not None:
                call.waits = False
                try:
                    call.go_on()
                except FaultError:
                    connection.close()
                    raise
            return connection

        return connected

    clients: list[Any] = [httpx.Client, httpx.AsyncClient, aiohttp.ClientSession, aiohttp.BaseConnector]
    sync, on_loop, session, connector = clients
    sync.send, on_loop.send = noting(sync.send), noting_later(on_loop.send)
    session._request = leaving(session._request)
    connector.connect = connecting(connector.connect)


def _body_of(_: Any, request: Any, **__: Any) -> bytes:
    """What a client of httpx is about to send, where that is JSON: a token is asked for with a form."""
    import httpx

    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return b""
    try:
        return bytes(request.content)
    except httpx.RequestNotRead:
        return b""


def _send_once() -> None:
    """Have LiteLLM make HTTP clients that send a request once, and take for a failure what would have it sent again.

    A redirect: where a provider points to is not where the operator sent the conversation and the key. On the way to
    another origin httpx leaves out `authorization`, but neither Anthropic's `x-api-key` nor the body.

    A connection that breaks: LiteLLM asks Anthropic again at once, and what one try of ours may cost is paid twice.

    And have them keep no cookies: a client asks for all who have a key at that provider.

    LiteLLM has no setting for these, so its constructors are wrapped.
    """
    import aiohttp
    import httpx
    import litellm
    from litellm.caching.llm_caching_handler import LLMClientCache
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, HTTPHandler
    from litellm.llms.openai.common_utils import BaseOpenAILLM

    def sending_once(send: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
        @functools.wraps(send)
        async def sent(*args: Any, **kwargs: Any) -> Any:
            try:
                response = await send(*args, **kwargs)
            except (httpx.RemoteProtocolError, httpx.ConnectError) as error:  # for these two it sends again
                raise httpx.TransportError(str(error)) from error
            if response.is_closed:
                # Its own stream refers back to it: all that was read would wait for the garbage collector, which comes
                # after so many objects and not after so many megabytes.
                response.stream = httpx.ByteStream(response.content)
            if ours.get() is not None:
                with contextlib.suppress(asyncio.CancelledError):  # it is here, and what it has cost is to be known
                    await turn(Step.READ)
            return response

        return sent

    known: WeakSet[Any] = WeakSet()

    def keep_no_cookies(client: Any) -> None:
        client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
        transport = client._transport
        if make_session := getattr(transport, "_client_factory", None):  # aiohttp's, which keeps cookies of its own

            def session() -> Any:
                made = make_session()
                made._cookie_jar = aiohttp.DummyCookieJar()
                return made

            transport.client = transport._client_factory = session

    def asking_for(query: tuple[tuple[str, str], ...]) -> Callable[[Any], Coroutine[Any, Any, None]]:
        async def add(request: Any) -> None:  # a client's own `params` would take the place of what is there
            request.url = request.url.copy_merge_params(query)

        return add

    def once(make: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(make)
        def made(*args: Any, **kwargs: Any) -> Any:
            manner = ours.get()
            if manner is None or manner.transport is None:
                client = make(*args, **kwargs)
            else:
                of_ours = manner.transport
                client = httpx.AsyncClient(verify=of_ours.context(), proxy=of_ours.proxy, timeout=kwargs.get("timeout"))
                if of_ours.query:
                    client.event_hooks["request"].append(asking_for(of_ours.query))
            client.follow_redirects = False
            if client not in known:  # else it is one that somebody has set for all calls
                known.add(client)
                client.send = sending_once(client.send)
                if client is not litellm.aclient_session:
                    keep_no_cookies(client)
            return client

        return made

    def keyed(key_of: Callable[..., Any]) -> Callable[..., Any]:
        """The key by which LiteLLM keeps a client, another one for each way to reach a provider; and for each account,
        if it is more than a client of HTTP: OpenAI's and Google's know who asks."""

        @functools.wraps(key_of)
        def key(self: Any, key: Any) -> Any:
            manner = ours.get()
            found = key_of(self, key)
            if manner is None:
                return found
            if manner.transport is not None:
                found = f"{found}-{hash(manner.transport)}"
            return found if str(key).startswith(_HTTP_CLIENTS) else f"{found}-{manner.account}"

        return key

    def keep_to_the_address(handler: Any) -> None:
        handler.client.follow_redirects = False
        keep_no_cookies(handler.client)

    make_handler = HTTPHandler.__init__

    @functools.wraps(make_handler)
    def made_handler(self: Any, *args: Any, **kwargs: Any) -> None:  # which fetches tokens
        make_handler(self, *args, **kwargs)
        keep_to_the_address(self)

    blocking: Any = HTTPHandler
    blocking.__init__ = made_handler
    if (made_before := vars(litellm).get("module_level_client")) is not None:
        keep_to_the_address(made_before)

    loose: Any = LLMClientCache
    loose.update_cache_key_with_event_loop = keyed(loose.update_cache_key_with_event_loop)
    AsyncHTTPHandler.create_client = once(AsyncHTTPHandler.create_client)  # type: ignore[method-assign]
    BaseOpenAILLM._get_async_http_client = staticmethod(  # type: ignore[method-assign]
        once(BaseOpenAILLM._get_async_http_client)
    )


def _look_up_no_passwords() -> None:
    """Have no call of ours take credentials out of a `.netrc`, which is for other programs: `requests`, which fetches
    Google's and Azure's tokens, does so for each server that is in it."""
    from netrc import netrc

    loose: Any = netrc
    loose.authenticators = _but_for(_any, loose.authenticators)


def _shape_bodies() -> None:
    """Have the bodies that LiteLLM makes for Anthropic, Bedrock and Gemini pass by us: it decides by names what goes
    into them. To what speaks OpenAI's format it hands on an `extra_body`."""
    from litellm import AmazonConverseConfig
    from litellm.llms.anthropic.chat.transformation import AnthropicConfig
    from litellm.llms.bedrock.chat.invoke_transformations.anthropic_claude3_transformation import (
        AmazonAnthropicClaudeConfig,
    )
    from litellm.llms.vertex_ai.gemini import transformation as gemini
    from litellm.llms.vertex_ai.vertex_ai_partner_models.anthropic.transformation import VertexAIAnthropicConfig

    def shaped(make: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(make)
        def made(*args: Any, **kwargs: Any) -> Any:
            body, call = make(*args, **kwargs), exchange.get()
            shape = None if call is None else call.shape  # once: the call may end while a thread of LiteLLM's goes on
            return body if shape is None else shape(body)

        return made

    places: list[tuple[Any, str]] = [
        (AnthropicConfig, "transform_request"),
        # These take out of it again what they did not know of.
        (VertexAIAnthropicConfig, "transform_request"),
        (AmazonAnthropicClaudeConfig, "transform_request"),
        (AmazonConverseConfig, "_transform_request_helper"),
        (gemini, "_transform_request_body"),
    ]
    for place, name in places:
        setattr(place, name, shaped(getattr(place, name)))

    loose: Any = gemini
    knows_system = loose.get_supports_system_message

    def has_system(*args: Any, **kwargs: Any) -> bool:
        """LiteLLM has a new model's system prompt said by the user."""
        manner = ours.get()
        return knows_system(*args, **kwargs) if manner is None else manner.has_system

    loose.get_supports_system_message = has_system


def _write_each_call_once() -> None:
    """Keep LiteLLM from comparing each call that a turn of Gemini's has made with all others of it, in which it leaves
    out one that is equal to another, and from looking through all of them for that which a result answers."""
    from litellm.llms.vertex_ai.gemini import transformation

    loose: Any = transformation
    loose.check_if_part_exists_in_parts = _but_for(_any, loose.check_if_part_exists_in_parts, lambda: False)
    write_result = loose.convert_to_gemini_tool_call_result

    @functools.wraps(write_result)
    def result(message: Any, turn: Any, *args: Any, **kwargs: Any) -> Any:
        if (call := exchange.get()) is None or not turn:
            return write_result(message, turn, *args, **kwargs)
        made = call.turn  # once: the call may end while a thread of LiteLLM's goes on
        if made[0] is not turn:
            call.turn = made = turn, {one["id"]: one for one in turn.get("tool_calls") or ()}
        answered = made[1].get(message.get("tool_call_id"))
        return write_result(message, {"tool_calls": [] if answered is None else [answered]}, *args, **kwargs)

    loose.convert_to_gemini_tool_call_result = result


def _send_no_settings() -> None:
    """Keep LiteLLM from leaving settings in a body, keys among them; and from asking some providers with one client for
    all, which would reach one deployment's provider by another's proxy."""
    from litellm.llms.custom_httpx.http_handler import get_async_httpx_client
    from litellm.llms.custom_httpx.llm_http_handler import BaseLLMHTTPHandler
    from litellm.llms.openai_like.chat.handler import OpenAILikeChatHandler
    from litellm.types.utils import LlmProviders

    def bare(ask: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
        @functools.wraps(ask)
        async def asked(*args: Any, **call: Any) -> Any:
            if ours.get() is not None:
                call["data"] = {key: value for key, value in call["data"].items() if key not in _NO_BODY}
                if "client" in call and call["client"] is None:
                    call["client"] = get_async_httpx_client(LlmProviders.OPENAI_LIKE)
            return await ask(*args, **call)

        return asked

    places: list[tuple[Any, str]] = [
        (BaseLLMHTTPHandler, "_make_common_async_call"),
        (OpenAILikeChatHandler, "acompletion_function"),
    ]
    for place, name in places:
        setattr(place, name, bare(getattr(place, name)))


def _log_nothing() -> None:
    """Keep LiteLLM from logging and reporting each call, which it does in four tasks for one that is answered: nobody
    reads that, it takes milliseconds, and the answer would wait for it as soon as it waits for the ledger. Others in
    this process may well read what it logs of theirs.
    """
    from litellm import router, utils
    from litellm.litellm_core_utils import logging_utils
    from litellm.litellm_core_utils.litellm_logging import Logging

    def create_task(coroutine: CoroutineType[Any, Any, Any], **options: Any) -> asyncio.Task[Any] | None:
        if ours.get() is None or coroutine.__name__ not in _LOGS:
            return asyncio.create_task(coroutine, **options)
        coroutine.close()
        return None

    modules: list[Any] = [router, utils, logging_utils]
    for module in modules:
        module.asyncio = SimpleNamespace(**vars(asyncio) | {"create_task": create_task})

    async def nothing() -> None: ...

    loose: Any = Logging
    loose.async_failure_handler = _but_for(_any, loose.async_failure_handler, nothing)
    for name in ("failure_handler", "handle_sync_success_callbacks_for_async_calls"):
        setattr(loose, name, _but_for(_any, getattr(loose, name)))


def _write_no_tracebacks() -> None:
    """Keep LiteLLM from writing out the traceback of each failed call, five times over: nobody reads them, and they are
    most of what a failed call costs, which in an outage is every call."""
    from litellm import router, utils
    from litellm.litellm_core_utils import exception_mapping_utils, litellm_logging

    written = {
        "format_exc": _but_for(_any, traceback.format_exc, str),
        "format_tb": _but_for(_any, traceback.format_tb, list),
    }
    modules: list[Any] = [router, utils, exception_mapping_utils, litellm_logging]
    for module in modules:
        module.traceback = SimpleNamespace(**vars(traceback) | written)


def _load_no_token_table() -> None:
    """Keep LiteLLM from loading a table of tokens, which takes 40 MB, for answers whose provider counts its tokens."""
    from litellm import main

    module: Any = main
    module._get_encoding = _but_for(lambda manner: manner.at_once, module._get_encoding)


def _download_no_tokenizers() -> None:
    """Keep LiteLLM from downloading one, with the loop waiting, to count the tokens of a Llama whose provider does not
    say them: it has a table for all others."""
    from litellm import utils

    module: Any = utils
    select = module._select_tokenizer

    @functools.wraps(select)
    def selected(model: str, *args: Any, **kwargs: Any) -> Any:
        return select(model, *args, **kwargs) if ours.get() is None else module._return_openai_tokenizer(model)

    module._select_tokenizer = selected


def _ask_without_openais_client() -> None:
    """Have LiteLLM post to OpenAI's format with the HTTP client that it uses for most others: OpenAI's own client takes
    a quarter of a call's time, and a TLS context of its own for each deployment."""
    import litellm
    from litellm import main

    module: Any = main
    get_secret_bool = module.get_secret_bool

    @functools.wraps(get_secret_bool)
    def secret_bool(name: str, *args: Any, **kwargs: Any) -> Any:
        manner = ours.get()
        if name == "EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER" and manner is not None:
            # Where the program around us has set something for OpenAI's client, that is what is asked.
            return manner.plain and not (litellm.aclient_session or litellm.organization or litellm.network_mock)
        return get_secret_bool(name, *args, **kwargs)

    module.get_secret_bool = secret_bool


def _write_text_as_it_is() -> None:
    """Have bodies written as OpenAI's client does: text as it is, which is half as long in many languages, and no
    NaN."""
    from litellm.llms.bedrock import base_aws_llm
    from litellm.llms.bedrock.chat import converse_handler
    from litellm.llms.custom_httpx import llm_http_handler

    def dumps(value: Any, **options: Any) -> str:
        if ours.get() is not None:
            options = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":"), **options}
        return json.dumps(value, **options)

    def dumped(value: Any, **options: Any) -> str | bytes:
        """For Converse, where AWS's library counts the letters of a text and says that they are its bytes."""
        text = dumps(value, **options)
        return text if ours.get() is None else text.encode()

    modules: list[tuple[Any, Callable[..., str | bytes]]] = [
        (llm_http_handler, dumps),
        (base_aws_llm, dumps),
        (converse_handler, dumped),
    ]
    for module, function in modules:
        module.json = SimpleNamespace(**vars(json) | {"dumps": function})


def _write_out_references_once() -> None:
    """Have LiteLLM write out the references of a schema by definitions that stay as they are. It goes through those in
    the schema as well, and copies what has grown there: of 400 bytes of recursion it makes gigabytes."""
    from litellm.litellm_core_utils.prompt_templates import common_utils
    from litellm.llms.vertex_ai import common_utils as of_vertex

    places: list[Any] = [common_utils, of_vertex]
    unpack = common_utils.unpack_defs

    @functools.wraps(unpack)
    def unpacked(schema: dict[str, Any], defs: dict[str, Any]) -> None:
        if ours.get() is not None:
            schema["$defs"] = defs  # where they were
            defs = set_apart(schema)
        unpack(schema, defs)

    for place in places:
        place.unpack_defs = unpacked


def _price_nothing() -> None:
    """Keep LiteLLM from looking up what an answer costs: that is reckoned in `prices`."""
    from litellm.litellm_core_utils.litellm_logging import Logging

    loose: Any = Logging
    loose._response_cost_calculator = _but_for(_any, loose._response_cost_calculator)


def _prepare_at_once() -> None:
    """Keep LiteLLM from preparing each request in a thread: what it does there takes half a millisecond and waits for
    nothing, and to hand it over and back costs as much again."""
    from litellm import main

    module: Any = main

    class AtOnce:
        """The running loop, as far as LiteLLM looks at it."""

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self._loop = loop

        def __getattr__(self, name: str) -> Any:
            return getattr(self._loop, name)

        async def run_in_executor(self, executor: None, prepare: Callable[[], Any]) -> Any:
            return prepare()

    def get_event_loop() -> Any:
        loop, manner = asyncio.get_event_loop(), ours.get()
        return AtOnce(loop) if manner is not None and manner.at_once else loop

    module.asyncio = SimpleNamespace(**vars(asyncio) | {"get_event_loop": get_event_loop})


def _speak_responses() -> None:
    """Have LiteLLM say all of a conversation where it asks through the Responses API, and name a tool as that wants
    it."""
    from litellm.completion_extras.litellm_responses_transformation.transformation import (
        LiteLLMResponsesTransformationHandler,
    )

    loose: Any = LiteLLMResponsesTransformationHandler
    convert, transform = loose.convert_chat_completion_messages_to_responses_api, loose.transform_request

    @functools.wraps(convert)
    def converted(self: Any, messages: Any, **manner: Any) -> Any:
        call = exchange.get()
        return convert(self, messages, **manner) if call is None else input_items(messages, call.outputs)

    @functools.wraps(transform)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        extra = dict(kwargs["optional_params"].get("extra_body") or {})
        request = transform(*args, **kwargs)
        if exchange.get() is None:
            return request
        if beyond := {key: value for key, value in extra.items() if key not in request}:
            request["extra_body"] = beyond  # what LiteLLM does not know, and leaves out
        return correct_tools(request)

    loose.convert_chat_completion_messages_to_responses_api = converted
    loose.transform_request = transformed


def _log_in_nobody() -> None:
    """Keep LiteLLM from asking a person to log in amid a call, and even where it only looks up a model's provider: it
    prints a code and waits for minutes, on the event loop. A login that somebody has made is used and renewed as ever.
    """
    from litellm.llms.chatgpt import authenticator as chatgpt
    from litellm.llms.github_copilot import authenticator as github_copilot
    from litellm.llms.github_copilot.common_utils import GetAccessTokenError

    def refuse() -> None:
        raise GetAccessTokenError(message="not logged in", status_code=401)

    copilot: Any = github_copilot.Authenticator
    copilot._login = _but_for(_any, copilot._login, refuse)
    openai: Any = chatgpt.Authenticator
    openai._login_device_code = _but_for(_any, openai._login_device_code, refuse)
    openai._wait_for_access_token = _but_for(_any, openai._wait_for_access_token)


class _Token:
    """Azure's token of Entra ID, and what fetches it, which blocks. On the event loop a call of ours is given the one
    that `renew_token` has seen to."""

    def __init__(self, fetch: Callable[[], str]) -> None:
        self._fetch = fetch
        self._held: str | None = None

    def __call__(self) -> str:
        if self._held is None or ours.get() is None or not _is_on_loop():
            self._held = self._fetch()
        return self._held


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _keep_azures_tokens() -> None:
    """Have LiteLLM keep what it fetches tokens of Entra ID with. It makes that anew for each call through the Responses
    API, and a token with it."""
    from litellm.llms.azure import common_utils

    module: Any = common_utils

    def keeping(make: Callable[..., Callable[[], str]]) -> Callable[..., Callable[[], str]]:
        kept = functools.lru_cache(maxsize=_MOST_LOGINS)(lambda *args, **named: _Token(make(*args, **named)))

        @functools.wraps(make)
        def made(*args: Any, **named: Any) -> Callable[[], str]:
            return make(*args, **named) if ours.get() is None else kept(*args, **named)

        return made

    for name in ("get_azure_ad_token_from_entra_id", "get_azure_ad_token_from_username_password"):
        setattr(module, name, keeping(getattr(module, name)))


def _log_in_to_azures_v1() -> None:
    """Have LiteLLM log in to Azure's v1 API as it does to those before it. For that it has OpenAI's client made without
    a token, which takes OpenAI's own key from the environment, and shows it to Azure."""
    from litellm.llms.azure.common_utils import BaseAzureLLM

    loose: Any = BaseAzureLLM
    initialize = loose.initialize_azure_sdk_client

    @functools.wraps(initialize)
    def initialized(self: Any, *args: Any, **named: Any) -> dict[str, Any]:
        made: dict[str, Any] = initialize(self, *args, **named)
        if ours.get() is not None and not made["api_key"] and self._is_azure_v1_api_version(made["api_version"]):
            fetch = made["azure_ad_token_provider"]

            async def token() -> str:
                return str(fetch())

            made["api_key"] = made["azure_ad_token"] or "" if fetch is None else token
        return made

    loose.initialize_azure_sdk_client = initialized


def renew_token(params: Mapping[str, Any]) -> None:
    """See that the token of a deployment on Azure is good for the next call, which may ask Entra ID; blocks meanwhile.

    Raises whatever LiteLLM does where there is none.
    """
    from litellm.llms.azure.common_utils import get_azure_ad_token
    from litellm.types.router import GenericLiteLLMParams

    _take_in_so_much_of_tokens()
    get_azure_ad_token(GenericLiteLLMParams(**{key: params[key] for key in _OF_ENTRA if key in params}))


class _OfEach:
    """What LiteLLM keeps for all who ask, by less than all that tells them apart: kept for each account by itself."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._of = functools.lru_cache(maxsize=_MOST_LOGINS)(lambda _account: make())

    @property
    def _own(self) -> Any:
        manner = ours.get()
        return self._of(None if manner is None else manner.account)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def __contains__(self, key: Any) -> bool:
        return key in self._own

    def __getitem__(self, key: Any) -> Any:
        return self._own[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._own[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._own[key]


def _first(it: _OfEach, *_: object) -> _OfEach:
    return it


def _share_no_logins() -> None:
    """Keep LiteLLM from using for one deployment what it has fetched for another: it knows GigaChat's tokens by the
    first letters of their key and its files by nothing of it, Entra's without their scope, and others' without what the
    environment has said."""
    from litellm.caching.dual_cache import DualCache
    from litellm.caching.in_memory_cache import InMemoryCache
    from litellm.llms.azure import common_utils as azure
    from litellm.llms.bedrock.base_aws_llm import BaseAWSLLM
    from litellm.llms.gigachat import authenticator, file_handler
    from litellm.llms.vertex_ai.vertex_llm_base import VertexBase
    from litellm.llms.watsonx import common_utils as watsonx

    places: list[tuple[Any, str, Callable[[], Any]]] = [
        (azure, "azure_ad_cache", DualCache),
        (authenticator, "_token_cache", InMemoryCache),
        (file_handler, "_file_cache", dict),
        (watsonx, "iam_token_cache", InMemoryCache),
        (BaseAWSLLM, "iam_cache", DualCache),  # each of whose objects makes its own, which it is not to have
        (VertexBase, "_credentials_project_mapping", dict),
    ]
    for place, name, make in places:
        of_each: Any = _OfEach(make)
        if isinstance(place, type):
            of_each = property(functools.partial(_first, of_each), lambda *_: None)
        setattr(place, name, of_each)


def _want_no_google_sdk() -> None:
    """Have LiteLLM ask Claude on Vertex AI without Google's SDK, half a gigabyte of which it only looks whether it is
    there. Where it is, it stays; where it is not, nobody else is to find one, so that it is there for LiteLLM's look
    alone."""
    if installed("vertexai"):
        return
    from litellm.llms.vertex_ai.vertex_ai_partner_models.main import VertexAIPartnerModels

    name = "vertexai"
    stand_in: Any = ModuleType(name, "Stands in for an SDK that is not used.")
    stand_in.__spec__ = ModuleSpec(name, None)
    stand_in.preview = stand_in
    lock, inside = threading.Lock(), 0

    loose: Any = VertexAIPartnerModels
    complete = loose.completion

    @functools.wraps(complete)
    def completion(*args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        if ours.get() is None:
            return complete(*args, **kwargs)
        with lock:
            inside += 1
            sys.modules.setdefault(name, stand_in)
        try:
            return complete(*args, **kwargs)  # in a thread; what it returns does not look
        finally:
            with lock:
                inside -= 1
                if not inside and sys.modules.get(name) is stand_in:
                    del sys.modules[name]

    loose.completion = completion


def renew_login(model: str) -> None:
    """See that a login is good for the next call, which may ask its provider; blocks meanwhile.

    Raises whatever LiteLLM does where it is one no more.
    """
    if model.startswith("github_copilot/"):
        from litellm.llms.github_copilot.authenticator import Authenticator as Copilot

        Copilot().get_api_key()
    else:
        from litellm.llms.chatgpt.authenticator import Authenticator as ChatGPT

        ChatGPT().get_access_token()
