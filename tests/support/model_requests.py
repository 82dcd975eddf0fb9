"""What goes out to a provider for one request to one model, and values that tests of it share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.default_groups import HELLO, entry, opened, reaching
from support.providers import Changed, OtherWire, Provider, Received, Text, Wire

from konstruct_mcp import Completion
from konstruct_mcp.testing.formats import FORMATS

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 2}, "near": {"$ref": "#/$defs/place"}},
    "required": ["name", "near"],
    "$defs": {"place": {"type": "object", "properties": {"lat": {"type": "number", "minimum": -90}}}},
}
OPEN_KEYS: dict[str, Any] = {"type": "object", "properties": {"by_name": {"type": "object"}}}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALLED = [
    *HELLO,
    {
        "role": "assistant",
        "content": "Looking.",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
]


def wire_of(model: str) -> Wire | OtherWire:
    provider = model.partition("/")[0]
    wires: dict[str, Wire | OtherWire] = {"vertex_ai": "vertex", "hosted_vllm": "vllm", "cohere_chat": "cohere"}
    # The others are called as their providers are, or are like OpenAI.
    return wires.get(provider, provider if provider in FORMATS else "openai")  # type: ignore[arg-type]


class Asked:
    """One call to one model: what was sent, and what came of it."""

    def __init__(self, received: Received, completion: Completion) -> None:
        self.body: dict[str, Any] = received.body
        self.path = received.path
        self.completion = completion
        self.notes = completion.notes


async def ask(
    folder: Path,
    model: str,
    config: Mapping[str, Any] | None = None,
    *,
    info: Mapping[str, Any] | None = None,
    answer: Text | Changed | None = None,
    environ: Mapping[str, str] | None = None,
    section: Mapping[str, Any] | None = None,
    **request: Any,
) -> Asked:
    with Provider(wire_of(model)) as provider:
        if answer is not None:
            provider.script(answer)
        params = {**reaching(provider, model), "num_retries": 0}
        one = {**entry("g", {**params, **(config or {})}), "model_info": dict(info or {})}
        async with opened(folder, {"model_list": [one], "konstruct": dict(section or {})}, environ or {}) as konstruct:
            completion = await konstruct.complete(request.pop("messages", HELLO), **request)
        [received] = [received for received in provider.requests if received.completes]
    return Asked(received, completion)


def at(body: Any, path: str) -> Any:
    """What is at `a.b.c`; None where there is nothing."""
    for key in path.split("."):
        body = body.get(key) if isinstance(body, dict) else None
    return body


OPUS, SONNET_46, SONNET_45 = "anthropic/claude-opus-5-5", "anthropic/claude-sonnet-4-6", "anthropic/claude-sonnet-4-5"
HAIKU = "anthropic/claude-haiku-5-5"


def in_words(keys: str, model: str) -> str:
    return f"of the schema, {keys} is asked for in words: {model} has no form for it"


def left_out(what: str, model: str) -> str:
    return f"{what} was left out: {model} does not take it"
