"""What is settled once for a deployment: its API, its output limit, how its model thinks."""

from __future__ import annotations

from typing import Any

import pytest

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.effort import nearest
from konstruct_mcp.providers.litellm.profiles.api import api_of
from konstruct_mcp.providers.litellm.profiles.limits import is_output_limit, output_limit, without_limits
from konstruct_mcp.providers.litellm.profiles.profile import ModelProfile
from konstruct_mcp.providers.litellm.profiles.thinking import Thinker, gemini_thinking, levels

KNOWN = {"mode": "chat"}
ADAPTIVE = {**KNOWN, "supports_reasoning": True, "supports_adaptive_thinking": True}
BUDGETED = {**KNOWN, "supports_reasoning": True}


def deployment(model: str, **params: Any) -> Deployment:
    return Deployment("g/1", "g", "it", model, {"model": model, **params})


@pytest.mark.parametrize(
    ("model", "data", "api"),
    [
        ("openai/gpt-4o", {}, "openai"),
        ("openai/responses/gpt-5", {}, "responses"),
        ("azure/mine", {"mode": "responses"}, "responses"),
        ("anthropic/claude-x", {}, "anthropic"),
        ("vertex_ai/claude-x", {}, "anthropic"),
        ("vertex_ai/gemini-x", {}, "gemini"),
        ("bedrock/converse/claude-x", {}, "converse"),
        ("bedrock/invoke/claude-x", {"litellm_provider": "bedrock_converse"}, "anthropic"),
        ("bedrock/nova", {"litellm_provider": "bedrock_converse"}, "converse"),
        ("cohere_chat/command", {}, "cohere"),
        ("ollama/qwen3", {}, "openai"),
    ],
)
def test_the_api_follows_from_the_provider_and_the_model(model: str, data: dict[str, Any], api: str) -> None:
    assert api_of(deployment(model), data) == api


def test_the_api_is_that_of_the_model_behind_a_name_of_one_s_own() -> None:
    assert api_of(deployment("azure_ai/mine", base_model="azure_ai/claude-opus-4"), {}) == "anthropic"


# -- output limits


@pytest.mark.parametrize("key", ["max_tokens", "maxOutputTokens", "max_completion_tokens", "num_predict", "MaxTokens"])
def test_a_limit_is_known_under_each_name(key: str) -> None:
    assert is_output_limit(key)


@pytest.mark.parametrize("key", ["max_retries", "tokens", "max_input_tokens"])
def test_another_setting_is_no_limit(key: str) -> None:
    assert not is_output_limit(key)


def test_limits_are_taken_out_wherever_they_stand_and_nothing_else_is() -> None:
    settings = {
        "max_tokens": 5,
        "seed": 7,
        "extra_body": {"options": {"num_predict": 5}, "generationConfig": {"maxOutputTokens": 5, "topK": 1}},
        "metadata": {"max_tokens": 5},
        "options": {},
    }
    assert without_limits(settings) == {
        "seed": 7,
        "extra_body": {"generationConfig": {"topK": 1}},
        "metadata": {"max_tokens": 5},
        "options": {},
    }


@pytest.mark.parametrize(
    ("model", "params", "asked", "limit"),
    [
        ("openai/gpt-4o", {}, None, None),
        ("openai/gpt-4o", {}, 50, 50),
        ("openai/gpt-4o", {"max_tokens": "100", "extra_body": {"max_completion_tokens": 70.0}}, 90, 70),
        ("openai/gpt-4o", {"max_tokens": -1}, None, None),
        ("openai/responses/gpt-5", {}, 3, 16),
        ("anthropic/claude-x", {}, None, 32_000),
    ],
)
def test_the_lowest_limit_is_sent(model: str, params: dict[str, Any], asked: int | None, limit: int | None) -> None:
    assert output_limit(deployment(model, **params), {}, asked) == limit


@pytest.mark.parametrize(
    ("model", "params", "data", "key"),
    [
        ("openai/gpt-4o", {}, KNOWN, "max_tokens"),
        ("openai/gpt-4o", {"max_completion_tokens": 9}, KNOWN, "max_completion_tokens"),
        ("openai/o9", {}, BUDGETED, "max_completion_tokens"),
        ("openai/unheard-of", {}, {}, "max_completion_tokens"),
        ("openai/unheard-of", {"api_base": "http://localhost"}, {}, "max_tokens"),
        ("groq/unheard-of", {}, BUDGETED, "max_tokens"),
    ],
)
def test_the_limit_has_the_name_that_the_model_takes(
    model: str, params: dict[str, Any], data: dict[str, Any], key: str
) -> None:
    assert ModelProfile.of(deployment(model, **params), data).limit_key == key


def test_the_settings_of_a_profile_are_free_of_limits() -> None:
    made = ModelProfile.of(deployment("openai/gpt-4o", extra_body={"max_tokens": 5, "seed": 7}, top_p=0.5), KNOWN)
    assert made.settings == {"model": "openai/gpt-4o", "extra_body": {"seed": 7}, "top_p": 0.5}


def test_a_profile_does_not_show_secrets() -> None:
    assert "sk-1" not in repr(ModelProfile.of(deployment("openai/gpt-4o", api_key="sk-1"), KNOWN))


# -- thinking


@pytest.mark.parametrize(
    ("level", "among", "found"),
    [
        ("high", ("low", "high"), "high"),
        ("medium", ("low", "high"), "low"),
        ("minimal", ("none", "medium", "high"), "medium"),
        ("none", ("low", "high"), "low"),
        ("high", ("none",), "none"),
        ("unheard-of", ("low",), "unheard-of"),
    ],
)
def test_the_nearest_level_is_found(level: str, among: tuple[str, ...], found: str) -> None:
    assert nearest(level, among) == found


def test_the_levels_come_from_the_data_in_their_order() -> None:
    assert levels({"reasoning_effort_levels": ["high", "none"]}, is_known=True) == ("none", "high")
    assert levels({"supports_reasoning": True, "supports_none_reasoning_effort": True}, is_known=True) == (
        "none",
        "low",
        "medium",
        "high",
    )
    assert levels({}, is_known=True) == ()
    assert levels({}, is_known=False) is None


@pytest.mark.parametrize(
    ("settings", "data", "sent", "effort"),
    [
        ({}, BUDGETED, None, None),
        ({"reasoning_effort": "low"}, BUDGETED, {"type": "enabled", "budget_tokens": 1024}, None),
        ({"reasoning_effort": "low"}, ADAPTIVE, {"type": "adaptive"}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 9000}}, ADAPTIVE, {"type": "adaptive"}, "high"),
        ({"thinking": {"type": "adaptive"}}, BUDGETED, {"type": "enabled", "budget_tokens": 4096}, None),
        ({"thinking": {"type": "disabled"}}, BUDGETED, {"type": "disabled"}, None),
        ({"reasoning_effort": "high"}, KNOWN, None, None),
    ],
)
def test_claude_s_thinking_is_brought_into_the_form_that_the_model_takes(
    settings: dict[str, Any], data: dict[str, Any], sent: dict[str, Any] | None, effort: str | None
) -> None:
    thinker = Thinker("it", "anthropic", "it", data, is_known=True, thinks_as_claude=True, allowed=())
    _, thinking = thinker.think(settings)
    assert (thinking.claude, thinking.effort) == (sent, effort)


def test_the_embedded_model_does_not_reason() -> None:
    profile = ModelProfile.of(deployment("embedded/SmolLM2-135M-Instruct"), {})

    assert profile.for_call("high", None).thinking.notes == ("effort was left out: it does not take it",)
    assert profile.for_call("none", None).thinking.notes == profile.for_call(None, "low").thinking.notes == ()


def test_gemini_is_told_a_level_or_a_budget() -> None:
    assert gemini_thinking(None, None, "it", takes_level=True) is None
    assert gemini_thinking("high", None, "it", takes_level=True) == {"thinkingLevel": "high"}
    assert gemini_thinking("medium", None, "it", takes_level=False) == {"thinkingBudget": 8192}
    assert gemini_thinking("medium", {"budget_tokens": 77}, "it", takes_level=False) == {"thinkingBudget": 77}
    assert gemini_thinking("max", None, "gemini-2.5-pro", takes_level=False) == {"thinkingBudget": 32_768}
