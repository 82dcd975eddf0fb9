"""The tools `complete` and `list_groups`, for the caller of each request."""

from __future__ import annotations

import itertools
import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from konstruct_mcp.core.errors import InvalidArgumentError, KonstructError
from konstruct_mcp.core.text import cut
from konstruct_mcp.gateway.caller import Caller
from konstruct_mcp.gateway.konstruct import Konstruct
from konstruct_mcp.protocol.instructions import LIST_WITHIN_S, choice_of
from konstruct_mcp.protocol.kept_answers import KeptAnswer, KeptAnswers
from konstruct_mcp.protocol.progress import reported
from konstruct_mcp.protocol.resources import answer_uri, groups_document
from konstruct_mcp.protocol.texts import as_json, beside_if_large, defect, error_result, result
from konstruct_mcp.protocol.tokens import current_caller
from konstruct_mcp.protocol.tool_schemas import LIST_GROUPS_TOOL, complete_tool

_log = logging.getLogger(__name__)
_SENTENCE_END = re.compile(r"""[.!?…]["'”’»)\]]*(?=\s|\Z)|[。！？]["'”’»」）)\]]*|\n""")


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
        tools = [complete_tool(choice, names_tenant=not caller.is_verified), LIST_GROUPS_TOOL]
        return types.ListToolsResult(tools=tools)

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
                    return await beside_if_large(result, await groups_document(self._konstruct, caller))
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
        async with reported(ctx) as on_wait:
            request = await self._konstruct.request(arguments, caller=caller)
            config = self._konstruct.config_for(caller)
            completion = await self._konstruct.answer(request, on_wait, arrived=arrived, caller=caller)
        answer = completion.as_dict()
        whole = await _cut(answer, config.max_result_chars)
        if whole is None:
            return await beside_if_large(result, answer)
        tenant = caller.naming(request.tenant_id).tenant_id(config)
        content, mime_type = whole
        # An answer on another tenant's account cannot be read here, so that there is no use in keeping it.
        may_read = caller.may_read(config, tenant)
        answer_id = await self._kept.keep(KeptAnswer(tenant, content, mime_type)) if may_read else None
        uri = None if answer_id is None else answer_uri(answer_id)
        answer["truncated"]["uri"] = uri
        shown = await beside_if_large(result, answer)
        if uri is not None:
            name = uri.removeprefix("konstruct://")
            shown.content.append(types.ResourceLink(uri=uri, name=name, mime_type=mime_type))
        return shown


async def _cut(answer: dict[str, Any], most_chars: int) -> tuple[str, str] | None:
    """Shorten an answer to so many characters of its text and its tool calls together, and note in it what was cut.
    Returns the whole of it as a text, and the MIME type of that; None where nothing had to be cut."""
    content, calls = answer["content"], answer["tool_calls"]
    sizes = await beside_if_large(_sizes, calls)
    if len(content) + sum(sizes) <= most_chars:
        return None
    # Half of it is the text's, where the calls want more than the other half.
    shown = _fitting(sizes, most_chars - min(len(content), most_chars // 2))
    answer["tool_calls"] = calls[:shown]
    answer["content"] = _beginning(content, most_chars - sum(sizes[:shown]))
    answer["truncated"] = {"shown_chars": len(answer["content"]), "chars": len(content)}
    if shown == len(calls):
        return content, "text/plain"
    answer["truncated"] |= {"shown_tool_calls": shown, "tool_calls": len(calls)}
    whole = await beside_if_large(as_json, {"content": content, "tool_calls": calls})
    return whole, "application/json"


def _sizes(calls: Sequence[Mapping[str, Any]]) -> list[int]:
    """How many characters each call takes of a result."""
    return [len(as_json(call)) for call in calls]


def _fitting(sizes: Sequence[int], most: int) -> int:
    """How many of the first ones fit together."""
    return sum(size <= most for size in itertools.accumulate(sizes))


def _beginning(text: str, most: int) -> str:
    """The beginning of a text, up to the end of a sentence, or of a word where the last sentence is a very long one."""
    head = text[: most + 1]  # with what follows the last character that fits: it may be the end of a word
    ends = [match.end() for match in _SENTENCE_END.finditer(head, most // 2) if match.end() <= most]
    end = ends[-1] if ends else head.rfind(" ", most // 2)
    return head[: end if end > 0 else most].rstrip()
