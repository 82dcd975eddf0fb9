"""The table of LiteLLM's keys says what the reading does with each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from konstruct_mcp.config import sections
from konstruct_mcp.config.litellm_keys import (
    LITELLM_PARAMS,
    LITELLM_SETTINGS,
    MODEL_INFO,
    ROUTER_SETTINGS,
    Key,
    Use,
    is_without_effect,
    meant,
    typed,
)

TABLES = {
    "litellm_params": LITELLM_PARAMS,
    "model_info": MODEL_INFO,
    "router_settings": ROUTER_SETTINGS,
    "litellm_settings": LITELLM_SETTINGS,
}


def honoured(table: Mapping[str, Key]) -> set[str]:
    return {name for name, key in table.items() if key.use is Use.HONOURED}


def test_the_keys_that_a_section_reads_are_those_that_the_table_calls_honoured() -> None:
    assert honoured(ROUTER_SETTINGS) == set(sections.RouterSettings.model_fields)
    assert honoured(LITELLM_SETTINGS) == set(sections.LiteLLMSettings.model_fields)
    # Prices beside those two are read one by one, and so are the notes that are not about the model itself.
    prices = {name for name, key in LITELLM_PARAMS.items() if key.kind == "price"}
    assert honoured(LITELLM_PARAMS) - prices == set(sections.LiteLLMParams.model_fields) - prices
    assert honoured(MODEL_INFO) - {"mode", "supported_environments"} == set(sections.ModelInfo.model_fields)


@pytest.mark.parametrize("section", TABLES)
def test_a_key_that_is_translated_says_where_it_belongs(section: str) -> None:
    assert all(key.belongs for key in TABLES[section].values() if key.use is Use.TRANSLATED)


def test_a_price_is_never_refused_with_the_keys_that_have_no_effect() -> None:
    assert is_without_effect("stream")
    assert not is_without_effect("temperature")
    assert not is_without_effect("house_flag")
    assert not is_without_effect("input_cost_per_image")


@pytest.mark.parametrize(
    ("param", "value", "becomes"),
    [
        ("temperature", "0.2", 0.2),
        ("seed", "7", 7),
        ("seed", "7.5", 7.5),
        ("seed", "inf", "inf"),
        ("seed", "seven", "seven"),
        ("logprobs", " Yes ", True),
        ("logprobs", "perhaps", "perhaps"),
        ("stop", "1", "1"),
        ("house_flag", "1", "1"),
        ("temperature", 1, 1),
    ],
)
def test_text_becomes_the_type_of_its_key(param: str, value: Any, becomes: Any) -> None:
    assert (typed(param, value), type(typed(param, value))) == (becomes, type(becomes))


def test_no_slip_stands_for_a_word_that_is_an_argument_of_a_call() -> None:
    assert meant("node") is None  # not `mode`
    assert meant("promt") is None  # not `prompt`
