"""Sampling and the other parameters of a config that go out to a provider, or are noted not to.

The models are of the table that ships with us; what holds for them holds for any that has the same data.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from support.default_groups import HELLO, entry, opened, reaching, schema_format
from support.model_requests import CITY, OPUS, SONNET_46, WEATHER, ask, at, in_words, left_out, wire_of
from support.providers import Changed, Provider, Text

from konstruct_mcp.core.errors import KonstructError

pytestmark = pytest.mark.many_cases


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
    asked = await ask(
        tmp_path, model, prices, answer=billed(**usage), response_format=schema_format(CITY), tools=[WEATHER]
    )

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
        response_format=schema_format(CITY),
    )

    assert asked.body["max_tokens"] == 300_000
    assert asked.body["output_config"]["effort"] == "xhigh"
    assert asked.body["output_config"]["format"]["type"] == "json_schema"
    assert "temperature" not in asked.body
    model = "anthropic/claude-nova-9"
    assert asked.notes == (in_words("minLength, minimum", model), left_out("temperature", model))


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
