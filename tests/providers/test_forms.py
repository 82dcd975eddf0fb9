"""In which form a model is asked: what goes out on the wire, what is said of it, and what comes back.

The models are of the table that ships with us; what holds for them holds for any that has the same data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from support.default_groups import HELLO, by, entry, opened, reaching
from support.provider_formats import FORMATS
from support.providers import Changed, OtherWire, Provider, Received, Status, Text, Wire

from konstruct_mcp import Completion
from konstruct_mcp.core.errors import KonstructError

pytestmark = pytest.mark.many_cases

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 2}, "near": {"$ref": "#/$defs/place"}},
    "required": ["name", "near"],
    "$defs": {"place": {"type": "object", "properties": {"lat": {"type": "number", "minimum": -90}}}},
}
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
OPEN_KEYS: dict[str, Any] = {"type": "object", "properties": {"by_name": {"type": "object"}}}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALLED = [
    *HELLO,
    {
        "role": "assistant",
        "content": "Looking.",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
]


def wire_of(model: str) -> Wire | OtherWire:
    provider = model.partition("/")[0]
    wires: dict[str, Wire | OtherWire] = {"vertex_ai": "vertex", "hosted_vllm": "vllm", "cohere_chat": "cohere"}
    # The others are called as their providers are, or are like OpenAI.
    return wires.get(provider, provider if provider in FORMATS else "openai")  # type: ignore[arg-type]


class Asked:
    """One call to one model: what was sent, and what came of it."""

    def __init__(self, received: Received, completion: Completion) -> None:
        self.body: dict[str, Any] = received.body
        self.path = received.path
        self.completion = completion
        self.notes = completion.notes


async def ask(
    folder: Path,
    model: str,
    config: Mapping[str, Any] | None = None,
    *,
    info: Mapping[str, Any] | None = None,
    answer: Text | Changed | None = None,
    environ: Mapping[str, str] | None = None,
    **request: Any,
) -> Asked:
    with Provider(wire_of(model)) as provider:
        if answer is not None:
            provider.script(answer)
        params = {**reaching(provider, model), "num_retries": 0}
        one = {**entry("g", {**params, **(config or {})}), "model_info": dict(info or {})}
        async with opened(folder, {"model_list": [one]}, environ or {}) as konstruct:
            completion = await konstruct.complete(request.pop("messages", HELLO), **request)
        [received] = [received for received in provider.requests if received.completes]
    return Asked(received, completion)


def at(body: Any, path: str) -> Any:
    """What is at `a.b.c`; None where there is nothing."""
    for key in path.split("."):
        body = body.get(key) if isinstance(body, dict) else None
    return body


LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens", "maxTokens")


def limits(value: Any) -> dict[str, Any]:
    """Each limit in a body, wherever it is."""
    found: dict[str, Any] = {}
    if isinstance(value, dict):
        for key, item in value.items():
            found |= {key: item} if key in LIMITS else limits(item)
    return found


# -- how long the answer may be ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("openai/gpt-4o", "max_tokens"),
        ("openai/gpt-5", "max_completion_tokens"),
        ("openai/gpt-6-sol", "max_completion_tokens"),
        ("openai/gpt-5-codex", "max_output_tokens"),
        ("openai/qwen3-on-my-server", "max_tokens"),
        ("azure/gpt-6-sol", "max_completion_tokens"),
        ("anthropic/claude-opus-5-5", "max_tokens"),
        ("gemini/gemini-4-argon", "max_output_tokens"),
        ("bedrock/us.anthropic.claude-opus-5-5", "maxTokens"),
        ("mistral/mistral-large-4", "max_tokens"),
        ("deepseek/deepseek-v4-pro", "max_tokens"),
        ("xai/grok-4.7", "max_tokens"),
        ("openrouter/anthropic/claude-opus-5.5", "max_tokens"),
        ("hosted_vllm/qwen3", "max_tokens"),
        ("lm_studio/qwen3", "max_tokens"),
        ("cohere_chat/command-a-03-2025", "max_tokens"),
    ],
)
async def test_there_is_one_limit_under_the_name_that_the_model_takes(tmp_path: Path, model: str, key: str) -> None:
    asked = await ask(tmp_path, model, max_tokens=50)

    assert limits(asked.body) == {key: 50}


@pytest.mark.parametrize("model", ["openai/gpt-4o", "openai/gpt-6-sol", "anthropic/claude-sonnet-4-6", "xai/grok-4.7"])
@pytest.mark.parametrize("key", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(("config", "call", "sent"), [(1000, None, 1000), (1000, 50, 50), (1000, 5000, 1000)])
async def test_the_config_s_limit_is_a_default_and_the_most_that_a_call_may_ask_for(
    tmp_path: Path, model: str, key: str, config: int, call: int | None, sent: int
) -> None:
    asked = await ask(tmp_path, model, {key: config}, max_tokens=call)

    assert list(limits(asked.body).values()) == [sent]
    said = f"max_tokens became 1000, the most that the config lets {model} answer"
    assert asked.notes == ((said,) if call == 5000 else ())


@pytest.mark.parametrize("config", [{}, {"max_tokens": 8}])
async def test_no_less_is_asked_for_than_the_responses_api_takes(tmp_path: Path, config: dict[str, Any]) -> None:
    asked = await ask(tmp_path, "openai/gpt-5-codex", config, max_tokens=1)

    assert limits(asked.body) == {"max_output_tokens": 16}
    assert asked.notes == ("max_tokens became 16, the least that openai/gpt-5-codex takes",)


NEW_NAME = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."


async def test_a_limit_goes_out_under_the_name_that_the_provider_asks_for(tmp_path: Path) -> None:
    with Provider("openai") as provider:
        provider.script(Status(400, NEW_NAME, code="unsupported_parameter"), Text("Hi."))
        config = entry("g", {**reaching(provider, "github/openai/gpt-of-tomorrow"), "num_retries": 0})
        async with opened(tmp_path, {"model_list": [config]}, {}) as konstruct:
            answers = [await konstruct.complete(HELLO, max_tokens=50) for _ in range(2)]

    sent = [limits(received.body) for received in provider.requests]
    assert sent == [{"max_tokens": 50}, {"max_completion_tokens": 50}, {"max_completion_tokens": 50}]
    assert [(answer.content, answer.notes, answer.attempts) for answer in answers] == [("Hi.", (), ())] * 2


@pytest.mark.parametrize(
    ("model", "info", "sent"),
    [
        ("anthropic/claude-opus-5-5", {}, 128_000),
        ("anthropic/claude-sonnet-4-5", {}, 64_000),
        ("anthropic/claude-of-tomorrow", {"max_output_tokens": 256_000}, 256_000),
        ("anthropic/claude-of-tomorrow", {}, 32_000),
        ("vertex_ai/claude-opus-5-5", {}, 128_000),
    ],
)
async def test_the_limit_that_anthropic_requires_is_what_is_known_of_the_model(
    tmp_path: Path, model: str, info: dict[str, Any], sent: int
) -> None:
    asked = await ask(tmp_path, model, info=info)

    assert limits(asked.body) == {"max_tokens": sent}


# -- thinking ----------------------------------------------------------------------------------------------------------

OPUS, SONNET_46, SONNET_45 = "anthropic/claude-opus-5-5", "anthropic/claude-sonnet-4-6", "anthropic/claude-sonnet-4-5"
HAIKU = "anthropic/claude-haiku-5-5"


def became(asked: str, level: str, model: str) -> str:
    return f"reasoning_effort {asked} became {level}, the nearest that {model} has"


def in_words(keys: str, model: str) -> str:
    return f"of the schema, {keys} is asked for in words: {model} has no form for it"


def left_out(what: str, model: str) -> str:
    return f"{what} was left out: {model} does not take it"


@pytest.mark.parametrize(
    ("model", "effort", "sent", "note"),
    [
        ("openai/gpt-6-sol", "high", {"reasoning_effort": "high"}, None),
        ("openai/gpt-6-sol", "minimal", {"reasoning_effort": "low"}, became("minimal", "low", "openai/gpt-6-sol")),
        ("openai/gpt-5", "xhigh", {"reasoning_effort": "high"}, became("xhigh", "high", "openai/gpt-5")),
        ("openai/gpt-5", "minimal", {"reasoning_effort": "minimal"}, None),
        ("openai/gpt-4o", "high", {"reasoning_effort": None}, left_out("reasoning_effort", "openai/gpt-4o")),
        ("openai/qwen3-on-my-server", "high", {"reasoning_effort": "high"}, None),
        ("openai/gpt-5-codex", "high", {"reasoning.effort": "high", "reasoning_effort": None}, None),
        ("azure/gpt-6-sol", "max", {"reasoning_effort": "max"}, None),
        (OPUS, "high", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, None),
        (OPUS, "xhigh", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}, None),
        (OPUS, "none", {"thinking": None, "output_config.effort": "low"}, f"{OPUS} thinks, and cannot be told not to"),
        (HAIKU, "none", {"thinking": {"type": "disabled"}, "output_config": None}, None),
        (SONNET_46, "xhigh", {"output_config": {"effort": "high"}}, became("xhigh", "high", SONNET_46)),
        (SONNET_46, "max", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, None),
        (SONNET_45, "medium", {"thinking": {"type": "enabled", "budget_tokens": 2048}, "output_config": None}, None),
        ("gemini/gemini-4-argon", "high", {"generationConfig.thinkingConfig": {"thinkingLevel": "high"}}, None),
        ("gemini/gemini-2.5-flash", "low", {"generationConfig.thinkingConfig": {"thinkingBudget": 1024}}, None),
        (
            "bedrock/us.anthropic.claude-opus-5-5",
            "high",
            {
                "additionalModelRequestFields.thinking": {"type": "adaptive"},
                "additionalModelRequestFields.output_config": {"effort": "high"},
                "thinking": None,
            },
            None,
        ),
        (
            "mistral/mistral-large-4",
            "low",
            {"reasoning_effort": "high"},
            became("low", "high", "mistral/mistral-large-4"),
        ),
        ("deepseek/deepseek-v4-pro", "high", {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}, None),
        ("xai/grok-4.7", "low", {"reasoning_effort": "low"}, None),
        ("openrouter/anthropic/claude-opus-5.5", "high", {"reasoning": {"effort": "high"}}, None),
        ("hosted_vllm/qwen3", "high", {"reasoning_effort": "high"}, None),
        ("moonshot/kimi-k3", "high", {"reasoning_effort": "high", "thinking": None}, None),
        ("moonshot/kimi-k2.6", "high", {"thinking": {"type": "enabled"}, "reasoning_effort": None}, None),
        (
            "databricks/databricks-claude-sonnet-4-5",
            "high",
            {"thinking": {"type": "enabled", "budget_tokens": 4096}, "reasoning_effort": None},
            None,
        ),
    ],
)
async def test_the_effort_of_the_config_goes_out_as_the_model_takes_it(
    tmp_path: Path, model: str, effort: str, sent: dict[str, Any], note: str | None
) -> None:
    asked = await ask(tmp_path, model, {"reasoning_effort": effort})

    assert {path: at(asked.body, path) for path in sent} == sent
    assert asked.notes == (() if note is None else (note,))


@pytest.mark.parametrize(
    ("model", "thinking", "sent", "note"),
    [
        (OPUS, {"type": "enabled", "budget_tokens": 10_000}, {"thinking": {"type": "adaptive"}}, "adaptive"),
        (SONNET_46, {"type": "enabled", "budget_tokens": 2000}, {"thinking.budget_tokens": 2000}, None),
        (SONNET_45, {"type": "enabled", "budget_tokens": 2000}, {"thinking.budget_tokens": 2000}, None),
        (SONNET_45, {"type": "adaptive"}, {"thinking": {"type": "enabled", "budget_tokens": 4096}}, "budget"),
        (OPUS, {"type": "disabled"}, {"thinking": None}, "cannot be told not to"),
        (
            "gemini/gemini-4-argon",
            {"type": "enabled", "budget_tokens": 1024},
            {"generationConfig.thinkingConfig.thinkingLevel": "low"},
            None,
        ),
        ("deepseek/deepseek-v4-pro", {"type": "enabled"}, {"thinking": {"type": "enabled"}}, None),
        ("bedrock/us.amazon.nova-pro-v1:0", {"type": "enabled"}, {"thinking": None}, "does not take it"),
        (
            "bedrock/us.amazon.nova-2-lite-v1:0",
            {"type": "enabled", "budget_tokens": 1024},
            {"thinking": None, "additionalModelRequestFields.reasoningConfig.maxReasoningEffort": "low"},
            None,
        ),
    ],
)
async def test_thinking_in_another_form_is_brought_into_the_one_that_the_model_takes(
    tmp_path: Path, model: str, thinking: dict[str, Any], sent: dict[str, Any], note: str | None
) -> None:
    asked = await ask(tmp_path, model, {"thinking": thinking})

    assert {path: at(asked.body, path) for path in sent} == sent
    assert [(note or "?") in said for said in asked.notes] == ([] if note is None else [True])


@pytest.mark.parametrize(("most", "budget"), [(3000, 1500), (1500, 1024), (1024, None)])
async def test_a_budget_of_thinking_leaves_room_for_the_answer_or_is_left_out(
    tmp_path: Path, most: int, budget: int | None
) -> None:
    asked = await ask(tmp_path, SONNET_45, {"reasoning_effort": "high"}, max_tokens=most)

    assert at(asked.body, "thinking.budget_tokens") == budget
    assert asked.body["max_tokens"] == most
    assert bool(asked.notes) is (budget is None)


async def test_a_budget_of_thinking_that_is_made_smaller_is_said(tmp_path: Path) -> None:
    config = {"thinking": {"type": "enabled", "budget_tokens": 8000}}
    asked = await ask(tmp_path, SONNET_45, config, max_tokens=3000)

    assert at(asked.body, "thinking.budget_tokens") == 1500
    assert asked.notes == ("thinking of 8000 tokens became 1500, to leave some for the answer",)


@pytest.mark.parametrize("place", ["litellm_params", "model_info"])
async def test_a_name_of_one_s_own_is_asked_in_the_form_of_the_model_behind_it(tmp_path: Path, place: str) -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
    base = {"base_model": "us.anthropic.claude-opus-4-7"}
    config = base if place == "litellm_params" else {}
    info = base if place == "model_info" else {}

    asked = await ask(tmp_path, f"bedrock/converse/{arn}", {"reasoning_effort": "high", **config}, info=info)

    assert asked.body["additionalModelRequestFields"] == {
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high"},
    }


async def test_what_allowed_openai_params_name_counts_as_taken(tmp_path: Path) -> None:
    config = {
        "reasoning_effort": "high",
        "temperature": 0.5,
        "top_k": 5,
        "allowed_openai_params": ["reasoning_effort", "temperature", "top_k", "tools", "logprobs"],
    }

    asked = await ask(tmp_path, "openai/gpt-5.1", config)
    plain = await ask(tmp_path, "openai/gpt-4o", config)

    for one in (asked, plain):
        sent = {key: value for key, value in one.body.items() if key not in ("model", "messages")}
        assert sent == {"reasoning_effort": "high", "temperature": 0.5, "top_k": 5}
        assert one.notes == ()


@pytest.mark.parametrize("model", ["openai/gpt-4o", "openai/gpt-5-codex", "groq/llama-of-tomorrow", SONNET_46])
async def test_what_the_config_adds_to_a_body_is_in_it(tmp_path: Path, model: str) -> None:
    asked = await ask(tmp_path, model, {"extra_body": {"of_tomorrow": {"a": 1}}})

    assert asked.body["of_tomorrow"] == {"a": 1}


@pytest.mark.parametrize(
    ("model", "place", "sent"),
    [
        ("gemini/gemini-2.5-flash", "generationConfig", {"seed": 7, "presence_penalty": 0.5}),
        ("gemini/gemini-4-argon", "generationConfig", {"seed": 7}),
        ("mistral/mistral-large-4", "", {"random_seed": 7, "presence_penalty": 0.5}),
    ],
)
async def test_a_seed_and_a_penalty_go_out_or_are_said_not_to(
    tmp_path: Path, model: str, place: str, sent: dict[str, Any]
) -> None:
    asked = await ask(tmp_path, model, {"seed": 7, "presence_penalty": 0.5})

    body = asked.body[place] if place else asked.body
    assert {key: body[key] for key in body if "seed" in key or "penalty" in key} == sent
    assert asked.notes == (() if "presence_penalty" in sent else (left_out("presence_penalty", model),))


async def test_numbers_and_truths_from_the_environment_go_out_as_such(tmp_path: Path) -> None:
    values = {"temperature": 0.2, "presence_penalty": 1.5, "seed": 7, "parallel_tool_calls": False, "stop": "7"}
    config = {key: f"os.environ/MY_{key.upper()}" for key in values}
    environ = {f"MY_{key.upper()}": str(value).lower() for key, value in values.items()}

    asked = await ask(tmp_path, "openai/gpt-4o", config, environ=environ, tools=[WEATHER])

    sent = {key: value for key, value in asked.body.items() if key in values}
    assert json.dumps(sent, sort_keys=True) == json.dumps(values, sort_keys=True)  # which tells 0 and false apart


async def test_a_switch_of_ollama_s_from_the_environment_is_one(tmp_path: Path) -> None:
    config = {"think": "os.environ/THINK", "top_k": "os.environ/TOP_K"}

    asked = await ask(tmp_path, "ollama/qwen3", config, environ={"THINK": "false", "TOP_K": "5"})

    assert asked.body["think"] is False
    assert asked.body["options"]["top_k"] == 5


def billed(**usage: Any) -> Changed:
    return Changed(Text('{"name": "Oslo"}'), lambda body: body["usage"].update(usage))


@pytest.mark.parametrize(
    ("model", "usage", "prices", "cost"),
    [
        ("openrouter/anthropic/claude-opus-5.5", {"cost": 0.123}, {}, 0.123),
        ("openrouter/moonshotai/kimi-k3.1-pro:nitro", {"cost": 0.25}, {}, 0.25),
        ("openrouter/anthropic/claude-opus-5.5", {"cost": None}, {}, None),
        (
            "openrouter/openai/gpt-6.1-sol",
            {"cost": 0.5},
            {"input_cost_per_token": 0, "output_cost_per_token": 0},
            0,
        ),
        (
            "openrouter/x-ai/grok-4.7",
            {"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}},
            {},
            0.21,
        ),
        ("openrouter/x-ai/grok-4.7", {"cost": 0.01, "is_byok": True}, {}, None),
    ],
)
async def test_openrouter_s_models_can_what_the_ones_behind_can_and_cost_what_it_bills(
    tmp_path: Path, model: str, usage: dict[str, Any], prices: dict[str, Any], cost: float | None
) -> None:
    asked = await ask(tmp_path, model, prices, answer=billed(**usage), response_format=by(CITY), tools=[WEATHER])

    assert asked.body["response_format"]["type"] == "json_schema"
    assert asked.body["usage"] == {"include": True}
    assert asked.completion.cost_usd == cost


async def test_what_the_model_behind_openrouter_does_not_take_is_left_out(tmp_path: Path) -> None:
    model = "openrouter/anthropic/claude-opus-5.5:thinking"

    asked = await ask(tmp_path, model, temperature=0.3)

    assert "temperature" not in asked.body
    assert asked.notes == (f"temperature was left out: {model} does not take it",)


async def test_a_key_of_the_proxy_has_no_effect(tmp_path: Path) -> None:
    asked = await ask(tmp_path, "openai/gpt-4o", {"use_in_pass_through": True})

    assert set(asked.body) <= {"model", "messages", "stream"}


async def test_thinking_that_the_model_does_not_know_is_left_out_and_noted(tmp_path: Path) -> None:
    asked = await ask(tmp_path, "gemini/gemma-3-27b-it", {"reasoning_effort": "high"})

    assert at(asked.body, "generationConfig.thinkingConfig") is None
    assert asked.notes == ("reasoning_effort was left out: gemini/gemma-3-27b-it does not take it",)


@pytest.mark.parametrize("model", ["openai/gpt-4o", "anthropic/claude-sonnet-4-6", "mistral/mistral-large-4"])
async def test_extra_query_goes_into_the_address(tmp_path: Path, model: str) -> None:
    with Provider(wire_of(model)) as provider:
        config = entry(
            "g", {**reaching(provider, model), "extra_query": {"tier": "a b", "beta": True}, "num_retries": 0}
        )
        async with opened(tmp_path, {"model_list": [config]}, {}) as konstruct:
            with pytest.raises(KonstructError, match="404"):  # the fake has no such address
                await konstruct.complete(HELLO)

    [received] = provider.requests
    assert parse_qs(received.path.partition("?")[2]) == {"tier": ["a b"], "beta": ["true"]}
    assert "extra_query" not in received.body


async def test_a_model_of_tomorrow_is_asked_as_the_config_s_data_of_it_say(tmp_path: Path) -> None:
    data = {
        "supports_adaptive_thinking": True,
        "supports_reasoning": True,
        "supports_sampling_params": False,
        "supports_native_structured_output": True,
        "supports_response_schema": True,
        "supports_xhigh_reasoning_effort": True,
        "max_output_tokens": 300_000,
    }
    asked = await ask(
        tmp_path,
        "anthropic/claude-nova-9",
        {"reasoning_effort": "xhigh"},
        info=data,
        temperature=0.2,
        response_format=by(CITY),
    )

    assert asked.body["max_tokens"] == 300_000
    assert asked.body["output_config"]["effort"] == "xhigh"
    assert asked.body["output_config"]["format"]["type"] == "json_schema"
    assert "temperature" not in asked.body
    model = "anthropic/claude-nova-9"
    assert asked.notes == (in_words("minLength, minimum", model), left_out("temperature", model))


# -- how words are chosen ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "config", "sent"),
    [
        ("openai/gpt-4o", {}, True),
        ("openai/gpt-5", {}, False),
        ("openai/gpt-6-sol", {}, False),
        ("openai/gpt-6-sol", {"reasoning_effort": "none"}, True),
        ("openai/gpt-5.4", {}, True),
        ("openai/gpt-5.4", {"reasoning_effort": "low"}, False),
        ("azure/gpt-6-sol", {}, False),
        (OPUS, {}, False),
        (SONNET_46, {}, True),
        (SONNET_46, {"reasoning_effort": "high"}, False),
        ("gemini/gemini-3.8-flash", {}, False),
        ("gemini/gemini-4-argon", {}, True),
        ("bedrock/us.anthropic.claude-opus-5-5", {}, False),
        ("mistral/mistral-large-4", {}, True),
        ("xai/grok-4.7", {}, True),
    ],
)
async def test_a_temperature_that_the_model_does_not_take_is_left_out_and_noted(
    tmp_path: Path, model: str, config: dict[str, Any], sent: bool
) -> None:
    asked = await ask(tmp_path, model, config, temperature=0.25)

    assert ('"temperature": 0.25' in json.dumps(asked.body)) is sent
    assert asked.notes == (() if sent else (left_out("temperature", model),))


async def test_a_temperature_above_claude_s_highest_is_lowered(tmp_path: Path) -> None:
    asked = await ask(tmp_path, SONNET_46, temperature=1.5)

    assert asked.body["temperature"] == 1
    assert asked.notes == (f"temperature became 1, the highest that {SONNET_46} takes",)


# -- the form of the answer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tools", [None, [WEATHER]])
@pytest.mark.parametrize("model", [OPUS, SONNET_46, SONNET_45])
async def test_a_schema_with_references_is_claude_s_own_format_beside_the_tools(
    tmp_path: Path, model: str, tools: list[Any] | None
) -> None:
    asked = await ask(tmp_path, model, response_format=by(CITY), tools=tools)

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
    asked = await ask(tmp_path, SONNET_46, answer=answer, response_format=by(schema))

    [tool] = asked.body["tools"]
    assert tool["input_schema"] == schema
    assert asked.body["tool_choice"] == {"type": "tool", "name": "json_tool_call"}
    assert json.loads(asked.completion.content) == {"root": {"name": "a"}}
    assert asked.completion.tool_calls == ()
    assert asked.completion.finish_reason == "stop"


async def test_beside_the_caller_s_tools_the_model_chooses_between_them_and_the_answer(tmp_path: Path) -> None:
    answer = Text(None, tool_calls=[("toolu_1", "weather", '{"city": "Oslo"}')])
    asked = await ask(tmp_path, SONNET_46, answer=answer, response_format=by(TREE), tools=[WEATHER])

    assert [tool["name"] for tool in asked.body["tools"]] == ["weather", "json_tool_call"]
    assert asked.body["tool_choice"] == {"type": "any"}
    assert [call.function.name for call in asked.completion.tool_calls] == ["weather"]


@pytest.mark.parametrize("fence", ["{}", "```json\n{}\n```", "```\n{}\n```"])
@pytest.mark.parametrize(
    ("model", "wanted"),
    [(OPUS, by(TREE)), (OPUS, {"type": "json_object"}), (SONNET_45, {"type": "json_object"})],
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
    asked = await ask(tmp_path, model, info={"supports_response_schema": True}, response_format=by(schema))

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
    wanted = by(CITY)
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
    asked = await ask(tmp_path, model, **({"tools": [tool]} if place == "tools" else {place: by(schema)}))

    assert len(json.dumps(asked.body)) < 3 * len(json.dumps(schema))
    assert "#/$defs/d8" in json.dumps(asked.body)


# -- tools -------------------------------------------------------------------------------------------------------------

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
    asked = await ask(tmp_path, model, answer=Text('{"name": "Oslo"}'), response_format=by(CITY))

    assert at(asked.body, "outputConfig.textFormat.type") == ("json_schema" if is_format else None)
    forced = {"tool": {"name": "json_tool_call"}}
    assert at(asked.body, "toolConfig.toolChoice") == (None if is_format else forced)
    assert asked.notes == ((in_words("minLength, minimum", asked.completion.model),) if is_format else ())


async def test_a_format_that_is_a_tool_is_none_of_the_caller_s(tmp_path: Path) -> None:
    calls = [("a", "weather", '{"city": "Oslo"}'), ("b", "json_tool_call", '{"by_name": {}}')]
    answer = Text(None, tool_calls=calls)
    asked = await ask(tmp_path, SONNET_45, answer=answer, tools=[WEATHER], response_format=by(OPEN_KEYS))

    assert [tool["name"] for tool in asked.body["tools"]] == ["weather", "json_tool_call"]
    assert [call.function.name for call in asked.completion.tool_calls] == ["weather"]
    assert asked.completion.finish_reason == "tool_calls"


async def test_an_answer_that_is_called_twice_is_one(tmp_path: Path) -> None:
    calls = [(id_, "json_tool_call", f'{{"by_name": {{"n": {id_}}}}}') for id_ in ("1", "2")]
    asked = await ask(tmp_path, SONNET_45, answer=Text(None, tool_calls=calls), response_format=by(OPEN_KEYS))

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


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "role"),
    [
        ("openai/gpt-6-sol", "system"),  # which OpenAI takes for the same
        ("openai/qwen3-on-my-server", "system"),
        ("mistral/mistral-large-4", "system"),
        ("deepseek/deepseek-v4-pro", "system"),
        ("hosted_vllm/qwen3", "system"),
        ("cohere_chat/command-a-03-2025", "system"),
    ],
)
async def test_a_developer_s_message_is_a_system_message_where_there_is_no_developer(
    tmp_path: Path, model: str, role: str
) -> None:
    asked = await ask(tmp_path, model, messages=[{"role": "developer", "content": "Be brief."}, *HELLO])

    assert [message["role"] for message in asked.body["messages"]] == [role, "user"]


@pytest.mark.parametrize("model", [OPUS, "gemini/gemini-4-argon", "bedrock/us.anthropic.claude-opus-5-5"])
async def test_a_developer_s_message_is_the_system_s_prompt_elsewhere(tmp_path: Path, model: str) -> None:
    asked = await ask(tmp_path, model, messages=[{"role": "developer", "content": "Be brief."}, *HELLO])

    system = asked.body.get("system", asked.body.get("system_instruction"))
    assert "Be brief." in json.dumps(system)


LATER = [*HELLO, {"role": "assistant", "content": "Hi."}, {"role": "system", "content": "Be brief."}, *HELLO]


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (OPUS, "system"),
        ("gemini/gemini-4-argon", "system_instruction"),
        ("openai/gpt-5-codex", ""),
        ("xai/grok-4.7", ""),
    ],
)
async def test_what_the_system_says_later_stays_in_its_place_or_is_said_not_to(
    tmp_path: Path, model: str, path: str
) -> None:
    asked = await ask(tmp_path, model, messages=LATER)

    said = f"what the system says later was put at the beginning: {model} takes it nowhere else"
    assert asked.notes == ((said,) if path else ())
    if path:
        assert "Be brief." in json.dumps(asked.body[path])
    else:
        messages: Any = asked.body.get("messages", asked.body.get("input"))
        assert [message["role"] for message in messages] == ["user", "assistant", "system", "user"]


@pytest.mark.parametrize("status", [400, 500])
async def test_what_the_system_says_is_put_together_where_a_template_wants_it_at_the_beginning(
    tmp_path: Path, status: int
) -> None:
    with Provider("vllm") as provider:
        provider.script(Status(status, "Jinja Exception: System message must be at the beginning."), Text("Hi."))
        config = entry("g", {**reaching(provider, "hosted_vllm/qwen3.8"), "num_retries": 0})
        async with opened(tmp_path, {"model_list": [config]}, {}) as konstruct:
            answers = [await konstruct.complete(LATER) for _ in range(2)]

    sent = [[message["role"] for message in received.body["messages"]] for received in provider.requests]
    together = ["system", "user", "assistant", "user"]
    assert sent == [["user", "assistant", "system", "user"], together, together]
    said = "what the system says was put together at the beginning: hosted_vllm/qwen3.8 wants it so"
    assert [(answer.content, answer.notes, answer.attempts) for answer in answers] == [("Hi.", (said,), ())] * 2


async def test_an_empty_result_of_a_tool_goes_to_mistral_too(tmp_path: Path) -> None:
    messages = [*CALLED[:-1], {"role": "tool", "tool_call_id": "call_1", "content": ""}]

    asked = await ask(tmp_path, "mistral/mistral-large-4", messages=messages, tools=[WEATHER])

    assert asked.body["messages"][2]["role"] == "tool"
    assert asked.body["messages"][2]["content"] == [{"type": "text", "text": ""}]


@pytest.mark.parametrize("model", ["gemini/gemini-4-argon", "hosted_vllm/qwen3", "ollama/qwen3", SONNET_46])
async def test_the_results_of_parallel_calls_come_in_the_order_of_the_calls(tmp_path: Path, model: str) -> None:
    calls = [
        {
            "id": f"call_{city}",
            "type": "function",
            "function": {"name": "weather", "arguments": f'{{"city": "{city}"}}'},
        }
        for city in ("Oslo", "Rome")
    ]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": f"it of {call['id']}"} for call in calls]
    messages = [*HELLO, {"role": "assistant", "content": None, "tool_calls": calls}, *reversed(results), *HELLO]

    asked = await ask(tmp_path, model, messages=messages, tools=[WEATHER])

    sent = json.dumps(asked.body)
    assert 0 < sent.index("it of call_Oslo") < sent.index("it of call_Rome")


@pytest.mark.parametrize("model", ["gemini/gemini-4-argon", "mistral/mistral-large-4", "azure_ai/mistral-medium-2505"])
async def test_an_answer_with_nothing_in_it_is_left_out_where_none_is_taken(tmp_path: Path, model: str) -> None:
    asked = await ask(tmp_path, model, messages=[*HELLO, {"role": "assistant", "content": ""}, *HELLO])

    assert '"assistant"' not in json.dumps(asked.body)
    assert '"model"' not in json.dumps(asked.body.get("contents", ()))


async def test_mistral_in_a_cloud_gets_ids_as_mistral_wants_them(tmp_path: Path) -> None:
    asked = await ask(tmp_path, "azure_ai/mistral-medium-2505", messages=CALLED, tools=[WEATHER])

    [call] = asked.body["messages"][1]["tool_calls"]
    assert re.fullmatch(r"[A-Za-z0-9]{9}", call["id"])
    assert asked.body["messages"][2]["tool_call_id"] == call["id"]


async def test_texts_in_parts_reach_gemini_apart(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]
    asked = await ask(tmp_path, "gemini/gemini-4-argon", messages=[{"role": "system", "content": parts}, *HELLO])

    assert asked.body["system_instruction"] == {"parts": [{"text": "Be brief.\nBe kind."}]}


@pytest.mark.parametrize("model", ["groq/llama-of-tomorrow", "hosted_vllm/qwen3", "mistral/mistral-large-4"])
async def test_texts_in_parts_are_one_text_where_not_every_server_reads_parts(tmp_path: Path, model: str) -> None:
    def parts(*texts: str) -> list[dict[str, str]]:
        return [{"type": "text", "text": text} for text in texts]

    system = {"role": "system", "content": parts("Be brief.", "Be kind.")}
    result = {"role": "tool", "tool_call_id": "call_1", "content": parts("rain")}
    asked = await ask(tmp_path, model, messages=[system, *CALLED[:-1], result], tools=[WEATHER])

    contents = [message["content"] for message in asked.body["messages"]]
    assert contents == ["Be brief.\nBe kind.", "Hello", "Looking.", "rain"]


@pytest.mark.parametrize(
    ("model", "name", "sent"),
    [
        ("openai/gpt-4o", "ann", True),
        ("openai/gpt-4o", "Jörg", False),
        ("mistral/mistral-large-4", "ann", False),
        (SONNET_46, "ann", False),
        ("ollama/qwen3", "ann", False),
    ],
)
async def test_a_speaker_s_name_goes_out_or_is_said_not_to(tmp_path: Path, model: str, name: str, sent: bool) -> None:
    asked = await ask(tmp_path, model, messages=[{**HELLO[0], "name": name}])

    assert (f'"{name}"' in json.dumps(asked.body, ensure_ascii=False)) is sent
    assert asked.notes == (() if sent else (left_out("name", model),))


@pytest.mark.parametrize("model", ["fireworks_ai/kimi-k2p6", "sambanova/Llama-4-Maverick-17B-128E-Instruct"])
async def test_images_go_out_as_they_are(tmp_path: Path, model: str) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [image]}]

    asked = await ask(tmp_path, model, info={"supports_vision": True}, messages=messages)

    assert asked.body["messages"] == messages
