"""`effort` of a call: what each provider is sent for it, what is said of it, what of it a tenant may have, and how many
tokens of reasoning are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.default_groups import HELLO, entry, opened, reaching
from support.model_requests import HAIKU, OPUS, SONNET_45, SONNET_46, ask, at, left_out
from support.providers import Changed, Provider, Status, Text

from konstruct_mcp import InvalidArgumentError

LARGE, GROK, V4 = "mistral/mistral-large-4", "xai/grok-4.3", "deepseek/deepseek-v4-pro"
BEDROCK_OPUS, NOVA = "bedrock/us.anthropic.claude-opus-5-5", "bedrock/us.amazon.nova-2-lite-v1:0"
OPENROUTER = "openrouter/anthropic/claude-opus-5.5"
ADAPTIVE = {"type": "adaptive"}


def became(asked: str, level: str, model: str) -> str:
    return f"effort {asked} became {level}, the nearest that {model} has"


def budget(tokens: int) -> dict[str, Any]:
    return {"type": "enabled", "budget_tokens": tokens}


GEMINI_BUDGET = "generationConfig.thinkingConfig.thinkingBudget"


def gemini_budget(tokens: int) -> dict[str, Any]:
    return {"extra_body": {"generationConfig": {"thinkingConfig": {"thinkingBudget": tokens}}}}


@pytest.mark.many_cases
@pytest.mark.parametrize(
    ("model", "effort", "sent", "note"),
    [
        # OpenAI: chat completions and responses
        ("openai/gpt-5.1", "none", {"reasoning_effort": "none"}, None),
        ("openai/gpt-5", "none", {"reasoning_effort": "minimal"}, became("none", "minimal", "openai/gpt-5")),
        ("openai/gpt-5", "medium", {"reasoning_effort": "medium"}, None),
        ("openai/gpt-5.4-nano", "max", {"reasoning_effort": "xhigh"}, became("max", "xhigh", "openai/gpt-5.4-nano")),
        ("openai/gpt-6-sol", "max", {"reasoning_effort": "max"}, None),
        ("openai/gpt-5-codex", "low", {"reasoning": {"effort": "low"}, "reasoning_effort": None}, None),
        ("openai/gpt-4o", "high", {"reasoning_effort": None}, left_out("effort", "openai/gpt-4o")),
        ("openai/gpt-4o", "none", {"reasoning_effort": None}, None),
        ("azure/gpt-5.1", "high", {"reasoning_effort": "high"}, None),
        # a server that nobody knows
        ("hosted_vllm/qwen3", "high", {"reasoning_effort": "high"}, None),
        ("hosted_vllm/qwen3", "none", {"reasoning_effort": "none"}, None),
        ("hosted_vllm/qwen3", "max", {"reasoning_effort": "high"}, became("max", "high", "hosted_vllm/qwen3")),
        # Anthropic: adaptive, or a budget
        (OPUS, "max", {"thinking": ADAPTIVE, "output_config": {"effort": "max"}}, None),
        (OPUS, "none", {"thinking": None, "output_config.effort": "low"}, f"{OPUS} thinks, and cannot be told not to"),
        (HAIKU, "none", {"thinking": {"type": "disabled"}, "output_config": None}, None),
        (SONNET_46, "low", {"thinking": ADAPTIVE, "output_config": {"effort": "low"}}, None),
        (SONNET_46, "none", {"thinking": None, "output_config": None}, None),
        (SONNET_45, "low", {"thinking": budget(1024), "output_config": None}, None),
        (SONNET_45, "max", {"thinking": budget(32_000), "output_config": None}, None),
        ("anthropic/claude-unheard-of", "max", {"thinking": ADAPTIVE, "output_config": {"effort": "max"}}, None),
        # Gemini: a level, or a budget
        ("gemini/gemini-4-argon", "high", {"generationConfig.thinkingConfig": {"thinkingLevel": "high"}}, None),
        (
            "gemini/gemini-4-argon",
            "none",
            {"generationConfig.thinkingConfig": {"thinkingLevel": "low"}},
            became("none", "low", "gemini/gemini-4-argon"),
        ),
        ("gemini/gemini-2.5-flash", "none", {"generationConfig.thinkingConfig": {"thinkingBudget": 0}}, None),
        ("gemini/gemini-2.5-flash", "max", {"generationConfig.thinkingConfig": {"thinkingBudget": 24_576}}, None),
        ("gemini/gemini-2.5-pro", "max", {"generationConfig.thinkingConfig": {"thinkingBudget": 32_768}}, None),
        (
            "gemini/gemini-2.5-pro",
            "none",
            {"generationConfig.thinkingConfig": {"thinkingBudget": 128}},
            became("none", "minimal", "gemini/gemini-2.5-pro"),
        ),
        ("vertex_ai/gemini-3.1-pro-preview", "low", {"generationConfig.thinkingConfig.thinkingLevel": "low"}, None),
        # Bedrock: Claude, Nova, and OpenAI's
        (
            BEDROCK_OPUS,
            "high",
            {"additionalModelRequestFields": {"thinking": ADAPTIVE, "output_config": {"effort": "high"}}},
            None,
        ),
        (NOVA, "high", {"additionalModelRequestFields.reasoningConfig.maxReasoningEffort": "high"}, None),
        (NOVA, "none", {"additionalModelRequestFields.reasoningConfig": None}, None),
        ("bedrock/us.openai.gpt-6.1-sol", "max", {"additionalModelRequestFields": {"reasoning_effort": "max"}}, None),
        # OpenRouter, DeepSeek, Mistral, xAI, Groq, Kimi, GLM
        ("openrouter/openai/gpt-5", "none", {"reasoning": {"effort": "none"}}, None),
        (OPENROUTER, "none", {"reasoning": {"effort": "low"}}, became("none", "low", OPENROUTER)),
        (OPENROUTER, "max", {"reasoning": {"effort": "xhigh"}}, became("max", "xhigh", OPENROUTER)),
        (V4, "none", {"thinking": {"type": "disabled"}, "reasoning_effort": None}, None),
        (V4, "max", {"thinking": {"type": "enabled"}, "reasoning_effort": "max"}, None),
        (LARGE, "none", {"reasoning_effort": "none"}, None),
        (LARGE, "medium", {"reasoning_effort": "high"}, became("medium", "high", LARGE)),
        ("mistral/magistral-small-latest", "none", {"prompt_mode": None, "reasoning_effort": None}, None),
        (GROK, "none", {"reasoning_effort": "none"}, None),
        (GROK, "max", {"reasoning_effort": "high"}, became("max", "high", GROK)),
        ("groq/openai/gpt-oss-120b", "low", {"reasoning_effort": "low"}, None),
        ("groq/qwen/qwen3.8-27b", "none", {"reasoning_effort": "none"}, None),
        ("groq/qwen/qwen3.8-27b", "low", {"reasoning_effort": "default"}, became("low", "on", "groq/qwen/qwen3.8-27b")),
        ("moonshot/kimi-k3", "max", {"reasoning_effort": "max"}, None),
        ("moonshot/kimi-k2.6", "none", {"thinking": {"type": "disabled"}}, None),
        ("zai/glm-5v-turbo", "high", {"thinking": {"type": "enabled"}}, became("high", "on", "zai/glm-5v-turbo")),
        ("cohere_chat/command-a-plus-05-2026", "none", {"thinking": {"type": "disabled"}}, None),
        # Ollama: a switch, and the levels of gpt-oss
        ("ollama/qwen3:8b", "none", {"think": False}, None),
        ("ollama/qwen3:8b", "low", {"think": True}, became("low", "on", "ollama/qwen3:8b")),
        ("ollama/gpt-oss:20b", "medium", {"think": "medium"}, None),
        ("ollama/gpt-oss:20b", "max", {"think": "high"}, became("max", "high", "ollama/gpt-oss:20b")),
        ("ollama/gpt-oss:20b", "none", {"think": "low"}, became("none", "low", "ollama/gpt-oss:20b")),
    ],
)
async def test_the_effort_of_a_call_goes_out_as_the_model_takes_it(
    tmp_path: Path, model: str, effort: str, sent: dict[str, Any], note: str | None
) -> None:
    asked = await ask(tmp_path, model, effort=effort)

    assert {path: at(asked.body, path) for path in sent} == sent
    assert asked.notes == (() if note is None else (note,))


@pytest.mark.many_cases
@pytest.mark.parametrize(
    ("model", "config", "effort", "sent"),
    [
        ("openai/gpt-5", {"reasoning_effort": "high"}, "low", {"reasoning_effort": "low"}),
        ("openai/gpt-5", {"reasoning_effort": "high"}, None, {"reasoning_effort": "high"}),
        (SONNET_45, {"thinking": budget(9000)}, "low", {"thinking": budget(1024)}),
        (SONNET_46, {"thinking": {"type": "disabled"}}, "high", {"thinking": ADAPTIVE}),
        (
            OPUS,
            {"output_config": {"effort": "max", "other": 1}},
            "low",
            {"output_config": {"effort": "low", "other": 1}},
        ),
        (OPENROUTER, {"extra_body": {"reasoning": {"effort": "high"}}}, "low", {"reasoning": {"effort": "low"}}),
        ("hosted_vllm/qwen3", {"extra_body": {"reasoning_effort": "high"}}, "low", {"reasoning_effort": "low"}),
        ("ollama/qwen3:8b", {"think": True}, "none", {"think": False}),
        ("deepseek/deepseek-v4-pro", {"thinking": {"type": "enabled"}}, "none", {"thinking": {"type": "disabled"}}),
    ],
)
async def test_a_call_s_effort_goes_before_the_deployment_s(
    tmp_path: Path, model: str, config: dict[str, Any], effort: str | None, sent: dict[str, Any]
) -> None:
    asked = await ask(tmp_path, model, config, effort=effort)

    assert {path: at(asked.body, path) for path in sent} == sent
    assert asked.notes == ()


async def test_a_model_that_is_told_not_to_reason_takes_a_temperature(tmp_path: Path) -> None:
    quiet = await ask(tmp_path, "openai/gpt-5.1", {"reasoning_effort": "high"}, effort="none", temperature=0.2)
    loud = await ask(tmp_path, "openai/gpt-5.1", {"reasoning_effort": "none"}, effort="high", temperature=0.2)

    assert (quiet.body["temperature"], quiet.notes) == (0.2, ())
    assert "temperature" not in loud.body
    assert loud.notes == (left_out("temperature", "openai/gpt-5.1"),)


async def test_an_effort_that_a_deployment_refuses_is_left_out_under_its_name(tmp_path: Path) -> None:
    refusal = Status(400, "Unrecognized request argument supplied: reasoning_effort", code="unknown_parameter")
    with Provider("vllm") as vllm:
        vllm.script(refusal, Text("Hi"))
        async with opened(tmp_path, {"model_list": [entry("g", reaching(vllm, "hosted_vllm/mine"))]}, {}) as konstruct:
            first = await konstruct.complete(HELLO, effort="high")
            again = await konstruct.complete(HELLO, effort="high")
            other = await konstruct.complete(HELLO)

    assert [request.body.get("reasoning_effort") for request in vllm.requests] == ["high", None, None, None]
    assert first.notes == again.notes == (left_out("effort", "hosted_vllm/mine"),)
    assert other.notes == ()


async def test_an_effort_of_no_level_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="effort: should be 'none', 'low', 'medium', 'high' or 'max'"):
        await ask(tmp_path, "openai/gpt-5", effort="extreme")


# -- what a tenant may have


@pytest.mark.many_cases
@pytest.mark.parametrize(
    ("model", "config", "most", "effort", "sent", "noted"),
    [
        ("openai/gpt-5", {}, "low", "high", {"reasoning_effort": "low"}, True),
        ("openai/gpt-5", {}, "high", "low", {"reasoning_effort": "low"}, False),
        ("openai/gpt-5", {"reasoning_effort": "high"}, "low", None, {"reasoning_effort": "low"}, False),
        ("openai/gpt-5", {}, "low", None, {"reasoning_effort": "low"}, False),  # it would reason by itself
        ("openai/gpt-5.1", {}, "low", None, {"reasoning_effort": None}, False),  # it would not
        ("openai/gpt-4o", {}, "none", None, {"reasoning_effort": None}, False),
        (LARGE, {}, "medium", "medium", {"reasoning_effort": "none"}, True),  # its next one is above
        (SONNET_45, {"thinking": budget(20_000)}, "low", None, {"thinking": budget(1024)}, False),
        (SONNET_46, {}, "low", None, {"thinking": None}, False),
        (HAIKU, {}, "none", None, {"thinking": {"type": "disabled"}}, False),
        (OPUS, {}, "medium", None, {"output_config": {"effort": "medium"}}, False),
        ("gemini/gemini-4-argon", {}, "low", None, {"generationConfig.thinkingConfig.thinkingLevel": "low"}, False),
        (
            OPENROUTER,
            {"extra_body": {"reasoning": {"effort": "high"}}},
            "low",
            None,
            {"reasoning.effort": "low"},
            False,
        ),
        # What is off in a provider's own words stays off, and what is on there is held to the level.
        (OPENROUTER, {"extra_body": {"reasoning": {"enabled": False}}}, "low", None, {"reasoning.effort": None}, False),
        (
            OPENROUTER,
            {"reasoning": {"max_tokens": 9000}},
            "low",
            None,
            {"reasoning.effort": "low"},
            False,
        ),
        *(
            (f"gemini/gemini-2.5-flash{lite}", gemini_budget(tokens), "low", None, {GEMINI_BUDGET: sent}, False)
            for lite, tokens, sent in (("", 0, 0), ("-lite", 20_000, 1024), ("-lite", -1, 1024), ("-lite", 512, 512))
        ),
        ("ollama/qwen3:8b", {}, "low", None, {"think": None}, False),
        ("ollama/qwen3:8b", {}, "none", "high", {"think": False}, True),
        ("ollama/gpt-oss:20b", {}, "low", None, {"think": "low"}, False),
    ],
)
async def test_a_tenant_gets_no_more_effort_than_it_may_have(
    tmp_path: Path,
    model: str,
    config: dict[str, Any],
    most: str,
    effort: str | None,
    sent: dict[str, Any],
    noted: bool,
) -> None:
    tenants = {"default": {"max_effort": most}}
    asked = await ask(tmp_path, model, config, section={"tenants": tenants}, effort=effort)

    assert {path: at(asked.body, path) for path in sent} == sent
    assert bool(asked.notes) is noted
    if effort == "high":
        assert asked.notes == (f"effort high became {most}, the most that this tenant may ask for",)


# -- budgets


@pytest.mark.parametrize(("usd", "most"), [(0.06, None), (0.06, 3000)])
async def test_what_is_reserved_holds_the_thinking_and_leaves_room_for_the_answer(
    tmp_path: Path, usd: float, most: int | None
) -> None:
    """A Claude of $15 for a million tokens answered, which thinks with up to 32,000 of them where it may."""
    section = {"budgets": [{"usd": usd, "per": "day"}], "ledger_url": f"sqlite:///{tmp_path}/ledger.sqlite3"}
    thought = counting(
        "usage", "output_tokens_details", "thinking_tokens", tokens=900, answer=Text("Hi", usage=(9, 1000))
    )
    asked = await ask(tmp_path, SONNET_45, answer=thought, section=section, effort="max", max_tokens=most)

    assert asked.body["max_tokens"] * 15 / 10**6 <= usd
    assert asked.body["max_tokens"] == (most or asked.body["max_tokens"])
    assert 1024 <= asked.body["thinking"]["budget_tokens"] <= asked.body["max_tokens"] / 2
    assert asked.completion.cost_usd == 0.015027
    assert asked.completion.usage.reasoning_tokens == 900
    budget_sent = asked.body["thinking"]["budget_tokens"]
    assert asked.notes == (f"effort became {budget_sent} tokens of thinking, to leave some for the answer",)


async def test_an_effort_for_which_there_is_no_room_is_left_out_with_a_note(tmp_path: Path) -> None:
    asked = await ask(tmp_path, SONNET_45, effort="low", max_tokens=1000)

    assert "thinking" not in asked.body
    assert asked.notes == ("thinking was left out: it does not fit into 1000 tokens",)


# -- tokens of reasoning


def counting(*place: str, tokens: int = 5, answer: Text = Text("Hi")) -> Changed:
    """An answer whose provider counts so many tokens of reasoning at this place of its body."""

    def count(body: dict[str, Any]) -> None:
        *outer, name = place
        for key in outer:
            body = body.setdefault(key, {})
        body[name] = tokens
        if name == "thoughtsTokenCount":
            body["totalTokenCount"] += tokens

    return Changed(answer, count)


CHAT = ("usage", "completion_tokens_details", "reasoning_tokens")


@pytest.mark.parametrize(
    ("model", "place", "answered"),
    [
        ("openai/gpt-5", CHAT, 7),
        ("openai/gpt-5-codex", ("usage", "output_tokens_details", "reasoning_tokens"), 7),
        (OPUS, ("usage", "output_tokens_details", "thinking_tokens"), 7),
        ("gemini/gemini-4-argon", ("usageMetadata", "thoughtsTokenCount"), 12),  # counted beside the answer
        (GROK, CHAT, 12),
        (V4, CHAT, 7),
    ],
)
async def test_tokens_of_reasoning_are_counted_as_part_of_the_output(
    tmp_path: Path, model: str, place: tuple[str, ...], answered: int
) -> None:
    completion = (await ask(tmp_path, model, answer=counting(*place), effort="high")).completion

    assert (completion.usage.output_tokens, completion.usage.reasoning_tokens) == (answered, 5)
    assert completion.as_dict()["usage"] == {"input_tokens": 11, "output_tokens": answered, "reasoning_tokens": 5}


@pytest.mark.parametrize("model", [OPUS, BEDROCK_OPUS, "ollama/qwen3:8b", "openai/gpt-5"])
async def test_reasoning_that_its_provider_does_not_count_is_not_estimated(tmp_path: Path, model: str) -> None:
    thought = Text("Hi", usage=(11, 70), reasoning="Let me think about this for some time.")
    completion = (await ask(tmp_path, model, answer=thought, effort="high")).completion

    assert completion.as_dict()["usage"] == {"input_tokens": 11, "output_tokens": 70}


@pytest.mark.parametrize(
    ("model", "place"), [("openai/gpt-5", CHAT), ("gemini/gemini-4-argon", ("usageMetadata", "thoughtsTokenCount"))]
)
async def test_a_limit_that_was_used_up_by_reasoning_is_said(
    tmp_path: Path, model: str, place: tuple[str, ...]
) -> None:
    cut = counting(*place, tokens=64, answer=Text("", finish="length", usage=(11, 64)))
    asked = await ask(tmp_path, model, answer=cut, effort="high", max_tokens=64)

    assert (asked.completion.content, asked.completion.finish_reason) == ("", "length")
    assert asked.notes == (
        f"{model} used the whole limit of the answer for reasoning; raise max_tokens or lower effort",
    )


async def test_a_thought_that_is_cut_is_said_where_nobody_counts_it(tmp_path: Path) -> None:
    cut = Text("", finish="length", usage=(11, 64), reasoning="Let me think")
    for model in (SONNET_46, "ollama/qwen3:8b"):
        asked = await ask(tmp_path, model, answer=cut, max_tokens=64)
        assert asked.notes == (
            f"{model} used the whole limit of the answer for reasoning; raise max_tokens or lower effort",
        )
