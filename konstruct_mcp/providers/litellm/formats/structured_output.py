"""The `response_format` of a request, in the form that the deployment's API has for it.

An API that has none is asked for JSON in the prompt, and the answer carries a note that says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from konstruct_mcp.providers.litellm.formats.draft import Draft
from konstruct_mcp.providers.litellm.formats.json_schemas import closed_schema, has_refs
from konstruct_mcp.providers.litellm.formats.tools import without_alternatives

JSON_TOOL = "json_tool_call"  # LiteLLM takes the arguments of a call to a tool of this name for the answer's text


def add_response_format(draft: Draft) -> None:
    """Ask for JSON, where the request does. Comes after the tools: some models take only one of the two."""
    wanted = draft.request.response_format
    if wanted is None or wanted.type == "text":
        return
    profile, schema = draft.profile, None if wanted.json_schema is None else wanted.json_schema.schema_
    has_tools = "tools" in draft.options and draft.options.get("tool_choice") != "none"
    match profile.api:
        case "anthropic" | "converse" if profile.is_claude or profile.entry.get("supports_native_structured_output"):
            _ask_claude(draft, schema, has_tools=has_tools)
        case "gemini":
            if has_tools and not profile.takes_thinking_level:  # the older Geminis take tools or a format, not both
                _ask_in_prompt(draft, schema)
            else:
                config: dict[str, Any] = {"response_mime_type": "application/json"}
                if schema is not None:
                    config["response_json_schema"] = schema
                draft.body["generationConfig"] = config
        case "cohere":
            if has_tools:
                _ask_in_prompt(draft, schema)
            else:
                draft.body["response_format"] = {"type": "json_object"} | (
                    {} if schema is None else {"json_schema": schema}
                )
        case "converse":
            _ask_in_prompt(draft, schema)
        case _ if profile.provider == "lm_studio" and schema is None:  # it knows json_schema alone
            any_object = {"name": "answer", "schema": {"type": "object"}}
            draft.options["response_format"] = {"type": "json_schema", "json_schema": any_object}
        case _ if profile.provider == "deepseek" and schema is not None:  # it knows json_object alone
            _ask_in_prompt(draft, schema)
            draft.options["response_format"] = {"type": "json_object"}
        case _ if profile.is_claude and schema is None:  # behind OpenAI's API a Claude knows json_schema alone
            _ask_in_prompt(draft, schema)
        case _:
            place = draft.body if draft.imitates_openai else draft.options
            place["response_format"] = wanted.model_dump(exclude_none=True, by_alias=True)


def _ask_claude(draft: Draft, schema: Mapping[str, Any] | None, *, has_tools: bool) -> None:
    """Ask a Claude for JSON: by its structured outputs, which want closed schemas; else by a tool whose arguments are
    the answer, where it can be made to call one; else in the prompt."""
    profile = draft.profile
    if schema is not None and _has_structured_output(draft) and (found := closed_schema(schema)) is not None:
        closed, in_words = found
        if in_words:
            keys = ", ".join(sorted(in_words))
            draft.notes.append(f"of the schema, {keys} is asked for in words: {profile.name} has no form for it")
        if profile.api == "anthropic":
            draft.body["output_config"] = {"format": {"type": "json_schema", "schema": closed}}
        else:
            structure = {"jsonSchema": {"schema": json.dumps(closed, ensure_ascii=False), "name": "answer"}}
            draft.body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": structure}}
        return
    if has_tools and draft.options.get("tool_choice") not in (None, "auto"):
        return  # the model must call one of the caller's tools, whose arguments have schemas of their own
    # A Claude that thinks by default, and was not told to, can be told not to; then a call can be forced.
    stops = draft.thinks and profile.thinking.claude is None and not profile.thinks_always and profile.api == "converse"
    can_force = profile.is_claude and profile.can_be_forced_to_call and (stops or not draft.thinks)
    if schema is None or schema.get("type") != "object" or not can_force:
        _ask_in_prompt(draft, schema)
        return
    if stops:
        draft.stop_thinking()
    _add_json_tool(draft, schema, has_tools=has_tools)


def _add_json_tool(draft: Draft, schema: Mapping[str, Any], *, has_tools: bool) -> None:
    description = "Gives the answer. Call it once, with the whole answer, when nothing else is to be looked up."
    function = {"name": JSON_TOOL, "description": description, "parameters": dict(schema)}
    draft.schemas[JSON_TOOL] = without_alternatives(draft, "the answer", schema)
    if has_refs(schema):
        function["parameters"] = {"type": "object", "properties": {}}
    draft.options["tools"] = [*draft.options.get("tools", ()), {"type": "function", "function": function}]
    named = {"type": "function", "function": {"name": JSON_TOOL}}
    draft.options |= {"tool_choice": "required" if has_tools else named, "json_mode": True}


def _has_structured_output(draft: Draft) -> bool:
    """Whether a Claude has structured outputs, and they are the better way: on Bedrock some have them and need them
    only while they think."""
    profile = draft.profile
    given = profile.entry.get("supports_native_structured_output")
    if profile.api != "converse" or given:
        return bool(given) if profile.is_known or given is not None else True
    there = profile.entry.get("supports_bedrock_native_structured_output")
    by_default = profile.entry.get("supports_bedrock_native_structured_output_by_default")
    if there is False or not (profile.is_known or given is not None or there or by_default):
        return there is not False
    needs_it = profile.thinks_always or not profile.can_be_forced_to_call
    return bool(by_default or (there and draft.thinks) or needs_it)


def _ask_in_prompt(draft: Draft, schema: Mapping[str, Any] | None) -> None:
    draft.in_words = True
    if schema is None:
        asked = "Answer with one JSON object and nothing else: no words around it, no code fence."
    else:
        asked = "Answer with one JSON value and nothing else: no words around it, no code fence."
        asked += f" It has to be valid by this JSON schema:\n{json.dumps(schema, ensure_ascii=False)}"
    draft.system.append(asked)
    what = "json_object" if schema is None else "json_schema"
    draft.notes.append(f"response_format {what} is asked for in words: {draft.profile.name} has no form for it here")
