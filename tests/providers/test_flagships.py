"""Twelve models that people use this autumn, two of each of six providers: what goes out to each, and what is said of
its price and window, as their providers document it. `python tests/tables.py flagships`
prints what came of each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from support.expected_requests import (
    CALLS,
    EITHER_LIMIT,
    FORMAT,
    GOOGLE_SCHEMA,
    NATIVE,
    NO_LIMIT,
    ONLY_MAX_TOKENS,
    SENT_TOOL,
    THE_SCHEMA,
    TOOL,
    calling,
    thinking,
    user,
)
from support.provider_tables import (
    ABSENT,
    CellOutcome,
    Expected,
    Path,
    Refused,
    Sent,
    either,
    faked_paths,
    one_of,
    or_absent,
    table,
)
from support.providers import Text

MILLION = 1_000_000


@dataclass(frozen=True)
class Flagship:
    """A model, and what is documented of it.

    Attributes:
        path: how it is asked.
        usd: dollars for a million tokens, sent and answered.
        window: tokens that it can be sent.
        longest: tokens that it can answer.
        sends: by what is asked, what goes out.
        off_peak: by what its prices are multiplied at some hours.
    """

    path: Path
    usd: tuple[float, float]
    window: int
    longest: int
    sends: Mapping[str, Expected]
    off_peak: float = 1


ASKED: Mapping[str, Mapping[str, Any]] = {
    "max_tokens": CALLS["max_tokens"],
    "no max_tokens": {},
    "effort": {},
    "effort of the call": {"effort": "high"},
    "json_schema": {"response_format": FORMAT},
    "temperature": CALLS["temperature"],
    "tool_choice required": {"tools": [TOOL], "tool_choice": "required"},
}

COOL = Sent({"temperature": 0.2})
WITHOUT_TEMPERATURE = Sent({"temperature": ABSENT}, noted="temperature")
CHAT_SCHEMA = Sent({"response_format": {"type": "json_schema", "json_schema": {"schema": THE_SCHEMA}}})
MUST_CALL = Sent({"tools": [SENT_TOOL], "tool_choice": "required"})

# They think always, by themselves and as hard as they are told; no budget, no temperature, no tool can be forced.
CLAUDE: Mapping[str, Expected] = {
    "max_tokens": Sent({"max_tokens": 77}),
    "no max_tokens": Sent({"max_tokens": 128_000}),
    "effort": Sent({"thinking": or_absent({"type": "adaptive"}), "output_config": {"effort": "high"}}),
    "json_schema": Sent(NATIVE),
    "temperature": WITHOUT_TEMPERATURE,
    "tool_choice required": Refused("unsupported"),
}
# They reason, and take no other name for the limit.
GPT: Mapping[str, Expected] = {
    "max_tokens": Sent({"max_completion_tokens": 77, "max_tokens": ABSENT}),
    "no max_tokens": Sent(NO_LIMIT),
    "effort": Sent({"reasoning_effort": "high"}),
    "json_schema": CHAT_SCHEMA,
    "temperature": WITHOUT_TEMPERATURE,
    "tool_choice required": MUST_CALL,
}
NO_BUDGET = {"thinkingLevel": one_of("high", "HIGH"), "thinkingBudget": ABSENT}
GEMINI: Mapping[str, Expected] = {
    "max_tokens": Sent({"generationConfig": {"maxOutputTokens": 77}}),
    "no max_tokens": Sent({"generationConfig": or_absent({"maxOutputTokens": ABSENT})}),
    "effort": Sent({"generationConfig": {"thinkingConfig": NO_BUDGET}}),
    "json_schema": Sent({"generationConfig": GOOGLE_SCHEMA}),
    "temperature": Sent({"generationConfig": {"temperature": 0.2}}),
    "tool_choice required": Sent({"toolConfig": calling("ANY")}),
}
GROK: Mapping[str, Expected] = {
    "max_tokens": Sent(EITHER_LIMIT),
    "no max_tokens": Sent(NO_LIMIT),
    "effort": Sent({"reasoning_effort": "high"}),
    "json_schema": CHAT_SCHEMA,
    "temperature": COOL,
    "tool_choice required": MUST_CALL,
}
DEEPSEEK: Mapping[str, Expected] = {
    "max_tokens": ONLY_MAX_TOKENS,
    "no max_tokens": Sent(NO_LIMIT),
    "effort": Sent({"thinking": {"type": "enabled"}}),
    # It has no format for schemas, whatever LiteLLM's table says.
    "json_schema": either(
        Refused("unsupported"), Sent({"response_format": {"type": "json_object"}}, noted="response_format")
    ),
    "temperature": COOL,
    "tool_choice required": MUST_CALL,
}
MISTRAL: Mapping[str, Expected] = {
    "max_tokens": ONLY_MAX_TOKENS,
    "no max_tokens": Sent(NO_LIMIT),
    "effort": Sent({"reasoning_effort": "high"}),
    "json_schema": CHAT_SCHEMA,
    "temperature": COOL,
    "tool_choice required": Sent({"tools": [SENT_TOOL], "tool_choice": one_of("any", "required")}),
}
WARM_GEMINI: Mapping[str, Expected] = {
    **GEMINI,
    "temperature": Sent({"generationConfig": or_absent({"temperature": ABSENT})}, noted="temperature"),
}

FLAGSHIPS = (
    Flagship(Path("Opus 5.5", "anthropic", "anthropic/claude-opus-5-5"), (4, 20), MILLION, 128_000, CLAUDE),
    Flagship(Path("Sonnet 5.5", "anthropic", "anthropic/claude-sonnet-5-5"), (2, 10), MILLION, 128_000, CLAUDE),
    Flagship(Path("GPT-6 Sol", "openai", "openai/gpt-6-sol"), (2, 10), 922_000, 128_000, GPT),
    Flagship(Path("GPT-5.6", "openai", "openai/gpt-5.6"), (4, 20), 922_000, 128_000, GPT),
    Flagship(Path("Gemini 4 Argon", "gemini", "gemini/gemini-4-argon"), (2, 10), 2**20, 2**20, GEMINI),
    Flagship(Path("Gemini 3.8 Flash", "gemini", "gemini/gemini-3.8-flash"), (0.75, 3.75), 2**20, 2**16, WARM_GEMINI),
    Flagship(Path("Grok 4.7", "xai", "xai/grok-4.7"), (2, 6), 500_000, 500_000, GROK),
    Flagship(Path("Grok 4.3", "xai", "xai/grok-4.3"), (1.25, 2.5), MILLION, MILLION, GROK),
    Flagship(
        Path("DeepSeek V4 Pro", "deepseek", "deepseek/deepseek-v4-pro"), (1.32, 3.96), MILLION, 393_216, DEEPSEEK, 0.5
    ),
    Flagship(
        Path("DeepSeek V4 Flash", "deepseek", "deepseek/deepseek-v4-flash"), (0.3, 1.2), MILLION, 393_216, DEEPSEEK, 0.5
    ),
    Flagship(Path("Mistral Large 4", "mistral", "mistral/mistral-large-4"), (0.7, 2.1), 2**20, 2**20, MISTRAL),
    Flagship(Path("Mistral Medium 3.5", "mistral", "mistral/mistral-medium-3-5"), (1.5, 7.5), 2**18, 2**18, MISTRAL),
)
FACTS = ("price", "window", "longest answer", "cost of a call")
CELLS = tuple((one, what) for one in FLAGSHIPS for what in (*ASKED, *FACTS))
SENT_TOKENS, ANSWERED_TOKENS = 11, 7  # what the fake counts


async def run() -> dict[tuple[str, str], str]:
    """What is otherwise than documented, by model and question; empty where nothing is."""
    flaws: dict[tuple[str, str], str] = {}
    async with faked_paths([one.path for one in FLAGSHIPS], {"effort": thinking}) as world:
        stated = {status.name: status.deployments[0] for status in world.groups()}
        for one in FLAGSHIPS:
            name = one.path.name
            world.providers[name].script(Text("Yes.", usage=(SENT_TOKENS, ANSWERED_TOKENS)))
            for what, asked in ASKED.items():
                arguments: dict[str, Any] = {"messages": [user("Hello")], **asked}
                seen: CellOutcome = await world.call(one.path, "effort" if what == "effort" else "", **arguments)
                flaws[name, what] = expected(one, what).flaw(seen)
            facts = stated[name]
            found = {
                "price": (facts.input_usd_per_million, facts.output_usd_per_million),
                "window": facts.context_window,
                "longest answer": facts.as_dict().get("max_output_tokens"),
                "cost of a call": (await world.call(one.path, messages=[user("Hello")])).result.get("cost_usd"),
            }
            flaws |= {(name, fact): "" if found[fact] in due(one, fact) else str(found[fact]) for fact in FACTS}
    return flaws


def expected(one: Flagship, what: str) -> Expected:
    return one.sends["effort" if what == "effort of the call" else what]


def due(one: Flagship, fact: str) -> tuple[Any, ...]:
    """What a fact has to be; one of these, where it goes by the hour."""
    cost = (one.usd[0] * SENT_TOKENS + one.usd[1] * ANSWERED_TOKENS) / MILLION
    dues: Mapping[str, tuple[Any, ...]] = {
        "price": (one.usd,),
        "window": (one.window,),
        "longest answer": (one.longest,),
        "cost of a call": tuple(dict.fromkeys(round(cost * factor, 12) for factor in (1, one.off_peak))),
    }
    return dues[fact]


def test_each_model_is_asked_for_everything() -> None:
    assert len(FLAGSHIPS) == 12
    assert len({one.path.wire for one in FLAGSHIPS}) == 6
    assert all({*one.sends, "effort of the call"} == set(ASKED) for one in FLAGSHIPS)


@pytest.mark.timeout(600)  # s; on a machine that is busy with much else
async def test_todays_models_are_asked_and_charged_as_documented(subtests: pytest.Subtests) -> None:
    """One test, because all cells are of one run, which several workers would make several times."""
    flaws = await run()
    for one, what in CELLS:
        with subtests.test(f"{one.path.name}, {what}"):
            assert not flaws[one.path.name, what]


def printed() -> str:
    flaws = asyncio.run(run())

    def told(one: Flagship, what: str) -> str:
        return str(expected(one, what)) if what in ASKED else " or ".join(map(str, due(one, what)))

    return table({(one.path.name, what): (told(one, what), flaws[one.path.name, what]) for one, what in CELLS})
