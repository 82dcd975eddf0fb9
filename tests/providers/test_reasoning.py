"""A model's reasoning is no part of its answer; and what a provider wants to see of it in the next turn comes back, to
that provider, for that tenant, from an assistant that knows nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.default_groups import entry, opened, reaching, replace
from support.providers import Changed, Provider, Received, Status, Text

from konstruct_mcp import Konstruct
from konstruct_mcp.testing.shapes import Wire

pytestmark = pytest.mark.many_cases

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CALL = ("call_1", "weather", "{}")
ASKED: list[dict[str, Any]] = [{"role": "user", "content": "Weather in Oslo?"}]
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"}


# -- in the text -------------------------------------------------------------------------------------------------------

_THOUGHT = [
    "<think>\nHm.\n</think>\n\nIt rains.",
    "Hm.\n</think>\n\nIt rains.",
    "Hm.</think>It rains.",
    "</think>\n\nIt rains.",
    "<think>Hm.</think>\n<think>Well.</think>It rains.",
    "Hm, `x` and\n```py\nx\n```\n</think>\nIt rains.",
    "<thinking>Hm.</thinking>\nIt rains.",
    "<reasoning>Hm.</reasoning>\nIt rains.",
    "[THINK]Hm.[/THINK]It rains.",
    "<seed:think>Hm.</seed:think>It rains.",
    "◁think▷Hm.◁/think▷It rains.",
    "<|START_THINKING|>Hm.<|END_THINKING|>It rains.",
    "<|channel>thought\nHm.<channel|>It rains.",
    "Here is my thought process: Hm. Here is my response: It rains.",
    "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>It rains.<|return|>",
    "<|start|>assistant<|channel|>final<|message|>It rains.",
    "analysisHm.assistantfinalIt rains.",
]
_NO_THOUGHT = [
    "It rains.",
    "The </think> tag ends a thought.",
    "`</think>` ends a thought.\n\nIt is a tag.",
    "```html\n<p>\n</think>\n```\nis what it looks like.",
    "The tag <think> opens a thought,\n</think> ends it.",
    'It prints "</think>"\n\nand ends.',
    "First: <think>\nHm.\n</think>\nSo it is written.",
    "<thinking>is what you asked me to write</thinking>",
    "analysis is what follows: it rains.",
    "analysis: the word assistantfinal is used",
    "analysis, then assistantfinal: so it goes.",
    "analysis\nassistantfinal\nare its words.",
]


async def test_reasoning_in_the_text_is_no_part_of_the_answer(
    tmp_path: Path, openai: Provider, subtests: pytest.Subtests
) -> None:
    async with opened(tmp_path, {"model_list": [entry("it", reaching(openai, "openai/fake"))]}) as konstruct:
        for written in _THOUGHT:
            with subtests.test(written):
                openai.script(Text(written))
                assert (await konstruct.complete(ASKED)).content == "It rains."


async def test_an_answer_that_speaks_of_its_own_marks_is_whole(tmp_path: Path, openai: Provider) -> None:
    answer = "The word assistantfinal, or.assistantfinal, ends it."
    openai.script(Text(f"analysisThe word assistantfinal is asked for.assistantfinal{answer}"))
    async with opened(tmp_path, {"model_list": [entry("it", reaching(openai, "openai/fake"))]}) as konstruct:
        assert (await konstruct.complete(ASKED)).content == answer


async def test_what_is_cut_before_a_tag_that_was_never_opened_is_said(tmp_path: Path, openai: Provider) -> None:
    openai.script(Text("Hm.</think>It rains."), Text("</think>It rains."), Text("<think>Hm.</think>It rains."))
    async with opened(tmp_path, {"model_list": [entry("it", reaching(openai, "openai/fake"))]}) as konstruct:
        notes = [(await konstruct.complete(ASKED)).notes for _ in range(3)]

    assert notes == [("what came before </think> was taken for reasoning",), (), ()]


async def test_an_answer_that_speaks_of_tags_is_left_as_it_is(
    tmp_path: Path, openai: Provider, subtests: pytest.Subtests
) -> None:
    async with opened(tmp_path, {"model_list": [entry("it", reaching(openai, "openai/fake"))]}) as konstruct:
        for written in _NO_THOUGHT:
            with subtests.test(written):
                openai.script(Text(written))
                assert (await konstruct.complete(ASKED)).content == written


async def test_a_thought_that_never_ends_is_no_answer(tmp_path: Path, openai: Provider) -> None:
    openai.script(Text("<think>Hm. And then", finish="length"))
    async with opened(tmp_path, {"model_list": [entry("it", reaching(openai, "openai/fake"))]}) as konstruct:
        completion = await konstruct.complete(ASKED)

    assert (completion.content, completion.finish_reason) == ("", "length")


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_in_a_field_of_its_own_is_no_part_of_the_answer(
    tmp_path: Path, openai: Provider, name: str
) -> None:
    openai.script(Changed(Text("It rains."), lambda body: body["choices"][0]["message"].update({name: "Hm."})))
    async with opened(tmp_path, {"model_list": [entry("it", reaching(openai, "openai/fake"))]}) as konstruct:
        completion = await konstruct.complete(ASKED)

    assert completion.content == "It rains."


async def test_content_in_parts_is_read_without_its_thoughts(tmp_path: Path, openai: Provider) -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "It rains."}]
    openai.script(Changed(Text("x"), lambda body: body["choices"][0]["message"].update(content=parts)))
    async with opened(tmp_path, {"model_list": [entry("it", reaching(openai, "openai/fake"))]}) as konstruct:
        completion = await konstruct.complete(ASKED)

    assert completion.content == "It rains."


# -- given back --------------------------------------------------------------------------------------------------------


async def turn(konstruct: Konstruct, messages: list[dict[str, Any]], **arguments: Any) -> None:
    """One turn of a tool loop, by an assistant that keeps OpenAI's messages and nothing else."""
    completion = await konstruct.complete(messages, **{"tools": [WEATHER], **arguments})
    calls = [call.model_dump() for call in completion.tool_calls]
    messages.append({"role": "assistant", "content": completion.content, "tool_calls": calls})
    messages += ({"role": "tool", "tool_call_id": call["id"], "content": "rain"} for call in calls)


def turn_of(received: Received) -> dict[str, Any]:
    """The assistant's turn in a request."""
    [turn] = [message for message in received.body["messages"] if message["role"] == "assistant"]
    return dict(turn)


def with_reasoning(**fields: Any) -> Changed:
    answer = Text(None, tool_calls=[CALL])
    return Changed(answer, lambda body: body["choices"][0]["message"].update(fields))


def claude(*blocks: Mapping[str, Any]) -> Changed:
    answer = Text(None, tool_calls=[("toolu_1", "weather", "{}")])
    return Changed(answer, lambda body: body["content"].__setitem__(slice(0, 0), list(blocks)))


DETAILS = [{"type": "reasoning.text", "text": "Hm.", "signature": "c2ln"}]


@pytest.mark.parametrize(
    ("wire", "model", "fields"),
    [
        ("deepseek", "deepseek/deepseek-chat", {"reasoning_content": "Hm."}),
        ("deepseek", "deepseek/deepseek-chat", {"reasoning_content": ""}),
        ("openai", "moonshot/kimi-k2-thinking", {"reasoning_content": "Hm."}),
        ("openai", "openai/kimi-k2-thinking", {"reasoning_content": "Hm."}),
        ("vllm", "hosted_vllm/fake", {"reasoning": "Hm."}),
        ("openrouter", "openrouter/anthropic/claude-sonnet-4.5", {"reasoning": "Hm.", "reasoning_details": DETAILS}),
    ],
)
async def test_a_servers_reasoning_comes_back_under_its_own_name(
    tmp_path: Path, wire: Wire, model: str, fields: dict[str, Any]
) -> None:
    with Provider(wire) as provider:
        provider.script(with_reasoning(**fields), Text("It rains."))
        async with opened(tmp_path, {"model_list": [entry("it", reaching(provider, model))]}) as konstruct:
            messages = list(ASKED)
            await turn(konstruct, messages)
            completion = await konstruct.complete(messages, tools=[WEATHER])

    assert completion.content == "It rains."
    last = turn_of(provider.requests[-1])
    wanted = {"reasoning_details": DETAILS} if "reasoning_details" in fields else fields
    assert {name: value for name, value in last.items() if name.startswith("reasoning")} == wanted
    assert [call["id"] for call in last["tool_calls"]] == ["call_1"]


async def test_what_an_ollama_has_thought_comes_back_as_its_thinking(tmp_path: Path, ollama: Provider) -> None:
    ollama.script(Text(None, tool_calls=[CALL], reasoning="Hm."), Text("It rains."))
    async with opened(tmp_path, {"model_list": [entry("it", reaching(ollama, "ollama/qwen3:8b"))]}) as konstruct:
        messages = list(ASKED)
        await turn(konstruct, messages)
        await konstruct.complete(messages, tools=[WEATHER])

    [called] = [message for message in ollama.requests[-1].body["messages"] if message["role"] == "assistant"]
    assert called["thinking"] == "Hm."
    assert called["tool_calls"][0]["function"]["name"] == "weather"


@pytest.mark.parametrize("block", [THINKING, {"type": "redacted_thinking", "data": "b3BhcXVl"}])
@pytest.mark.parametrize("params", [{}, {"thinking": {"type": "enabled", "budget_tokens": 2000}}])
async def test_claudes_thinking_comes_back_with_its_signature_before_its_calls(
    tmp_path: Path, anthropic: Provider, block: dict[str, Any], params: dict[str, Any]
) -> None:
    anthropic.script(claude(block), Text("It rains."))
    config = {"model_list": [entry("it", reaching(anthropic, "anthropic/claude-sonnet-4-5"), **params)]}
    async with opened(tmp_path, config) as konstruct:
        messages = list(ASKED)
        await turn(konstruct, messages)
        completion = await konstruct.complete(messages, tools=[WEATHER])

    sent = anthropic.requests[-1]
    assert turn_of(sent)["content"] == [block, {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}]
    assert sent.body.get("thinking") == params.get("thinking")
    assert completion.notes == ()


async def test_geminis_signature_comes_back_to_it_and_to_nobody_else(tmp_path: Path, openai: Provider) -> None:
    called = [{"functionCall": {"name": "weather", "args": {}}, "thoughtSignature": "c2lnbmVk"}]
    with Provider("gemini") as gemini:
        gemini.script(
            Changed(Text("x"), lambda body: body["candidates"][0]["content"].update(parts=called)), Text("It rains.")
        )
        config = {
            "model_list": [
                entry("gemini", reaching(gemini, "gemini/gemini-2.5-pro")),
                entry("openai", reaching(openai, "openai/gpt-4o")),
            ]
        }
        async with opened(tmp_path, config) as konstruct:
            messages = list(ASKED)
            await turn(konstruct, messages, model_group="gemini")
            await konstruct.complete(messages, tools=[WEATHER], model_group="gemini")
            await konstruct.complete(messages, tools=[WEATHER], model_group="openai")

    [part] = gemini.requests[-1].body["contents"][1]["parts"]
    assert part["thoughtSignature"] == "c2lnbmVk"
    assert "c2lnbmVk" not in json.dumps(openai.requests[-1].body)
    [call] = turn_of(openai.requests[-1])["tool_calls"]
    assert len(call["id"]) <= 40
    assert openai.requests[-1].body["messages"][-1]["tool_call_id"] == call["id"]


async def test_encrypted_reasoning_of_the_responses_api_comes_back_with_what_followed_it(
    tmp_path: Path, openai: Provider
) -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "b3BhcXVl"}

    def think(body: Any) -> None:
        body["output"] = [thought, *(item for item in body["output"] if item["type"] != "reasoning")]

    openai.script(Changed(Text("Looking.", tool_calls=[CALL]), think), Text("It rains."))
    async with opened(tmp_path, {"model_list": [entry("it", reaching(openai, "openai/gpt-5-codex"))]}) as konstruct:
        messages = list(ASKED)
        await turn(konstruct, messages)
        await konstruct.complete(messages, tools=[WEATHER])

    _, again, said, called, result = openai.requests[-1].body["input"]
    assert again == thought
    assert said["content"][0]["text"] == "Looking."
    assert (called["call_id"], result["call_id"], result["output"]) == ("call_1", "call_1", "rain")


async def test_claudes_thinking_amid_its_turn_comes_back_where_it_was(tmp_path: Path, anthropic: Provider) -> None:
    again = {**THINKING, "thinking": "Well.", "signature": "YWdhaW4"}
    text = {"type": "text", "text": "Let me see."}
    answer = Text("x", tool_calls=[("toolu_1", "weather", "{}")])
    anthropic.script(
        Changed(answer, lambda body: body.update(content=[THINKING, text, again, body["content"][-1]])),
        Text("It rains."),
    )
    async with opened(
        tmp_path, {"model_list": [entry("it", reaching(anthropic, "anthropic/claude-sonnet-4-5"))]}
    ) as konstruct:
        messages = list(ASKED)
        await turn(konstruct, messages)
        await konstruct.complete(messages, tools=[WEATHER])

    call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    assert turn_of(anthropic.requests[-1])["content"] == [THINKING, text, again, call]


async def test_what_geminis_chat_format_has_beside_a_call_comes_back(tmp_path: Path, openai: Provider) -> None:
    signed = {"google": {"thought_signature": "c2ln"}}
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    openai.script(with_reasoning(tool_calls=[{**call, "extra_content": signed}]), Text("It rains."))
    async with opened(tmp_path, {"model_list": [entry("it", reaching(openai, "openai/gemini-3-pro"))]}) as konstruct:
        messages = list(ASKED)
        await turn(konstruct, messages)
        await konstruct.complete(messages, tools=[WEATHER])

    [again] = turn_of(openai.requests[-1])["tool_calls"]
    assert again["extra_content"] == signed


CODEX, GEMINI = "openai/gpt-5-codex", "gemini/gemini-2.5-pro"
_SIGNED = Changed(
    Text("x"),
    lambda body: body["candidates"][0]["content"].update(
        parts=[{"functionCall": {"name": "weather", "args": {}}, "thoughtSignature": "c2ln"}]
    ),
)
_ENCRYPTED = Changed(
    Text(None, tool_calls=[CALL]),
    lambda body: body["output"].insert(
        0, {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2ln"}
    ),
)


@pytest.mark.parametrize(
    ("wire", "model", "params", "answer", "refusal", "mark"),
    [
        ("anthropic", "anthropic/claude-sonnet-4-5", {}, claude(THINKING),
         "messages.1.content.0: Invalid `signature` in `thinking` block", "signature"),
        ("anthropic", "anthropic/claude-sonnet-4-6", {"reasoning_effort": "high"}, claude(THINKING),
         "messages.1.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be "
         "modified. These blocks must remain as they were in the original response.", "signature"),
        ("openai", CODEX, {"reasoning_effort": "high"}, _ENCRYPTED,
         "The encrypted content gAAA...DQ== could not be verified.", "c2ln"),
        ("openai", CODEX, {"reasoning_effort": "high"}, _ENCRYPTED,
         "Item 'rs_1' of type 'reasoning' was provided without its required following item.", "c2ln"),
        ("gemini", GEMINI, {}, _SIGNED, "Corrupted thought signature.", "c2ln"),
        ("openrouter", "openrouter/google/gemini-3-pro", {}, with_reasoning(reasoning_details=[{"data": "c2ln"}]),
         "Thought signature is not valid", "c2ln"),
        ("groq", "groq/openai/gpt-oss-120b", {"reasoning_effort": "high"}, with_reasoning(reasoning="Hm."),
         "'messages.1' : property 'reasoning' is unsupported", "Hm."),
        ("openai", "openai/house-model", {"reasoning_effort": "high"}, with_reasoning(reasoning_content="Hm."),
         "`reasoning_content` in the history must be removed", "Hm."),
        ("openai", "openai/gpt-oss", {}, with_reasoning(reasoning_content="Hm."), 'Error rendering prompt with jinja '
         'template: "Cannot pass both content and thinking in an assistant message with tool calls!"', "Hm."),
    ],
)  # fmt: skip
async def test_a_thought_that_is_not_taken_back_is_left_out_and_no_parameter_blamed_for_it(
    tmp_path: Path, wire: Wire, model: str, params: dict[str, Any], answer: Any, refusal: str, mark: str
) -> None:
    def answers(received: Received) -> Any:
        if mark in json.dumps(received.body):
            return Status(400, refusal)
        return Text("It rains.") if "rain" in json.dumps(received.body) else answer

    with Provider(wire) as provider:
        provider.script(answers)
        async with opened(tmp_path, {"model_list": [entry("it", reaching(provider, model), **params)]}) as konstruct:
            messages = list(ASKED)
            await turn(konstruct, messages)
            completion = await konstruct.complete(messages, tools=[WEATHER])
            again = await konstruct.complete(messages, tools=[WEATHER])
            await konstruct.complete(ASKED, tools=[WEATHER])

    assert (completion.content, completion.attempts) == ("It rains.", ())
    [note] = completion.notes
    assert "thought before" in note
    assert again.content == "It rains."
    sent = [mark in json.dumps(request.body) for request in provider.requests]
    in_the_id = [True] * (model == GEMINI)  # where the assistant keeps it, and it is refused each time
    assert sent == [False, True, False, *in_the_id, False, False]
    for name in ("thinking", "output_config", "reasoning", "reasoning_effort"):
        assert provider.requests[-1].body.get(name) == provider.requests[0].body.get(name)


async def test_what_was_left_out_before_a_thought_was_missed_stays_left_out(tmp_path: Path, openai: Provider) -> None:
    missed = "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2"
    openai.script(Status(400, "Unsupported parameter: 'temperature'"), Status(400, missed), Text("It rains."))
    params = reaching(openai, "openai/house-model")
    async with opened(tmp_path, {"model_list": [entry("it", params)]}) as konstruct:
        completion = await konstruct.complete(LOOP, tools=[WEATHER], temperature=0.5)

    assert completion.content == "It rains."
    assert ["temperature" in request.body for request in openai.requests] == [True, False, False]
    assert "temperature was left out: openai/house-model does not take it" in completion.notes


@pytest.mark.parametrize(
    ("refusal", "instead"),
    [
        ("thinking is enabled but reasoning_content is missing in assistant tool call message at index 2",
         {"reasoning_content": " "}),
        ("The `reasoning_content` in the thinking mode must be passed back to the API.", {"reasoning_content": " "}),
        ("Function call is missing a thought_signature in functionCall parts. This is required for tools to work.",
         {"extra_content": {"google": {"thought_signature": "skip_thought_signature_validator"}}}),
    ],
)  # fmt: skip
async def test_a_thought_that_is_missed_in_a_history_is_stood_in_for(
    tmp_path: Path, openai: Provider, refusal: str, instead: dict[str, Any]
) -> None:
    openai.script(Status(400, refusal), Text("It rains."), Status(400, refusal))
    params = reaching(openai, "openai/house-model")
    async with opened(tmp_path, {"model_list": [entry("it", params, reasoning_effort="high")]}) as konstruct:
        completion = await konstruct.complete(LOOP, tools=[WEATHER])
        with pytest.raises(Exception, match="refused the request"):  # who is never content is asked no third time
            await konstruct.complete(LOOP, tools=[WEATHER])

    assert completion.content == "It rains."
    last = turn_of(openai.requests[1])
    assert {key: {**last, **last["tool_calls"][0]}[key] for key in instead} == instead
    assert openai.calls == 4
    assert all(request.body["reasoning_effort"] == "high" for request in openai.requests)


async def test_what_is_stood_in_for_takes_no_thoughts_place_that_is_there(tmp_path: Path, openai: Provider) -> None:
    refusal = Status(
        400, "thinking is enabled but reasoning_content is missing in assistant tool call message at index 4"
    )
    openai.script(with_reasoning(reasoning_content="Hm."), refusal, Text("It rains."))
    async with opened(tmp_path, {"model_list": [entry("it", reaching(openai, "openai/house-model"))]}) as konstruct:
        messages = list(ASKED)
        await turn(konstruct, messages)
        call = {"id": "call_of_another", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": "call_of_another", "content": "rain"})
        await konstruct.complete(messages, tools=[WEATHER])

    turns = [message for message in openai.requests[-1].body["messages"] if message["role"] == "assistant"]
    assert [message["reasoning_content"] for message in turns] == ["Hm.", " "]


async def test_calls_that_had_no_id_of_their_own_are_known_by_the_ones_they_were_given(
    tmp_path: Path, openai: Provider
) -> None:
    nameless = [{"id": "", "type": "function", "function": {"name": "weather", "arguments": "{}"}}] * 2
    openai.script(with_reasoning(reasoning_content="Hm.", tool_calls=nameless), Text("It rains."))
    async with opened(tmp_path, {"model_list": [entry("it", reaching(openai, "openai/fake"))]}) as konstruct:
        messages = list(ASKED)
        await turn(konstruct, messages)
        await konstruct.complete(messages, tools=[WEATHER])

    last = turn_of(openai.requests[-1])
    assert last["reasoning_content"] == "Hm."
    assert len({call["id"] for call in last["tool_calls"]}) == 2


async def test_reasoning_survives_a_new_config(tmp_path: Path, openai: Provider) -> None:
    openai.script(with_reasoning(reasoning_content="Hm."), Text("It rains."))
    config: dict[str, Any] = {"model_list": [entry("it", reaching(openai, "openai/fake"))]}
    async with opened(tmp_path, config) as konstruct:
        messages = list(ASKED)
        await turn(konstruct, messages)
        config["model_list"].append(entry("other", reaching(openai, "openai/other")))
        replace(tmp_path / "konstruct.yaml", config)
        assert await konstruct.reload()
        await konstruct.complete(messages, tools=[WEATHER], model_group="it")

    assert turn_of(openai.requests[-1])["reasoning_content"] == "Hm."


async def test_reasoning_beyond_all_measure_is_not_kept(tmp_path: Path, openai: Provider) -> None:
    openai.script(with_reasoning(reasoning_content="x" * 2_000_001), Text("It rains."))
    async with opened(tmp_path, {"model_list": [entry("it", reaching(openai, "openai/fake"))]}) as konstruct:
        messages = list(ASKED)
        await turn(konstruct, messages)
        completion = await konstruct.complete(messages, tools=[WEATHER])

    assert completion.content == "It rains."
    assert "reasoning_content" not in turn_of(openai.requests[-1])


# -- and not to others, nor where it is gone ---------------------------------------------------------------------------


async def test_reasoning_never_crosses_tenants(tmp_path: Path, openai: Provider) -> None:
    openai.script(with_reasoning(reasoning_content="Secret thought."), Text("It rains."))
    async with opened(tmp_path, {"model_list": [entry("it", reaching(openai, "openai/fake"))]}) as konstruct:
        messages = list(ASKED)
        await turn(konstruct, messages, tenant_id="one")
        await konstruct.complete(messages, tools=[WEATHER], tenant_id="two")
        assert "Secret thought." not in json.dumps(openai.requests[-1].body)

        await konstruct.complete(messages, tools=[WEATHER], tenant_id="one")
        assert "Secret thought." in json.dumps(openai.requests[-1].body)


@pytest.mark.parametrize("other", [{"api_key": "sk-of-another-account"}, {"model": "openai/another"}])
async def test_reasoning_never_goes_to_another_deployment_than_the_one_that_thought_it(
    tmp_path: Path, openai: Provider, other: dict[str, Any]
) -> None:
    openai.script(with_reasoning(reasoning_content="Secret thought."), Text("It rains."))
    params = reaching(openai, "openai/fake")
    config = {"model_list": [entry("it", params), entry("other", params, **other)]}
    async with opened(tmp_path, config) as konstruct:
        messages = list(ASKED)
        await turn(konstruct, messages, model_group="it")
        await konstruct.complete(messages, tools=[WEATHER], model_group="other")

    assert "Secret thought." not in json.dumps(openai.requests[-1].body)


LOOP: Sequence[dict[str, Any]] = [
    *ASKED,
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
]


@pytest.mark.parametrize(
    ("wire", "model", "instead"),
    [
        ("deepseek", "deepseek/deepseek-chat", ""),
        ("openai", "openai/deepseek-v3.2", ""),
        ("openai", "moonshot/kimi-k2-thinking", " "),
        ("openai", "openai/gpt-4o", None),
    ],
)
async def test_a_model_that_insists_on_its_reasoning_gets_an_empty_one_where_it_is_gone(
    tmp_path: Path, wire: Wire, model: str, instead: str | None
) -> None:
    with Provider(wire) as provider:
        provider.script(Text("It rains."))
        async with opened(tmp_path, {"model_list": [entry("it", reaching(provider, model))]}) as konstruct:
            completion = await konstruct.complete(LOOP, tools=[WEATHER])

    assert completion.content == "It rains."
    assert turn_of(provider.requests[-1]).get("reasoning_content") == instead


@pytest.mark.parametrize(
    ("model", "params", "still"),
    [
        ("claude-sonnet-4-5", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, None),
        ("claude-sonnet-4-5", {"reasoning_effort": "low"}, None),
        ("claude-sonnet-4-6", {"thinking": {"type": "adaptive"}}, {"type": "adaptive"}),
    ],
)
async def test_claude_is_asked_without_thinking_where_its_thinking_before_the_calls_is_gone(
    tmp_path: Path, anthropic: Provider, model: str, params: dict[str, Any], still: Any
) -> None:
    anthropic.script(Text("It rains."))
    config = {"model_list": [entry("it", reaching(anthropic, f"anthropic/{model}"), **params)]}
    async with opened(tmp_path, config) as konstruct:
        completion = await konstruct.complete(LOOP, tools=[WEATHER])
        afresh = await konstruct.complete([*LOOP, {"role": "assistant", "content": "Rain."}, *ASKED], tools=[WEATHER])

    first, second = anthropic.requests
    assert completion.content == "It rains."
    assert first.body.get("thinking") == still
    assert first.body.get("output_config") is None
    assert len(completion.notes) == (0 if still else 1)
    assert all(note.startswith("thinking was left out") for note in completion.notes)
    assert second.body["thinking"]["type"] == ("adaptive" if still else "enabled")
    assert afresh.notes == ()


async def test_what_is_given_back_counts_towards_what_a_call_can_cost(tmp_path: Path, openai: Provider) -> None:
    openai.script(with_reasoning(reasoning_content="Hm. " * 50_000), Text("It rains."))
    prices = {"input_cost_per_token": 1e-5, "output_cost_per_token": 1e-5}
    config = {
        "model_list": [entry("it", reaching(openai, "openai/fake"), **prices)],
        # A ledger of its own: that of the whole run has what other tests have spent.
        "konstruct": {"budgets": [{"usd": 1, "per": "total"}], "ledger_url": f"sqlite:///{tmp_path}/ledger.sqlite3"},
    }
    async with opened(tmp_path, config) as konstruct:
        messages = list(ASKED)
        await turn(konstruct, messages, max_tokens=10)
        with pytest.raises(Exception, match="budget_exceeded"):
            await konstruct.complete(messages, tools=[WEATHER], max_tokens=10)

    assert openai.calls == 1


_CALLS_OF_TWO = [
    ("functions.search:0", '{"of": "Alice"}', "functions.search:0", '{"of": "Bob"}'),
    ("functions.search:0", "{}", "functions.search:0", "{}"),
    ("call_0", "{}", "call_0", "{}"),
    ("search_20260101120000123", "{}", "search_20260101120000123", "{}"),
]


@pytest.mark.parametrize(("id_a", "arguments_a", "id_b", "arguments_b"), _CALLS_OF_TWO)
async def test_reasoning_never_goes_into_another_conversation_whose_calls_have_the_same_ids(
    tmp_path: Path, openai: Provider, id_a: str, arguments_a: str, id_b: str, arguments_b: str
) -> None:
    def thinking(thought: str, id_: str, arguments: str) -> Changed:
        answer = Text(None, tool_calls=[(id_, "search", arguments)])
        return Changed(answer, lambda body: body["choices"][0]["message"].update(reasoning_content=thought))

    openai.script(
        thinking("Of Alice.", id_a, arguments_a), thinking("Of Bob.", id_b, arguments_b), Text("One."), Text("Two.")
    )
    search = {"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {}}}}
    one: list[dict[str, Any]] = [{"role": "user", "content": "What does Alice earn?"}]
    two: list[dict[str, Any]] = [{"role": "user", "content": "What ails Bob?"}]
    params = reaching(openai, "moonshot/kimi-k2-thinking")
    async with opened(tmp_path, {"model_list": [entry("it", params)]}) as konstruct:
        await turn(konstruct, one, tools=[search])
        await turn(konstruct, two, tools=[search])
        await konstruct.complete(one, tools=[search])
        await konstruct.complete(two, tools=[search])

    of_one, of_two = openai.requests[-2:]
    assert turn_of(of_one)["reasoning_content"] == "Of Alice."
    assert turn_of(of_two)["reasoning_content"] == "Of Bob."
    assert [call["id"] for call in turn_of(of_one)["tool_calls"]] == [id_a]


async def test_each_turn_of_a_conversation_has_its_own_reasoning_where_a_server_counts_calls_anew(
    tmp_path: Path, openai: Provider
) -> None:
    openai.script(
        with_reasoning(reasoning_content="First."), with_reasoning(reasoning_content="Second."), Text("Rain.")
    )
    async with opened(tmp_path, {"model_list": [entry("it", reaching(openai, "openai/fake"))]}) as konstruct:
        messages = list(ASKED)
        await turn(konstruct, messages)
        await turn(konstruct, messages)
        await konstruct.complete(messages, tools=[WEATHER])

    sent = openai.requests[-1].body["messages"]
    turns = [message for message in sent if message["role"] == "assistant"]
    assert [message["reasoning_content"] for message in turns] == ["First.", "Second."]
    ids = [call["id"] for message in turns for call in message["tool_calls"]]
    assert ids == [message["tool_call_id"] for message in sent if message["role"] == "tool"]
    assert (ids[0], len(set(ids))) == ("call_1", 2)
    assert all(len(id_) <= 40 for id_ in ids)


async def test_reasoning_behind_an_id_that_nobody_else_has_survives_a_history_that_was_shortened(
    tmp_path: Path, anthropic: Provider
) -> None:
    answer = Text(None, tool_calls=[("toolu_01A09q90qw90lq917835lq9", "weather", '{"in": "Oslo", "on": 1}')])
    anthropic.script(Changed(answer, lambda body: body["content"].insert(0, THINKING)), Text("It rains."))
    config = {"model_list": [entry("it", reaching(anthropic, "anthropic/claude-sonnet-4-5"))]}
    async with opened(tmp_path, config) as konstruct:
        messages = [{"role": "system", "content": "It is 12:01."}, *ASKED]
        await turn(konstruct, messages)
        messages[0] = {"role": "system", "content": "It is 12:02."}
        messages[2]["tool_calls"][0]["function"]["arguments"] = '{"on":1,"in":"Oslo"}'
        await konstruct.complete(messages, tools=[WEATHER])

    assert turn_of(anthropic.requests[-1])["content"][0] == THINKING
