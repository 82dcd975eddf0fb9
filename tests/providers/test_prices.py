"""What a call can cost at most, against what it is said to have cost: every chat model that the tables know."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from support.default_groups import write
from support.providers import Provider, Raw

from konstruct_mcp import Konstruct
from konstruct_mcp.config.model import Deployment, entry
from konstruct_mcp.config.model_lookup import Models
from konstruct_mcp.config.reading import load_config
from konstruct_mcp.core.money import to_nusd
from konstruct_mcp.core.requests import Request
from konstruct_mcp.core.results import Completion
from konstruct_mcp.providers.costs import Served, Tokens, own_cost
from konstruct_mcp.providers.model_facts import facts_of
from konstruct_mcp.providers.quotes import quote

LONGEST = 1000  # tokens of an answer, all of them used


@functools.cache
def deployments() -> list[Deployment]:
    """Those whose price is known, by the tables."""
    found = []
    for name in Models().known():
        entry = Models().find(name, {})
        if entry.get("mode") in ("chat", "responses"):
            provider = entry["litellm_provider"]
            deployment = asking(name if "/" in name else f"{provider}/{name}")
            if not facts_of(deployment).why_no_budget:
                found.append(deployment)
    return found


@pytest.mark.parametrize("characters", [1, 260_000])
def test_no_model_costs_more_than_was_said(characters: int) -> None:
    assert_none_costs_more(deployments()[::10], characters)


@pytest.mark.long
@pytest.mark.parametrize("characters", [1, 260_000])
def test_none_of_all_models_costs_more_than_was_said(characters: int) -> None:
    assert_none_costs_more(deployments(), characters)


def assert_none_costs_more(some: list[Deployment], characters: int) -> None:
    request = Request.parse({"messages": [{"role": "user", "content": "a" * characters}], "max_tokens": LONGEST})
    sent = characters + 17  # a token for each, and what a provider puts around them
    exceeded, compared = [], 0
    for deployment in some:
        most = quote(deployment, request).most_nusd(LONGEST)
        for cached, written, reasoned in ((0, 0, 0), (sent, 0, 0), (0, sent, 0), (0, 0, LONGEST)):
            tokens = Tokens(sent, cached, written, LONGEST, reasoned, lasting=written)
            for served in (Served(tier="priority"), Served(tier="default"), Served(region="us")):
                cost = own_cost(tokens, deployment, served)
                assert cost is not None or served.tier == "priority"  # not every model has a price for that
                compared += cost is not None
                if cost is not None and to_nusd(cost) > most:
                    exceeded.append((deployment.model, tokens, served, most, int(to_nusd(cost))))
    assert exceeded == []
    assert compared > 2_000


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


def asking(model: str, /, **params: Any) -> Deployment:
    params = {"model": model, **params}
    return Deployment("g/1", "g", model, model, MappingProxyType(params), data=Models().find(model, params))


def of(deployment: Deployment, key: str) -> float:
    price = entry(deployment)[key]
    assert isinstance(price, float)
    return price


class TestAnAnswerCostsWhatTheWayInWhichItWasGivenCosts:
    def test_a_tier_that_the_provider_says_it_has_served(self) -> None:
        deployment = asking("openai/gpt-4o")
        tokens = Tokens(1000, 200, 0, 100, 0)
        for tier, way in (("priority", "_priority"), ("default", ""), ("", ""), ("scale", "")):
            expected = (
                800 * of(deployment, f"input_cost_per_token{way}")
                + 200 * of(deployment, f"cache_read_input_token_cost{way}")
                + 100 * of(deployment, f"output_cost_per_token{way}")
            )
            assert own_cost(tokens, deployment, Served(tier=tier)) == pytest.approx(expected), tier

    def test_a_tier_that_has_no_price_has_no_cost(self) -> None:
        tokens = Tokens(1000, 0, 0, 100, 0)
        assert own_cost(tokens, asking("openai/gpt-4-turbo"), Served(tier="priority")) is None
        assert own_cost(tokens, asking("openai/gpt-4-turbo"), Served(tier="on_demand")) is not None

    def test_a_tier_that_was_asked_for_and_has_no_price_has_no_cost(self) -> None:
        deployment = asking("openai/gpt-4o", service_tier="hyper")
        assert own_cost(Tokens(1000, 0, 0, 100, 0), deployment, Served(tier="hyper")) is None
        assert own_cost(Tokens(1000, 0, 0, 100, 0), deployment) is None  # it says nothing of what it has done
        assert "hyper" in facts_of(deployment).why_no_budget

    def test_a_tier_that_was_asked_for_and_is_not_confirmed_costs_the_dearer_of_both(self) -> None:
        deployment = asking("openai/gpt-4o", service_tier="priority")
        assert own_cost(Tokens(1000, 0, 0, 0, 0), deployment) == pytest.approx(
            1000 * of(deployment, "input_cost_per_token_priority")
        )

    def test_a_cheaper_tier_is_charged_where_the_provider_confirms_it(self) -> None:
        deployment = asking("openai/gpt-5.6", service_tier="flex")
        cheap = 1000 * of(deployment, "output_cost_per_token_flex")
        assert own_cost(Tokens(0, 0, 0, 1000, 0), deployment, Served(tier="flex")) == pytest.approx(cheap)
        assert own_cost(Tokens(0, 0, 0, 1000, 0), deployment, Served(tier="default")) == pytest.approx(2 * cheap)

    def test_a_tier_and_a_long_prompt_at_once(self) -> None:
        deployment = asking("openai/gpt-5.6")
        price = of(deployment, "input_cost_per_token_above_272k_tokens_priority")
        assert own_cost(Tokens(300_000, 0, 0, 0, 0), deployment, Served(tier="priority")) == pytest.approx(
            300_000 * price
        )

    def test_what_is_kept_for_an_hour(self) -> None:
        deployment = asking("anthropic/claude-sonnet-4-6")
        assert own_cost(Tokens(3000, 0, 2000, 0, 0, lasting=500), deployment) == pytest.approx(
            1000 * 3e-6 + 1500 * 3.75e-6 + 500 * 6e-6
        )

    def test_faster_and_in_one_country(self) -> None:
        deployment = asking("anthropic/claude-opus-5-5", speed="fast")
        tokens = Tokens(1000, 0, 0, 100, 0)
        plain = 1000 * of(deployment, "input_cost_per_token") + 100 * of(deployment, "output_cost_per_token")
        assert own_cost(tokens, deployment, Served(speed="standard", region="global")) == pytest.approx(plain)
        assert own_cost(tokens, deployment, Served(speed="fast", region="us")) == pytest.approx(plain * 2 * 1.1)
        assert own_cost(tokens, deployment) == pytest.approx(plain * 2)

    def test_a_speed_without_a_price_has_no_cost(self) -> None:
        deployment = asking("anthropic/claude-sonnet-4-6", speed="fast")
        assert own_cost(Tokens(1000, 0, 0, 100, 0), deployment) is None
        assert "speed" in facts_of(deployment).why_no_budget

    def test_at_an_address_that_costs_more(self) -> None:
        tokens = Tokens(1000, 0, 0, 0, 0)
        plain = own_cost(tokens, asking("openai/gpt-5.6"))
        assert plain is not None
        for host in ("eu", "us", "gov"):
            deployment = asking("openai/gpt-5.6", api_base=f"https://{host}.api.openai.com/v1")
            assert own_cost(tokens, deployment) == pytest.approx(plain * 1.1), host
            assert quote(deployment, HELLO).input_nusd == quote(asking("openai/gpt-5.6"), HELLO).input_nusd * 11 / 10

    def test_off_peak(self) -> None:
        deployment = asking("deepseek/deepseek-v4-pro")
        off = entry(deployment)["off_peak_pricing"]
        peak, quiet = datetime(2026, 11, 25, 3, tzinfo=UTC), datetime(2026, 11, 25, 5, tzinfo=UTC)  # a Wednesday
        weekend = datetime(2026, 11, 28, 3, tzinfo=UTC)
        tokens = Tokens(1000, 0, 0, 0, 0)
        assert own_cost(tokens, deployment, now=peak) == pytest.approx(1000 * of(deployment, "input_cost_per_token"))
        for moment in (quiet, weekend):
            assert own_cost(tokens, deployment, now=moment) == pytest.approx(1000 * off["input_cost_per_token"])

    def test_by_the_length_of_the_prompt_in_tiers(self) -> None:
        deployment = asking("dashscope/qwen-flash")
        assert own_cost(Tokens(256_000, 0, 0, 10, 0), deployment) == pytest.approx(256_000 * 5e-8 + 10 * 4e-7)
        assert own_cost(Tokens(256_001, 0, 0, 10, 0), deployment) == pytest.approx(256_001 * 2.5e-7 + 10 * 2e-6)
        assert facts_of(deployment).input_cost == pytest.approx(5e-8)


HELLO = Request.parse({"messages": [{"role": "user", "content": "hello"}], "max_tokens": 10})


class TestWhatACallCanCostAtMost:
    def test_counts_no_way_that_was_not_asked_for(self) -> None:
        deployment = asking("openai/gpt-6-astra")
        assert of(deployment, "output_cost_per_token_ultrafast") > of(deployment, "output_cost_per_token_priority")
        assert quote(deployment, HELLO).token_nusd == to_nusd(of(deployment, "output_cost_per_token_priority"))

    def test_counts_the_way_that_was_asked_for(self) -> None:
        deployment = asking("openai/gpt-6-astra", service_tier="ultrafast")
        assert quote(deployment, HELLO).token_nusd == to_nusd(of(deployment, "output_cost_per_token_ultrafast"))
        assert facts_of(deployment).why_no_budget == ""

    def test_leaves_out_priority_where_the_config_says_so(self) -> None:
        deployment = asking("openai/gpt-6-astra", service_tier="default")
        assert quote(deployment, HELLO).token_nusd == to_nusd(of(deployment, "output_cost_per_token"))

    def test_cannot_be_said_with_a_price_that_nobody_reckons_with(self) -> None:
        strange = {
            **Models().find("openai/gpt-4o", {}),
            "input_cost_per_token_squared": 1e-6,
            "fee_cost_per_request": 1.0,
        }
        deployment = replace(asking("openai/gpt-4o"), data=strange)
        assert "fee_cost_per_request" in facts_of(deployment).why_no_budget
        assert own_cost(Tokens(1, 0, 0, 1, 0), deployment) is None

    def test_a_price_of_the_config_holds_whatever_is_asked_for(self) -> None:
        prices = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
        params = {"model": "openai/gpt-4o", "service_tier": "priority", **prices}
        data = Models().find("openai/gpt-4o", {})
        deployment = Deployment("g/1", "g", "m", "openai/gpt-4o", params, input_cost=1e-6, output_cost=2e-6, data=data)
        assert own_cost(Tokens(100, 0, 0, 10, 0), deployment, Served(tier="priority")) == pytest.approx(1.2e-4)
        assert quote(deployment, HELLO).token_nusd == to_nusd(2e-6)


ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5-5",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
}


class TestOnTheWire:
    async def test_anthropics_cache_writes_of_an_hour_are_charged(self, tmp_path: Path, anthropic: Provider) -> None:
        counted = {
            "input_tokens": 100,
            "cache_creation_input_tokens": 1000,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 600},
            "output_tokens": 10,
            "service_tier": "standard",
            "inference_geo": "us",
        }
        anthropic.script(Raw(json.dumps(ANTHROPIC | {"usage": counted}).encode()))
        params = {"model": "anthropic/claude-opus-5-5", "api_base": anthropic.url, "api_key": "sk-test"}
        completion = await ask(tmp_path, params)
        assert completion.cost_usd == pytest.approx((100 * 4e-6 + 400 * 5e-6 + 600 * 8e-6 + 10 * 2e-5) * 1.1)

    async def test_an_answer_that_litellm_cannot_read_is_charged_as_it_was_served(
        self, tmp_path: Path, anthropic: Provider
    ) -> None:
        counted = {
            "input_tokens": 100,
            "cache_creation_input_tokens": 1000,
            "cache_creation": {"ephemeral_1h_input_tokens": 600},
            "output_tokens": 10,
            "speed": "fast",
            "inference_geo": "us",
        }
        # A kind of block that its reader stumbles over.
        content = [{"type": "text"}, {"type": "text", "text": "hi"}]
        anthropic.script(Raw(json.dumps(ANTHROPIC | {"content": content, "usage": counted}).encode()))
        params = {"model": "anthropic/claude-opus-5-5", "api_base": anthropic.url, "api_key": "sk-test"}
        completion = await ask(tmp_path, params)
        plain = 100 * 4e-6 + 400 * 5e-6 + 600 * 8e-6 + 10 * 2e-5
        assert completion.cost_usd == pytest.approx(plain * 2 * 1.1)

    @pytest.mark.parametrize(("served", "price"), [("priority", 4.25e-6), ("default", 2.5e-6), (None, 4.25e-6)])
    async def test_openais_service_tier_is_asked_for_and_charged_as_served(
        self, tmp_path: Path, openai: Provider, served: str | None, price: float
    ) -> None:
        body = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "gpt-4o",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 0, "total_tokens": 1000},
        }
        openai.script(Raw(json.dumps(body | ({} if served is None else {"service_tier": served})).encode()))
        params = {"model": "openai/gpt-4o", "api_base": openai.url, "api_key": "sk-test", "service_tier": "priority"}
        completion = await ask(tmp_path, params)
        assert openai.requests[-1].body["service_tier"] == "priority"
        assert completion.cost_usd == pytest.approx(1000 * price)


async def ask(folder: Path, params: dict[str, Any]) -> Completion:
    path = write(folder, {"model_list": [{"model_name": "g", "litellm_params": params}]})
    async with Konstruct.from_config(path, environ={"HOME": str(folder), "XDG_DATA_HOME": str(folder)}) as konstruct:
        return await konstruct.complete([{"role": "user", "content": "hi"}])


class TestWhereADeploymentRuns:
    """Settled from the config and the environment, since some models cost more in one place than in another."""

    def loaded(
        self, folder: Path, environ: dict[str, str], info: dict[str, Any] | None = None, /, **params: Any
    ) -> Any:
        file = write(folder, {"model_list": [{"model_name": "g", "litellm_params": params, "model_info": info or {}}]})
        [deployment] = load_config(file, {"HOME": str(folder), **environ}).groups["g"].deployments
        return deployment

    @pytest.mark.parametrize(
        ("environ", "params"),
        [
            ({}, {"aws_region_name": "eu-north-1"}),
            ({"REGION": "eu-north-1"}, {"aws_region_name": "os.environ/REGION"}),
            ({"AWS_REGION_NAME": "eu-north-1", "AWS_REGION": "us-east-1"}, {}),
            ({"AWS_REGION": "eu-north-1", "AWS_DEFAULT_REGION": "us-east-1"}, {}),
            ({"AWS_DEFAULT_REGION": "eu-north-1"}, {}),
            ({"AWS_REGION": "us-east-1"}, {"aws_region_name": "eu-north-1"}),
        ],
    )
    def test_a_model_of_bedrock_has_the_price_of_its_region(
        self, tmp_path: Path, environ: dict[str, str], params: dict[str, Any]
    ) -> None:
        here = self.loaded(tmp_path, environ, model="bedrock/deepseek.v3.2", **params)
        elsewhere = self.loaded(tmp_path, {"AWS_REGION": "us-east-1"}, model="bedrock/deepseek.v3.2")
        table = Models().find("bedrock/eu-north-1/deepseek.v3.2", {})
        assert facts_of(here).input_cost == table["input_cost_per_token"]
        assert facts_of(elsewhere).input_cost != table["input_cost_per_token"]
        assert here.params["aws_region_name"] == "eu-north-1"  # which is asked, too

    def test_the_region_may_be_in_the_file_of_aws(self, tmp_path: Path) -> None:
        (tmp_path / ".aws").mkdir()
        (tmp_path / ".aws" / "config").write_text("[default]\nregion = us-east-1\n[profile work]\nregion=eu-north-1\n")
        for profile, region in (({}, "us-east-1"), ({"AWS_PROFILE": "work"}, "eu-north-1")):
            deployment = self.loaded(tmp_path, profile, model="bedrock/deepseek.v3.2")
            assert deployment.params["aws_region_name"] == region

    def test_a_model_with_an_address_of_its_own_runs_where_that_says(self, tmp_path: Path) -> None:
        arn = "bedrock/converse/arn:aws:bedrock:eu-west-1:1234:inference-profile/eu.anthropic.claude-sonnet-4-6"
        assert "aws_region_name" not in self.loaded(tmp_path, {"AWS_REGION": "us-east-1"}, model=arn).params

    def test_a_gov_region_has_the_price_of_its_profiles(self, tmp_path: Path) -> None:
        name = "anthropic.claude-opus-5"
        deployment = self.loaded(tmp_path, {}, model=f"bedrock/{name}", aws_region_name="us-gov-west-1")
        assert facts_of(deployment).input_cost == Models().find(f"bedrock/us-gov.{name}", {})["input_cost_per_token"]

    @pytest.mark.parametrize(
        ("environ", "params", "is_regional"),
        [
            ({}, {}, True),  # LiteLLM asks us-central1
            ({}, {"vertex_location": "global"}, False),
            ({}, {"vertex_location": "europe-west1"}, True),
            ({}, {"vertex_ai_location": "global"}, False),
            ({}, {"vertex_ai_location": "us-east5"}, True),
            ({"VERTEXAI_LOCATION": "global"}, {}, False),
            ({"VERTEX_LOCATION": "global"}, {}, False),
            ({"VERTEXAI_LOCATION": "us-east5", "VERTEX_LOCATION": "global"}, {}, True),
            ({"VERTEXAI_LOCATION": "global"}, {"vertex_ai_location": "us-east5"}, True),
        ],
    )
    def test_a_model_of_vertex_costs_more_in_a_region(
        self, tmp_path: Path, environ: dict[str, str], params: dict[str, str], *, is_regional: bool
    ) -> None:
        deployment = self.loaded(tmp_path, environ, model="vertex_ai/claude-sonnet-4-6", **params)
        plain = 1000 * of(deployment, "input_cost_per_token") + 100 * of(deployment, "output_cost_per_token")
        factor = 1.1 if is_regional else 1
        assert own_cost(Tokens(1000, 0, 0, 100, 0), deployment) == pytest.approx(plain * factor)

    def test_a_location_of_its_own_stands_before_that_of_all(self, tmp_path: Path) -> None:
        params = {"model": "vertex_ai/claude-sonnet-4-6", "vertex_ai_location": "us-east5"}
        settings = {"vertex_location": "global"}
        file = write(
            tmp_path,
            {"model_list": [{"model_name": "g", "litellm_params": params}], "litellm_settings": settings},
        )
        [deployment] = load_config(file, {"HOME": str(tmp_path)}).groups["g"].deployments
        assert deployment.params["vertex_location"] == "us-east5"

    @pytest.mark.parametrize("place", ["litellm_params", "model_info", "both"])
    def test_a_deployment_with_a_name_of_its_own_is_priced_as_its_base_model(self, tmp_path: Path, place: str) -> None:
        params = {} if place == "model_info" else {"base_model": "azure/gpt-4o"}
        info = {"litellm_params": {}, "model_info": {"base_model": "azure/gpt-4o"}}.get(
            place, {"base_model": "azure/gpt-4o-mini"}
        )
        deployment = self.loaded(tmp_path, {}, info, model="azure/ours", **params)
        assert facts_of(deployment).input_cost == Models().find("azure/gpt-4o", {})["input_cost_per_token"]

    def test_a_base_model_may_be_that_of_a_region(self, tmp_path: Path) -> None:
        arn = "bedrock/arn:aws:bedrock:eu-north-1:1234:application-inference-profile/abc"
        params = {"base_model": "deepseek.v3.2", "aws_region_name": "eu-north-1"}
        table = Models().find("bedrock/eu-north-1/deepseek.v3.2", {})
        assert facts_of(self.loaded(tmp_path, {}, model=arn, **params)).input_cost == table["input_cost_per_token"]

    def test_what_is_no_chat_model_by_its_base_model_is_passed_over(self, tmp_path: Path) -> None:
        entries = [
            {
                "model_name": "g",
                "litellm_params": {"model": "azure/ours", "base_model": "azure/text-embedding-3-small"},
            },
            {"model_name": "h", "litellm_params": {"model": "azure/ours", "base_model": "azure/gpt-4o"}},
        ]
        config = load_config(write(tmp_path, {"model_list": entries}), {"HOME": str(tmp_path)})
        assert list(config.groups) == ["h"]

    @pytest.mark.parametrize("geography", ["ca", "in", "sa", "apac"])
    def test_a_geography_that_no_table_has_costs_what_the_dearest_does(self, tmp_path: Path, geography: str) -> None:
        name = "anthropic.claude-sonnet-4-5-20250929-v1:0"
        deployment = self.loaded(tmp_path, {}, model=f"bedrock/{geography}.{name}")
        dearest = Models().find(f"bedrock/us-gov.{name}", {})
        assert facts_of(deployment).input_cost == dearest["input_cost_per_token"]
        assert facts_of(deployment).output_cost == dearest["output_cost_per_token"]


class TestAPriceOf0InATableIsNone:
    @pytest.mark.parametrize(
        "fields",
        [
            {"tiered_pricing": [{"range": [0, 1e6], "input_cost_per_token": 0, "output_cost_per_token": 0}]},
            {
                "tiered_pricing": [
                    {"range": [0, 100], "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6},
                    {"range": [100, 1e6], "input_cost_per_token": 0, "output_cost_per_token": 1e-6},
                ]
            },
            {
                "input_cost_per_token": 1e-6,
                "output_cost_per_token": 1e-6,
                "off_peak_pricing": {
                    "input_cost_per_token": 0,
                    "output_cost_per_token": 0,
                    "windows": [{"hours_utc": "00:00-00:00"}],
                },
            },
        ],
    )
    def test_in_a_tier_or_at_some_hours(self, tmp_path: Path, fields: dict[str, Any]) -> None:
        entry = {"litellm_provider": "dashscope", "mode": "chat", **fields}
        (tmp_path / "own.json").write_text(json.dumps({"dashscope/ours": entry}))
        config = {
            "model_list": [{"model_name": "g", "litellm_params": {"model": "dashscope/ours"}}],
            "konstruct": {"models_file": "own.json"},
        }
        [deployment] = load_config(write(tmp_path, config), {"HOME": str(tmp_path)}).groups["g"].deployments
        assert own_cost(Tokens(1000, 0, 0, 10, 0), deployment) is None
        assert facts_of(deployment).why_no_budget
