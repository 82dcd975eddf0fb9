"""The messages that go out to each provider.

The models are of the table that ships with us; what holds for them holds for any that has the same data.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.default_groups import HELLO, entry, opened, reaching
from support.model_requests import CALLED, OPUS, SONNET_46, WEATHER, ask, left_out
from support.providers import Provider, Status, Text

pytestmark = pytest.mark.many_cases


@pytest.mark.parametrize(
    ("model", "role"),
    [
        ("openai/gpt-6-sol", "system"),  # which OpenAI takes for the same
        ("openai/qwen3-on-my-server", "system"),
        ("mistral/mistral-large-4", "system"),
        ("deepseek/deepseek-v4-pro", "system"),
        ("hosted_vllm/qwen3", "system"),
        ("cohere_chat/command-a-03-2025", "system"),
    ],
)
async def test_a_developer_s_message_is_a_system_message_where_there_is_no_developer(
    tmp_path: Path, model: str, role: str
) -> None:
    asked = await ask(tmp_path, model, messages=[{"role": "developer", "content": "Be brief."}, *HELLO])

    assert [message["role"] for message in asked.body["messages"]] == [role, "user"]


@pytest.mark.parametrize("model", [OPUS, "gemini/gemini-4-argon", "bedrock/us.anthropic.claude-opus-5-5"])
async def test_a_developer_s_message_is_the_system_s_prompt_elsewhere(tmp_path: Path, model: str) -> None:
    asked = await ask(tmp_path, model, messages=[{"role": "developer", "content": "Be brief."}, *HELLO])

    system = asked.body.get("system", asked.body.get("system_instruction"))
    assert "Be brief." in json.dumps(system)


LATER = [*HELLO, {"role": "assistant", "content": "Hi."}, {"role": "system", "content": "Be brief."}, *HELLO]


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (OPUS, "system"),
        ("gemini/gemini-4-argon", "system_instruction"),
        ("openai/gpt-5-codex", ""),
        ("xai/grok-4.7", ""),
    ],
)
async def test_what_the_system_says_later_stays_in_its_place_or_is_said_not_to(
    tmp_path: Path, model: str, path: str
) -> None:
    asked = await ask(tmp_path, model, messages=LATER)

    said = f"what the system says later was put at the beginning: {model} takes it nowhere else"
    assert asked.notes == ((said,) if path else ())
    if path:
        assert "Be brief." in json.dumps(asked.body[path])
    else:
        messages: Any = asked.body.get("messages", asked.body.get("input"))
        assert [message["role"] for message in messages] == ["user", "assistant", "system", "user"]


@pytest.mark.parametrize("status", [400, 500])
async def test_what_the_system_says_is_put_together_where_a_template_wants_it_at_the_beginning(
    tmp_path: Path, status: int
) -> None:
    with Provider("vllm") as provider:
        provider.script(Status(status, "Jinja Exception: System message must be at the beginning."), Text("Hi."))
        config = entry("g", {**reaching(provider, "hosted_vllm/qwen3.8"), "num_retries": 0})
        async with opened(tmp_path, {"model_list": [config]}, {}) as konstruct:
            answers = [await konstruct.complete(LATER) for _ in range(2)]

    sent = [[message["role"] for message in received.body["messages"]] for received in provider.requests]
    together = ["system", "user", "assistant", "user"]
    assert sent == [["user", "assistant", "system", "user"], together, together]
    said = "what the system says was put together at the beginning: hosted_vllm/qwen3.8 wants it so"
    assert [(answer.content, answer.notes, answer.attempts) for answer in answers] == [("Hi.", (said,), ())] * 2


async def test_an_empty_result_of_a_tool_goes_to_mistral_too(tmp_path: Path) -> None:
    messages = [*CALLED[:-1], {"role": "tool", "tool_call_id": "call_1", "content": ""}]

    asked = await ask(tmp_path, "mistral/mistral-large-4", messages=messages, tools=[WEATHER])

    assert asked.body["messages"][2]["role"] == "tool"
    assert asked.body["messages"][2]["content"] == [{"type": "text", "text": ""}]


@pytest.mark.parametrize("model", ["gemini/gemini-4-argon", "hosted_vllm/qwen3", "ollama/qwen3", SONNET_46])
async def test_the_results_of_parallel_calls_come_in_the_order_of_the_calls(tmp_path: Path, model: str) -> None:
    calls = [
        {
            "id": f"call_{city}",
            "type": "function",
            "function": {"name": "weather", "arguments": f'{{"city": "{city}"}}'},
        }
        for city in ("Oslo", "Rome")
    ]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": f"it of {call['id']}"} for call in calls]
    messages = [*HELLO, {"role": "assistant", "content": None, "tool_calls": calls}, *reversed(results), *HELLO]

    asked = await ask(tmp_path, model, messages=messages, tools=[WEATHER])

    sent = json.dumps(asked.body)
    assert 0 < sent.index("it of call_Oslo") < sent.index("it of call_Rome")


@pytest.mark.parametrize("model", ["gemini/gemini-4-argon", "mistral/mistral-large-4", "azure_ai/mistral-medium-2505"])
async def test_an_answer_with_nothing_in_it_is_left_out_where_none_is_taken(tmp_path: Path, model: str) -> None:
    asked = await ask(tmp_path, model, messages=[*HELLO, {"role": "assistant", "content": ""}, *HELLO])

    assert '"assistant"' not in json.dumps(asked.body)
    assert '"model"' not in json.dumps(asked.body.get("contents", ()))


async def test_mistral_in_a_cloud_gets_ids_as_mistral_wants_them(tmp_path: Path) -> None:
    asked = await ask(tmp_path, "azure_ai/mistral-medium-2505", messages=CALLED, tools=[WEATHER])

    [call] = asked.body["messages"][1]["tool_calls"]
    assert re.fullmatch(r"[A-Za-z0-9]{9}", call["id"])
    assert asked.body["messages"][2]["tool_call_id"] == call["id"]


async def test_texts_in_parts_reach_gemini_apart(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]
    asked = await ask(tmp_path, "gemini/gemini-4-argon", messages=[{"role": "system", "content": parts}, *HELLO])

    assert asked.body["system_instruction"] == {"parts": [{"text": "Be brief.\nBe kind."}]}


@pytest.mark.parametrize("model", ["groq/llama-of-tomorrow", "hosted_vllm/qwen3", "mistral/mistral-large-4"])
async def test_texts_in_parts_are_one_text_where_not_every_server_reads_parts(tmp_path: Path, model: str) -> None:
    def parts(*texts: str) -> list[dict[str, str]]:
        return [{"type": "text", "text": text} for text in texts]

    system = {"role": "system", "content": parts("Be brief.", "Be kind.")}
    result = {"role": "tool", "tool_call_id": "call_1", "content": parts("rain")}
    asked = await ask(tmp_path, model, messages=[system, *CALLED[:-1], result], tools=[WEATHER])

    contents = [message["content"] for message in asked.body["messages"]]
    assert contents == ["Be brief.\nBe kind.", "Hello", "Looking.", "rain"]


@pytest.mark.parametrize(
    ("model", "name", "sent"),
    [
        ("openai/gpt-4o", "ann", True),
        ("openai/gpt-4o", "Jörg", False),
        ("mistral/mistral-large-4", "ann", False),
        (SONNET_46, "ann", False),
        ("ollama/qwen3", "ann", False),
    ],
)
async def test_a_speaker_s_name_goes_out_or_is_said_not_to(tmp_path: Path, model: str, name: str, sent: bool) -> None:
    asked = await ask(tmp_path, model, messages=[{**HELLO[0], "name": name}])

    assert (f'"{name}"' in json.dumps(asked.body, ensure_ascii=False)) is sent
    assert asked.notes == (() if sent else (left_out("name", model),))


@pytest.mark.parametrize("model", ["fireworks_ai/kimi-k2p6", "sambanova/Llama-4-Maverick-17B-128E-Instruct"])
async def test_images_go_out_as_they_are(tmp_path: Path, model: str) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [image]}]

    asked = await ask(tmp_path, model, info={"supports_vision": True}, messages=messages)

    assert asked.body["messages"] == messages
