"""Ollama in its own format: what goes out, how much of a prompt it is made to read, and what its answers mean.

The fake answers as Ollama 0.9.3 does where that was tried, and as newer versions are reported to;
`benchmarks/ollama.py` tries the same on a genuine one.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.default_groups import HELLO, entry, opened
from support.providers import Answer, Gate, Hang, Provider, Raw, Received, Reset, Status, Text

from konstruct_mcp import AllFailedError, Completion, ContextOverflowError, Konstruct, KonstructError, UnsupportedError

pytestmark = pytest.mark.many_cases

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
PNG = "data:image/png;base64,iVBORw0KGgo="


@asynccontextmanager
async def opening(folder: Path, ollama: Provider, *behind: dict[str, Any], **params: Any) -> AsyncIterator[Konstruct]:
    given = {"model": "ollama/qwen3:8b", "api_base": ollama.url, "num_retries": 0, **params}
    config = {"model_list": [entry("only", given, order=1), *behind]}
    async with opened(folder, config, {}) as konstruct:
        yield konstruct


async def ask(folder: Path, ollama: Provider, prompt: Any = HELLO, *, call: Any = None, **params: Any) -> Completion:
    """One completion of a deployment with these `litellm_params`; `call` is what the request has beside the prompt."""
    async with opening(folder, ollama, **params) as konstruct:
        completion: Completion = await konstruct.complete(prompt, **(call or {}))
        return completion


def chats(ollama: Provider) -> list[dict[str, Any]]:
    return [request.body for request in ollama.requests if request.path == "/api/chat"]


def windows(ollama: Provider) -> list[int | None]:
    return [body.get("options", {}).get("num_ctx") for body in chats(ollama)]


def raw(**fields: Any) -> Raw:
    """An answer with other fields than it should have; None leaves one out."""
    answer = {"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": True, "done_reason": "stop"}
    return Raw(json.dumps({key: value for key, value in (answer | fields).items() if value is not None}).encode())


def words(count: int) -> str:
    return "lorem " * count


class TestSettings:
    @pytest.mark.parametrize(
        ("params", "sent"),
        [
            ({"num_ctx": 16384}, {"num_ctx": 16384}),
            ({"num_ctx": "16384"}, {"num_ctx": 16384}),  # a reference to the environment is a text
            ({"num_predict": 50}, {"num_predict": 50}),
            ({"max_tokens": 50}, {"num_predict": 50}),
            ({"max_completion_tokens": 50}, {"num_predict": 50}),
            ({"num_predict": -1}, {"num_predict": -1}),
            ({"options": {"num_predict": -1}}, {"num_predict": -1}),
            ({"top_k": 20, "top_p": 0.9, "min_p": 0.1}, {"top_k": 20, "top_p": 0.9, "min_p": 0.1}),
            ({"repeat_penalty": 1.1, "mirostat": 2}, {"repeat_penalty": 1.1, "mirostat": 2}),
            ({"num_gpu": 0, "num_thread": 4, "use_mmap": False}, {"num_gpu": 0, "num_thread": 4, "use_mmap": False}),
            ({"seed": 7, "stop": "END"}, {"seed": 7, "stop": ["END"]}),
            ({"stop": ["A", "B"]}, {"stop": ["A", "B"]}),
            ({"presence_penalty": 0.5, "frequency_penalty": 0.2}, {"presence_penalty": 0.5, "frequency_penalty": 0.2}),
            ({"temperature": 0.3}, {"temperature": 0.3}),
            ({"options": {"num_ctx": 9000, "top_k": 3}}, {"num_ctx": 9000, "top_k": 3}),
        ],
        ids=str,
    )
    async def test_are_options(
        self, tmp_path: Path, ollama: Provider, params: dict[str, Any], sent: dict[str, Any]
    ) -> None:
        await ask(tmp_path, ollama, **params)
        [body] = chats(ollama)
        assert body["options"] == sent
        assert set(body) == {"model", "messages", "stream", "truncate", "shift", "options"}
        assert (body["model"], body["stream"]) == ("qwen3:8b", False)

    @pytest.mark.parametrize(
        ("params", "key", "sent"),
        [
            ({"keep_alive": "30m"}, "keep_alive", "30m"),
            ({"keep_alive": "-1"}, "keep_alive", -1),
            ({"keep_alive": 0}, "keep_alive", 0),
            ({"think": False}, "think", False),
            ({"think": "high"}, "think", "high"),
            ({"reasoning_effort": "low"}, "think", True),
            ({"reasoning_effort": "none"}, "think", False),
            ({"reasoning_effort": "high", "think": False}, "think", False),
            ({"model": "ollama_chat/gpt-oss:20b", "reasoning_effort": "low"}, "think", "low"),
            ({"model": "ollama/gpt-oss:20b", "reasoning_effort": "xhigh"}, "think", "high"),
            ({"model": "ollama/gpt-oss:20b", "reasoning_effort": "none"}, "think", "low"),  # it cannot but think
            ({"extra_body": {"logprobs": True}}, "logprobs", True),
        ],
        ids=str,
    )
    async def test_that_are_no_options_stand_beside_them(
        self, tmp_path: Path, ollama: Provider, params: dict[str, Any], key: str, sent: Any
    ) -> None:
        await ask(tmp_path, ollama, **params)
        [body] = chats(ollama)
        assert body[key] == sent
        assert "options" not in body

    @pytest.mark.parametrize(("asked", "sent"), [(None, 100), (50, 50), (500, 100)])
    async def test_the_configs_limit_is_a_default_and_a_cap(
        self, tmp_path: Path, ollama: Provider, asked: int | None, sent: int
    ) -> None:
        await ask(tmp_path, ollama, call={"max_tokens": asked, "temperature": 0.5}, max_tokens=100, temperature=1)
        assert chats(ollama)[0]["options"] == {"num_predict": sent, "temperature": 0.5}

    async def test_options_of_an_extra_body_come_beside_the_others(self, tmp_path: Path, ollama: Provider) -> None:
        await ask(tmp_path, ollama, call={"max_tokens": 50}, top_k=5, extra_body={"options": {"mirostat": 2}})
        assert chats(ollama)[0]["options"] == {"num_predict": 50, "top_k": 5, "mirostat": 2}

    async def test_of_the_transport_are_no_part_of_the_body(self, tmp_path: Path, ollama: Provider) -> None:
        transport = {"api_key": "sk-of-a-proxy", "extra_headers": {"X-Team": "blue"}, "ssl_verify": False, "timeout": 9}
        await ask(tmp_path, ollama, project="p", api_type="t", **transport)
        [request] = ollama.requests
        assert set(request.body) == {"model", "messages", "stream", "truncate", "shift"}
        assert request.headers["authorization"] == "Bearer sk-of-a-proxy"
        assert request.headers["x-team"] == "blue"

    async def test_that_it_has_nothing_for_are_left_out_and_noted(self, tmp_path: Path, ollama: Provider) -> None:
        answer = await ask(tmp_path, ollama, parallel_tool_calls=True, logit_bias={"1": 2})
        assert set(chats(ollama)[0]) == {"model", "messages", "stream", "truncate", "shift"}
        assert answer.notes == (
            "logit_bias was left out: ollama/qwen3:8b does not take it",
            "parallel_tool_calls was left out: ollama/qwen3:8b does not take it",
        )

    @pytest.mark.parametrize(
        ("params", "call", "left_out"),
        [
            ({}, {"tools": [WEATHER]}, "tools"),
            ({}, {"max_tokens": 9}, "max_tokens"),
            ({}, {"temperature": 0.2}, "temperature"),
            ({}, {"response_format": {"type": "json_object"}}, "response_format"),
            ({"seed": 7}, {}, "seed"),
            ({"num_ctx": 9000}, {}, "num_ctx"),
            ({"num_predict": 9}, {}, "num_predict"),
            ({"options": {"top_k": 3}}, {}, "top_k"),
            ({"keep_alive": "30m"}, {}, "keep_alive"),
            ({"reasoning_effort": "low"}, {}, "reasoning_effort"),
            ({"think": True}, {}, "think"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_that_the_config_has_dropped_are_left_out_and_noted(
        self, tmp_path: Path, ollama: Provider, params: dict[str, Any], call: dict[str, Any], left_out: str
    ) -> None:
        answer = await ask(tmp_path, ollama, call=call, additional_drop_params=[left_out], **params)
        assert set(chats(ollama)[0]) == {"model", "messages", "stream", "truncate", "shift"}
        assert answer.notes == (f"{left_out} was left out: additional_drop_params of ollama/qwen3:8b name it",)

    @pytest.mark.parametrize("name", ["seed", "temperature", "top_p", "presence_penalty"])
    async def test_that_a_server_refuses_are_left_out_and_not_sent_again(
        self, tmp_path: Path, ollama: Provider, name: str
    ) -> None:
        def answer(received: Received) -> Answer:
            if name in received.body.get("options", {}):
                return Status(400, f'option "{name}" is not supported by this model')
            return Text("42")

        ollama.script(answer)
        async with opening(tmp_path, ollama, min_p=0.1, **{name: 1}) as konstruct:
            for _ in range(2):
                completion = await konstruct.complete(HELLO)
                assert completion.content == "42"
                assert completion.notes == (f"{name} was left out: ollama/qwen3:8b does not take it",)
        assert [body["options"] for body in chats(ollama)] == [{"min_p": 0.1, name: 1}, {"min_p": 0.1}, {"min_p": 0.1}]

    async def test_that_a_server_has_refused_are_known_after_a_group_was_made_on_demand(
        self, tmp_path: Path, ollama: Provider
    ) -> None:
        def answer(received: Received) -> Answer:
            if "seed" in received.body.get("options", {}):
                return Status(400, 'option "seed" is not supported by this model')
            return Text("42")

        ollama.script(answer)
        wild = entry("house/*", {"model": "ollama/*", "api_base": ollama.url})
        async with opening(tmp_path, ollama, wild, seed=1) as konstruct:
            await konstruct.complete(HELLO)
            await konstruct.complete(HELLO, model_group="house/llama3.2")
            await konstruct.complete(HELLO)
        assert [body.get("options") for body in chats(ollama)] == [{"seed": 1}, None, None, None]

    @pytest.mark.parametrize(
        ("params", "sent"),
        [
            ({"max_tokens": 500, "num_predict": 100}, 100),
            ({"max_tokens": "100", "options": {"num_predict": 500}}, 100),
            ({"options": {"num_predict": 100}}, 100),
            ({"max_tokens": 100, "num_predict": -1}, 100),
            ({"num_predict": -1}, 400),
        ],
        ids=str,
    )
    async def test_limit_an_answer_by_the_smallest_of_them(
        self, tmp_path: Path, ollama: Provider, params: dict[str, Any], sent: int
    ) -> None:
        await ask(tmp_path, ollama, call={"max_tokens": 400}, **params)
        assert chats(ollama)[0]["options"]["num_predict"] == sent

    @pytest.mark.parametrize(
        "params",
        [{"max_completion_tokens": 500, "max_tokens": 100}, {"max_completion_tokens": 100, "max_tokens": 500}],
        ids=str,
    )
    async def test_limit_an_answer_to_what_a_budget_was_asked_for(
        self, tmp_path: Path, ollama: Provider, params: dict[str, Any]
    ) -> None:
        prices = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-3}
        given = {"model": "ollama/qwen3:8b", "api_base": ollama.url, "num_retries": 0, **prices, **params}
        budget = {"usd": 0.2, "per": "day"}  # for the 100 tokens, and for no more
        config = {"model_list": [entry("only", given)], "konstruct": {"budgets": [budget]}}
        ledger = {"KONSTRUCT_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.sqlite3'}"}
        async with opened(tmp_path, config, ledger) as konstruct:
            completion = await konstruct.complete(HELLO, max_tokens=400)
        assert chats(ollama)[0]["options"]["num_predict"] == 100
        assert completion.notes == ("max_tokens became 100, the most that the config lets ollama/qwen3:8b answer",)

    @pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/api/chat", "/api"])
    async def test_take_its_address_with_or_without_a_path(self, tmp_path: Path, ollama: Provider, path: str) -> None:
        await ask(tmp_path, ollama, api_base=ollama.url + path)
        assert [request.path for request in ollama.requests] == ["/api/chat"]


class TestARequest:
    async def test_for_a_schema_or_for_json_has_a_format(self, tmp_path: Path, ollama: Provider) -> None:
        schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "integer"}}}
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
        async with opening(tmp_path, ollama) as konstruct:
            await konstruct.complete(HELLO, response_format=wanted, tools=[WEATHER])
            await konstruct.complete(HELLO, response_format={"type": "json_object"})
            await konstruct.complete(HELLO, response_format={"type": "text"})
        assert [body.get("format") for body in chats(ollama)] == [schema, "json", None]
        assert chats(ollama)[0]["tools"] == [WEATHER]

    async def test_with_images_has_them_beside_its_text(self, tmp_path: Path, ollama: Provider) -> None:
        parts = [
            {"type": "text", "text": "What"},
            {"type": "image_url", "image_url": {"url": PNG}},
            {"type": "text", "text": "is it?"},
        ]
        await ask(tmp_path, ollama, [{"role": "user", "content": parts}])
        message = {"role": "user", "content": "What\nis it?", "images": [PNG.partition(",")[2]]}
        assert chats(ollama)[0]["messages"] == [message]

    async def test_with_images_is_not_sent_to_a_model_that_would_leave_them_out(
        self, tmp_path: Path, ollama: Provider
    ) -> None:
        ollama.also["/api/show"] = {"capabilities": ["completion", "tools"]}
        with pytest.raises(KonstructError, match="ollama/qwen3:8b: not asked: it takes no images"):
            await ask(
                tmp_path, ollama, [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}]
            )
        assert ollama.calls == 0

    async def test_whose_history_has_a_call_that_was_cut_is_sent_all_the_same(
        self, tmp_path: Path, ollama: Provider
    ) -> None:
        calls = [
            {"id": id_, "type": "function", "function": {"name": "weather", "arguments": arguments}}
            for id_, arguments in (("1", '{"city": "Os'), ("2", ""), ("3", "[1]"))
        ]
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "rain"} for call in calls]
        await ask(tmp_path, ollama, [*HELLO, {"role": "assistant", "content": None, "tool_calls": calls}, *results])
        _, said, *told = chats(ollama)[0]["messages"]
        assert said["content"] == ""
        assert [call["function"]["arguments"] for call in said["tool_calls"]] == [
            {"arguments": '{"city": "Os'},
            {},
            {"arguments": "[1]"},
        ]
        assert told[0] == {"role": "tool", "content": "rain", "tool_call_id": "1", "tool_name": "weather"}

    async def test_of_a_developer_is_of_the_system(self, tmp_path: Path, ollama: Provider) -> None:
        await ask(tmp_path, ollama, [{"role": "developer", "content": "Be brief."}, *HELLO])
        assert [message["role"] for message in chats(ollama)[0]["messages"]] == ["system", "user"]

    async def test_that_wants_no_tool_called_has_none(self, tmp_path: Path, ollama: Provider) -> None:
        await ask(tmp_path, ollama, call={"tools": [WEATHER], "tool_choice": "none"})
        assert "tools" not in chats(ollama)[0]

    @pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}], ids=str)
    async def test_that_wants_a_tool_called_is_not_sent(self, tmp_path: Path, ollama: Provider, choice: Any) -> None:
        with pytest.raises(KonstructError, match="ollama/qwen3:8b: not asked: it cannot be made to call a tool"):
            await ask(tmp_path, ollama, call={"tools": [WEATHER], "tool_choice": choice})
        assert ollama.requests == []


class TestThinking:
    async def test_is_left_out_and_noted_for_a_model_that_does_not(self, tmp_path: Path, ollama: Provider) -> None:
        def answer(received: Received) -> Answer:
            if received.body.get("think"):
                return Status(400, "registry.ollama.ai/library/llama3.2:latest does not support thinking")
            return Text("42")

        ollama.script(answer)
        async with opening(tmp_path, ollama, reasoning_effort="high") as konstruct:
            for _ in range(2):
                completion = await konstruct.complete(HELLO)
                assert completion.content == "42"
                assert completion.notes == ("reasoning_effort was left out: ollama/qwen3:8b does not take it",)
        assert [body.get("think") for body in chats(ollama)] == [True, None, None]  # what was learnt is kept

    async def test_is_not_content(self, tmp_path: Path, ollama: Provider) -> None:
        ollama.script(Text("42", reasoning="musings"))
        assert (await ask(tmp_path, ollama)).content == "42"


class TestAPromptThatIsLong:
    async def test_is_given_the_room_that_it_needs_in_steps(self, tmp_path: Path, ollama: Provider) -> None:
        async with opening(tmp_path, ollama) as konstruct:
            for count in (10, 6_000, 7_000, 12_000, 6_000, 10):
                await konstruct.complete(words(count), max_tokens=500)
        # 2 tokens a word, as they are estimated. What was once needed stays: for less, the model would be loaded again.
        assert windows(ollama) == [None, 16384, 16384, 24576, 24576, 24576]
        shown = [request for request in ollama.requests if request.path == "/api/show"]
        assert [request.body for request in shown] == [{"model": "qwen3:8b"}]

    async def test_is_given_no_more_than_the_model_has(self, tmp_path: Path, ollama: Provider) -> None:
        await ask(tmp_path, ollama, words(25_000))
        assert windows(ollama) == [40960]

    async def test_is_not_asked_where_it_is_surely_longer(
        self, tmp_path: Path, ollama: Provider, openai: Provider
    ) -> None:
        with pytest.raises(ContextOverflowError):
            await ask(tmp_path, ollama, words(41_000))
        larger = {"model": "openai/gpt-4o", "api_base": openai.url, "api_key": "k"}
        async with opening(tmp_path, ollama, entry("only", larger, order=2)) as konstruct:
            completion = await konstruct.complete(words(41_000))
        assert completion.model == "openai/gpt-4o"
        assert [attempt.error for attempt in completion.attempts] == ["context too long (it reads 40960 tokens)"]
        assert ollama.calls == 0

    async def test_never_exceeds_what_the_config_says(self, tmp_path: Path, ollama: Provider) -> None:
        async with opening(tmp_path, ollama, num_ctx=8192) as konstruct:
            for count in (10, 5_000):
                await konstruct.complete(words(count))
            with pytest.raises(ContextOverflowError):
                await konstruct.complete(words(8_200))
        assert windows(ollama) == [8192, 8192]

    async def test_is_left_to_the_server_where_it_has_loaded_the_model_with_enough(
        self, tmp_path: Path, ollama: Provider
    ) -> None:
        ollama.also["/api/ps"] = {"models": [{"name": "qwen3:8b", "context_length": 32768}]}
        async with opening(tmp_path, ollama) as konstruct:
            for count in (6_000, 20_000):
                await konstruct.complete(words(count))
        assert windows(ollama) == [None, 40960]

    async def test_is_left_to_the_model_where_it_asks_for_enough(self, tmp_path: Path, ollama: Provider) -> None:
        ollama.also["/api/show"] = {"parameters": 'num_ctx      32768\nstop         "<|im_end|>"'}
        await ask(tmp_path, ollama, words(6_000))
        assert windows(ollama) == [None]

    async def test_is_given_room_where_the_server_says_nothing(self, tmp_path: Path, ollama: Provider) -> None:
        ollama.also.clear()
        await ask(tmp_path, ollama, words(6_000))
        assert windows(ollama) == [16384]

    async def test_is_given_more_where_the_server_refuses_it(self, tmp_path: Path, ollama: Provider) -> None:
        def answer(received: Received) -> Answer:
            if received.body.get("options", {}).get("num_ctx", 2048) < 8192:
                return Status(400, "the prompt is longer than the context length currently available to the model")
            return Text("whole")

        ollama.script(answer)
        assert (await ask(tmp_path, ollama, words(1_000))).content == "whole"
        assert windows(ollama) == [None, 8192]

    async def test_that_no_window_holds_is_an_overflow(self, tmp_path: Path, ollama: Provider) -> None:
        ollama.script(Status(400, "the input length exceeds the context length"))
        with pytest.raises(ContextOverflowError):
            await ask(tmp_path, ollama, words(6_000))
        assert windows(ollama) == [16384, 32768]

    @pytest.mark.parametrize(
        ("params", "prompt", "usage", "note"),
        [
            # As measured on 0.9.3: 333 tokens, of which it reads as many as there is room for.
            ({"num_ctx": 128}, "x" * 700, (128, 7), "the prompt was cut: the model has read 128 tokens of it"),
            # Newer ones go down to half of it; and where the history was dropped, there is less.
            ({"num_ctx": 4096}, words(3000), (2050, 7), "the prompt was cut: the model has read 2050 tokens of it"),
            ({}, words(1200), (1025, 7), "the prompt was cut: the model has read 1025 tokens of it, and it has more"),
            ({"num_ctx": 64}, "Hi", (20, 60), "the answer was written without the beginning in sight: 80 tokens"),
        ],
        ids=str,
    )
    async def test_that_was_cut_is_noted(
        self, tmp_path: Path, ollama: Provider, params: Any, prompt: str, usage: tuple[int, int], note: str
    ) -> None:
        ollama.script(Text("Hi", usage=usage))
        [said] = (await ask(tmp_path, ollama, prompt, **params)).notes
        assert said.startswith(note)

    async def test_that_was_read_whole_has_nothing_noted(self, tmp_path: Path, ollama: Provider) -> None:
        ollama.script(Text("Hi", usage=(1250, 7)))
        assert (await ask(tmp_path, ollama, words(1200), num_ctx=4096)).notes == ()


class TestAnAnswer:
    @pytest.mark.parametrize(
        ("fields", "finish"),
        [
            ({}, "stop"),
            ({"done_reason": "length"}, "length"),
            ({"done_reason": None}, "stop"),
            ({"done_reason": None, "eval_count": 50}, "length"),
        ],
        ids=str,
    )
    async def test_ends_as_it_says(self, tmp_path: Path, ollama: Provider, fields: dict[str, Any], finish: str) -> None:
        ollama.script(raw(**fields))
        assert (await ask(tmp_path, ollama, num_predict=50)).finish_reason == finish

    @pytest.mark.parametrize(
        ("fields", "why"),
        [
            ({"done_reason": "load"}, "unusable answer (it has loaded the model, and nothing else)"),
            ({"done_reason": "unload"}, "unusable answer (it has unloaded the model)"),
            ({"done_reason": "abort"}, "unusable answer (ended for an unknown reason)"),
            ({"done": False}, "unusable answer (broken off)"),
            ({"done": None}, "unusable answer (broken off)"),
            ({"message": None}, "unusable answer (no choices)"),
        ],
        ids=str,
    )
    async def test_that_is_not_whole_is_none(
        self, tmp_path: Path, ollama: Provider, fields: dict[str, Any], why: str
    ) -> None:
        ollama.script(raw(**fields))
        with pytest.raises(AllFailedError) as caught:
            await ask(tmp_path, ollama)
        assert [attempt.error for attempt in caught.value.attempts] == [why]

    async def test_has_ids_for_its_calls_where_the_server_gives_none(self, tmp_path: Path, ollama: Provider) -> None:
        calls = [{"function": {"name": "weather", "arguments": {"city": city}}} for city in ("Oslo", "Zürich")]
        ollama.script(raw(message={"role": "assistant", "content": "", "tool_calls": calls}))
        answer = await ask(tmp_path, ollama, call={"tools": [WEATHER]})
        assert [call.function.arguments for call in answer.tool_calls] == ['{"city": "Oslo"}', '{"city": "Zürich"}']
        assert len({call.id for call in answer.tool_calls} - {""}) == 2
        assert answer.finish_reason == "tool_calls"

    async def test_that_counts_nothing_has_no_cost(self, tmp_path: Path, ollama: Provider) -> None:
        ollama.script(raw())
        assert (await ask(tmp_path, ollama)).cost_usd is None


class TestAFailure:
    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            (Status(404, 'model "qwen3:8b" not found, try pulling it first'), "no such model (HTTP 404)"),
            (Status(500, "llama runner process has terminated"), "server error (HTTP 500)"),
            (Status(503), "server error (HTTP 503)"),
            (Reset(), "connection failed (dropped)"),
            (Raw(b'{"error": "an error in a good answer"}'), "unusable answer (HTTP 200 with an error in it)"),
        ],
        ids=str,
    )
    async def test_is_what_it_is(self, tmp_path: Path, ollama: Provider, answer: Answer, why: str) -> None:
        ollama.script(answer)
        with pytest.raises(AllFailedError) as caught:
            await ask(tmp_path, ollama)
        assert [attempt.error for attempt in caught.value.attempts] == [why]

    async def test_is_a_refusal_in_ollamas_words(self, tmp_path: Path, ollama: Provider) -> None:
        ollama.script(Status(400, "registry.ollama.ai/library/gemma3:latest does not support tools"))
        with pytest.raises(UnsupportedError, match="does not support tools"):
            await ask(tmp_path, ollama, call={"tools": [WEATHER]})

    async def test_of_the_server_is_found_by_the_question_before_a_long_prompt(
        self, tmp_path: Path, ollama: Provider
    ) -> None:
        ollama.stop()
        with pytest.raises(AllFailedError) as caught:
            await ask(tmp_path, ollama, words(6_000))
        assert [attempt.error for attempt in caught.value.attempts] == ["connection failed (refused)"]

    async def test_to_answer_in_time_ends_the_request(self, tmp_path: Path, ollama: Provider) -> None:
        ollama.script(Text("loaded"), Hang())
        async with opening(tmp_path, ollama, timeout=0.3) as konstruct:
            await konstruct.complete(HELLO)
            with pytest.raises(AllFailedError, match="no answer in time"):
                await konstruct.complete(HELLO)
            await ollama.until(lambda: ollama.disconnected == 1)


async def test_nobody_is_asked_before_the_first_call(tmp_path: Path, ollama: Provider, openai: Provider) -> None:
    other = {"model": "openai/gpt-4o", "api_base": openai.url, "api_key": "k"}
    async with opening(tmp_path, ollama, entry("other", other)) as konstruct:
        await konstruct.complete(HELLO, model_group="other")
    assert ollama.requests == []


async def test_a_program_that_lists_its_own_providers_takes_ours_away_from_nobody(
    tmp_path: Path, ollama: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    import litellm

    async with opening(tmp_path, ollama) as konstruct:
        await konstruct.complete(HELLO)
        monkeypatch.setattr(litellm, "custom_provider_map", [])
        ollama.script(Gate("still"))
        ollama.release()
        assert (await konstruct.complete(HELLO)).content == "still"
