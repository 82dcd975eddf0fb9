"""Every argument of a call on every provider path: what goes out on the wire, or that it is noted or refused.

`EXPECTED` is the whole of it, written from the providers' documentation. `python tests/tables.py wire` prints what came
of each cell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from support.expected_requests import (
    CALLS,
    CHAT,
    COHERE,
    CONVERSE,
    GENERATE,
    MESSAGES,
    MISTRAL,
    NO_IMAGES,
    OLLAMA,
    ONLY_MAX_TOKENS,
    RESPONSES,
    SENT_OR_SAID,
    SENT_TOOL,
    TIMEOUT_S,
    VERTEX_MESSAGES,
    that_could_think,
    thinking,
    user,
)
from support.provider_tables import (
    ABSENT,
    PATHS,
    CellOutcome,
    Expected,
    Path,
    Refused,
    Sent,
    either,
    faked_paths,
    table,
)
from support.providers import Hang, Text

OF_A_CONFIG: Mapping[str, Mapping[str, Expected]] = {
    "OpenAI": CHAT,
    "OpenAI Responses": RESPONSES,
    "Azure": CHAT,
    "Azure Responses": RESPONSES,
    "Anthropic": MESSAGES,
    "Gemini": GENERATE,
    "Vertex Gemini": GENERATE,
    "Vertex Claude": VERTEX_MESSAGES,
    "Bedrock": CONVERSE,
    "Ollama": OLLAMA,
    "OpenRouter": {
        **CHAT,
        "effort": either(Sent({"reasoning": {"effort": "high"}}), Sent({"reasoning_effort": "high"})),
    },
    "vLLM": CHAT,
    # It refuses `json_object`, and a tool_choice that is no word.
    "LM Studio": {
        **CHAT,
        "tool_choice named": either(
            Sent({"tools": [SENT_TOOL], "tool_choice": "required"}),
            Sent({"tools": [SENT_TOOL]}, noted="tool_choice"),
            Refused("unsupported"),
        ),
        "json_object": either(
            Sent({"response_format": {"type": "json_schema"}}),
            Sent({"response_format": ABSENT}, noted="response_format"),
            Refused("unsupported"),
        ),
        "max_tokens": ONLY_MAX_TOKENS,
        "effort": SENT_OR_SAID,
    },
    "llama.cpp": {**CHAT, "effort": SENT_OR_SAID},
    "Mistral": MISTRAL,
    "Groq": {**CHAT, "images": NO_IMAGES},
    # It refuses a schema, whatever LiteLLM's table says of it.
    "DeepSeek": {
        **CHAT,
        "json_schema with refs": either(
            Refused("unsupported"), Sent({"response_format": {"type": "json_object"}}, noted="response_format")
        ),
        "json_schema and tools": either(
            Refused("unsupported"),
            Sent({"response_format": {"type": "json_object"}, "tools": [SENT_TOOL]}, noted="response_format"),
        ),
        "images": NO_IMAGES,
        "max_tokens": ONLY_MAX_TOKENS,
        "effort": Sent({"thinking": {"type": "enabled"}}),
    },
    "xAI": CHAT,
    "Cohere": COHERE,
}
# A call's own effort goes out as the config's does.
EXPECTED: Mapping[str, Mapping[str, Expected]] = {
    name: {**row, "effort of the call": row["effort"]} for name, row in OF_A_CONFIG.items()
}
CELLS = tuple((path, column) for path in PATHS for column in CALLS)


def hurried(path: Path) -> tuple[str, Mapping[str, Any]]:
    return path.model, {"timeout": TIMEOUT_S}


async def run() -> dict[tuple[str, str], CellOutcome]:
    """What came of each cell."""
    seen: dict[tuple[str, str], CellOutcome] = {}
    variants = {"effort": thinking, "effort of the call": that_could_think, "timeout": hurried}
    async with faked_paths(PATHS, variants) as world:

        async def fill(path: Path, column: str) -> None:
            variant = column if column in variants else ""
            arguments: dict[str, Any] = {"messages": [user("Hello")], **CALLS[column]}
            seen[path.name, column] = await world.call(path, variant, **arguments)

        for path, column in CELLS:
            world.providers[path.name].script(Text("Yes."))
            if column != "timeout":
                await fill(path, column)
        for path in PATHS:
            world.providers[path.name].script(Hang())
        await asyncio.gather(*(fill(path, "timeout") for path in PATHS))
    return seen


def test_every_path_says_what_becomes_of_every_argument() -> None:
    assert {name: set(of) for name, of in EXPECTED.items()} == {path.name: set(CALLS) for path in PATHS}


@pytest.mark.timeout(600)  # s; some hundred calls, on a machine that is busy with much else
async def test_what_goes_out_is_what_the_table_says(subtests: pytest.Subtests) -> None:
    """One test, because all cells are of one run, which several workers would make several times."""
    seen = await run()
    for path, column in CELLS:
        with subtests.test(f"{path.name}, {column}"):
            name = (path.name, column)
            assert not EXPECTED[path.name][column].flaw(seen[name])


def printed() -> str:
    seen = asyncio.run(run())
    expected = {(path.name, column): EXPECTED[path.name][column] for path, column in CELLS}
    return table({name: (each, each.flaw(seen[name])) for name, each in expected.items()})
