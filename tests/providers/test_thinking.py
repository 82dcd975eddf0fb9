"""How hard a model is told to think, in each provider's words.

The models are of the table that ships with us; what holds for them holds for any that has the same data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.model_requests import HAIKU, OPUS, SONNET_45, SONNET_46, ask, at, left_out

pytestmark = pytest.mark.many_cases


def became(asked: str, level: str, model: str) -> str:
    return f"reasoning_effort {asked} became {level}, the nearest that {model} has"


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
