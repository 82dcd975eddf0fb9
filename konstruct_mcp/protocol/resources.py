"""The resources and the completion of their arguments, for the caller of each request."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote

from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from konstruct_mcp.core.errors import ConfigError, InvalidArgumentError, UnknownTenantError
from konstruct_mcp.core.text import quoted
from konstruct_mcp.gateway.caller import Caller
from konstruct_mcp.gateway.konstruct import Konstruct
from konstruct_mcp.protocol.instructions import choice_of
from konstruct_mcp.protocol.kept_answers import KeptAnswer, KeptAnswers
from konstruct_mcp.protocol.texts import as_json, as_yaml, beside_if_large, document
from konstruct_mcp.protocol.tokens import current_caller

GROUPS_URI = "konstruct://groups"
CONFIG_URI = "konstruct://config"
USAGE_URI = "konstruct://usage"
_GROUP_TEMPLATE = "konstruct://groups/{name}"
_USAGE_TEMPLATE = "konstruct://usage/{tenant_id}"
_COMPLETIONS_URI = "konstruct://completions"
_COMPLETION_TEMPLATE = "konstruct://completions/{id}"
_KNOWN = (GROUPS_URI, _GROUP_TEMPLATE, USAGE_URI, _USAGE_TEMPLATE, _COMPLETION_TEMPLATE, CONFIG_URI)
_USAGE_DAYS = 30  # an assistant reads all of it
_MOST_VALUES = 100  # in one answer to the completion of an argument, by the protocol

_RESOURCES = [
    types.Resource(
        uri=GROUPS_URI,
        name="groups",
        description="The model groups, their deployments and the state of each.",
        mime_type="application/json",
    ),
    types.Resource(
        uri=USAGE_URI,
        name="usage",
        description=f"Spend, calls and tokens of the last {_USAGE_DAYS} days, and the budgets.",
        mime_type="application/json",
    ),
    types.Resource(
        uri=CONFIG_URI,
        name="config",
        description="The effective config, secrets masked.",
        mime_type="application/yaml",
    ),
]
_TEMPLATES = [
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


def answer_uri(answer_id: str) -> str:
    """Where a kept answer is read."""
    return f"{_COMPLETIONS_URI}/{answer_id}"


async def kept_answer(konstruct: Konstruct, kept: KeptAnswers, uri: str, caller: Caller) -> KeptAnswer:
    """The whole of an answer that was cut.

    Raises:
        InvalidArgumentError: there is none at this address, or none any more, or the caller may not read it.
    """
    answer_id = uri.removeprefix(f"{_COMPLETIONS_URI}/")
    answer = None if answer_id == uri else await kept.get(answer_id)
    if answer is None or not caller.may_read(konstruct.config_for(caller), answer.tenant):
        raise InvalidArgumentError("no such answer; one that was cut is kept for an hour, if there is room")
    return answer


async def groups_document(konstruct: Konstruct, caller: Caller) -> dict[str, Any]:
    """The groups as the tool `list_groups` and the resource show them."""
    await konstruct.look_for_ollama()
    groups, choice = konstruct.groups(caller=caller), konstruct.choice(caller=caller)
    return {
        "default_group": choice.default_group,
        **({"default_reason": choice.default_reason} if choice.default_reason else {}),
        "groups": [group.as_dict() for group in groups],
    }


class Resources:
    """Handlers, each `(ctx, params) -> result` as the SDK calls it."""

    def __init__(self, konstruct: Konstruct, kept: KeptAnswers) -> None:
        self._konstruct, self._kept = konstruct, kept

    async def list_resources(
        self, ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        return types.ListResourcesResult(resources=_RESOURCES)

    async def list_resource_templates(
        self, ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(resource_templates=_TEMPLATES)

    async def read_resource(
        self, ctx: ServerRequestContext[Any], params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        uri, caller = str(params.uri), current_caller()
        if uri == GROUPS_URI:
            return document(as_json(await groups_document(self._konstruct, caller)), uri, "application/json")
        if uri == CONFIG_URI:
            shown = self._konstruct.effective_config(caller=caller)
            return document(await beside_if_large(as_yaml, shown), uri, "application/yaml")
        if uri.startswith(f"{GROUPS_URI}/"):
            group = self._konstruct.group(unquote(uri.removeprefix(f"{GROUPS_URI}/")), caller=caller)
            return document(as_json(group.as_dict()), uri, "application/json")
        if uri == USAGE_URI or uri.startswith(f"{USAGE_URI}/"):
            tenant = unquote(uri.removeprefix(USAGE_URI).removeprefix("/"))
            return document(as_json(await self._usage(tenant or None, caller)), uri, "application/json")
        if uri.startswith(f"{_COMPLETIONS_URI}/"):
            kept = await kept_answer(self._konstruct, self._kept, uri, caller)
            return await beside_if_large(document, kept.content, uri, kept.mime_type)
        raise MCPError(types.INVALID_PARAMS, f"Unknown resource; there are {', '.join(_KNOWN)}", {"uri": uri})

    async def _usage(self, tenant: str | None, caller: Caller) -> dict[str, Any]:
        """A tenant's, where the caller may read it; for None the caller's own, or everybody's to the operator."""
        config = self._konstruct.config_for(caller)
        if tenant is not None and not caller.may_read_account(config, tenant):
            raise UnknownTenantError(f"no account of {quoted(tenant)} here; read {USAGE_URI}")
        since = datetime.now(UTC).date() - timedelta(days=_USAGE_DAYS - 1)
        report = await self._konstruct.usage(tenant, since=since.isoformat(), caller=caller)
        return await asyncio.to_thread(report.as_dict)  # a long ledger is summed up beside the calls

    async def complete_argument(
        self, ctx: ServerRequestContext[Any], params: types.CompleteRequestParams
    ) -> types.CompleteResult:
        names: list[str] = []
        if isinstance(params.ref, types.ResourceTemplateReference):
            asked, caller = (params.ref.uri, params.argument.name), current_caller()
            if asked == (_GROUP_TEMPLATE, "name"):
                names = [group.name for group in choice_of(self._konstruct, caller).groups]
            elif asked == (_USAGE_TEMPLATE, "tenant_id"):
                names = self._tenants(caller)
        typed = params.argument.value.casefold()
        # Quoted, because the client puts the value into the URI as it is.
        values = [quote(name, safe="") for name in names if name.casefold().startswith(typed)]
        shown = values[:_MOST_VALUES]
        return types.CompleteResult(
            completion=types.Completion(values=shown, total=len(values), has_more=len(values) > len(shown))
        )

    def _tenants(self, caller: Caller) -> list[str]:
        """Those whose usage a caller may read."""
        try:
            config = self._konstruct.config_for(caller)
        except ConfigError:
            return []
        only = caller.only_account(config)
        return [*config.tenants] if only is None else [only]
