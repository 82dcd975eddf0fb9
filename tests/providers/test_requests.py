"""From a request to what LiteLLM is called with. What goes out to each provider is held by `test_wire_table` and the
tests of each part of a request."""

from __future__ import annotations

from typing import Any

import pytest

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.requests import Request
from konstruct_mcp.providers.litellm.formats.draft import UnfitError, merged
from konstruct_mcp.providers.litellm.prepared import PreparedRequest
from konstruct_mcp.providers.litellm.profiles.profile import ModelProfile
from konstruct_mcp.providers.litellm.requests import prepare
from konstruct_mcp.providers.litellm.router_entries import litellm_params
from konstruct_mcp.providers.litellm.try_parameters import TryParameters
from konstruct_mcp.providers.refused_parameters import Refusals, named_in
from konstruct_mcp.providers.tried import Recalled

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "look-up", "parameters": {"type": "object", "properties": {}}}}


def deployment(model: str, **params: Any) -> Deployment:
    return Deployment("g/1", "g", "it", model, {"model": model, **params})


def prepared(
    model: str, params: dict[str, Any] | None = None, data: dict[str, Any] | None = None, **request: Any
) -> PreparedRequest:
    one = deployment(model, **(params or {}))
    asked = Request.parse({"messages": HELLO, **request})
    turns = Recalled(tuple(None for message in asked.messages if message.tool_calls))
    return prepare(one, ModelProfile.of(one, data or {}), asked, turns)


def test_nothing_is_sent_that_nobody_asked_for() -> None:
    made = prepared("groq/x")
    assert made.messages == HELLO
    assert (made.options, dict(made.body), made.notes, made.is_shaped) == ({}, {}, (), False)


def test_what_the_request_and_the_config_ask_for_is_sent_once() -> None:
    made = prepared("groq/x", {"max_tokens": 100, "top_p": 0.5, "extra_body": {"max_tokens": 7}}, max_tokens=50)
    assert made.options == {"top_p": 0.5, "max_tokens": 7}
    assert made.notes == ("max_tokens became 7, the most that the config lets it answer",)


def test_a_budget_lowers_the_limit() -> None:
    one = deployment("groq/x")
    request = Request.parse({"messages": HELLO, "max_tokens": 50})
    assert prepare(one, ModelProfile.of(one, {}), request, Recalled(()), most=9).options == {"max_tokens": 9}


@pytest.mark.parametrize("model", ["ollama/qwen3", "anthropic/claude-x"])
def test_a_call_that_cannot_be_required_is_not_asked_for(model: str) -> None:
    with pytest.raises(UnfitError):
        prepared(model, data={"supports_forced_tool_use": False}, tools=[TOOL], tool_choice="required")


def test_json_that_is_asked_for_in_the_prompt_comes_without_its_fence() -> None:
    made = prepared("bedrock/converse/llama", response_format={"type": "json_object"})
    assert made.in_words
    assert made.messages[0]["role"] == "system"
    assert made.read('```json\n{"a": 1}\n```') == '{"a": 1}'
    assert made.read("```python\nx\n```") == "```python\nx\n```"


def test_bedrock_gets_the_names_of_tools_as_they_are() -> None:
    made = prepared("bedrock/converse/llama", tools=[TOOL])
    body = {"toolConfig": {"tools": [{"toolSpec": {"name": "look_up"}}, {"cachePoint": {}}]}}
    assert made.shape(body)["toolConfig"]["tools"][0] == {"toolSpec": {"name": "look-up"}}


def test_results_come_in_the_order_of_their_calls() -> None:
    calls = [{"id": id_, "type": "function", "function": {"name": "f", "arguments": " "}} for id_ in "ab"]
    results = [{"role": "tool", "tool_call_id": id_, "content": id_} for id_ in "ba"]
    made = prepared("groq/x", messages=[*HELLO, {"role": "assistant", "tool_calls": calls}, *results])
    assert [message.get("tool_call_id") for message in made.messages] == [None, None, "a", "b"]
    assert made.messages[1]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_objects_are_merged_and_a_null_takes_out() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4, "b": None}, "d": None, "e": 5}) == {
        "a": {"c": 4},
        "e": 5,
    }


# -- LiteLLM's Router


def test_the_router_is_told_how_to_call_and_not_what_to_ask() -> None:
    given = {"api_key": "k", "max_tokens": 5, "temperature": 1, "input_cost_per_token": 1e-6, "organization": "o"}
    made = litellm_params(deployment("openai/gpt-x", project="p", **given), {"mode": "responses"})
    assert made == {
        "model": "openai/responses/gpt-x",
        "api_key": "k",
        "organization": "o",
        "extra_headers": {"OpenAI-Project": "p", "OpenAI-Organization": "o"},
        "timeout": 125.0,
        "max_retries": 0,
    }


# -- refusals


def trying(refusals: Refusals, **options: Any) -> TryParameters:
    return TryParameters(deployment("groq/x"), options, {}, refusals, {}, HELLO)


def test_a_tuning_parameter_is_left_out_and_remembered_and_another_is_not() -> None:
    refusals = Refusals()
    first = trying(refusals, temperature=1, tools=[TOOL])
    assert not first.without(["tools"], by_litellm=False)
    assert first.without(["temperature"], by_litellm=False)
    assert (first.names, first.notes) == (("tools",), ["temperature was left out: it does not take it"])
    first.remember()

    assert trying(refusals, temperature=1, tools=[TOOL]).names == ("tools",)
    assert trying(refusals, temperature=0, tools=[TOOL]).names == ("temperature", "tools")
    assert trying(refusals.to("another"), temperature=1, tools=[TOOL]).names == ("temperature", "tools")


def test_a_limit_under_its_newer_name_is_asked_for_once() -> None:
    one = trying(Refusals(), max_tokens=5)
    assert one.in_another_way("max_completion_tokens")
    assert one.options == {"extra_body": {"max_completion_tokens": 5}}
    assert not one.in_another_way("max_completion_tokens")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("topP is not supported when temperature is set", ("top_p",)),
        ("`stop` is not supported", ("stop",)),
        ("please stop sending so much", ()),
        ("unsupported: stop_sequences", ()),
        ("stop_sequences: not permitted", ("stop",)),
    ],
)
def test_the_words_of_a_refusal_name_its_parameter(text: str, named: tuple[str, ...]) -> None:
    assert named_in(text, ["temperature", "top_p", "stop"]) == named
