"""The tools that go out to each provider, and the choice among them.

The models are of the table that ships with us; what holds for them holds for any that has the same data.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.default_groups import HELLO, entry, opened, reaching, schema_format
from support.model_requests import (
    CALLED,
    CITY,
    HAIKU,
    OPEN_KEYS,
    OPUS,
    SONNET_45,
    SONNET_46,
    WEATHER,
    ask,
    at,
    in_words,
    left_out,
    wire_of,
)
from support.providers import Provider, Text

from konstruct_mcp.core.errors import KonstructError

pytestmark = pytest.mark.many_cases


NAMED = {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize(
    ("model", "choice", "path", "sent"),
    [
        (SONNET_46, "none", "tool_choice", {"type": "none"}),
        (SONNET_46, "required", "tool_choice", {"type": "any"}),
        (SONNET_46, NAMED, "tool_choice", {"type": "tool", "name": "weather"}),
        ("openai/gpt-5-codex", NAMED, "tool_choice", {"type": "function", "name": "weather"}),
        ("openai/gpt-6-sol", NAMED, "tool_choice", NAMED),
        ("mistral/mistral-large-4", "required", "tool_choice", "any"),
        ("gemini/gemini-4-argon", "required", "toolConfig.functionCallingConfig.mode", "ANY"),
        ("gemini/gemini-4-argon", "none", "toolConfig.functionCallingConfig.mode", "NONE"),
        ("bedrock/us.anthropic.claude-sonnet-4-6", "required", "toolConfig.toolChoice", {"any": {}}),
        ("bedrock/us.anthropic.claude-sonnet-4-6", NAMED, "toolConfig.toolChoice", {"tool": {"name": "weather"}}),
        ("bedrock/us.anthropic.claude-sonnet-4-6", "none", "toolConfig", None),
        # Whose names LiteLLM does not know.
        ("bedrock/us.anthropic.claude-opus-4-7", "required", "toolConfig.toolChoice", {"any": {}}),
        ("bedrock/converse/anthropic.claude-opus-4-8", NAMED, "toolConfig.toolChoice", {"tool": {"name": "weather"}}),
        ("bedrock/global.anthropic.claude-sonnet-5", "required", "toolConfig.toolChoice", {"any": {}}),
        ("bedrock/moonshotai.kimi-k3.1", "auto", "toolConfig.toolChoice", {"auto": {}}),
        ("bedrock/us.meta.llama3-3-70b-instruct-v1:0", "auto", "toolConfig.toolChoice", None),  # it takes no choice
        ("moonshot/kimi-k3", "required", "tool_choice", "required"),
        ("moonshot/kimi-k3", "required", "messages", HELLO),
    ],
)
async def test_a_choice_among_tools_goes_out_in_the_provider_s_form(
    tmp_path: Path, model: str, choice: Any, path: str, sent: Any
) -> None:
    asked = await ask(tmp_path, model, tools=[WEATHER], tool_choice=choice)

    assert at(asked.body, path) == sent


@pytest.mark.parametrize(
    ("model", "is_format"),
    [
        ("bedrock/us.anthropic.claude-opus-5", True),  # as its data say, of this region
        ("bedrock/converse/us.anthropic.claude-sonnet-5", True),
        ("bedrock/anthropic.claude-opus-5-5", True),  # which cannot be made to call a tool
        ("bedrock/us.anthropic.claude-sonnet-4-6", True),
        ("bedrock/us.anthropic.claude-opus-4-7", False),
        ("bedrock/us-gov.anthropic.claude-opus-4-8", False),
        ("bedrock/anthropic.claude-opus-5", False),  # which thinks unasked
    ],
)
async def test_a_schema_is_bedrock_s_format_where_the_model_s_data_say_so_and_else_a_tool(
    tmp_path: Path, model: str, is_format: bool
) -> None:
    asked = await ask(tmp_path, model, answer=Text('{"name": "Oslo"}'), response_format=schema_format(CITY))

    assert at(asked.body, "outputConfig.textFormat.type") == ("json_schema" if is_format else None)
    forced = {"tool": {"name": "json_tool_call"}}
    assert at(asked.body, "toolConfig.toolChoice") == (None if is_format else forced)
    assert asked.notes == ((in_words("minLength, minimum", asked.completion.model),) if is_format else ())


async def test_a_format_that_is_a_tool_is_none_of_the_caller_s(tmp_path: Path) -> None:
    calls = [("a", "weather", '{"city": "Oslo"}'), ("b", "json_tool_call", '{"by_name": {}}')]
    answer = Text(None, tool_calls=calls)
    asked = await ask(tmp_path, SONNET_45, answer=answer, tools=[WEATHER], response_format=schema_format(OPEN_KEYS))

    assert [tool["name"] for tool in asked.body["tools"]] == ["weather", "json_tool_call"]
    assert [call.function.name for call in asked.completion.tool_calls] == ["weather"]
    assert asked.completion.finish_reason == "tool_calls"


async def test_an_answer_that_is_called_twice_is_one(tmp_path: Path) -> None:
    calls = [(id_, "json_tool_call", f'{{"by_name": {{"n": {id_}}}}}') for id_ in ("1", "2")]
    asked = await ask(
        tmp_path, SONNET_45, answer=Text(None, tool_calls=calls), response_format=schema_format(OPEN_KEYS)
    )

    assert asked.completion.content == '{"by_name": {"n": 1}}'
    assert (asked.completion.tool_calls, asked.completion.finish_reason) == ((), "stop")


async def test_tools_that_are_not_to_be_called_are_left_out_where_there_is_no_such_choice(tmp_path: Path) -> None:
    parameters = {"type": "object", "properties": {"strict": {"type": "boolean"}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    info = {"supports_tool_choice": False, "supports_function_calling": True}
    asked = await ask(tmp_path, "hosted_vllm/house", info=info, tools=[tool], tool_choice="none")

    assert "tools" not in asked.body
    assert "tool_choice" not in asked.body


async def test_a_claude_behind_openai_s_format_is_asked_nothing_that_goes_ill_with_thinking(tmp_path: Path) -> None:
    model = "databricks/databricks-claude-sonnet-4-5"
    config = {"reasoning_effort": "high"}
    asked = await ask(tmp_path, model, config, temperature=0.2)
    forced = await ask(tmp_path, model, config, tools=[WEATHER], tool_choice="required")

    assert at(asked.body, "thinking.type") == "enabled"
    assert "temperature" not in asked.body
    assert left_out("temperature", model) in asked.notes
    assert forced.body["tool_choice"] == "required"
    assert "thinking" not in forced.body


async def test_alternatives_at_the_top_of_a_tool_are_said_to_be_left_out(tmp_path: Path) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "anyOf": [{"required": ["city"]}]}
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    asked = await ask(tmp_path, SONNET_45, tools=[tool])

    assert "anyOf" not in asked.body["tools"][0]["input_schema"]
    assert asked.notes == ("anyOf at the top of the schema of weather was left out",)


async def test_bedrock_gets_and_gives_the_names_of_tools_as_they_are(tmp_path: Path) -> None:
    names = ("get-weather", "get_weather", "2nd")
    tools = [{"type": "function", "function": {"name": name, "parameters": CITY}} for name in names]
    made = [("1", "get-weather", "{}"), ("2", "get_weather", "{}"), ("9", "fs.read", "{}")]  # by another model
    calls = [{"id": id_, "type": "function", "function": {"name": name, "arguments": "{}"}} for id_, name, _ in made]
    history = [
        *HELLO,
        {"role": "assistant", "tool_calls": calls},
        *({"role": "tool", "tool_call_id": id_, "content": "rain"} for id_, *_ in made),
    ]
    answer = Text(None, tool_calls=[("3", "get_weather", "{}"), ("4", "get-weather", "{}"), ("5", "2nd", "{}")])
    asked = await ask(tmp_path, "bedrock/us.anthropic.claude-sonnet-4-6", answer=answer, messages=history, tools=tools)

    specs = [tool["toolSpec"] for tool in asked.body["toolConfig"]["tools"]]
    assert [spec["name"] for spec in specs] == list(names)
    assert all("$defs" in spec["inputSchema"]["json"] for spec in specs)
    used = [block["toolUse"]["name"] for block in asked.body["messages"][1]["content"] if "toolUse" in block]
    assert used == ["get-weather", "get_weather", "fs_read"]  # it takes no full stop
    assert [call.function.name for call in asked.completion.tool_calls] == ["get_weather", "get-weather", "2nd"]


async def test_thinking_makes_way_where_a_tool_must_be_called(tmp_path: Path) -> None:
    asked = await ask(tmp_path, SONNET_46, {"reasoning_effort": "high"}, tools=[WEATHER], tool_choice="required")

    assert asked.body["tool_choice"] == {"type": "any"}
    assert "thinking" not in asked.body
    assert asked.notes == (f"thinking was left out: {SONNET_46} cannot think where a tool must be called",)


async def test_a_model_that_thinks_unasked_is_told_not_to_where_a_tool_must_be_called(tmp_path: Path) -> None:
    asked = await ask(tmp_path, HAIKU, tools=[WEATHER], tool_choice=NAMED)

    assert asked.body["tool_choice"] == {"type": "tool", "name": "weather"}
    assert asked.body["thinking"] == {"type": "disabled"}


@pytest.mark.parametrize("model", [OPUS, "bedrock/us.meta.llama3-3-70b-instruct-v1:0"])
async def test_a_model_that_cannot_be_made_to_call_a_tool_is_not_asked(tmp_path: Path, model: str) -> None:
    with pytest.raises(KonstructError, match="cannot be made to call a tool"), Provider(wire_of(model)) as provider:
        config = entry("g", reaching(provider, model))
        async with opened(tmp_path, {"model_list": [config]}, {}) as konstruct:
            await konstruct.complete(HELLO, tools=[WEATHER], tool_choice="required")

    assert provider.calls == 0


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("openai/gpt-4o", "function.parameters"),
        ("openai/gpt-5-codex", "parameters"),
        ("mistral/mistral-large-4", "function.parameters"),
        (SONNET_46, "input_schema"),
        ("gemini/gemini-2.5-flash", "parametersJsonSchema"),
        ("bedrock/us.anthropic.claude-sonnet-4-6", "toolSpec.inputSchema.json"),
    ],
)
async def test_a_tool_that_takes_nothing_says_so(tmp_path: Path, model: str, path: str) -> None:
    tools = [
        {"type": "function", "function": {"name": "a"}},
        {"type": "function", "function": {"name": "b", "description": "", "parameters": {}}},
        {"type": "function", "function": {"name": "c", "parameters": {"type": "object"}}},
    ]
    asked = await ask(tmp_path, model, tools=tools)

    sent = asked.body.get("toolConfig", asked.body)["tools"]
    sent = sent[0].get("function_declarations", sent)
    said = [at(tool, path) for tool in sent]
    assert [(each["type"], each["properties"]) for each in said] == [("object", {})] * 3


@pytest.mark.parametrize("model", ["openai/gpt-4o", "openai/gpt-5", "hosted_vllm/qwen3", "xai/grok-4.7"])
async def test_a_parameter_of_a_tool_may_be_called_like_a_word_of_litellm_s(tmp_path: Path, model: str) -> None:
    properties = {"strict": {"type": "boolean"}, "cache_control": {"type": "string"}}
    tool = {"name": "f", "parameters": {"type": "object", "properties": properties}, "strict": False}

    asked = await ask(tmp_path, model, tools=[{"type": "function", "function": tool}])

    assert at(asked.body["tools"][0], "function.parameters.properties") == properties
    assert ("strict" in asked.body["tools"][0]["function"]) is model.startswith("openai")


async def test_the_parameters_of_a_tool_are_gemini_s_as_they_are_but_for_titles(tmp_path: Path) -> None:
    properties = {
        "title": {"type": "string", "default": {"title": "x"}},
        "strict": {"const": "k"},
        "size": {"type": ["object", "null"], "properties": {"n": {"type": "integer", "exclusiveMinimum": 0}}},
    }
    parameters = {"type": "object", "properties": properties, "required": ["title"], "additionalProperties": False}
    titled = {**parameters, "title": "F", "properties": {**properties, "strict": {"const": "k", "title": "Strict"}}}

    asked = await ask(
        tmp_path,
        "gemini/gemini-2.5-flash",
        tools=[{"type": "function", "function": {"name": "f", "parameters": titled}}],
    )

    [declared] = asked.body["tools"][0]["function_declarations"]
    assert declared == {"name": "f", "parametersJsonSchema": parameters}


@pytest.mark.parametrize("model", [SONNET_46, "bedrock/us.anthropic.claude-sonnet-4-6"])
async def test_a_history_with_tools_is_taken_without_tools(tmp_path: Path, model: str) -> None:
    asked = await ask(tmp_path, model, messages=CALLED)

    assert "weather" in json.dumps(asked.body.get("tools", asked.body.get("toolConfig")))
