"""The response format that goes out to each provider, and the answer that comes back.

The models are of the table that ships with us; what holds for them holds for any that has the same data.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.default_groups import schema_format
from support.model_requests import CITY, OPEN_KEYS, OPUS, SONNET_45, SONNET_46, WEATHER, ask, at, in_words
from support.providers import Text

pytestmark = pytest.mark.many_cases


TREE: dict[str, Any] = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/node"}},
    "required": ["root"],
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "below": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
        }
    },
}


@pytest.mark.parametrize("tools", [None, [WEATHER]])
@pytest.mark.parametrize("model", [OPUS, SONNET_46, SONNET_45])
async def test_a_schema_with_references_is_claude_s_own_format_beside_the_tools(
    tmp_path: Path, model: str, tools: list[Any] | None
) -> None:
    asked = await ask(tmp_path, model, response_format=schema_format(CITY), tools=tools)

    schema = asked.body["output_config"]["format"]["schema"]
    assert schema["properties"]["near"] == {"$ref": "#/$defs/place"}
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["place"]["additionalProperties"] is False
    assert schema["properties"]["name"] == {"type": "string", "description": "minLength: 2"}
    assert [tool["name"] for tool in asked.body.get("tools", ())] == (["weather"] if tools else [])
    assert "tool_choice" not in asked.body
    assert asked.notes == (in_words("minLength, minimum", model),)


@pytest.mark.parametrize("schema", [TREE, OPEN_KEYS])
async def test_a_schema_beyond_claude_s_format_is_a_tool_whose_arguments_are_the_answer(
    tmp_path: Path, schema: dict[str, Any]
) -> None:
    answer = Text(None, tool_calls=[("toolu_1", "json_tool_call", '{"root": {"name": "a"}}')])
    asked = await ask(tmp_path, SONNET_46, answer=answer, response_format=schema_format(schema))

    [tool] = asked.body["tools"]
    assert tool["input_schema"] == schema
    assert asked.body["tool_choice"] == {"type": "tool", "name": "json_tool_call"}
    assert json.loads(asked.completion.content) == {"root": {"name": "a"}}
    assert asked.completion.tool_calls == ()
    assert asked.completion.finish_reason == "stop"


async def test_beside_the_caller_s_tools_the_model_chooses_between_them_and_the_answer(tmp_path: Path) -> None:
    answer = Text(None, tool_calls=[("toolu_1", "weather", '{"city": "Oslo"}')])
    asked = await ask(tmp_path, SONNET_46, answer=answer, response_format=schema_format(TREE), tools=[WEATHER])

    assert [tool["name"] for tool in asked.body["tools"]] == ["weather", "json_tool_call"]
    assert asked.body["tool_choice"] == {"type": "any"}
    assert [call.function.name for call in asked.completion.tool_calls] == ["weather"]


@pytest.mark.parametrize("fence", ["{}", "```json\n{}\n```", "```\n{}\n```"])
@pytest.mark.parametrize(
    ("model", "wanted"),
    [(OPUS, schema_format(TREE)), (OPUS, {"type": "json_object"}), (SONNET_45, {"type": "json_object"})],
    ids=["recursive", "object", "older"],
)
async def test_json_without_a_form_is_asked_for_in_words_and_comes_without_a_fence(
    tmp_path: Path, model: str, wanted: dict[str, Any], fence: str
) -> None:
    answer = '{"root": {"name": "a"}}'
    asked = await ask(tmp_path, model, answer=Text(fence.replace("{}", answer)), response_format=wanted)

    [system] = asked.body["system"]
    assert "JSON" in system["text"]
    assert ("#/$defs/node" in system["text"]) is ("json_schema" in wanted)
    assert asked.completion.content == answer
    assert len(asked.notes) == 1


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini/gemini-4-argon", "generationConfig.response_json_schema"),
        ("gemini/gemini-2.5-flash", "generationConfig.response_json_schema"),
        ("openai/gpt-6-sol", "response_format.json_schema.schema"),
        ("openai/gpt-5-codex", "text.format.schema"),
        ("mistral/mistral-large-4", "response_format.json_schema.schema"),
        ("xai/grok-4.7", "response_format.json_schema.schema"),
        ("cohere_chat/command-a-03-2025", "response_format.json_schema"),
    ],
)
@pytest.mark.parametrize("schema", [CITY, TREE], ids=["references", "recursive"])
async def test_a_schema_goes_out_whole_with_its_references(
    tmp_path: Path, model: str, path: str, schema: dict[str, Any]
) -> None:
    asked = await ask(tmp_path, model, info={"supports_response_schema": True}, response_format=schema_format(schema))

    assert at(asked.body, path) == schema


TAKES = {"supports_function_calling": True, "supports_tool_choice": True, "supports_response_schema": True}


@pytest.mark.parametrize(
    "model",
    [
        "together_ai/Qwen/Qwen3.7-Max",
        "fireworks_ai/kimi-of-tomorrow",
        "sambanova/llama-of-tomorrow",
        "groq/llama-of-tomorrow",
        "zai/glm-5.3",
        "databricks/databricks-claude-opus-4-8",
        "azure_ai/mistral-of-tomorrow",
    ],
)
async def test_what_a_model_takes_goes_out_as_it_is_whatever_litellm_knows_of_it(tmp_path: Path, model: str) -> None:
    wanted = schema_format(CITY)
    asked = await ask(tmp_path, model, info=TAKES, tools=[WEATHER], tool_choice="auto", response_format=wanted)

    assert (asked.body["tools"], asked.body["tool_choice"]) == ([WEATHER], "auto")
    assert asked.body["response_format"] == wanted
    assert asked.notes == ()


async def test_a_claude_of_databricks_is_asked_for_an_object_in_words(tmp_path: Path) -> None:
    model = "databricks/databricks-claude-sonnet-4-5"

    asked = await ask(tmp_path, model, answer=Text("```json\n{}\n```"), response_format={"type": "json_object"})

    assert "response_format" not in asked.body
    assert "JSON" in asked.body["messages"][0]["content"]
    assert asked.completion.content == "{}"
    assert len(asked.notes) == 1


def doubling(depth: int) -> dict[str, Any]:
    """A schema that has 2^depth leaves, written out."""
    definitions: dict[str, Any] = {"d0": {"type": "object", "properties": {"x": {"type": "string"}}}}
    for i in range(1, depth):
        below = {"$ref": f"#/$defs/d{i - 1}"}
        definitions[f"d{i}"] = {"type": "object", "properties": {"a": below, "b": below}}
    return {"type": "object", "properties": {"top": {"$ref": f"#/$defs/d{depth - 1}"}}, "$defs": definitions}


@pytest.mark.parametrize(
    "model",
    [OPUS, SONNET_45, "gemini/gemini-4-argon", "bedrock/us.anthropic.claude-sonnet-4-6", "openai/gpt-5-codex"],
)
@pytest.mark.parametrize("place", ["tools", "response_format"])
async def test_what_is_sent_of_a_schema_grows_with_it_and_not_with_what_it_refers_to(
    tmp_path: Path, model: str, place: str
) -> None:
    schema = doubling(10)
    tool = {"type": "function", "function": {"name": "deep", "parameters": schema}}
    asked = await ask(tmp_path, model, **({"tools": [tool]} if place == "tools" else {place: schema_format(schema)}))

    assert len(json.dumps(asked.body)) < 3 * len(json.dumps(schema))
    assert "#/$defs/d8" in json.dumps(asked.body)
