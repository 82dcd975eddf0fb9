"""An answer is read for what it is: whole, cut, filtered, a call, or that deployment's failure, by the provider's own
word; and nothing of it is lost or taken for something else.

A fake on one side, `Konstruct` on the other. Behind each deployment stands another, which is asked where the first one
has failed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.default_groups import HELLO, entry, opened, reaching
from support.providers import Changed, Provider, Raw, Text

from konstruct_mcp.config.model import Deployment
from konstruct_mcp.core.results import Completion
from konstruct_mcp.providers.litellm.answers.provider_answer import parse_answer
from konstruct_mcp.providers.litellm.answers.usage import MOST_USD
from konstruct_mcp.providers.litellm.responses import read
from konstruct_mcp.providers.model_facts import facts_of
from konstruct_mcp.routing.outcomes import Answer, Fault
from konstruct_mcp.testing.shapes import OtherWire, Wire

pytestmark = pytest.mark.many_cases

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CALL = ("call_1", "weather", '{"city": "Oslo"}')
BEHIND = "From behind"
# Where each format has the provider's word, its model as LiteLLM has it.
MODELS: dict[Wire | OtherWire, str] = {
    "openai": "openai/gpt-4o",
    "anthropic": "anthropic/claude-sonnet-4-6",
    "azure": "azure/fake",
    "gemini": "gemini/gemini-2.5-pro",
    "openrouter": "openrouter/anthropic/claude-sonnet-4.5",
    "vllm": "hosted_vllm/fake",
    "mistral": "mistral/mistral-large-latest",
    "groq": "groq/openai/gpt-oss-120b",
    "deepseek": "deepseek/deepseek-chat",
    "xai": "xai/grok-4",
    "cohere": "cohere_chat/command-a-03-2025",
}


async def answered(
    folder: Path, wire: Wire | OtherWire, *answers: Any, model: str = "", **arguments: Any
) -> Completion:
    """What becomes of this provider's answers."""
    with Provider(wire) as provider, Provider("openai") as behind:
        provider.script(*answers)
        behind.script(Text(BEHIND))
        config = {
            "model_list": [
                entry("it", reaching(provider, model or MODELS[wire]), order=1),
                entry("it", reaching(behind, "openai/gpt-4o-mini"), order=2),
            ],
            "router_settings": {"num_retries": 0},
        }
        async with opened(folder, config) as konstruct:
            completion: Completion = await konstruct.complete(
                arguments.pop("messages", HELLO), model_group="it", **arguments
            )
            return completion


def raw(body: Any) -> Raw:
    return Raw(json.dumps(body).encode())


# -- why it ended ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "word", "finish_reason"),
    [
        *(("openai", word, word) for word in ("stop", "length", "content_filter")),
        *(("anthropic", word, "stop") for word in ("end_turn", "stop_sequence")),
        *(("anthropic", word, "length") for word in ("max_tokens", "model_context_window_exceeded", "pause_turn")),
        ("anthropic", "refusal", "content_filter"),
        *(("gemini", word, reason) for word, reason in (("STOP", "stop"), ("MAX_TOKENS", "length"))),
        *(("gemini", word, "content_filter") for word in ("SAFETY", "RECITATION", "BLOCKLIST", "SPII", "MODEL_ARMOR")),
        *(("cohere", word, reason) for word, reason in (("COMPLETE", "stop"), ("MAX_TOKENS", "length"))),
        *(("cohere", word, reason) for word, reason in (("STOP_SEQUENCE", "stop"), ("ERROR_TOXIC", "content_filter"))),
        ("mistral", "model_length", "length"),
        ("vllm", "repetition", "length"),
        ("openai", "sensitive", "content_filter"),
        ("openai", "eos_token", "stop"),
    ],
)
async def test_an_end_is_what_the_providers_own_word_says(
    tmp_path: Path, wire: Wire, word: str, finish_reason: str
) -> None:
    completion = await answered(tmp_path, wire, Text("Said.", ends=word))

    assert (completion.content, completion.finish_reason, completion.notes) == ("Said.", finish_reason, ())


@pytest.mark.parametrize(
    ("wire", "word", "fault"),
    [
        ("deepseek", "insufficient_system_resource", "server error"),
        *(("openrouter", word, "server error") for word in ("error", "ERROR")),
        *(("vllm", word, "server error") for word in ("abort", "error")),
        ("openai", "network_error", "server error"),
        *(("cohere", word, "server error") for word in ("ERROR", "TIMEOUT")),
        *(
            ("gemini", word, "unusable answer")
            for word in ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "LANGUAGE", "OTHER", "TOO_MANY_TOOL_CALLS")
        ),
    ],
)
async def test_an_end_that_is_a_failure_moves_on(tmp_path: Path, wire: Wire, word: str, fault: str) -> None:
    completion = await answered(tmp_path, wire, Text("Half of", ends=word))

    assert (completion.content, completion.finish_reason) == (BEHIND, "stop")
    assert [attempt.error for attempt in completion.attempts] == [f"{fault} (it ended in {word.lower()})"]


@pytest.mark.parametrize(
    ("wire", "leave_out"),
    [
        ("openai", lambda body: body["choices"][0].pop("finish_reason")),
        ("openai", lambda body: body["choices"][0].update(finish_reason=None)),
        ("anthropic", lambda body: body.update(stop_reason=None)),
        ("gemini", lambda body: body["candidates"][0].pop("finishReason")),
    ],
)
async def test_an_answer_without_a_reason_for_its_end_is_not_known_to_be_whole(
    tmp_path: Path, wire: Wire, leave_out: Callable[[Any], Any]
) -> None:
    completion = await answered(tmp_path, wire, Changed(Text("Said."), leave_out))

    assert (completion.content, completion.finish_reason) == ("Said.", "length")
    assert completion.notes == (f"{MODELS[wire]} does not say why its answer ended: it may not be whole",)


async def test_a_reason_that_nobody_knows_is_no_proper_end(tmp_path: Path) -> None:
    completion = await answered(tmp_path, "openai", Text("Said.", ends="something_of_next_year"))

    assert (completion.content, completion.finish_reason) == ("Said.", "length")
    assert completion.notes == ("openai/gpt-4o ended its answer for a reason that is not known: it may not be whole",)


async def test_an_answer_without_a_word_is_said_to_be_one(tmp_path: Path) -> None:
    completion = await answered(tmp_path, "openai", Text(""))

    assert (completion.content, completion.finish_reason) == ("", "stop")
    assert completion.notes == ("openai/gpt-4o ended its answer without a word",)


async def test_nothing_without_a_reason_is_a_failure(tmp_path: Path) -> None:
    completion = await answered(tmp_path, "openai", Text("", ends="something_of_next_year"))

    assert completion.content == BEHIND


@pytest.mark.parametrize(
    ("arguments", "finish_reason"), [('{"city": "Oslo"}', "tool_calls"), ('{"city": "Os', "length")]
)
async def test_calls_without_a_reason_are_whole_if_their_arguments_are(
    tmp_path: Path, arguments: str, finish_reason: str
) -> None:
    completion = await answered(
        tmp_path,
        "openai",
        Changed(
            Text(None, tool_calls=[("call_1", "weather", arguments)]),
            lambda body: body["choices"][0].update(finish_reason=None),
        ),
        tools=[WEATHER],
    )

    assert [call.function.arguments for call in completion.tool_calls] == [arguments]
    assert completion.finish_reason == finish_reason


async def test_calls_that_were_announced_and_not_made_are_a_failure(tmp_path: Path) -> None:
    completion = await answered(tmp_path, "openai", Text(None, finish="tool_calls"), tools=[WEATHER])

    assert completion.content == BEHIND
    assert completion.attempts[0].error == "unusable answer (tool calls announced, and none made)"


# -- an error in a 200 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        ({"code": 429, "message": "Rate limited"}, "rate limited (HTTP 200 with an error 429 in it)"),
        ({"code": "429", "message": "Rate limited"}, "rate limited (HTTP 200 with an error 429 in it)"),
        ({"code": 401, "message": "No auth"}, "key refused (HTTP 200 with an error 401 in it)"),
        ({"code": 402, "message": "Out of credits"}, "quota used up (HTTP 200 with an error 402 in it)"),
        ({"code": 502, "message": "Upstream"}, "server error (HTTP 200 with an error 502 in it)"),
        ({"code": "server_error", "message": "Upstream"}, "server error (HTTP 200 with an error 500 in it)"),
        ({"message": "Something"}, "unusable answer (HTTP 200 with an error in it)"),
        ("Something", "unusable answer (HTTP 200 with an error in it)"),
    ],
)
@pytest.mark.parametrize("place", ["alone", "in a choice"])
async def test_an_error_inside_a_200_is_what_its_code_says(tmp_path: Path, error: Any, fault: str, place: str) -> None:
    message = {"role": "assistant", "content": "Ha"}
    choice = {"index": 0, "message": message, "finish_reason": "error", "error": error}
    whole = {"id": "gen-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    body = {"error": error, "user_id": "u"} if place == "alone" else whole

    completion = await answered(tmp_path, "openrouter", raw(body))

    assert completion.content == BEHIND
    assert [attempt.error for attempt in completion.attempts] == [fault]


async def test_an_answer_is_read_in_each_providers_form_and_what_is_none_is_said_why(tmp_path: Path) -> None:
    """Many in one, since each costs little where nothing is opened for it alone: whose, which model, its answer; what
    comes of it, or how the attempt has failed."""
    claude = "anthropic/claude-sonnet-4-6"
    searched = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    called = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    said = {"type": "text", "text": "Said."}

    def content(value: Any) -> Changed:
        return Changed(Text("x"), lambda body: body["choices"][0]["message"].update(content=value))

    def choice(**fields: Any) -> Changed:
        return Changed(Text("x"), lambda body: body["choices"][0].update(fields))

    def arguments(value: Any) -> Changed:
        call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": value}}
        return Changed(
            Text(None, tool_calls=[CALL]), lambda body: body["choices"][0]["message"].update(tool_calls=[call])
        )

    def blocks(*blocks: Any) -> Changed:
        return Changed(Text("x"), lambda body: body.update(content=list(blocks)))

    def commentary(said: str) -> dict[str, Any]:
        return {**message(text(said)), "phase": "commentary"}

    cases: list[tuple[Wire | OtherWire, str, Any, tuple[str, str, list[tuple[str, str]]] | str]] = [
        ("openai", "minimax/MiniMax-M2.5",
         raw({"id": "x", "choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}),
         "quota used up (HTTP 200 with an error 400 in it)"),
        ("openai", "openai/zai", raw({"code": 1302, "msg": "Rate limit reached", "success": False}),
         "rate limited (HTTP 200 with an error 429 in it)"),
        ("openai", "openai/a", raw({"error": "model overloaded"}), "server error (HTTP 200 with an error 503 in it)"),
        ("openai", "openai/b", content(42), "unusable answer"),
        ("openai", "openai/c", content({"a": 1}), "unusable answer"),
        ("openai", "openai/d", arguments(None), ("", "tool_calls", [("weather", "{}")])),
        ("openai", "openai/e", arguments(""), ("", "tool_calls", [("weather", "{}")])),
        ("openai", "openai/f", arguments("null"), ("", "tool_calls", [("weather", "{}")])),
        ("openai", "openai/g", arguments('"{\\"a\\": 1}"'), ("", "tool_calls", [("weather", '{"a": 1}')])),
        ("openai", "openai/h", arguments("{half"), ("", "tool_calls", [("weather", "{half")])),
        ("openai", "openai/i", content(["a", {"type": "output_text", "text": "b"}]), ("ab", "stop", [])),
        ("openai", "openai/j", choice(message=None), "unusable answer"),
        ("openai", "openai/k", choice(finish_reason="content-filter"), ("x", "content_filter", [])),
        ("openrouter", "openrouter/a", choice(native_finish_reason="network_error"), "server error (it ended in"),
        ("openrouter", "openrouter/b", choice(native_finish_reason="MAX_TOKENS"), ("x", "length", [])),
        ("openrouter", "openrouter/c", choice(native_finish_reason="completed"), ("x", "stop", [])),
        ("openai", "openai/l", Text("", usage=(11, 0)), "unusable answer (nothing in it)"),
        ("gemini", "gemini/gemini-2.5-pro", raw({"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}],
         "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}}), "unusable answer (nothing in it)"),
        ("anthropic", claude, blocks({**called, "input": '{"a": 1}'}), ("", "tool_calls", [("weather", '{"a": 1}')])),
        ("openai", CODEX, response(message(text("One.")), THOUGHT, message(text("Two."))),
         ("One.\n\nTwo.", "stop", [])),
        ("openai", CODEX, response(commentary("Looking."), message(text("Two."))), ("Two.", "stop", [])),
        ("openai", CODEX, response(commentary("Looking."), FUNCTION_CALL),
         ("Looking.", "tool_calls", [("weather", '{"city": "Oslo"}')])),
        ("anthropic", claude, blocks(searched, found, said), ("Said.", "stop", [])),
        ("anthropic", claude, blocks(searched, found, called), ("", "tool_calls", [("weather", "{}")])),
    ]  # fmt: skip
    with ExitStack() as stack:
        behind = stack.enter_context(Provider("openai"))
        behind.script(Text(BEHIND))
        entries = []
        for index, (wire, model, answer, _) in enumerate(cases):
            provider = stack.enter_context(Provider(wire))
            provider.script(answer)
            entries += [
                entry(str(index), reaching(provider, model), order=1),
                entry(str(index), reaching(behind, "openai/gpt-4o-mini"), order=2),
            ]
        config = {"model_list": entries, "router_settings": {"num_retries": 0}}
        async with opened(tmp_path, config) as konstruct:
            for index, (_, model, _, expected) in enumerate(cases):
                completion = await konstruct.complete(HELLO, model_group=str(index), tools=[WEATHER], timeout_s=300)
                if isinstance(expected, str):
                    [attempt] = completion.attempts
                    assert attempt.error.startswith(expected), (index, model)
                    assert completion.content == BEHIND
                else:
                    calls = [(call.function.name, call.function.arguments) for call in completion.tool_calls]
                    read = (completion.content, completion.finish_reason, calls)
                    assert (read, completion.attempts) == (expected, ()), (index, model)


async def test_a_call_without_arguments_is_one_with_none_in_the_history_too(tmp_path: Path) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    messages: list[dict[str, Any]] = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    with Provider("gemini") as gemini:
        config = {"model_list": [entry("it", reaching(gemini, MODELS["gemini"]))]}
        async with opened(tmp_path, config) as konstruct:
            await konstruct.complete(messages, tools=[WEATHER])

    [sent] = gemini.requests
    [asked] = [part for turn in sent.body["contents"] for part in turn["parts"] if "function_call" in part]
    assert asked["function_call"] == {"name": "weather", "args": {}}


async def test_an_empty_error_beside_an_answer_is_none(tmp_path: Path) -> None:
    completion = await answered(
        tmp_path, "openai", Changed(Text("Said."), lambda body: body.update(error={"message": "", "code": None}))
    )

    assert (completion.content, completion.attempts) == ("Said.", ())


# -- the Responses API -------------------------------------------------------------------------------------------------

CODEX = "openai/gpt-5-codex"
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}
FUNCTION_CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city": "Oslo"}',
    "status": "completed",
}


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": list(parts)}


def text(said: str) -> dict[str, Any]:
    return {"type": "output_text", "text": said, "annotations": []}


def response(*output: dict[str, Any], **more: Any) -> Raw:
    usage = {
        "input_tokens": 11,
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 18,
    }
    whole = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed", "error": None}
    rest: dict[str, Any] = {
        "incomplete_details": None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }
    return raw({**whole, **rest, "output": list(output), **more})


@pytest.mark.parametrize(("wire", "model"), [("openai", CODEX), ("azure", "azure/responses/fake")])
async def test_of_the_responses_api_every_text_and_every_call_is_read(tmp_path: Path, wire: Wire, model: str) -> None:
    second = {**FUNCTION_CALL, "id": "fc_2", "call_id": "call_2", "arguments": "{}"}
    answer = response(THOUGHT, message(text("One, "), text("two. ")), message(text("Three.")), FUNCTION_CALL, second)

    completion = await answered(tmp_path, wire, answer, model=model, tools=[WEATHER])

    assert completion.content == "One, two. Three."
    assert [(call.id, call.function.arguments) for call in completion.tool_calls] == [
        ("call_1", '{"city": "Oslo"}'),
        ("call_2", "{}"),
    ]
    assert completion.finish_reason == "tool_calls"
    assert (completion.usage.input_tokens, completion.usage.output_tokens, completion.usage.cached_tokens) == (11, 7, 3)


@pytest.mark.parametrize(
    ("why", "finish_reason"), [("max_output_tokens", "length"), ("content_filter", "content_filter")]
)
@pytest.mark.parametrize("output", [[THOUGHT], [THOUGHT, message(text("Half"))], []])
async def test_an_incomplete_response_says_so(
    tmp_path: Path, why: str, finish_reason: str, output: list[dict[str, Any]]
) -> None:
    answer = response(*output, status="incomplete", incomplete_details={"reason": why})

    completion = await answered(tmp_path, "openai", answer, model=CODEX)

    assert completion.content == ("Half" if len(output) == 2 else "")
    assert completion.finish_reason == finish_reason
    assert completion.usage.output_tokens == 7
    assert completion.cost_usd is not None


async def test_a_refusal_item_is_a_filtered_answer(tmp_path: Path) -> None:
    answer = response(THOUGHT, message({"type": "refusal", "refusal": "I can't help with that."}))

    completion = await answered(tmp_path, "openai", answer, model=CODEX)

    assert (completion.content, completion.finish_reason) == ("I can't help with that.", "content_filter")


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        ({"code": "server_error", "message": "Oops"}, "server error (HTTP 200 with an error 500 in it)"),
        ({"code": "rate_limit_exceeded", "message": "Slow down"}, "rate limited (HTTP 200 with an error 429 in it)"),
        (None, "server error (it ended in failed)"),
    ],
)
async def test_a_failed_response_is_that_deployments_failure(tmp_path: Path, error: Any, fault: str) -> None:
    completion = await answered(tmp_path, "openai", response(status="failed", error=error), model=CODEX)

    assert completion.content == BEHIND
    assert [attempt.error for attempt in completion.attempts] == [fault]


async def test_what_goes_to_the_responses_api_is_in_its_format_and_whole(tmp_path: Path) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Weather here?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            ],
        },
        {
            "role": "assistant",
            "content": "Looking.",
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    schema = {"type": "object", "properties": {"sky": {"type": "string"}}}
    with Provider("openai") as openai:
        openai.script(response(message(text("Rain."))))
        config = {"model_list": [entry("it", reaching(openai, CODEX))]}
        async with opened(tmp_path, config) as konstruct:
            await konstruct.complete(
                messages,
                tools=[WEATHER],
                tool_choice={"type": "function", "function": {"name": "weather"}},
                response_format={"type": "json_schema", "json_schema": {"name": "sky", "schema": schema}},
                max_tokens=99,
            )

    [sent] = openai.requests
    assert sent.path == "/v1/responses"
    assert sent.body["instructions"] == "Be brief.\n\nBe kind."
    assert sent.body["input"] == [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Weather here?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
            ],
        },
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Looking."}]},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
    ]
    assert sent.body["tool_choice"] == {"type": "function", "name": "weather"}
    assert sent.body["tools"][0]["name"] == "weather"
    assert sent.body["tools"][0]["strict"] is False
    assert sent.body["text"]["format"]["schema"] == schema
    assert sent.body["max_output_tokens"] == 99


# -- others' forms -----------------------------------------------------------------------------------------------------


def _without_content(candidate: dict[str, Any], why: str) -> None:
    candidate.pop("content")
    candidate["finishReason"] = why


@pytest.mark.parametrize(("why", "finish_reason"), [("MAX_TOKENS", "length"), ("SAFETY", "content_filter")])
async def test_geminis_candidate_without_content_is_an_empty_answer(
    tmp_path: Path, why: str, finish_reason: str
) -> None:
    answer = Changed(Text("Gone"), lambda body: _without_content(body["candidates"][0], why))

    completion = await answered(tmp_path, "gemini", answer)

    assert (completion.content, completion.finish_reason, completion.attempts) == ("", finish_reason, ())
    assert completion.usage.input_tokens == 11


async def test_geminis_blocked_prompt_is_a_filtered_answer(tmp_path: Path) -> None:
    usage = {"promptTokenCount": 5, "totalTokenCount": 5}
    body = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage}

    completion = await answered(tmp_path, "gemini", raw(body))

    assert (completion.content, completion.finish_reason) == ("", "content_filter")


async def test_geminis_texts_are_joined_and_its_thoughts_are_none(tmp_path: Path) -> None:
    parts = [{"text": "Hm.", "thought": True}, {"text": "One, "}, {"text": "two."}]
    answer = Changed(Text("x"), lambda body: body["candidates"][0]["content"].update(parts=parts))

    completion = await answered(tmp_path, "gemini", answer)

    assert (completion.content, completion.finish_reason) == ("One, two.", "stop")


async def test_a_function_call_of_old_servers_is_a_tool_call(tmp_path: Path) -> None:
    def as_of_old(body: Any) -> None:
        called = {"name": "weather", "arguments": '{"city": "Oslo"}'}
        body["choices"][0]["message"] = {"role": "assistant", "content": None, "function_call": called}
        body["choices"][0]["finish_reason"] = "function_call"

    completion = await answered(tmp_path, "openai", Changed(Text("x"), as_of_old), tools=[WEATHER])

    [call] = completion.tool_calls
    assert (call.function.name, call.function.arguments) == ("weather", '{"city": "Oslo"}')
    assert call.id
    assert completion.finish_reason == "tool_calls"


def _choice(content: str | None, finish: str, *calls: Any) -> dict[str, Any]:
    made = [{"id": id_, "type": "function", "function": {"name": n, "arguments": a}} for id_, n, a in calls]
    said = {"role": "assistant", "content": content, **({"tool_calls": made} if made else {})}
    return {"index": 0, "message": said, "finish_reason": finish}


@pytest.mark.parametrize(
    ("choices", "content", "calls", "finish_reason"),
    [
        ([_choice("", "stop"), _choice("Second", "length")], "Second", 0, "length"),
        ([_choice("First", "stop"), _choice("Second", "length")], "First", 0, "stop"),
        ([_choice("Looking.", "stop"), _choice(None, "tool_calls", CALL)], "Looking.", 1, "tool_calls"),
        ([_choice("One", "tool_calls", CALL), _choice("Two", "tool_calls", CALL, CALL)], "One", 1, "tool_calls"),
    ],
)
async def test_of_several_choices_the_first_that_says_something_is_the_answer(
    tmp_path: Path, choices: list[Any], content: str, calls: int, finish_reason: str
) -> None:
    answer = Changed(Text("x"), lambda body: body.update(choices=choices))

    completion = await answered(tmp_path, "openai", answer, tools=[WEATHER])

    assert (completion.content, len(completion.tool_calls)) == (content, calls)
    assert completion.finish_reason == finish_reason


@pytest.mark.parametrize(
    ("usage", "counted", "is_priced"),
    [
        (None, (0, 0), False),
        ({}, (0, 0), False),
        ({"prompt_tokens": -1, "completion_tokens": 7}, (0, 0), False),
        ({"prompt_tokens": 1.5, "completion_tokens": 7}, (0, 0), False),
        ({"prompt_tokens": 11.0, "completion_tokens": 7}, (11, 7), True),
        ({"prompt_tokens": 11}, (11, 0), True),
        ({"prompt_tokens": 11, "completion_tokens": 7}, (11, 7), True),
        ({"input_tokens": 11, "output_tokens": 7}, (11, 7), True),
    ],
)
async def test_what_a_provider_counts_is_taken_and_what_it_does_not_is_unknown(
    tmp_path: Path, usage: Any, counted: tuple[int, int], is_priced: bool
) -> None:
    completion = await answered(tmp_path, "openai", Changed(Text("Said."), lambda body: body.update(usage=usage)))

    assert completion.content == "Said."
    assert (completion.usage.input_tokens, completion.usage.output_tokens) == counted
    assert (completion.cost_usd is not None) is is_priced


async def test_an_answer_of_claudes_that_counts_nothing_is_an_answer_of_unknown_cost(tmp_path: Path) -> None:
    completion = await answered(tmp_path, "anthropic", Changed(Text("Said."), lambda body: body.pop("usage")))

    assert (completion.content, completion.finish_reason, completion.attempts) == ("Said.", "stop", ())
    assert (completion.usage.input_tokens, completion.usage.output_tokens) == (0, 0)
    assert completion.cost_usd is None


# -- the functions themselves, with whatever an answer can hold --------------------------------------------------------

WHOLE: tuple[dict[str, Any], ...] = (
    {
        "choices": [
            {
                "finish_reason": "stop",
                "message": {
                    "content": [{"type": "text", "text": "Hi"}],
                    "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}],
                    "reasoning_details": [{"text": "hm"}],
                },
            }
        ],
        "usage": {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}, "cost": 0.1, "is_byok": True},
    },
    {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [
            {
                "type": "message",
                "content": [{"type": "output_text", "text": "Hi"}, {"type": "refusal", "refusal": "No"}],
            },
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        ],
        "usage": {"input_tokens": 1, "output_tokens_details": {"reasoning_tokens": 1}},
    },
    {
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "Hi"},
            {"type": "tool_use", "id": "a", "name": "f", "input": {}},
        ],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": 1}, "service_tier": "standard"},
    },
    {
        "candidates": [
            {
                "content": {"parts": [{"text": "Hi", "thought": False}, {"functionCall": {"name": "f", "args": {}}}]},
                "finishReason": "STOP",
            }
        ],
        "promptFeedback": {"blockReason": None},
        "usageMetadata": {"promptTokenCount": 1, "thoughtsTokenCount": 1, "trafficType": "ON_DEMAND"},
    },
    {
        "output": {
            "message": {
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
                    {"text": "Hi"},
                    {"toolUse": {"toolUseId": "a", "name": "f", "input": {}}},
                ]
            }
        },
        "stopReason": "end_turn",
        "usage": {"inputTokens": 1, "outputTokens": 1},
    },
    {
        "message": {"content": [{"type": "text", "text": "Hi"}], "tool_calls": []},
        "finish_reason": "COMPLETE",
        "usage": {"tokens": {"input_tokens": 1}},
    },
    {
        "error": {"code": 0, "message": "x", "metadata": {"raw": "{}"}},
        "base_resp": {"status_code": 1, "status_msg": "x"},
    },
)
JUNK = st.one_of(
    st.sampled_from([None, True, 0, -1, 1.5, 10**400, float("inf"), "", "x", "[" * 3000, [], [None], {}, {"text": 1}]),
    st.text(max_size=5),
)


def spoilt(data: st.DataObject, value: Any) -> Any:
    """The value with something else in one place of it."""
    places = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    if not places or data.draw(st.integers(0, 3)) == 0:
        return data.draw(JUNK)
    key, part = data.draw(st.sampled_from(places))
    if isinstance(value, dict):
        return {**value, key: spoilt(data, part)}
    return [*value[:key], spoilt(data, part), *value[key + 1 :]]


@settings(deadline=None)  # others keep the machine busy
@given(st.data(), st.sampled_from(WHOLE))
def test_whatever_an_answer_holds_it_is_one_or_a_fault(data: st.DataObject, whole: dict[str, Any]) -> None:
    content = json.dumps(spoilt(data, whole)).encode()
    deployment = Deployment("it/1", "it", "openrouter/x", "openrouter/x", {})
    tried = read(None, parse_answer(content), deployment, facts_of(deployment), 0.1)

    assert isinstance(tried.outcome, Answer | Fault)
    assert (tried.reply is None) == isinstance(tried.outcome, Fault)
    assert tried.cost_usd is None or 0 <= tried.cost_usd <= MOST_USD


@pytest.mark.parametrize("body", [b"[" * 10**5, b'{"choices":' * 10**5 + b"0" + b"}" * 10**5], ids=["open", "closed"])
async def test_a_body_that_is_nested_beyond_reason_is_unusable(tmp_path: Path, body: bytes) -> None:
    completion = await answered(tmp_path, "openai", Raw(body))
    assert completion.content == BEHIND
    assert "unusable answer" in completion.attempts[0].error


async def test_a_bill_beyond_all_money_is_none_and_the_table_says_the_cost(tmp_path: Path) -> None:
    whole = {**WHOLE[0], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "cost": 10**400}}
    completion = await answered(tmp_path, "openrouter", raw(whole))
    assert completion.content == "Hi"
    assert completion.cost_usd == pytest.approx(3e-6 + 15e-6)


async def test_an_error_that_says_success_is_none(tmp_path: Path) -> None:
    completion = await answered(tmp_path, "openai", raw({**WHOLE[0], "error": {"code": 0, "message": "success"}}))
    assert (completion.content, completion.attempts) == ("Hi", ())
