"""What is known of models: every model of the tables is found under the name that a config has for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import litellm
import pytest

from konstruct_mcp import models
from konstruct_mcp.models import Models

CHATS = ("chat", "completion", "responses")
# The word before the slash in a config, where it is not the table's own name of the provider.
PREFIXES = {
    "bedrock_converse": "bedrock",
    "cohere_chat": "cohere",
    "text-completion-openai": "openai",
    "azure_text": "azure",
    "amazon_nova": "amazon-nova",
}


def everything() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(Path(models.__file__).with_name("models.json").read_text("utf-8"))
    return {name: entry for name, entry in table.items() if not name.startswith("_")}


def asked_as(name: str, provider: str) -> str:
    """As a config names it."""
    provider = "vertex_ai" if provider.startswith("vertex_ai") else PREFIXES.get(provider, provider)
    return name if name.startswith(f"{provider}/") else f"{provider}/{name}"


def test_each_chat_model_that_ships_is_found_under_the_name_that_a_config_has_for_it() -> None:
    lost, asked, table = [], 0, everything()
    for name, entry in table.items():
        if entry.get("mode") in CHATS:
            asked += 1
            model = asked_as(name, entry["litellm_provider"])
            if Models().find(model, {}) != table.get(model, entry):  # some have both names, with and without provider
                lost.append((name, model))
    assert lost == []
    assert asked > 3500


def test_a_name_that_no_table_has_is_not_found() -> None:
    assert Models().find("openai/no-such-model", {}) == {}
    assert Models().find("no-such-provider/gpt-4o", {}) == {}
    assert Models().find("ollama/qwen3:32b", {}) == {}


def test_a_model_that_only_the_installed_litellm_knows_is_found() -> None:
    file = Path(litellm.__file__).with_name("model_prices_and_context_window_backup.json")
    theirs = json.loads(file.read_text("utf-8"))
    only = next(name for name in theirs if name.startswith("openrouter/") and theirs[name].get("mode") == "chat")
    assert only not in everything()
    assert Models().find(only, {})["input_cost_per_token"] == theirs[only]["input_cost_per_token"]


@pytest.mark.parametrize(
    ("model", "params", "name"),
    [
        ("bedrock/us.anthropic.claude-opus-4-7", {}, "us.anthropic.claude-opus-4-7"),
        ("bedrock/converse/us.anthropic.claude-opus-4-7", {}, "us.anthropic.claude-opus-4-7"),
        ("bedrock/invoke/anthropic.claude-sonnet-4-6", {}, "anthropic.claude-sonnet-4-6"),
        ("bedrock/us-east-1/anthropic.claude-sonnet-4-6", {}, "anthropic.claude-sonnet-4-6"),
        ("bedrock/deepseek.v3.2", {"aws_region_name": "eu-north-1"}, "bedrock/eu-north-1/deepseek.v3.2"),
        (
            "bedrock/converse/arn:aws:bedrock:eu-west-1:1234:inference-profile/eu.anthropic.claude-sonnet-4-6",
            {},
            "eu.anthropic.claude-sonnet-4-6",
        ),
        ("vertex_ai/gemini-2.5-flash", {}, "gemini-2.5-flash"),
        ("vertex_ai_beta/gemini-2.5-flash", {}, "gemini-2.5-flash"),
        ("vertex_ai/claude-haiku-5-5@20261001", {}, "vertex_ai/claude-haiku-5-5"),
        ("cohere/command-a-03-2025", {}, "command-a-03-2025"),
        ("cohere_chat/command-a-03-2025", {}, "command-a-03-2025"),
        ("openai/responses/gpt-5", {}, "gpt-5"),
        ("azure/responses/gpt-5-codex", {}, "azure/gpt-5-codex"),
        ("azure/my-own-name", {"base_model": "azure/gpt-4o"}, "azure/gpt-4o"),
        ("azure/my-own-name", {"base_model": "gpt-4o"}, "azure/gpt-4o"),
        ("openai/ft:gpt-4o-2024-08-06:acme:custom:abc123", {}, "ft:gpt-4o-2024-08-06"),
        ("anthropic/claude-opus-latest", {}, "claude-opus-5-5"),
        ("fireworks_ai/deepseek-r1", {}, "fireworks_ai/accounts/fireworks/models/deepseek-r1"),
    ],
)
def test_a_model_is_found_under_each_way_to_name_it(model: str, params: dict[str, Any], name: str) -> None:
    assert Models().find(model, params) == everything()[name]
