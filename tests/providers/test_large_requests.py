"""Requests that are large and allowed: nobody else waits for them, and all of them arrives."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.default_groups import entry, opened, reaching
from support.providers import Gate, OtherWire, Provider, Text, Wire

from konstruct_mcp import DeadlineError, InvalidArgumentError, Konstruct

MODELS: dict[Wire | OtherWire, str] = {
    "openai": "openai/gpt-4o",
    "anthropic": "anthropic/claude-sonnet-4-6",
    "ollama": "ollama/qwen3:32b",
    "gemini": "gemini/gemini-2.5-pro",
}
CALLS = 1200


def one_turn(calls: int) -> list[dict[str, Any]]:
    """A turn in which the same tool was called so often, in the same way."""
    function = {"name": "look", "arguments": '{"at": "it"}'}
    return [
        {"role": "user", "content": "Look."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": f"call_{n}", "type": "function", "function": function} for n in range(calls)],
        },
        *({"role": "tool", "tool_call_id": f"call_{n}", "content": "seen"} for n in range(calls)),
    ]


@pytest.fixture
def providers() -> Iterator[dict[Wire | OtherWire, Provider]]:
    with ExitStack() as stack:
        yield {wire: stack.enter_context(Provider(wire)) for wire in MODELS}


@pytest_asyncio.fixture
async def konstruct(providers: dict[Wire | OtherWire, Provider], tmp_path: Path) -> AsyncIterator[Konstruct]:
    config = {
        "model_list": [entry(wire, reaching(providers[wire], model)) for wire, model in MODELS.items()],
        "konstruct": {"max_messages": 5000},
    }
    async with opened(tmp_path, config) as konstruct:
        for wire in MODELS:
            await konstruct.complete("Hi", model_group=wire)  # loads what the first call loads
        yield konstruct


async def test_what_is_done_for_one_is_done_beside_the_loop(
    konstruct: Konstruct, providers: dict[Wire | OtherWire, Provider]
) -> None:
    messages = one_turn(CALLS)
    for wire, provider in providers.items():
        of_all, of_loop = time.process_time(), time.thread_time()
        await konstruct.complete(messages, model_group=wire)
        of_all, of_loop = time.process_time() - of_all, time.thread_time() - of_loop
        assert of_loop < of_all / 4, f"{wire}: {of_loop} of {of_all} s"
        sent = str(provider.requests[-1].body)
        assert sent.count("seen") == CALLS
        assert sent.count("{'at': 'it'}") + sent.count('{"at": "it"}') == CALLS, wire


@pytest.mark.long
async def test_values_that_take_few_letters_count_too(
    konstruct: Konstruct, providers: dict[Wire | OtherWire, Provider]
) -> None:
    schema = {"type": "object", "properties": {"at": {"anyOf": [{}] * 60_000}}}
    look = [{"type": "function", "function": {"name": "look", "parameters": schema}}]
    for wire in MODELS:
        of_all, of_loop = time.process_time(), time.thread_time()
        await konstruct.complete("Look.", tools=look, model_group=wire)
        of_all, of_loop = time.process_time() - of_all, time.thread_time() - of_loop
        assert of_loop < of_all / 4, f"{wire}: {of_loop} of {of_all} s"


async def test_its_deadline_holds_while_it_is_read(konstruct: Konstruct) -> None:
    with pytest.raises(DeadlineError, match=r"within 0.001 s, waiting for the arguments to be read"):
        await konstruct.complete([{"role": "user", "content": "Hi"}] * 5000, timeout_s=0.001)


@pytest.mark.parametrize("wire", MODELS)
async def test_its_deadline_and_its_cancellation_reach_the_provider(
    konstruct: Konstruct, providers: dict[Wire | OtherWire, Provider], wire: Wire | OtherWire
) -> None:
    provider = providers[wire]
    gate = Gate("never")
    provider.script(gate)
    calls = provider.calls
    asking = asyncio.ensure_future(konstruct.complete("x" * 300_000, model_group=wire))
    await provider.until(lambda: provider.calls == calls + 1)
    asking.cancel()
    await asyncio.wait({asking})
    assert asking.cancelled()
    await provider.until(lambda: provider.disconnected == 1)
    with pytest.raises(DeadlineError):
        await konstruct.complete("x" * 300_000, model_group=wire, timeout_s=0.5)
    provider.script(Text("Hello"))
    assert (await konstruct.complete("x" * 300_000, model_group=wire)).content == "Hello"


async def test_the_config_says_how_much_is_too_much(konstruct: Konstruct) -> None:
    said = r"messages: 5,001 are more than 5,000 \(konstruct.max_messages\)"
    with pytest.raises(InvalidArgumentError, match=said):
        await konstruct.complete([{"role": "user", "content": "Hi"}] * 5001)


async def test_one_that_is_given_up_at_any_moment_is_in_nobodys_way(konstruct: Konstruct) -> None:
    for steps in range(6):  # of the loop, before the thread that reads it begins, and after that
        reading = asyncio.ensure_future(konstruct.request({"messages": one_turn(CALLS)}))
        for _ in range(steps):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait({reading})
    async with asyncio.timeout(20):
        assert (await konstruct.request({"messages": one_turn(CALLS)})).is_large


async def test_nothing_is_said_of_a_call_that_litellm_drops(
    providers: dict[Wire | OtherWire, Provider], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """As it is when one to Gemini is cancelled while LiteLLM makes its coroutine in a thread."""
    config = {"model_list": [entry("it", reaching(providers["gemini"], MODELS["gemini"]))]}
    async with opened(tmp_path, config) as konstruct:
        await konstruct.complete("Hi")
        for name in ("VertexLLM.async_completion", "AzureChatCompletion.acompletion"):
            warnings.warn(f"coroutine '{name}' was never awaited", RuntimeWarning, stacklevel=1)
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]
