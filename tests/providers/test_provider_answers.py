"""What a provider's own answer counts, bills and holds, and what its finish reason means."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from konstruct_mcp.providers.costs import Served, Tokens
from konstruct_mcp.providers.litellm.answers.finish_reasons import meaning_of
from konstruct_mcp.providers.litellm.answers.lightening import lightened
from konstruct_mcp.providers.litellm.answers.usage import (
    MISCOUNTED,
    billed_usd,
    count_of,
    served_in,
    tokens_of,
    tokens_of_litellm,
    tokens_of_ollama,
)
from konstruct_mcp.routing.outcomes import FaultKind


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "prompt_tokens_details": {"cached_tokens": 60},
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
            Tokens(sent=100, cached=60, written=0, answered=20, reasoned=5),
        ),
        (
            {
                "input_tokens": 10,
                "output_tokens": 20,
                "cache_read_input_tokens": 60,
                "cache_creation_input_tokens": 30,
                "cache_creation": {"ephemeral_1h_input_tokens": 7},
            },
            Tokens(sent=100, cached=60, written=30, answered=20, reasoned=0, lasting=7),
        ),
        (
            {
                "promptTokenCount": 100,
                "candidatesTokenCount": 20,
                "thoughtsTokenCount": 5,
                "cachedContentTokenCount": 60,
            },
            Tokens(sent=100, cached=60, written=0, answered=25, reasoned=5),
        ),
        ({"inputTokens": 100, "outputTokens": 20.0}, Tokens(100, 0, 0, 20, 0)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}}, Tokens(5, 5, 0, 0, 0)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
        ({}, None),
        ([], None),
        (None, None),
        ({"prompt_tokens": "many"}, MISCOUNTED),
        ({"prompt_tokens": 5, "completion_tokens": -1}, MISCOUNTED),
        ("much", MISCOUNTED),
    ],
)
def test_each_format_of_usage_is_read(usage: Any, tokens: Tokens | None) -> None:
    assert tokens_of(usage) == tokens


@pytest.mark.parametrize("value", [True, "5", 1.5, -1, 10**9, None, [5]])
def test_what_is_no_number_of_tokens_is_no_count(value: Any) -> None:
    assert count_of(value) is None


def test_litellm_s_usage_is_read_and_xai_s_reasoning_is_added() -> None:
    details = SimpleNamespace(reasoning_tokens=5)
    usage = SimpleNamespace(prompt_tokens=100, completion_tokens=20, completion_tokens_details=details)
    assert tokens_of_litellm(usage, "openai") == Tokens(100, 0, 0, 20, 5)
    assert tokens_of_litellm(usage, "xai") == Tokens(100, 0, 0, 25, 5)
    usage.total_tokens = 125
    assert tokens_of_litellm(usage, "vertex_ai") == tokens_of_litellm(usage, "xai") == Tokens(100, 0, 0, 25, 5)
    assert tokens_of_litellm(SimpleNamespace(prompt_tokens="many"), "openai") is None
    assert tokens_of_litellm(None, "openai") is None


def test_ollama_s_counts_are_read() -> None:
    assert tokens_of_ollama({"prompt_eval_count": 3, "eval_count": 4}) == (3, 4)
    assert tokens_of_ollama({}) == (0, 0)
    assert tokens_of_ollama({"prompt_eval_count": 3, "eval_count": "4"}) is None


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        ({"cost": 0.5}, 0.5),
        ({"cost": 0.5, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.25}}, 0.75),
        ({"cost": 0.5, "is_byok": True}, None),
        ({"cost": True}, None),
        ({"cost": -1}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_bill_is_believed_where_it_is_one(usage: Any, usd: float | None) -> None:
    assert billed_usd(usage) == usd


@pytest.mark.parametrize(
    ("answer", "served"),
    [
        ({"service_tier": "flex"}, Served(tier="flex")),
        ({"usage": {"service_tier": "priority", "inference_geo": "us"}}, Served(tier="priority", region="us")),
        ({"usageMetadata": {"trafficType": "ON_DEMAND_PRIORITY"}}, Served(tier="priority")),
        ({"usageMetadata": {"trafficType": "ON_DEMAND"}}, Served()),
        ({"service_tier": 7, "usage": []}, Served()),
    ],
)
def test_how_a_request_was_served_is_read_wherever_it_is_said(answer: dict[str, Any], served: Served) -> None:
    assert served_in(answer) == served


@pytest.mark.parametrize(
    ("native", "meaning"),
    [
        ("STOP", "stop"),
        ("end-turn", "stop"),
        ("MAX_TOKENS", "length"),
        ("tool_use", "tool_calls"),
        ("SAFETY", "content_filter"),
        ("error", FaultKind.SERVER_ERROR),
        ("MALFORMED_FUNCTION_CALL", FaultKind.BAD_ANSWER),
        ("unheard-of", None),
        (None, None),
    ],
)
def test_a_finish_reason_means_what_the_provider_says_it_does(native: str | None, meaning: object) -> None:
    assert meaning_of(native) == meaning


def test_an_answer_loses_what_nobody_reads_and_is_refused_with_more_in_it_than_any_has() -> None:
    whole = {"choices": [{"message": {"content": "Hi"}, "logprobs": [1] * 10}]}
    light = lightened(json.dumps(whole).encode())
    assert light is not None
    assert json.loads(light) == {"choices": [{"message": {"content": "Hi"}}]}
    assert lightened(b"no JSON") == b"no JSON"
    assert lightened(json.dumps({"choices": [{}] * 1000}).encode()) is None
    assert lightened(b'{"a":' * 200 + b"0" + b"}" * 200) is None
