"""Fields of model data: which values are sound, and how one entry is laid over another."""

from __future__ import annotations

from typing import Any

import pytest

from konstruct_mcp.config.model_fields import flaw, laid_over, merged, sound


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("input_cost_per_token", 3e-6, None),
        ("input_cost_per_token", -1, "should be US dollars, 0 or more"),
        ("input_cost_per_token", None, None),
        ("supports_vision", "yes", "should be true or false"),
        ("max_input_tokens", 8192.0, None),
        ("max_input_tokens", 0.5, "should be a number of tokens"),
        ("mode", 3, "should be text"),
        ("deprecation_date", "2026-02-30", "should be a date like 2026-01-31"),
        ("tiered_pricing", [{"input_cost_per_token": "dear"}], "should be a list of tiers, with prices in US dollars"),
        ("house_note", object(), None),
    ],
)
def test_a_flaw_is_said_of_fields_that_are_read(key: str, value: Any, fault: str | None) -> None:
    assert flaw(key, value) == fault


def test_sound_fields_are_kept_and_no_others() -> None:
    raw = {
        "max_input_tokens": 8192.0,
        "max_output_tokens": 0,  # as LiteLLM writes that there is no length
        "mode": 3,
        "house_note": "x",
        "input_cost_per_token": 1e-6,
        "input_cost_per_token_batches": 5e-7,
    }
    assert sound(raw) == {"max_input_tokens": 8192, "input_cost_per_token": 1e-6}


def test_a_field_replaces_that_below_and_null_removes_it() -> None:
    assert merged({"mode": "chat", "supports_vision": None}, {"mode": "completion", "supports_vision": True}) == {
        "mode": "chat"
    }
    assert laid_over({"supports_vision": None}, {"supports_vision": True}) == {"supports_vision": None}


def test_another_price_takes_the_other_prices_of_its_side_with_it() -> None:
    below = {
        "input_cost_per_token": 1e-6,
        "input_cost_per_token_above_200k_tokens": 2e-6,
        "output_cost_per_token": 5e-6,
        "output_cost_per_token_above_200k_tokens": 9e-6,
    }
    assert merged({"input_cost_per_token": 3e-6}, below) == {
        "input_cost_per_token": 3e-6,
        "output_cost_per_token": 5e-6,
        "output_cost_per_token_above_200k_tokens": 9e-6,
    }
    assert merged({"input_cost_per_token": 1e-6}, below) == below  # the same price
