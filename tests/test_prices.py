"""What a call can cost at most, against what it is said to have cost: every chat model that the tables know."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from konstruct_mcp.accounts import to_nusd
from konstruct_mcp.config import Deployment
from konstruct_mcp.models import Models
from konstruct_mcp.prices import Tokens, facts_of, own_cost, quote
from konstruct_mcp.types import Request

LONGEST = 1000  # tokens of an answer, all of them used


def deployment_of(model: str) -> Deployment:
    params = {"model": model}
    return Deployment("g/1", "g", model, model, MappingProxyType(params), data=Models().find(model, params))


def deployments() -> list[Deployment]:
    """Those whose price is known, by the tables."""
    found = []
    for name in Models().known():
        entry = Models().find(name, {})
        if entry.get("mode") in ("chat", "responses"):
            provider = entry["litellm_provider"]
            deployment = deployment_of(name if "/" in name else f"{provider}/{name}")
            if not facts_of(deployment).why_no_budget:
                found.append(deployment)
    return found


@pytest.mark.parametrize("characters", [1, 260_000])
def test_no_model_costs_more_than_was_said(characters: int) -> None:
    request = Request.parse({"messages": [{"role": "user", "content": "a" * characters}], "max_tokens": LONGEST})
    sent = characters + 17  # a token for each, and what a provider puts around them
    exceeded, compared = [], 0
    for deployment in deployments():
        most = quote(deployment, request).most_nusd(LONGEST)
        for cached, written, reasoned in ((0, 0, 0), (sent, 0, 0), (0, sent, 0), (0, 0, LONGEST)):
            cost = own_cost(Tokens(sent, cached, written, LONGEST, reasoned), deployment)
            compared += 1
            if to_nusd(cost) > most:
                exceeded.append((deployment.model, cached, written, reasoned, most, int(to_nusd(cost))))
    assert exceeded == []
    assert compared > 5000


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
