"""The tools `complete` and `list_groups`, for the caller of each request."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from konstruct_mcp.core.errors import InvalidArgumentError, KonstructError
from konstruct_mcp.core.text import cut
from konstruct_mcp.gateway.caller import Caller
from konstruct_mcp.gateway.konstruct import Konstruct
from konstruct_mcp.protocol.clients import Client, client_of
from konstruct_mcp.protocol.cuts import Reading, Room, cut_to, page, without_reading
from konstruct_mcp.protocol.instructions import LIST_WITHIN_S, choice_of
from konstruct_mcp.protocol.kept_answers import KeptAnswer, KeptAnswers
from konstruct_mcp.protocol.progress import reported
from konstruct_mcp.protocol.resources import answer_uri, groups_document, kept_answer
from konstruct_mcp.protocol.texts import beside_if_large, defect, error_result, result
from konstruct_mcp.protocol.tokens import current_caller
from konstruct_mcp.protocol.tool_schemas import LIST_GROUPS_TOOL, complete_tool

_log = logging.getLogger(__name__)


class Tools:
    """Handlers, each `(ctx, params) -> result` as the SDK calls it."""

    def __init__(self, konstruct: Konstruct, kept: KeptAnswers) -> None:
        self._konstruct, self._kept = konstruct, kept

    async def list_tools(
        self, ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        caller = current_caller()
        await self._konstruct.look_for_ollama(within_s=LIST_WITHIN_S)
        choice = choice_of(self._konstruct, caller)
        complete = complete_tool(choice, names_tenant=not caller.is_verified, reads_on=client_of(ctx).reads_on)
        return types.ListToolsResult(tools=[complete, LIST_GROUPS_TOOL])

    async def call_tool(
        self, ctx: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        arguments = params.arguments or {}
        try:
            caller = current_caller()
            match params.name:
                case "complete":
                    return await self._complete(arguments, caller, ctx)
                case "list_groups":
                    if arguments:
                        raise InvalidArgumentError(f"{cut(min(arguments))}: unknown field; list_groups takes none")
                    groups = await groups_document(self._konstruct, caller)
                    return await beside_if_large(result, groups, client_of(ctx).least_decimal)
        except KonstructError as error:
            return error_result(error)
        except Exception:
            _log.exception("tool %s failed in konstruct_mcp itself", params.name)
            return error_result(defect())
        raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {cut(params.name, 100)}; tools: complete, list_groups")

    async def _complete(
        self, arguments: Mapping[str, Any], caller: Caller, ctx: ServerRequestContext[Any]
    ) -> types.CallToolResult:
        arrived = time.monotonic()
        client = client_of(ctx)
        if (reading := Reading.asked_for(arguments, caller)) is not None:
            return await self._read(reading, caller, client)
        async with reported(ctx) as on_wait:
            request = await self._konstruct.request(without_reading(arguments), caller=caller)
            config = self._konstruct.config_for(caller)
            completion = await self._konstruct.answer(request, on_wait, arrived=arrived, caller=caller)
        answer = completion.as_dict()
        whole = await cut_to(Room(client, config.max_result_chars), answer)
        if whole is None:
            return await beside_if_large(result, answer, client.least_decimal)
        tenant = caller.naming(request.tenant_id).tenant_id(config)
        content, mime_type = whole
        # An answer on another tenant's account cannot be read here, so that there is no use in keeping it.
        may_read = caller.may_read(config, tenant)
        answer_id = await self._kept.keep(KeptAnswer(tenant, content, mime_type)) if may_read else None
        uri = None if answer_id is None else answer_uri(answer_id)
        answer["truncated"]["uri"] = uri
        if uri is None:
            del answer["truncated"]["next_offset"]
        shown = await beside_if_large(result, answer, client.least_decimal)
        if uri is not None and not client.reads_on:
            name = uri.removeprefix("konstruct://")
            shown.content.append(types.ResourceLink(uri=uri, name=name, mime_type=mime_type))
        return shown

    async def _read(self, reading: Reading, caller: Caller, client: Client) -> types.CallToolResult:
        """A part of a kept answer."""
        kept = await kept_answer(self._konstruct, self._kept, reading.uri, caller)
        room = Room(client, self._konstruct.config_for(caller).max_result_chars)
        shown = await beside_if_large(page, kept.content, room, reading.uri, reading.offset)
        return await beside_if_large(result, shown, client.least_decimal)
