"""The fields of a model's entry in LiteLLM's tables: which are read here, of which type they are, and how one entry is
laid over another.

An entry is plain data, a mapping of LiteLLM's field names. What a field means for a call is said where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from konstruct_mcp.core.text import is_day

Entry = Mapping[str, Any]

_PRICE = re.compile(r"_cost_per_|_token_cost(_|\Z)")
# Never billed for a call of ours: prices of batches, and amounts in another currency than dollars.
_OTHER_BILLS = re.compile(r"_batches\Z|_decisions\Z|_dbu_|search_context|_per_query\Z|_per_session\Z")
# Each field that is read, by the type of its value. A field that matches none of these is not kept.
FLAGS = re.compile(r"supports_\w+|thinking_\w+|use_\w+|bedrock_(?!output_config_effort_ceiling)\w+")
COUNTS = re.compile(r"max_(input|output)_tokens|prompt_cache_min_tokens")
_WORDS = re.compile(
    r"mode|litellm_provider|alias_of|successor_model|default_reasoning_effort|bedrock_output_config_effort_ceiling"
)
_LISTS = re.compile(r"reasoning_(effort_levels|modes|contexts)|supported_(endpoints|modalities|output_modalities)")
FACTORS = re.compile(r"\w+_uplift_multiplier\w*")


def is_price(key: str) -> bool:
    """Whether this key of litellm_params, model_info or a table is a price."""
    return _PRICE.search(key) is not None


_MOST = 1e300  # what fits a float, which not every integer of JSON does


def is_number(value: Any) -> bool:
    """Whether it is a number that can be calculated with as a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST


def is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _are_prices(prices: Entry) -> bool:
    return all(flaw(key, value) is None for key, value in prices.items() if is_price(key))


def flaw(key: str, value: Any) -> str | None:
    """What is wrong with a field's value, to be put behind the field's name; None for a sound value, and for a field
    that is not read here."""
    if value is None:  # takes back what the entry below says
        return None
    if is_price(key):
        return (
            None if (is_number(value) and value >= 0) or isinstance(value, dict) else "should be US dollars, 0 or more"
        )
    if FLAGS.fullmatch(key):
        return None if isinstance(value, bool) else "should be true or false"
    if COUNTS.fullmatch(key):
        return None if is_number(value) and value >= 0 and value == int(value) else "should be a number of tokens"
    if FACTORS.fullmatch(key):
        return None if is_number(value) and value > 0 else "should be a factor above 0"
    if _WORDS.fullmatch(key):
        return None if isinstance(value, str) else "should be text"
    if _LISTS.fullmatch(key):
        is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
        return None if is_list else "should be a list of words"
    if key == "deprecation_date":
        return None if isinstance(value, str) and is_day(value) else "should be a date like 2026-01-31"
    if key == "tiered_pricing":
        sound_tiers = isinstance(value, list) and all(is_object(tier) and _are_prices(tier) for tier in value)
        return None if sound_tiers else "should be a list of tiers, with prices in US dollars"
    if key == "off_peak_pricing":
        windows = value.get("windows", []) if is_object(value) else None
        sound_days = isinstance(windows, list) and all(
            is_object(window) and isinstance(window.get("weekdays", []), list) for window in windows
        )
        return (
            None
            if sound_days and _are_prices(value)
            else "should be a mapping of prices, with the windows in which they hold"
        )
    if key == "provider_specific_entry":
        sound_factors = is_object(value) and all(factor > 0 for factor in value.values() if is_number(factor))
        return None if sound_factors else "should be a mapping of factors above 0"
    return None


def _is_kept(key: str) -> bool:
    if is_price(key):
        return _OTHER_BILLS.search(key) is None
    return key in ("deprecation_date", "tiered_pricing", "off_peak_pricing", "provider_specific_entry") or any(
        kind.fullmatch(key) for kind in (FLAGS, COUNTS, FACTORS, _WORDS, _LISTS)
    )


def sound(raw: Entry) -> dict[str, Any]:
    """The fields of an entry that are read here and have a sound value."""
    found = {}
    for key, value in raw.items():
        if _is_kept(key) and flaw(key, value) is None:
            if not COUNTS.fullmatch(key) or value is None:
                found[key] = value
            elif value:  # LiteLLM has some as floats, and 0 for those of no length
                found[key] = int(value)
    return found


def merged(upper: Entry, lower: Entry) -> dict[str, Any]:
    """One entry laid over another: a field of the upper replaces that of the lower, and null removes it.

    Where the upper entry changes the price per token of one side, input or output, all the other prices that the lower
    entry has for that side go too: its prices for long prompts or faster answers belong to the old price.
    """
    return {key: value for key, value in laid_over(upper, lower).items() if value is not None}


def laid_over(upper: Entry, lower: Entry) -> dict[str, Any]:
    """As `merged`, but what is removed stays as null, so that it can be laid over yet another entry."""
    below = dict(lower)
    for side in ("input", "output"):
        price = f"{side}_cost_per_token"
        if price in upper and upper[price] != lower.get(price):
            for key in lower:
                of_side = is_price(key) and key.startswith("output_") == (side == "output")
                if of_side or key in ("tiered_pricing", "off_peak_pricing"):
                    below.pop(key, None)
    return {**below, **upper}
