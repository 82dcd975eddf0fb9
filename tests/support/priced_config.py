"""A config with prices that are easy to reckon with: the fake answers 11 + 7 tokens for 25,000 nano-dollars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support.databases import Database
from support.default_groups import entry
from support.providers import Provider

from konstruct_mcp.core.spending import Call, Charge

INPUT_NUSD, OUTPUT_NUSD = 1_000, 2_000  # nano-dollars per token
MakeConfig = Callable[..., dict[str, Any]]
COST_NUSD = 11 * INPUT_NUSD + 7 * OUTPUT_NUSD
PRICES = {"input_cost_per_token": INPUT_NUSD / 1e9, "output_cost_per_token": OUTPUT_NUSD / 1e9}
SPOOLED_CALL = Call(  # what a row of the spool holds
    *("waiting", "2026-01-01T00:00:00.000000Z", "acme", "paid", "paid", "openai/paid"),
    *((Charge("paid", "openai/paid", 11, 7, 0, COST_NUSD),), COST_NUSD, 1, "ok", 1),
)


def priced_config(
    database: Database | None, openai: Provider, anthropic: Provider, ollama: Provider, **konstruct: Any
) -> dict[str, Any]:
    """Groups `paid` (openai), `strong` (anthropic, at its list price), `free` (ollama), and `unpriced` (openai)."""
    house = {"api_base": openai.url, "api_key": "sk-test"}
    claude = {"model": "anthropic/claude-sonnet-4-6", "api_base": anthropic.url, "api_key": "sk-test"}
    return {
        "model_list": [
            entry("paid", {"model": "openai/paid", **house, **PRICES}),
            entry("strong", claude),
            entry("free", {"model": "ollama/qwen3:8b", "api_base": ollama.url}),
            entry("unpriced", {"model": "openai/unpriced", **house}),
        ],
        "router_settings": {"num_retries": 0, "fallbacks": [{"strong": ["paid"]}, {"paid": ["free"]}]},
        "konstruct": {
            "default_group": "paid",
            **({} if database is None else {"ledger_url": database.url}),
            **konstruct,
        },
    }
