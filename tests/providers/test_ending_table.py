"""Every way in which a provider's answer can end, on every provider path: what the result says of it.

`ENDINGS` is the whole of it, written from the providers' documentation and public reports. `python tests/tables.py
endings` prints what came of each cell.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
from support.expected_requests import TOOL, user
from support.provider_tables import PATHS, Answered, CellOutcome, Expected, Failed, Path, either, faked_paths, table
from support.providers import Answer, Changed, ContentPolicy, Raw, Text

ARGUMENTS = {"city": "Oslo"}
CALL = ("call_1a2b3c4d", "get_weather", json.dumps(ARGUMENTS))
CALLED = (("get_weather", ARGUMENTS),)
WHOLE = "Air scatters blue light."
THOUGHT = "The user asks about the sky."
REFUSAL = "I cannot help with that."


class Ending(NamedTuple):
    """What a provider answers, and what the result says of it."""

    way: str
    gives: Answer
    expected: Expected


def ends(way: str, word: str, expected: Expected) -> Ending:
    """An answer with a text and this word for its ending."""
    return Ending(way, Text(WHOLE, ends=word), expected)


def changed(way: str, change: Callable[[Any], Any], expected: Expected, answer: Text | None = None) -> Ending:
    """An answer with a text, or another one, whose body is changed."""
    return Ending(way, Changed(answer or Text(WHOLE), change), expected)


def instead(way: str, body: Any, expected: Expected) -> Ending:
    """HTTP 200 with this body."""
    return Ending(way, Raw(json.dumps(body).encode()), expected)


STOP = Answered("stop", WHOLE)
LENGTH = Answered("length", WHOLE)
FILTERED = Answered("content_filter", WHOLE)
NOTHING_LEFT = Answered("length", "")
WITHHELD = either(FILTERED, Answered("content_filter", ""))
BLOCKED = either(Answered("content_filter", ""), Failed("", "content_policy"))
BUSY = either(Failed("server error"), Failed("unusable answer"))
LIMITED = Failed("rate limited")
NOT_WHOLE = either(BUSY, LENGTH)  # of a word that nobody knows

COMMON = (
    Ending("stop", Text(WHOLE), STOP),
    Ending("length", Text(WHOLE, finish="length"), LENGTH),
    Ending("tool calls", Text(None, tool_calls=[CALL]), Answered("tool_calls", "", CALLED)),
    Ending("reasoning", Text(WHOLE, reasoning=THOUGHT), STOP),
    Ending(
        "reasoning and tool calls", Text(None, tool_calls=[CALL], reasoning=THOUGHT), Answered("tool_calls", "", CALLED)
    ),
)
TEXT_AND_CALLS = Ending(
    "text and tool calls", Text("Let me look.", tool_calls=[CALL]), Answered("tool_calls", "Let me look.", CALLED)
)


# -- OpenAI's chat completions -----------------------------------------------------------------------------------------


def message(body: Any) -> Any:
    return body["choices"][0]["message"]


def old_call(body: Any) -> None:
    """As servers of 2023 call one function."""
    message(body).update(content=None, function_call={"name": CALL[1], "arguments": CALL[2]})
    body["choices"][0]["finish_reason"] = "function_call"


def refusing(body: Any) -> None:
    message(body).update(content=None, refusal=REFUSAL)


def content(text: str) -> Callable[[Any], None]:
    return lambda body: message(body).update(content=text)


HARMONY = f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{WHOLE}"
CHAT: Sequence[Ending] = (
    *COMMON,
    TEXT_AND_CALLS,
    Ending("length, nothing said", Text("", finish="length"), NOTHING_LEFT),
    Ending("content filter", Text(WHOLE, finish="content_filter"), FILTERED),
    changed(
        "refusal", lambda body: message(body).update(content=None, refusal=REFUSAL), Answered("content_filter", REFUSAL)
    ),
    changed("function_call of old servers", old_call, Answered("tool_calls", "", CALLED)),
    ends("insufficient_system_resource", "insufficient_system_resource", BUSY),
    ends("error", "error", BUSY),
    ends("abort", "abort", BUSY),
    ends("network_error", "network_error", BUSY),
    ends("model_length", "model_length", LENGTH),
    ends("sensitive", "sensitive", FILTERED),
    ends("an unknown word", "fell_asleep", NOT_WHOLE),
    ends("eos_token", "eos_token", STOP),
    instead("200 with an error inside", {"error": {"message": "Overloaded.", "code": 503}}, BUSY),
    instead("200 with a limit inside", {"error": {"message": "Rate limited.", "code": 429}}, LIMITED),
    changed("<think> before it", content(f"<think>{THOUGHT}</think>\n\n{WHOLE}"), STOP),
    changed("a lone </think>", content(f"{THOUGHT}\n</think>\n\n{WHOLE}"), STOP),
    changed("Harmony channels", content(HARMONY), STOP),
    changed("no usage", lambda body: body.pop("usage"), STOP),
)


def failing_choice(body: Any) -> None:
    """As OpenRouter says that a provider failed while it answered."""
    body["choices"][0] |= {"finish_reason": "error", "error": {"code": 502, "message": "Provider disconnected"}}


OPENROUTER: Sequence[Ending] = (*CHAT, changed("an error in the choice", failing_choice, BUSY))


def chunks(body: Any) -> None:
    message(body)["content"] = [
        {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
        {"type": "text", "text": "Air scatters "},
        {"type": "text", "text": "blue light."},
    ]


MISTRAL: Sequence[Ending] = (*CHAT, changed("content in chunks", chunks, STOP))


# -- OpenAI's responses ------------------------------------------------------------------------------------------------


def said(*parts: Any) -> dict[str, Any]:
    return {"id": "msg_2", "type": "message", "status": "completed", "role": "assistant", "content": list(parts)}


def text(of: str) -> dict[str, Any]:
    return {"type": "output_text", "text": of, "annotations": [], "logprobs": []}


def failed(code: str) -> Callable[[Any], None]:
    error = {"code": code, "message": "It did not work."}
    return lambda body: body.update(status="failed", error=error, output=[])


RESPONSES: Sequence[Ending] = (
    *COMMON,
    TEXT_AND_CALLS,
    Ending("length, nothing said", Text(None, finish="length", reasoning=THOUGHT), NOTHING_LEFT),
    Ending("content filter", Text(WHOLE, finish="content_filter"), FILTERED),
    changed(
        "refusal",
        lambda body: body.update(output=[said({"type": "refusal", "refusal": REFUSAL})]),
        Answered("content_filter", REFUSAL),
    ),
    changed("several parts", lambda body: body.update(output=[said(text("Air scatters "), text("blue light."))]), STOP),
    changed(
        "several messages",
        lambda body: body.update(output=[said(text("Air scatters ")), said(text("blue light."))]),
        either(STOP, Answered("stop", "Air scatters \n\nblue light."), Answered("stop", "Air scatters \nblue light.")),
    ),
    changed(
        "two calls",
        lambda body: body["output"].append({**body["output"][-1], "call_id": "call_2", "id": "fc_2"}),
        Answered("tool_calls", "", (*CALLED, *CALLED)),
        Text(None, tool_calls=[CALL]),
    ),
    changed("failed", failed("server_error"), BUSY),
    changed("failed by a limit", failed("rate_limit_exceeded"), either(LIMITED, BUSY)),
    changed("cancelled", lambda body: body.update(status="cancelled", output=[]), BUSY),
    changed("no usage", lambda body: body.update(usage=None), STOP),
)


# -- Anthropic's messages ----------------------------------------------------------------------------------------------

REDACTED = {"type": "redacted_thinking", "data": "ZmFrZQ=="}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_fake"}

MESSAGES: Sequence[Ending] = (
    *COMMON,
    TEXT_AND_CALLS,
    Ending("length, nothing said", Text(None, finish="length", reasoning=THOUGHT), NOTHING_LEFT),
    Ending("content filter", Text(WHOLE, finish="content_filter"), FILTERED),
    Ending("refusal, nothing said", Text(None, finish="content_filter"), Answered("content_filter", "")),
    ends("stop_sequence", "stop_sequence", STOP),
    ends("model_context_window_exceeded", "model_context_window_exceeded", LENGTH),
    ends("an unknown word", "fell_asleep", NOT_WHOLE),
    changed("redacted thinking", lambda body: body["content"].insert(0, REDACTED), STOP),
    changed(
        "several parts",
        lambda body: body.update(
            content=[{"type": "text", "text": "Air scatters "}, {"type": "text", "text": "blue light."}]
        ),
        STOP,
    ),
    instead("200 with an error inside", OVERLOADED, BUSY),
)


# -- Google's generateContent ------------------------------------------------------------------------------------------


def candidate(body: Any) -> Any:
    return body["candidates"][0]


def emptied(reason: str) -> Callable[[Any], None]:
    return lambda body: body.update(candidates=[{"finishReason": reason, "index": 0}])


def blocked(body: Any) -> None:
    """The prompt, before the model has said anything."""
    del body["candidates"]
    body["promptFeedback"] = {"blockReason": "PROHIBITED_CONTENT"}


GENERATE: Sequence[Ending] = (
    *COMMON,
    TEXT_AND_CALLS,
    Ending("length, nothing said", Text(None, finish="length"), NOTHING_LEFT),
    changed("length, not even content", emptied("MAX_TOKENS"), NOTHING_LEFT),
    Ending("content filter", Text(WHOLE, finish="content_filter"), WITHHELD),
    changed("SAFETY, nothing said", emptied("SAFETY"), BLOCKED),
    ends("PROHIBITED_CONTENT", "PROHIBITED_CONTENT", WITHHELD),
    ends("RECITATION", "RECITATION", WITHHELD),
    ends("BLOCKLIST", "BLOCKLIST", WITHHELD),
    ends("SPII", "SPII", WITHHELD),
    changed("the prompt is blocked", blocked, BLOCKED),
)


# -- Bedrock's converse ------------------------------------------------------------------------------------------------

CONVERSE: Sequence[Ending] = (
    *COMMON,
    TEXT_AND_CALLS,
    Ending("length, nothing said", Text(None, finish="length", reasoning=THOUGHT), NOTHING_LEFT),
    Ending("content filter", Text(WHOLE, finish="content_filter"), FILTERED),
    ends("content_filtered", "content_filtered", FILTERED),
    ends("stop_sequence", "stop_sequence", STOP),
    ends("model_context_window_exceeded", "model_context_window_exceeded", LENGTH),
    ends("malformed_model_output", "malformed_model_output", BUSY),
    ends("malformed_tool_use", "malformed_tool_use", BUSY),
    ends("an unknown word", "fell_asleep", NOT_WHOLE),
)


# -- Ollama, at either of its paths ------------------------------------------------------------------------------------

OLLAMA: Sequence[Ending] = (
    *COMMON,
    TEXT_AND_CALLS,
    Ending("length, nothing said", Text("", finish="length"), NOTHING_LEFT),
    Ending("only loaded", Text("", ends="load"), BUSY),
    instead("200 with an error inside", {"error": "llama runner process has terminated"}, BUSY),
)


# -- Cohere ------------------------------------------------------------------------------------------------------------

COHERE: Sequence[Ending] = (
    *COMMON,
    Ending("length, nothing said", Text(None, finish="length"), NOTHING_LEFT),
    ends("STOP_SEQUENCE", "STOP_SEQUENCE", STOP),
    ends("ERROR", "ERROR", BUSY),
    ends("TIMEOUT", "TIMEOUT", BUSY),
    ends("an unknown word", "FELL_ASLEEP", NOT_WHOLE),
)

ENDINGS: Mapping[str, Sequence[Ending]] = {
    "OpenAI": CHAT,
    "OpenAI Responses": RESPONSES,
    "Azure": (
        *CHAT,
        Ending("prompt filtered", ContentPolicy(), Failed("", "content_policy")),
    ),
    "Azure Responses": RESPONSES,
    "Anthropic": MESSAGES,
    "Gemini": GENERATE,
    "Vertex Gemini": GENERATE,
    "Vertex Claude": MESSAGES,
    "Bedrock": CONVERSE,
    "Ollama": OLLAMA,
    "OpenRouter": OPENROUTER,
    "vLLM": CHAT,
    "LM Studio": CHAT,
    "llama.cpp": CHAT,
    "Mistral": MISTRAL,
    "Groq": CHAT,
    "DeepSeek": CHAT,
    "xAI": CHAT,
    "Cohere": COHERE,
}
CELLS: tuple[tuple[Path, Ending], ...] = tuple((path, ending) for path in PATHS for ending in ENDINGS[path.name])


async def run() -> dict[tuple[str, str], CellOutcome]:
    """What came of each cell."""
    seen: dict[tuple[str, str], CellOutcome] = {}
    async with faked_paths(PATHS) as world:
        for path, ending in CELLS:
            world.providers[path.name].script(ending.gives)
            asked: dict[str, Any] = {
                "messages": [user("Why is the sky blue?")],
                "tools": [TOOL] if "call" in ending.way else None,
            }
            seen[path.name, ending.way] = await world.call(path, **asked)
    return seen


def test_every_path_has_its_endings_once() -> None:
    assert set(ENDINGS) == {path.name for path in PATHS}
    names = [(path.name, ending.way) for path, ending in CELLS]
    assert len(set(names)) == len(names)


@pytest.mark.timeout(600)  # s; some hundred calls, on a machine that is busy with much else
async def test_an_answer_is_read_for_what_the_table_says(subtests: pytest.Subtests) -> None:
    """One test, because all cells are of one run, which several workers would make several times."""
    seen = await run()
    for path, ending in CELLS:
        with subtests.test(f"{path.name}, {ending.way}"):
            name = (path.name, ending.way)
            assert not ending.expected.flaw(seen[name])


def printed() -> str:
    seen = asyncio.run(run())
    return table(
        {
            (path.name, ending.way): (ending.expected, ending.expected.flaw(seen[path.name, ending.way]))
            for path, ending in CELLS
        }
    )
