"""The MCP face: tools, resources, argument completion, progress, notices of change. Parses what comes in, words what
goes out, decides nothing.

The low-level `Server` of the SDK is used: its high-level one parses string arguments as JSON before it looks at their
type, ignores unknown arguments and answers bad ones with raw validation text.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import anyio
import yaml
from mcp import types
from mcp.server import NotificationOptions, Server
from mcp.server.caching import CacheHint
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.models import InitializationOptions
from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError

from konstruct_mcp.core.errors import (
    ConfigError,
    InternalError,
    InvalidArgumentError,
    KonstructError,
    RequestError,
    UnknownTenantError,
)
from konstruct_mcp.core.shares import Shares
from konstruct_mcp.core.sizes import is_large
from konstruct_mcp.core.text import cut, quoted, scrubbed
from konstruct_mcp.core.threads import in_thread_if_large
from konstruct_mcp.gateway.konstruct import Konstruct

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_GROUPS_URI = "konstruct://groups"
_CONFIG_URI = "konstruct://config"
_USAGE_URI = "konstruct://usage"
_GROUP_TEMPLATE = "konstruct://groups/{name}"
_USAGE_TEMPLATE = "konstruct://usage/{tenant_id}"
_COMPLETIONS_URI = "konstruct://completions"
_COMPLETION_TEMPLATE = "konstruct://completions/{id}"
_USAGE_DAYS = 30  # an assistant reads all of it
# Lists change with the config alone. A client that listens is told; another one looks again after five minutes.
_LISTS_FRESH_MS = 300_000
_COMPLETION_LIMIT = 100  # values in one answer, by the protocol
_MOST_LISTENING = 16  # streams of notices; a client has one
_FIRST_PROGRESS_S, _PROGRESS_S = 0.5, 2.0  # many clients start their time-out again at each
_KEPT_S, _KEPT_CHARS = 3600.0, 64 * 2**20  # of the answers that were cut: an hour, and what fits, newest first
_FAULTY = "the file has changed and cannot be used; the server's log says why"
_NOTICE_S = 5.0  # for a client to take a notice: one that reads nothing keeps no other from hearing
_SENTENCE_END = re.compile(r"""[.!?…]["'”’»)\]]*(?=\s|\Z)|[。！？]["'”’»」）)\]]*|\n""")


@dataclass(slots=True)
class _Peer:
    """One connection; `session` once a client of the handshake era is ready to be told of changes."""

    session: ServerSession | None = None


_Context = ServerRequestContext[_Peer]


class KonstructServer(Server[_Peer]):
    """The MCP server over an open `Konstruct`."""

    def __init__(self, konstruct: Konstruct, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds, by which answers are kept."""
        face = _Face(konstruct, clock)
        self._konstruct = konstruct
        self._peers: list[_Peer] = []
        self._bus = InMemorySubscriptionBus()
        super().__init__(
            "konstruct-mcp",
            version=version("konstruct-mcp"),
            title="Konstruct",
            description="Completions from other language models, by model group, with fallback.",
            instructions=_instructions(konstruct),
            cache_hints={
                "tools/list": CacheHint(ttl_ms=_LISTS_FRESH_MS),
                "resources/list": CacheHint(ttl_ms=_LISTS_FRESH_MS),
                "resources/templates/list": CacheHint(ttl_ms=_LISTS_FRESH_MS),
            },
            lifespan=self._connected,
            on_list_tools=face.list_tools,
            on_call_tool=face.call_tool,
            on_list_resources=face.list_resources,
            on_list_resource_templates=face.list_resource_templates,
            on_read_resource=face.read_resource,
            on_completion=face.complete_argument,
            on_subscriptions_listen=ListenHandler(self._bus, max_subscriptions=_MOST_LISTENING),
        )
        self.middleware.append(_guard)

    @asynccontextmanager
    async def _connected(self, _: Server[_Peer]) -> AsyncIterator[_Peer]:
        peer = _Peer()
        self._peers.append(peer)
        try:
            yield peer
        finally:
            self._peers.remove(peer)

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        """As the base has it, but that changes of the lists are announced."""
        changed = notification_options or NotificationOptions(tools_changed=True, resources_changed=True)
        return super().create_initialization_options(changed, experimental_capabilities, extensions)

    async def follow_config(self, until: anyio.Event) -> None:
        """Take up each change of the config file until the event, and tell the clients."""
        async for changed in self._konstruct.follow_config(until):
            await self._bus.publish(ResourceUpdated(uri=_CONFIG_URI))
            if not changed:
                continue
            self.instructions = _instructions(self._konstruct)
            with anyio.move_on_after(_NOTICE_S):
                await self._bus.publish(ResourceUpdated(uri=_GROUPS_URI))
                await self._bus.publish(ToolsListChanged())
                await self._bus.publish(ResourcesListChanged())
                for session in [peer.session for peer in self._peers if peer.session is not None]:
                    await session.send_tool_list_changed()
                    await session.send_resource_list_changed()


def _choice(konstruct: Konstruct) -> tuple[list[tuple[str, str]], str]:
    """The groups that an assistant may choose from, each with its description, and that of a call that names none; no
    group where there is no config that can be used yet."""
    try:
        groups = [
            (group.name, group.description if group.is_set_up else f"{group.description} (not set up)")
            for group in konstruct.model_groups
        ]
    except ConfigError:
        return [], ""
    return groups, konstruct.default_group


def _instructions(konstruct: Konstruct) -> str:
    groups, default = _choice(konstruct)
    if not (groups or _patterns(konstruct)):
        return "Asks other language models for completions; but its config cannot be used: list_groups says why."
    listed = "\n".join(f"- {name}: {description}" for name, description in groups)
    leave_out = f"Leave it out for {default}. " if default else ""
    return (
        "Asks other language models for completions. Choose a model_group by what the task is worth:\n"
        f"{listed}{_or_a_match(konstruct)}\n"
        f"{leave_out}Each call stands alone: send the whole conversation in "
        "messages. served_group and model say who answered, which may be a group behind the one that was asked. "
        "When a call fails, the error says why; list_groups shows what can be called now."
    )


def _patterns(konstruct: Konstruct) -> tuple[str, ...]:
    """The wildcards that a group's name may match."""
    try:
        return tuple(konstruct.patterns)
    except ConfigError:
        return ()


def _or_a_match(konstruct: Konstruct) -> str:
    """A line on the names that may be asked for beside the groups'."""
    groups, _ = _choice(konstruct)
    patterns = " or ".join(_patterns(konstruct))
    return f"\n{'or ' if groups else ''}a model's name that matches {patterns}" if patterns else ""


def _group_argument(konstruct: Konstruct) -> dict[str, Any]:
    """The schema of `model_group`: the groups by name, and any text where a wildcard may match it."""
    groups, default = _choice(konstruct)
    listed = "\n".join(f"{name}: {description}" for name, description in groups)
    schema: dict[str, Any] = {"type": "string"}
    if groups and not _patterns(konstruct):
        schema["enum"] = [name for name, _ in groups]
    if default:
        schema["default"] = default
    described = f"{listed}{_or_a_match(konstruct)}".strip()
    return schema | ({"description": described} if described else {})


async def _guard(ctx: ServerRequestContext[Any], call_next: CallNext) -> HandlerResult:
    """Around every message: nothing a handler does may end the connection.

    A lone surrogate in an outgoing text (model output can hold one) cannot be encoded, and a cancellation that the
    client did not ask for (a provider client's own, gone astray) passes for the end of the server.
    """
    if ctx.method == "notifications/initialized":
        ctx.lifespan_context.session = ctx.session
    try:
        result: HandlerResult = await call_next(ctx)
        return result if ctx.method == "tools/call" else scrubbed(result)  # those have been, before they were written
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        _log.warning("a stray cancellation in %s", ctx.method)
        raise MCPError(types.INTERNAL_ERROR, "internal: the call was broken off inside the server") from None


class _Face:
    """The handlers. Each is `(ctx, params) -> result`, as the SDK calls it."""

    def __init__(self, konstruct: Konstruct, clock: Callable[[], float]) -> None:
        self._konstruct = konstruct
        self._kept: Shares[str, _Kept] = Shares(_KEPT_CHARS, _KEPT_S, clock)

    async def list_tools(self, ctx: _Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_complete_tool(self._konstruct), _LIST_GROUPS_TOOL])

    async def call_tool(self, ctx: _Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        arguments = params.arguments or {}
        try:
            match params.name:
                case "complete":
                    return await self._complete(arguments, ctx)
                case "list_groups":
                    if arguments:
                        raise InvalidArgumentError(f"{min(arguments)}: unknown field; list_groups takes none")
                    return await _in_time(_result, self._groups())
        except KonstructError as error:
            return _error(error)
        except Exception:
            _log.exception("tool %s failed in konstruct_mcp itself", params.name)
            return _error(InternalError("a defect in konstruct_mcp; its log has the details"))
        raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {cut(params.name, 100)}; tools: complete, list_groups")

    async def _complete(self, arguments: Mapping[str, Any], ctx: _Context) -> types.CallToolResult:
        arrived = time.monotonic()
        async with _progress(ctx) as tell:
            request = await self._konstruct.request(arguments)
            config = self._konstruct.config
            completion = await self._konstruct.answer(request, tell, arrived=arrived)
        answer = completion.as_dict()
        content, calls = answer["content"], answer["tool_calls"]
        sizes = await _in_time(_sizes, calls)
        if len(content) + sum(sizes) <= config.max_result_chars:
            return await _in_time(_result, answer)
        # Half of it is the text's, where the calls want more than the other half.
        shown = _fitting(sizes, config.max_result_chars - min(len(content), config.max_result_chars // 2))
        answer["tool_calls"] = calls[:shown]
        answer["content"] = _cut(content, config.max_result_chars - sum(sizes[:shown]))
        told: dict[str, Any] = {"shown_chars": len(answer["content"]), "chars": len(content)}
        whole = _Kept(request.tenant_id or config.default_tenant, content)
        if shown < len(calls):
            told |= {"shown_tool_calls": shown, "tool_calls": len(calls)}
            text = await _in_time(_json, {"content": content, "tool_calls": calls})
            whole = replace(whole, content=text, mime_type="application/json")
        uri = self._keep(whole)
        answer["truncated"] = told | {"uri": uri}
        result = await _in_time(_result, answer)
        if uri is not None:
            name = uri.removeprefix("konstruct://")
            result.content.append(types.ResourceLink(uri=uri, name=name, mime_type=whole.mime_type))
        return result

    def _shows(self, tenant: str) -> bool:
        """Whether this tenant's affairs may be read here: not on another tenant's server."""
        return self._konstruct.config.known_tenant in (None, tenant)

    def _keep(self, whole: _Kept) -> str | None:
        """Where the whole of an answer can be read; None if it cannot be: where this is another tenant's server, and if
        it is larger than all that is kept together."""
        if not self._shows(whole.tenant):
            return None
        kept = str(uuid.uuid4())
        fits = self._kept.keep(whole.tenant, kept, whole, len(whole.content))
        return f"{_COMPLETIONS_URI}/{kept}" if fits else None

    def _completion(self, kept_id: str) -> _Kept:
        kept = self._kept.get(kept_id)
        if kept is None or not self._shows(kept.tenant):
            raise InvalidArgumentError("no such answer; one that was cut is kept for an hour, if there is room")
        return kept

    def _groups(self) -> dict[str, Any]:
        return {
            "default_group": self._konstruct.default_group,
            "groups": [group.as_dict() for group in self._konstruct.groups()],
        }

    async def list_resources(
        self, ctx: _Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        return types.ListResourcesResult(
            resources=[
                types.Resource(
                    uri=_GROUPS_URI,
                    name="groups",
                    description="The model groups, their deployments and the state of each.",
                    mime_type="application/json",
                ),
                types.Resource(
                    uri=_USAGE_URI,
                    name="usage",
                    description=f"Spend, calls and tokens of the last {_USAGE_DAYS} days, and the budgets.",
                    mime_type="application/json",
                ),
                types.Resource(
                    uri=_CONFIG_URI,
                    name="config",
                    description="The effective config, secrets masked.",
                    mime_type="application/yaml",
                ),
            ]
        )

    async def list_resource_templates(
        self, ctx: _Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(
            resource_templates=[
                types.ResourceTemplate(
                    uri_template=_GROUP_TEMPLATE,
                    name="group",
                    description="One model group, its deployments and the state of each.",
                    mime_type="application/json",
                ),
                types.ResourceTemplate(
                    uri_template=_USAGE_TEMPLATE,
                    name="tenant_usage",
                    description="The same of one tenant.",
                    mime_type="application/json",
                ),
                types.ResourceTemplate(
                    uri_template=_COMPLETION_TEMPLATE,
                    name="completion",
                    description="The whole of an answer that was cut, for an hour.",
                    mime_type="text/plain",
                ),
            ]
        )

    async def read_resource(self, ctx: _Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        uri = str(params.uri)
        try:
            if uri == _GROUPS_URI:
                return _document(_json(self._groups()), uri, "application/json")
            if uri == _CONFIG_URI:
                return _document(await _in_time(_yaml, self._config()), uri, "application/yaml")
            if uri.startswith(f"{_GROUPS_URI}/"):
                group = self._konstruct.group(unquote(uri.removeprefix(f"{_GROUPS_URI}/")))
                return _document(_json(group.as_dict()), uri, "application/json")
            if uri == _USAGE_URI or uri.startswith(f"{_USAGE_URI}/"):
                tenant = unquote(uri.removeprefix(_USAGE_URI).removeprefix("/"))
                return _document(_json(await self._usage(tenant or None)), uri, "application/json")
            if uri.startswith(f"{_COMPLETIONS_URI}/"):
                kept = self._completion(uri.removeprefix(f"{_COMPLETIONS_URI}/"))
                return await _in_time(_document, kept.content, uri, kept.mime_type)
        except RequestError as error:
            raise MCPError(types.INVALID_PARAMS, str(error)) from None
        except KonstructError as error:
            raise MCPError(types.INTERNAL_ERROR, str(error)) from None
        known = ", ".join(
            (_GROUPS_URI, _GROUP_TEMPLATE, _USAGE_URI, _USAGE_TEMPLATE, _COMPLETION_TEMPLATE, _CONFIG_URI)
        )
        raise MCPError(types.INVALID_PARAMS, f"Unknown resource; there are {known}")

    def _config(self) -> Mapping[str, Any]:
        """The config in use; before it, what is wrong with the file if it has changed since and cannot be used."""
        config, faults = self._konstruct.config, list(self._konstruct.config_faults)
        if faults and config.known_tenant is not None:  # a fault may name another tenant, or a group of one
            faults = [_FAULTY]
        return {"faults": faults, **config.public} if faults else config.public

    async def _usage(self, tenant: str | None) -> dict[str, Any]:
        """Of the tenant whose server this is, and of no other; an operator's server has everybody's."""
        if tenant is not None and not self._shows(tenant):
            raise UnknownTenantError(f"no account of {quoted(tenant)} here; read {_USAGE_URI}")
        own = self._konstruct.config.known_tenant
        since = datetime.now(UTC).date() - timedelta(days=_USAGE_DAYS - 1)
        report = await self._konstruct.usage(tenant or own, since=since.isoformat())
        return await asyncio.to_thread(report.as_dict)  # a long ledger is summed up beside the calls

    async def complete_argument(self, ctx: _Context, params: types.CompleteRequestParams) -> types.CompleteResult:
        names: list[str] = []
        if isinstance(params.ref, types.ResourceTemplateReference):
            asked = params.ref.uri, params.argument.name
            if asked == (_GROUP_TEMPLATE, "name"):
                names = [name for name, _ in _choice(self._konstruct)[0]]
            elif asked == (_USAGE_TEMPLATE, "tenant_id"):
                with suppress(ConfigError):
                    config = self._konstruct.config
                    names = list(config.tenants) if config.known_tenant is None else [config.known_tenant]
        typed = params.argument.value.casefold()
        # Quoted, because the client puts the value into the URI as it is.
        values = [quote(name, safe="") for name in names if name.casefold().startswith(typed)]
        shown = values[:_COMPLETION_LIMIT]
        return types.CompleteResult(
            completion=types.Completion(values=shown, total=len(values), has_more=len(values) > len(shown))
        )


@dataclass(frozen=True, slots=True)
class _Kept:
    """The whole of an answer that was cut, and whose it is."""

    tenant: str
    content: str
    mime_type: str = "text/plain"


@asynccontextmanager
async def _progress(ctx: _Context) -> AsyncIterator[Callable[[str], None]]:
    """What is told is reported until the block ends, to a client that has asked for it; to another it is not."""
    began, line = time.monotonic(), ""

    def tell(news: str) -> None:
        nonlocal line
        line = news

    async def report() -> None:
        while True:
            await ctx.session.report_progress(round(time.monotonic() - began, 3), message=scrubbed(line))
            await anyio.sleep(_PROGRESS_S)

    reporting: list[asyncio.Future[None]] = []
    # A timer until then: most answers come before the first report, and a task would cost as much as all of this.
    starting = asyncio.get_running_loop().call_later(
        _FIRST_PROGRESS_S, lambda: reporting.append(asyncio.ensure_future(report()))
    )
    try:
        yield tell
    finally:
        starting.cancel()
        for task in reporting:
            task.cancel()


async def _in_time(function: Callable[..., _T], value: Any, *args: Any) -> _T:
    """What a function makes of a value; beside the event loop, if that is large."""
    return await in_thread_if_large(function, value, *args, is_large=is_large(value))


def _sizes(calls: Sequence[Mapping[str, Any]]) -> list[int]:
    """How many characters each call takes of a result."""
    return [len(_json(call)) for call in calls]


def _fitting(sizes: Sequence[int], most: int) -> int:
    """How many of the first ones fit together."""
    return sum(size <= most for size in itertools.accumulate(sizes))


def _cut(text: str, most: int) -> str:
    """The beginning of a text, up to the end of a sentence, or of a word where the last sentence is a very long one."""
    head = text[: most + 1]  # with what follows the last character that fits: it may be the end of a word
    ends = [match.end() for match in _SENTENCE_END.finditer(head, most // 2) if match.end() <= most]
    end = ends[-1] if ends else head.rfind(" ", most // 2)
    return head[: end if end > 0 else most].rstrip()


def _result(answer: dict[str, Any]) -> types.CallToolResult:
    """The same object twice: some clients show the model only the structure, others only the text."""
    answer = scrubbed(answer)
    return types.CallToolResult(content=[types.TextContent(type="text", text=_json(answer))], structured_content=answer)


def _error(error: KonstructError) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=str(error))], is_error=True)


def _document(text: str, uri: str, mime_type: str) -> types.ReadResourceResult:
    return types.ReadResourceResult(
        contents=[types.TextResourceContents(uri=uri, mime_type=mime_type, text=scrubbed(text))]
    )


def _json(value: Any) -> str:
    # Without spaces: an assistant pays for every byte.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(_plain(value), sort_keys=False, allow_unicode=True)
    return text


def _plain(value: Any) -> Any:
    """Frozen mappings and tuples as the dicts and lists that a YAML writer knows."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


# -- tools -----------------------------------------------------------------------------------------------------------
# The schemas are written by hand and kept short, because every assistant carries them in its context: they tell a
# model how to call, while `Request` decides what is accepted. A test holds the two against each other.


def _complete_tool(konstruct: Konstruct) -> types.Tool:
    return types.Tool(
        name="complete",
        title="Ask another model",
        description="Get a completion from another language model.",
        input_schema={
            "type": "object",
            "properties": {
                "messages": {
                    "type": "array",
                    "minItems": 1,
                    "description": "The whole conversation, in OpenAI's format",
                    "items": {
                        "type": "object",
                        "properties": {
                            "role": {"type": "string", "enum": ["system", "developer", "user", "assistant", "tool"]},
                            "content": {
                                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}],
                                "description": "text, or parts: {type: text, text} and, from the user, "
                                "{type: image_url, image_url: {url: data:image/png;base64,...}}",
                            },
                            "tool_calls": {
                                "type": "array",
                                "items": {"type": "object"},
                                "description": "of an assistant message, as complete returned them",
                            },
                            "tool_call_id": {"type": "string", "description": "of a tool message"},
                        },
                        "required": ["role"],
                    },
                },
                "model_group": _group_argument(konstruct),
                "tools": {"type": "array", "items": {"type": "object"}, "description": "OpenAI function tools"},
                "tool_choice": {
                    "anyOf": [{"type": "string", "enum": ["auto", "none", "required"]}, {"type": "object"}],
                    "description": "an object names one function (OpenAI format)",
                },
                "response_format": {"type": "object", "description": "OpenAI format: json_object or json_schema"},
                "max_tokens": {"type": "integer", "minimum": 1},
                "temperature": {"type": "number", "minimum": 0, "maximum": 2},
                "timeout_s": {"type": "number", "description": "seconds for the whole call"},
                "tenant_id": {"type": "string", "description": "whose account; leave out unless told"},
            },
            "required": ["messages"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {
                "content": {"type": "string"},
                "tool_calls": {"type": "array", "items": {"type": "object"}},
                "finish_reason": {"type": "string"},
                "model_group": {"type": "string"},
                "served_group": {"type": "string", "description": "differs after a fallback"},
                "model": {"type": "string"},
                "attempts": {"type": "array", "items": {"type": "object"}, "description": "failed tries"},
                "usage": {"type": "object"},
                "cost_usd": {"anyOf": [{"type": "number"}, {"type": "null"}], "description": "null: unknown"},
                "at_most_usd": {"type": "number"},
                "duration_ms": {"type": "integer"},
                "notes": {"type": "array", "items": {"type": "string"}, "description": "what was left out or changed"},
                "truncated": {"type": "object", "description": "what was cut; read uri for the whole"},
            },
            "required": [
                *("content", "tool_calls", "finish_reason", "model_group", "served_group", "model"),
                *("usage", "cost_usd", "duration_ms"),
            ],
        },
        annotations=types.ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=True),
    )


_LIST_GROUPS_TOOL = types.Tool(
    name="list_groups",
    title="List model groups",
    description="The model groups: deployments, prices, abilities, and what can be called now.",
    input_schema={"type": "object", "properties": {}, "additionalProperties": False},
    output_schema={
        "type": "object",
        "properties": {
            "default_group": {"type": "string"},
            "groups": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["default_group", "groups"],
    },
    annotations=types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
)
