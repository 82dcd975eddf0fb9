"""What a call can cost at most, against what LiteLLM reckons that it cost: every chat model that LiteLLM knows."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import litellm
import pytest
from litellm.types.utils import (
    CompletionTokensDetailsWrapper,
    LlmProviders,
    ModelResponse,
    PromptTokensDetailsWrapper,
    Usage,
)

from konstruct_mcp.accounts import to_nusd
from konstruct_mcp.config import Deployment
from konstruct_mcp.prices import Tokens, facts_of, own_cost, quote
from konstruct_mcp.types import Request

LONGEST = 1000  # tokens of an answer, all of them used
PROVIDERS = {provider.value for provider in LlmProviders}


def deployments() -> list[Deployment]:
    """Those whose price is known, by the map."""
    file = Path(litellm.__file__).with_name("model_prices_and_context_window_backup.json")
    found = []
    for key, entry in json.loads(file.read_text("utf-8")).items():
        if entry.get("mode") in ("chat", "responses"):
            provider = entry["litellm_provider"]
            model = key if key.partition("/")[0] in PROVIDERS else f"{provider}/{key}"
            deployment = Deployment("g/1", "g", model, model, MappingProxyType({"model": model}))
            if model.partition("/")[0] in PROVIDERS and not facts_of(deployment).why_no_budget:
                found.append(deployment)
    return found


def usage(sent: int, cached: int, written: int, reasoned: int) -> Usage:
    of_prompt = PromptTokensDetailsWrapper(cached_tokens=cached, cache_creation_tokens=written)  # type: ignore[no-untyped-call]
    of_answer = CompletionTokensDetailsWrapper(reasoning_tokens=reasoned, text_tokens=LONGEST - reasoned)
    more: dict[str, Any] = {"cache_creation_input_tokens": written, "cache_read_input_tokens": cached}
    return Usage(
        prompt_tokens=sent,
        completion_tokens=LONGEST,
        total_tokens=sent + LONGEST,
        prompt_tokens_details=of_prompt if cached or written else None,
        completion_tokens_details=of_answer if reasoned else None,
        **(more if written else {}),
    )


@pytest.mark.parametrize("characters", [1, 260_000])
def test_no_model_costs_more_than_was_said(characters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    request = Request.parse({"messages": [{"role": "user", "content": "a" * characters}], "max_tokens": LONGEST})
    sent = characters + 17  # a token for each, and what a provider puts around them
    exceeded, compared = [], 0
    for deployment in deployments():
        most = quote(deployment, request).most_nusd(LONGEST)
        provider, _, name = deployment.model.partition("/")
        for cached, written, reasoned in ((0, 0, 0), (sent, 0, 0), (0, sent, 0), (0, 0, LONGEST)):
            if provider == "xai" and reasoned:
                continue  # counted beside the answer, but for these, which do not reason
            if provider == "together_ai":  # where we do not go by LiteLLM
                cost = own_cost(Tokens(sent, cached, written, LONGEST, reasoned), deployment)
            else:
                counted = ModelResponse(model=name, usage=usage(sent, cached, written, reasoned))
                try:
                    cost = litellm.completion_cost(counted, model=name, custom_llm_provider=provider)
                except Exception:  # it has no way to reckon with this one, and so no cost
                    continue
            compared += 1
            if to_nusd(cost) > most:
                exceeded.append((deployment.model, cached, written, reasoned, most, int(to_nusd(cost))))
    assert exceeded == []
    assert compared > 5000


def test_the_longest_answer_is_no_window() -> None:
    """The map has `max_tokens`, 1024, for this one, and no window: a longer conversation may well fit."""
    model = "gradient_ai/anthropic-claude-3-opus"
    deployment = Deployment("g/1", "g", model, model, {"model": model})
    assert facts_of(deployment).context_window is None


def test_a_price_of_the_config_may_have_tiers() -> None:
    prices = {
        "input_cost_per_token": 1e-6,
        "output_cost_per_token": 2e-6,
        "input_cost_per_token_above_200k_tokens": 3e-6,
    }
    deployment = Deployment("g/1", "g", "openai/x", "openai/x", prices, input_cost=1e-6, output_cost=2e-6)
    assert own_cost(Tokens(200_000, 0, 0, 10, 0), deployment) == pytest.approx(0.2 + 2e-5)
    assert own_cost(Tokens(200_001, 0, 0, 10, 0), deployment) == pytest.approx(0.600003 + 2e-5)


def test_what_costs_nothing_has_no_price_above_0_anywhere() -> None:
    free = {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
    for more, is_free in (({}, True), ({"output_cost_per_reasoning_token": 1e-6}, False)):
        deployment = Deployment("g/1", "g", "openai/x", "openai/x", {**free, **more}, input_cost=0.0, output_cost=0.0)
        assert facts_of(deployment).free is is_free
