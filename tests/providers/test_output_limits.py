"""The output limit that goes out to each provider.

The models are of the table that ships with us; what holds for them holds for any that has the same data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.default_groups import HELLO, entry, opened, reaching
from support.model_requests import ask
from support.providers import Provider, Status, Text

pytestmark = pytest.mark.many_cases


LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens", "maxTokens")


def limits(value: Any) -> dict[str, Any]:
    """Each limit in a body, wherever it is."""
    found: dict[str, Any] = {}
    if isinstance(value, dict):
        for key, item in value.items():
            found |= {key: item} if key in LIMITS else limits(item)
    return found


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
