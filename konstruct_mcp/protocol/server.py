"""The MCP server: it binds the handlers of tools and resources to the SDK, and decides nothing.

Each request is answered for its caller: instructions, tools and resources are made when they are asked for.

The low-level `Server` of the SDK is used: its high-level one parses string arguments as JSON before it looks at their
type, ignores unknown arguments and answers bad ones with raw validation text.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from importlib.metadata import version
from typing import Any

import anyio
from mcp import types
from mcp.server import NotificationOptions, Server
from mcp.server.caching import CacheHint
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.models import InitializationOptions
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from konstruct_mcp.core.audit import refusals
from konstruct_mcp.core.errors import (
    ConfigError,
    KonstructError,
    RequestError,
    UnknownGroupError,
    UnknownTenantError,
    UnverifiedError,
)
from konstruct_mcp.core.request_context import handling, note_tenant
from konstruct_mcp.core.sharing import Broadcast
from konstruct_mcp.core.text import scrubbed
from konstruct_mcp.gateway.caller import Caller
from konstruct_mcp.gateway.konstruct import Konstruct
from konstruct_mcp.gateway.offers import Offers
from konstruct_mcp.protocol.calls import Key, RequestsUnderWay, cancelled_request, request_key
from konstruct_mcp.protocol.clients import SESSION
from konstruct_mcp.protocol.instructions import LIST_WITHIN_S, choice_of, instructions
from konstruct_mcp.protocol.kept_answers import InMemoryKeptAnswers, KeptAnswers, SharedKeptAnswers
from konstruct_mcp.protocol.notices import ChangeNotices
from konstruct_mcp.protocol.resources import CONFIG_URI, GROUPS_URI, Resources
from konstruct_mcp.protocol.texts import beside_if_large, defect
from konstruct_mcp.protocol.tokens import CallerOf, VerifyAgain, current_caller, request_of, the_process
from konstruct_mcp.protocol.tools import Tools

_log = logging.getLogger(__name__)

# Lists change with the config alone. A client that listens is told; another one looks again after five minutes.
_LISTS_FRESH_MS = 300_000
_MOST_LISTENING = 16  # streams of notices of one tenant, so that none takes those of others; a client has one
_LISTEN = "subscriptions/listen"
_ABOUT = ("initialize", "server/discover")  # their results hold the instructions


class KonstructServer(Server[Any]):
    """The MCP server over an open `Konstruct`."""

    def __init__(
        self,
        konstruct: Konstruct,
        *,
        caller_of: CallerOf = the_process,
        verify_again: VerifyAgain | None = None,
        kept: KeptAnswers | None = None,
        broadcast: Broadcast | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Serve a `Konstruct`.

        Args:
            caller_of: gives the caller of each request; with tokens, see `tokens.verified_callers`.
            verify_again: raises a KonstructError where the caller of a request may not ask any more; if None, whoever
                might ask once may go on.
            kept: keeps the answers that were cut; if None, in this process's memory, and for other servers with the
                values that the `Konstruct` shares with them.
            broadcast: carries cancellations and notices of change to other servers; the `Konstruct`'s if None.
            clock: gives seconds, by which answers are kept in memory.
        """
        self._konstruct, self._caller_of, self._verify_again = konstruct, caller_of, verify_again
        kept = SharedKeptAnswers(konstruct, InMemoryKeptAnswers(clock)) if kept is None else kept
        broadcast = konstruct.broadcast if broadcast is None else broadcast
        self._notices = ChangeNotices(broadcast)
        self._listening = dict[str | None, tuple[ListenHandler, int]]()
        self._offers = self._offers_now()
        self._telling = set[asyncio.Future[None]]()  # clients on their connections; held, so that each goes on
        konstruct.when_offers_change(self._offers_changed)
        self.requests = RequestsUnderWay(broadcast)
        tools, resources = Tools(konstruct, kept), Resources(konstruct, kept)
        super().__init__(
            "konstruct-mcp",
            version=version("konstruct-mcp"),
            title="Konstruct",
            description="Completions from other language models, by model group, with fallback.",
            cache_hints={
                "tools/list": CacheHint(ttl_ms=_LISTS_FRESH_MS),
                "resources/list": CacheHint(ttl_ms=_LISTS_FRESH_MS),
                "resources/templates/list": CacheHint(ttl_ms=_LISTS_FRESH_MS),
            },
            on_list_tools=tools.list_tools,
            on_call_tool=tools.call_tool,
            on_list_resources=resources.list_resources,
            on_list_resource_templates=resources.list_resource_templates,
            on_read_resource=resources.read_resource,
            on_completion=resources.complete_argument,
            on_subscriptions_listen=self._listen,
            get_tool_input_schema=lambda _: (
                None
            ),  # no argument is repeated in a header; else tools are listed before each call
        )
        self._refresh_instructions()
        self.middleware += [_in_its_context, self._around]

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        """The base's options, with announcements of changed lists switched on."""
        changed = notification_options or NotificationOptions(tools_changed=True, resources_changed=True)
        return super().create_initialization_options(changed, experimental_capabilities, extensions)

    async def follow_config(self, until: anyio.Event) -> None:
        """Take up each change of the config file until the event, and tell the clients."""
        async for changed in self._konstruct.follow_config(until):
            self._notices.config_changed(CONFIG_URI)
            if changed:
                self._refresh_instructions()
                tenants = self._who_is_offered_something_else()
                self._notices.groups_changed(GROUPS_URI, tenants)
                await self._notices.tell_sessions(tenants)

    def _offers_changed(self) -> None:
        """Tell those who may use other groups now, or other models in them."""
        self._refresh_instructions()
        tenants = self._who_is_offered_something_else()
        if tenants != frozenset():
            self._notices.config_changed(CONFIG_URI, tenants)
            self._notices.groups_changed(GROUPS_URI, tenants)
            telling = asyncio.ensure_future(self._notices.tell_sessions(tenants))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    def _who_is_offered_something_else(self) -> frozenset[str] | None:
        """The tenants whose choice is another one than at the last look; None for everybody."""
        before, self._offers = self._offers, self._offers_now()
        return None if before is None or self._offers is None else self._offers.changed_since(before)

    def _offers_now(self) -> Offers | None:
        try:
            return self._konstruct.offers()
        except ConfigError:
            return None

    def _refresh_instructions(self) -> None:
        """Set the instructions that stdio gives before there is a request. They are the process's own, so that there
        are none where there are other callers."""
        if self._caller_of is the_process:
            self.instructions = instructions(choice_of(self._konstruct, Caller()))

    async def _listen(
        self, ctx: ServerRequestContext[Any], params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """A stream of notices, of which each tenant has so many. It ends once its caller may not ask any more.

        Raises:
            KonstructError: why they may not.
        """
        tenant = current_caller().tenant
        handler, streams = self._listening.get(tenant) or (
            ListenHandler(self._notices.bus_of(tenant), max_subscriptions=_MOST_LISTENING),
            0,
        )
        self._listening[tenant] = handler, streams + 1
        try:
            if self._verify_again is None:
                return await handler(ctx, params)
            with anyio.CancelScope() as stream:
                verify = functools.partial(self._verify_again, ctx)
                watching = asyncio.create_task(self._end_once_refused(verify, stream))
                try:
                    return await handler(ctx, params)
                finally:
                    watching.cancel()
            raise await watching
        finally:
            handler, streams = self._listening.pop(tenant)
            if streams > 1:
                self._listening[tenant] = handler, streams - 1

    async def _end_once_refused(
        self, verify: Callable[[], Awaitable[object]], stream: anyio.CancelScope
    ) -> KonstructError:
        """Cancel a stream when its caller is refused. Returns why they are."""
        while True:
            await anyio.sleep(self._konstruct.recheck_s)
            try:
                await verify()
            except UnverifiedError:
                pass  # nobody can say now
            except KonstructError as error:
                stream.cancel()
                return error

    def stop_listening(self) -> None:
        """End every stream of notices."""
        for handler, _ in list(self._listening.values()):
            handler.close()

    async def _around(self, ctx: ServerRequestContext[Any], call_next: CallNext) -> HandlerResult:
        """Around every message:

        - a caller who is no tenant is refused, and told of no change;
        - the instructions in a result are the caller's;
        - what goes out can be encoded: a model's answer can hold a lone surrogate;
        - no exception of a handler ends the connection.
        """
        caller: Caller | None = None
        try:
            if ctx.request_id is None:
                return await self._notified(ctx, call_next)
            caller = self._admitted(ctx)
            if caller.tenant is not None:
                note_tenant(caller.tenant)
            result: HandlerResult
            # A stream of notices ends when its client goes, or with `stop_listening`.
            is_call = ctx.method != _LISTEN
            key = _key(ctx, caller, ctx.request_id)
            with request_of(caller), self.requests.answering(key) if is_call else nullcontext():
                result = await call_next(ctx)
            if ctx.method in _ABOUT and isinstance(result, dict):
                await self._konstruct.look_for_ollama(within_s=LIST_WITHIN_S)
                result = {**result, "instructions": instructions(choice_of(self._konstruct, caller))}
            return await beside_if_large(scrubbed, result)
        except KonstructError as error:
            if isinstance(error, UnknownTenantError | UnknownGroupError) and caller is not None and caller.is_verified:
                refusals.refused(error.code, caller.tenant)  # of a tool, the call's events tell
            code = types.INVALID_PARAMS if isinstance(error, RequestError) else types.INTERNAL_ERROR
            raise MCPError(code, str(error)) from None
        except (MCPError, ValidationError):  # which the SDK makes answers of
            raise
        except Exception:
            _log.exception("%s failed in konstruct_mcp itself", ctx.method)
            raise MCPError(types.INTERNAL_ERROR, str(defect())) from None
        except asyncio.CancelledError:
            # One that the client did not ask for, a provider client's gone astray, passes for the end of the server.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            _log.warning("a stray cancellation in %s", ctx.method)
            raise MCPError(types.INTERNAL_ERROR, "internal: the call was broken off inside the server") from None

    async def _notified(self, ctx: ServerRequestContext[Any], call_next: CallNext) -> HandlerResult:
        """A message that wants no answer: when a client of the handshake era is ready, it is told of changes."""
        with suppress(KonstructError):
            if ctx.method == "notifications/initialized":
                self._notices.join(ctx.session, self._admitted(ctx).tenant)
            elif ctx.method == "notifications/cancelled":
                # Before anything is awaited: without sessions, this is broken off where it first waits.
                key = _key(ctx, self._admitted(ctx), cancelled_request(ctx.params))
                if key is not None:
                    self.requests.cancel_anywhere(key)
        return await call_next(ctx)

    def _admitted(self, ctx: ServerRequestContext[Any]) -> Caller:
        """The caller of a request.

        Raises:
            UnknownTenantError: it has to be verified and is not, or it is no tenant of the config.
        """
        caller = self._caller_of(ctx)
        with suppress(ConfigError):  # of which each handler says so in its own way
            self._konstruct.config_for(caller)
        return caller


async def _in_its_context(ctx: ServerRequestContext[Any], call_next: CallNext) -> HandlerResult:
    """Around every message: the log says which request a line belongs to."""
    with handling(ctx.request_id):
        return await call_next(ctx)


def _key(ctx: ServerRequestContext[Any], caller: Caller, request_id: Any) -> Key | None:
    """What a request over HTTP can be cancelled by; None over stdio, where the SDK sees to it."""
    headers = getattr(ctx.request, "headers", None)
    return None if headers is None else request_key(caller.tenant, headers.get(SESSION), request_id)
