"""The tools of a request and the choice among them.

The meaning of `tool_choice` is kept, or the deployment is not asked: a caller that requires a tool call cannot use an
answer without one.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from konstruct_mcp.core.messages import NamedTool, Tool
from konstruct_mcp.providers.litellm.formats.draft import Draft, UnfitError
from konstruct_mcp.providers.litellm.formats.json_schemas import has_refs, object_schema, property_names, without_titles

# LiteLLM takes a tool's parameters of these names for keywords of a schema, or for its own, and leaves them out.
_DROPPED_PARAMETERS = frozenset({"strict", "cache_control"})
_KEPT_BY_LITELLM = frozenset({"type", "properties", "required", "additionalProperties"})  # keys of a tool's schema
_ALTERNATIVES = frozenset({"oneOf", "anyOf", "allOf"})
_UNCHANGED_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # a tool's name that LiteLLM does not change for Bedrock


def add_tools(draft: Draft) -> None:
    """Add the tools and the choice among them.

    Raises:
        UnfitError: a tool must be called, and the model cannot be made to call one.
    """
    profile, request, options = draft.profile, draft.request, draft.options
    choice = request.tool_choice
    called = {call["function"]["name"]: None for message in draft.messages for call in message.get("tool_calls") or ()}
    if request.tools:
        options["tools"] = [_definition(draft, tool) for tool in request.tools]
        if choice is not None:
            options["tool_choice"] = choice.model_dump() if isinstance(choice, NamedTool) else choice
    elif called and profile.api in ("anthropic", "converse"):
        # These refuse a history with tool calls unless the request defines tools.
        parameters = {"type": "object", "properties": {}}
        options["tools"] = [
            {"type": "function", "function": {"name": name, "parameters": parameters}} for name in called
        ]
        options["tool_choice"] = choice = "none"  # whatever it was: the caller has given no tools
    if choice == "none" and "tools" in options and not (profile.takes_tool_choice and profile.api != "converse"):
        # "none" cannot be said there.
        del options["tool_choice"]
        if called:
            draft.system.append("Do not call any tool in this turn; answer in words.")
        else:
            del options["tools"]
    if isinstance(choice, NamedTool) or choice == "required":
        _make_way_for_forced_call(draft)
    if not profile.takes_tool_choice:
        options.pop("tool_choice", None)  # what is left of it is the model's default
    if "tool_choice" in options:
        _write_choice(draft, choice)
    if draft.imitates_openai and profile.entry.get("supports_function_calling"):
        options["allowed_openai_params"] = ["tools", "tool_choice"]
    if profile.api == "openai" and "tools" in options and any(map(_loses_parameters, request.tools or ())):
        tools = copy.deepcopy(options["tools"])  # LiteLLM changes those in the options in place
        draft.body["tools"] = [_without_strict(tool) if draft.imitates_openai else tool for tool in tools]


def _write_choice(draft: Draft, choice: Any) -> None:
    """Write the choice for providers that have a form of it that LiteLLM does not know, or leaves out."""
    options, provider, api = draft.options, draft.profile.provider, draft.profile.api
    named = choice.function.name if isinstance(choice, NamedTool) else None
    if named is not None and api == "responses":
        draft.body["tool_choice"] = {"type": "function", "name": named}
        del options["tool_choice"]
    elif (
        (named is not None and draft.profile.is_mistral)
        or (choice == "required" and provider == "moonshot")
        or draft.profile.reasons_in_openais_way
    ):
        # LiteLLM turns Mistral's named tool into "any", adds a message that asks for a tool for Moonshot, and decides
        # by name which of OpenAI's models take a choice.
        draft.body["tool_choice"] = options.pop("tool_choice")
    elif api == "cohere" or (named is not None and provider == "lm_studio"):
        # These know no named tool: the tool is required, and it is the only one.
        if named is not None:
            options["tools"] = [tool for tool in options["tools"] if tool["function"]["name"] == named]
            choice = "required"
        del options["tool_choice"]
        if choice != "auto":
            draft.body["tool_choice"] = choice.upper() if api == "cohere" else choice


def move_bedrock_tool_choice(draft: Draft) -> None:
    """Write the choice into Bedrock's body: LiteLLM decides by name which models of Bedrock take tools and a choice."""
    options = draft.options
    if draft.profile.api != "converse" or "tools" not in options:
        return
    options["allowed_openai_params"] = ["tools"]
    choice = options.pop("tool_choice", None)
    if isinstance(choice, Mapping):
        draft.body["toolConfig"] = {"toolChoice": {"tool": {"name": choice["function"]["name"]}}}
    elif choice is not None:
        draft.body["toolConfig"] = {"toolChoice": {"any" if choice == "required" else "auto": {}}}


def bedrock_tool_names(draft: Draft) -> tuple[str, ...]:
    """The names of the tools in their order, where LiteLLM would change one of them for Bedrock."""
    names = tuple(tool["function"]["name"] for tool in draft.options.get("tools", ()))
    is_changed = not all(map(_UNCHANGED_NAME.fullmatch, names))
    return names if draft.profile.api == "converse" and is_changed else ()


def _make_way_for_forced_call(draft: Draft) -> None:
    """Stop a Claude from thinking: while it thinks, it refuses a tool that must be called."""
    profile = draft.profile
    if not profile.takes_tool_choice or (
        profile.is_claude and (not profile.can_be_forced_to_call or profile.thinks_always)
    ):
        raise UnfitError("cannot be made to call a tool")
    if profile.is_claude and draft.thinks:
        if profile.thinking.claude is not None:
            draft.notes.append(f"thinking was left out: {profile.name} cannot think where a tool must be called")
        draft.stop_thinking()


def _definition(draft: Draft, tool: Tool) -> dict[str, Any]:
    """A tool in OpenAI's format.

    Where LiteLLM would cut its schema, or write out each reference in full, LiteLLM gets an empty schema and the true
    one is put into the body.
    """
    made = tool.model_dump(exclude_none=True, by_alias=True)
    name, api = tool.function.name, draft.profile.api
    schema = object_schema(made["function"].get("parameters"))
    made["function"]["parameters"] = schema
    if not (tool.function.description or "").strip():
        made["function"].pop("description", None)  # Bedrock refuses an empty one
    if api == "anthropic" and not _KEPT_BY_LITELLM.issuperset(schema):
        draft.schemas[name] = {"properties": {}, **without_alternatives(draft, name, schema), "type": "object"}
    elif api == "gemini" or (api == "converse" and has_refs(schema)):
        draft.schemas[name] = without_titles(schema) if api == "gemini" else schema
        made["function"]["parameters"] = {"type": "object", "properties": {}}
    return made


def without_alternatives(draft: Draft, whose: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """A tool's schema without `oneOf` and the like at its top, where Anthropic refuses them; notes what is left out."""
    if cut := sorted(_ALTERNATIVES.intersection(schema)):
        draft.notes.append(f"{', '.join(cut)} at the top of the schema of {whose} was left out")
    return {key: value for key, value in schema.items() if key not in _ALTERNATIVES}


def _loses_parameters(tool: Tool) -> bool:
    """Whether LiteLLM would leave out parameters of the tool because of their names."""
    return not _DROPPED_PARAMETERS.isdisjoint(property_names(tool.function.parameters))


def _without_strict(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as LiteLLM sends it to servers that imitate OpenAI: some of them do not know `strict`."""
    return {**tool, "function": {key: value for key, value in tool["function"].items() if key != "strict"}}
