"""What must hold of a completion: an MCP client on one side, fake providers on the other, nothing in between faked.

Each test asserts both what came back and which provider was asked how often.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from time import time
from types import SimpleNamespace
from typing import Any

import pytest
from mcp import Client, types
from support.default_groups import (
    ANTHROPIC_KEY,
    HELLO,
    KEYS,
    OPENAI_KEY,
    connected,
    default_groups,
    entry,
    opened,
    write,
)
from support.fork_server import ForkServer
from support.providers import (
    Answer,
    ContentPolicy,
    ContextOverflow,
    Dribble,
    Drop,
    Gate,
    Hang,
    HangBody,
    Provider,
    Raw,
    Received,
    Status,
    Text,
    Truncated,
)
from support.stdio_lines import ServerProcess

from konstruct_mcp import Konstruct
from konstruct_mcp.providers.litellm.patches.install import install
from konstruct_mcp.providers.litellm.provider_call import CallSettings, call_settings

pytestmark = pytest.mark.many_cases

PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG fake").decode()
SCHEMA: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "city",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": False,
        },
    },
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
HISTORY: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather in Oslo and Rome?"},
    {
        "role": "assistant",
        "content": "Looking.",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
            {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    {"role": "tool", "tool_call_id": "call_2", "content": "sun"},
]


@dataclass
class World:
    """The default groups on three fakes, and an MCP client of a server over them."""

    anthropic: Provider
    openai: Provider
    ollama: Provider
    config: dict[str, Any]
    folder: Path

    @asynccontextmanager
    async def client(self, environ: dict[str, str] = KEYS) -> AsyncIterator[Asker]:
        async with opened(self.folder, self.config, environ) as konstruct, connected(konstruct) as client:
            yield Asker(client, konstruct)

    def calls(self) -> tuple[int, int, int]:
        """Completion requests so far at Anthropic, OpenAI and Ollama."""
        return self.anthropic.calls, self.openai.calls, self.ollama.calls

    def set(self, group: str, position: int, **params: Any) -> None:
        """Change one deployment's parameters."""
        entries = [e for e in self.config["model_list"] if e["model_name"] == group]
        entries[position]["litellm_params"].update(params)


@dataclass
class Asker:
    client: Client
    konstruct: Konstruct

    async def call(self, group: str | None = None, **arguments: Any) -> types.CallToolResult:
        arguments = {"messages": HELLO, **arguments} | ({"model_group": group} if group else {})
        return await self.client.call_tool("complete", arguments)

    async def ok(self, group: str | None = None, **arguments: Any) -> dict[str, Any]:
        result = await self.call(group, **arguments)
        assert not result.is_error, result.content
        assert result.structured_content is not None
        (text,) = result.content
        assert isinstance(text, types.TextContent)
        assert json.loads(text.text) == result.structured_content
        return dict(result.structured_content)

    async def error(self, group: str | None = None, **arguments: Any) -> str:
        result = await self.call(group, **arguments)
        assert result.is_error, result.content
        (text,) = result.content
        assert isinstance(text, types.TextContent)
        assert "\n" not in text.text
        for secret in (ANTHROPIC_KEY, OPENAI_KEY, "Traceback", "site-packages", "litellm"):
            assert secret not in text.text
        return text.text


@pytest.fixture
def world(anthropic: Provider, openai: Provider, ollama: Provider, tmp_path: Path) -> World:
    return World(anthropic, openai, ollama, default_groups(anthropic, openai, ollama), tmp_path)


def reasons(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(attempt["deployment"], attempt["error"]) for attempt in answer["attempts"]]


CLAUDE, GPT, QWEN = "anthropic/claude-sonnet-4-6", "openai/gpt-4o", "ollama/qwen3:32b"


async def test_an_answer_says_who_gave_it_and_what_it_cost(world: World) -> None:
    async with world.client() as ask:
        answer = await ask.ok("quality")
    assert answer.pop("duration_ms") >= 0
    assert len(answer.pop("thread")) == 26
    assert answer == {
        "content": "Hello from anthropic",
        "tool_calls": [],
        "finish_reason": "stop",
        "model_group": "quality",
        "served_group": "quality",
        "model": CLAUDE,
        "usage": {"input_tokens": 11, "output_tokens": 7},
        "cost_usd": pytest.approx(11 * 3e-6 + 7 * 15e-6),
    }


async def test_the_first_answers_every_time_even_if_the_second_is_faster(world: World) -> None:
    world.anthropic.script(Text("slow", delay=0.05))
    async with world.client() as ask:
        assert [(await ask.ok("quality"))["model"] for _ in range(8)] == [CLAUDE] * 8
    assert world.calls() == (8, 0, 0)


async def test_without_a_group_the_default_group_is_asked(world: World) -> None:
    async with world.client() as ask:
        answer = await ask.ok()
    assert (answer["model_group"], answer["model"], answer["cost_usd"]) == ("balanced", QWEN, 0)
    assert world.calls() == (0, 0, 1)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Status(500), "server error (HTTP 500)"),
        (Status(429), "rate limited (HTTP 429)"),
        (Status(529), "server error (HTTP 529)"),
        (Drop(), "connection failed (dropped)"),
    ],
    ids=str,
)
async def test_what_a_retry_can_cure_is_retried_and_then_the_second_answers(
    world: World, fault: Answer, reason: str
) -> None:
    world.anthropic.script(fault)
    async with world.client() as ask:
        answer = await ask.ok("quality")
    assert (answer["model"], answer["served_group"]) == (GPT, "quality")
    assert world.calls() == (3, 1, 0)
    assert reasons(answer) == [(CLAUDE, reason)] * 3


async def test_refused_connections_are_retried_and_then_the_second_answers(world: World) -> None:
    world.anthropic.stop()
    async with world.client() as ask:
        answer = await ask.ok("quality")
    assert answer["model"] == GPT
    assert reasons(answer) == [(CLAUDE, "connection failed (refused)")] * 3
    assert world.calls() == (0, 1, 0)


async def test_a_retry_that_succeeds_stays_with_the_first(world: World) -> None:
    world.anthropic.script(Status(503), Text("back"))
    async with world.client() as ask:
        answer = await ask.ok("quality")
    assert (answer["content"], answer["model"]) == ("back", CLAUDE)
    assert world.calls() == (2, 0, 0)


@pytest.mark.parametrize("fault", [Hang(), HangBody(), Dribble()], ids=str)
async def test_one_that_hangs_gets_one_try_and_its_time_out(world: World, fault: Answer) -> None:
    world.anthropic.script(fault)
    world.set("quality", 0, timeout=0.5)
    async with world.client() as ask:
        answer = await ask.ok("quality", timeout_s=20)
        assert answer["model"] == GPT
        assert reasons(answer) == [(CLAUDE, "no answer in time (within 0.5 s)")]
        assert 500 <= answer["attempts"][0]["duration_ms"] < 5000
        await world.anthropic.until(lambda: world.anthropic.disconnected == 1)
    assert world.calls() == (1, 1, 0)


async def test_with_both_down_the_fallback_group_answers_and_is_named(world: World) -> None:
    world.anthropic.script(Status(500))
    world.openai.script(Status(500))
    async with world.client() as ask:
        answer = await ask.ok("quality")
    assert (answer["model_group"], answer["served_group"], answer["model"]) == ("quality", "fast", QWEN)
    assert world.calls() == (3, 3, 1)


async def test_with_all_down_one_error_names_each_and_nothing_of_a_body(world: World) -> None:
    world.anthropic.script(Status(500, "body-of-anthropic"))
    world.openai.script(Raw(b"<html>body-of-openai</html>", status=502, content_type="text/html"))
    world.ollama.stop()
    async with world.client() as ask:
        error = await ask.error("quality")
    assert error == (
        'all_failed: no deployment of "quality" or its fallbacks answered: '
        f"{CLAUDE}: server error (HTTP 500), 3 tries; {GPT}: server error (HTTP 502), 3 tries; "
        f"{QWEN}: connection failed (refused), 3 tries; try again later or use another group"
    )
    assert world.calls() == (3, 3, 0)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Status(401), "key refused (HTTP 401)"),
        (Status(403), "key refused (HTTP 403)"),
        (Status(404), "no such model (HTTP 404)"),
        (Status(400, "Your credit balance is too low to access the Anthropic API."), "quota used up (HTTP 400)"),
        (Raw(b"", status=302, headers={"location": "http://127.0.0.1:1/"}), "unusable answer (HTTP 302)"),
    ],
    ids=str,
)
async def test_what_a_retry_cannot_cure_is_not_retried(world: World, fault: Answer, reason: str) -> None:
    world.anthropic.script(fault)
    async with world.client() as ask:
        answer = await ask.ok("quality")
    assert answer["model"] == GPT
    assert reasons(answer) == [(CLAUDE, reason)]
    assert world.calls() == (1, 1, 0)


async def test_a_used_up_quota_is_no_rate_limit(world: World) -> None:
    world.anthropic.script(Status(404))
    world.openai.script(
        Status(429, "You exceeded your current quota", type="insufficient_quota", code="insufficient_quota")
    )
    async with world.client() as ask:
        answer = await ask.ok("quality")
    assert reasons(answer)[1:] == [(GPT, "quota used up (HTTP 429)")]
    assert world.calls() == (1, 1, 1)


@pytest.mark.parametrize(("group", "who"), [("quality", CLAUDE), ("fast", QWEN)])
async def test_a_bad_request_is_refused_with_the_providers_reason(world: World, group: str, who: str) -> None:
    for provider in (world.anthropic, world.openai, world.ollama):
        provider.script(Status(400, f"temperature:\x1b[31m 429 is not\na rate limit {ANTHROPIC_KEY} {'x' * 900}"))
    async with world.client() as ask:
        error = await ask.error(group)
    assert error.startswith(
        f"bad_request: {who} refused the request: temperature: [31m 429 is not a rate limit *** xxx"
    )
    assert len(error) < 400 * (2 if group == "quality" else 1)
    # One other has confirmed it, where there is one; the third is spared.
    assert world.calls() == ((1, 1, 0) if group == "quality" else (0, 0, 1))


async def test_an_overflow_goes_to_a_larger_window_only(world: World) -> None:
    world.anthropic.script(ContextOverflow())
    async with world.client() as ask:
        error = await ask.error("quality")
        assert error.startswith(f"context_overflow: the conversation is too long (about 1 tokens) for {CLAUDE}")
        assert world.calls() == (1, 0, 0)
    long = entry("fast", {"model": "openai/long", "api_base": world.openai.url, "api_key": "k"})
    world.config["model_list"].append(long | {"model_info": {"max_input_tokens": 2_000_000}})
    async with world.client() as ask:
        answer = await ask.ok("quality")
    assert (answer["model"], answer["served_group"]) == ("openai/long", "fast")
    assert reasons(answer) == [(CLAUDE, "context too long (HTTP 400)")]
    assert world.calls() == (2, 1, 0)


@pytest.mark.parametrize(("wire", "group"), [("openai", "gpt"), ("anthropic", "quality"), ("ollama", "fast")])
@pytest.mark.parametrize(
    ("fault", "code"), [(ContextOverflow(), "context_overflow"), (ContentPolicy(), "content_policy")]
)
async def test_each_provider_has_its_own_words_for_them(
    world: World, wire: str, group: str, fault: Answer, code: str
) -> None:
    world.config["model_list"].append(entry("gpt", {"model": "gpt-4o", "api_base": world.openai.url, "api_key": "k"}))
    provider: Provider = getattr(world, wire)
    provider.script(fault)
    async with world.client() as ask:
        assert (await ask.error(group)).startswith(f"{code}: ")
    assert sum(world.calls()) == 1


async def test_a_content_policy_refusal_falls_back_only_where_the_config_says(world: World) -> None:
    world.anthropic.script(ContentPolicy())
    async with world.client() as ask:
        assert (await ask.error("quality")).startswith(f"content_policy: {CLAUDE} refused the content")
    assert world.calls() == (1, 0, 0)
    world.config["router_settings"]["content_policy_fallbacks"] = [{"quality": ["fast"]}]
    async with world.client() as ask:
        assert (await ask.ok("quality"))["served_group"] == "fast"
    assert world.calls() == (2, 0, 1)


async def test_a_refusal_in_an_answer_is_a_finish_reason(world: World) -> None:
    world.anthropic.script(Text(None, finish="content_filter"))
    async with world.client() as ask:
        answer = await ask.ok("quality")
    assert (answer["content"], answer["finish_reason"]) == ("", "content_filter")


async def test_a_dead_ollama_is_passed_over_and_found_again(world: World) -> None:
    world.config["router_settings"]["cooldown_time"] = 3
    world.ollama.stop()
    async with world.client() as ask:
        first = await ask.ok("balanced")
        assert (first["model"], reasons(first)) == (CLAUDE, [(QWEN, "connection failed (refused)")] * 3)
        second = await ask.ok("balanced")
        assert (second["model"], "attempts" in second) == (CLAUDE, False)
        (state,) = [d.state for g in ask.konstruct.groups() if g.name == "fast" for d in g.deployments]
        assert state == "cooling_down"
        world.ollama.start()
        asked = 2
        async with asyncio.timeout(30):
            while (await ask.ok("balanced"))["model"] != QWEN:
                asked += 1
    assert world.calls() == (asked, 0, 1)


def equals(world: World) -> None:
    """A group of two deployments of equal order, one at OpenAI and one at Ollama."""
    gpt = {"model": "openai/gpt-4o", "api_base": world.openai.url, "api_key": "k"}
    world.config["model_list"] += [entry("pair", gpt), entry("pair", {"model": QWEN, "api_base": world.ollama.url})]


async def test_the_faster_of_equals_gets_most_calls_and_the_balance_follows(world: World) -> None:
    equals(world)
    fast, slow = Text("fast"), Text("slow", delay=0.15)
    async with world.client() as ask:

        async def served(calls: int) -> list[str]:
            return [(await ask.ok("pair"))["model"] for _ in range(calls)]

        world.openai.script(fast)
        world.ollama.script(slow)
        assert (await served(20)).count(GPT) >= 16
        world.openai.script(slow)
        world.ollama.script(fast)  # one slows down, the other recovers
        await served(24)
        assert (await served(20)).count(QWEN) >= 16


async def test_simple_shuffle_asks_both(world: World) -> None:
    equals(world)
    world.config["router_settings"]["routing_strategy"] = "simple-shuffle"
    async with world.client() as ask:
        assert {(await ask.ok("pair"))["model"] for _ in range(30)} == {GPT, QWEN}


@pytest.mark.parametrize("value", ["1", "date"])
async def test_retry_after_is_honoured(world: World, value: str) -> None:
    def limited(_: Received) -> Answer:
        header = formatdate(time() + 2, usegmt=True) if value == "date" else value
        return Status(429, headers={"retry-after": header})

    world.anthropic.script(Text("loaded"), limited, Text("at last"))
    async with world.client() as ask:
        await ask.ok("quality")
        answer = await ask.ok("quality")
    assert (answer["content"], answer["model"]) == ("at last", CLAUDE)
    assert answer["duration_ms"] >= 900
    assert world.calls() == (3, 0, 0)


async def test_a_retry_after_beyond_the_deadline_goes_to_the_next(world: World) -> None:
    world.anthropic.script(Status(429, headers={"retry-after": "60"}))
    async with world.client() as ask:
        answer = await ask.ok("quality", timeout_s=30)
        assert answer["model"] == GPT
        assert "attempts" not in await ask.ok("quality", timeout_s=30)
    assert world.calls() == (1, 2, 0)


async def test_without_a_key_for_the_first_the_second_answers_without_a_try(world: World) -> None:
    async with world.client({"OPENAI_API_KEY": OPENAI_KEY}) as ask:
        answer = await ask.ok("quality")
        groups = {g.name: g for g in ask.konstruct.groups()}
    assert (answer["model"], "attempts" in answer) == (GPT, False)
    assert world.calls() == (0, 1, 0)
    first = groups["quality"].deployments[0]
    assert (first.state, first.reason) == ("unavailable", "ANTHROPIC_API_KEY is not set")


async def test_without_any_key_the_error_says_which_are_missing(world: World) -> None:
    world.config["router_settings"]["fallbacks"] = []
    async with world.client({}) as ask:
        error = await ask.error("quality")
    assert error == (
        'unavailable: nothing in "quality" or its fallbacks can be called now: '
        f"{CLAUDE}: not tried, ANTHROPIC_API_KEY is not set; {GPT}: not tried, OPENAI_API_KEY is not set; "
        "use another group, or have it set up"
    )
    assert sum(world.calls()) == 0


@pytest.mark.parametrize("fault", [Dribble(), Hang(), HangBody()], ids=str)
async def test_the_deadline_ends_everything_and_says_what_it_waited_for(world: World, fault: Answer) -> None:
    world.ollama.script(Text("loaded"), fault)
    async with world.client() as ask:
        await ask.ok("fast")  # so that the deadline is not spent on loading LiteLLM
        error = await ask.error("fast", timeout_s=1.5)
        assert error.startswith("timeout: no answer within 1.5 s, waiting for ")
        assert QWEN in error
        await world.ollama.until(lambda: world.ollama.in_flight == 0)
    assert world.calls() == (0, 0, 2)


UNUSABLE = {
    "no choices": Raw(
        json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []}).encode()
    ),
    "HTML": Raw(b"<html><body>login</body></html>", content_type="text/html"),
    "truncated JSON": Raw(b'{"id": "x", "choices": [{"mess'),
    "truncated body": Truncated(),
    "empty": Raw(b""),
    "null": Raw(b"null"),
    "list": Raw(b"[]"),
    "object": Raw(b"{}"),
    "not UTF-8": Raw(b'{"id": "\xff\xfe"}'),
}


@pytest.mark.parametrize("wire", ["anthropic", "openai", "ollama"])
@pytest.mark.parametrize("fault", UNUSABLE.values(), ids=UNUSABLE.keys())
async def test_a_200_that_is_no_answer_is_that_deployments_failure(world: World, wire: str, fault: Answer) -> None:
    if wire == "anthropic" and fault is UNUSABLE["no choices"]:
        fault = Raw(b'{"id": "x", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}')
    broken: Provider = getattr(world, wire)
    healthy = world.openai if wire != "openai" else world.anthropic
    broken.script(fault)
    params: dict[str, dict[str, Any]] = {
        "anthropic": {"model": CLAUDE, "api_base": world.anthropic.url, "api_key": "k"},
        "openai": {"model": GPT, "api_base": world.openai.url, "api_key": "k"},
        "ollama": {"model": QWEN, "api_base": world.ollama.url},
    }
    world.config["model_list"] += [entry("two", params[wire], order=1), entry("two", params[healthy.wire], order=2)]
    async with world.client() as ask:
        answer = await ask.ok("two")
    assert answer["content"] == f"Hello from {healthy.wire}"
    ((_, reason),) = reasons(answer)
    assert reason.startswith("unusable answer")
    assert broken.calls == healthy.calls == 1


class TestArgumentsAsClientsSendThem:
    async def test_messages_and_tools_as_json_text_reach_the_provider_as_json(self, world: World) -> None:
        async with world.client() as ask:
            await ask.ok("quality", messages=json.dumps(HELLO), tools=json.dumps([WEATHER]), max_tokens=100.0)
        body = world.anthropic.requests[-1].body
        assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
        assert [tool["name"] for tool in body["tools"]] == ["weather"]
        assert body["max_tokens"] == 100

    async def test_a_replayed_answer_goes_out_as_what_was_said_and_nothing_else(self, world: World) -> None:
        world.anthropic.script(Status(503))
        said: dict[str, Any] = {
            "role": "assistant",
            "content": "Hi",
            "refusal": None,
            "annotations": [],
            "reasoning_content": "secret",
        }
        messages = [{"role": "developer", "content": "Be brief."}, {**HELLO[0], "name": "Bob"}, said, HELLO[0]]
        async with world.client() as ask:
            await ask.ok("quality", messages=messages)
        _, named, answer, _ = world.openai.requests[-1].body["messages"]
        assert named == {"role": "user", "content": "Hello", "name": "Bob"}
        assert answer == {"role": "assistant", "content": "Hi"}

    async def test_a_name_that_providers_refuse_is_left_out(self, world: World) -> None:
        world.anthropic.script(Status(503))
        async with world.client() as ask:
            await ask.ok("quality", messages=[{**HELLO[0], "name": "Bob the Builder"}])
        assert world.openai.requests[-1].body["messages"] == HELLO

    async def test_from_python_a_text_is_one_message_of_the_users(self, world: World) -> None:
        async with opened(world.folder, world.config, KEYS) as konstruct:
            await konstruct.complete('[{"role": "user"}]', model_group="fast")
        assert world.ollama.requests[-1].body["messages"] == [{"role": "user", "content": '[{"role": "user"}]'}]


@pytest.mark.parametrize(
    ("wire", "group"), [("openai", "gpt"), ("openai", "headed"), ("anthropic", "quality"), ("ollama", "fast")]
)
class TestEachProvider:
    """What must arrive at, and come back from, each of the three; and one that is asked through OpenAI's client."""

    @pytest.fixture
    def provider(self, world: World, wire: str) -> Iterator[Provider]:
        gpt = {"model": "gpt-4o", "api_base": world.openai.url, "api_key": "os.environ/OPENAI_API_KEY"}
        world.config["model_list"] += [entry("gpt", gpt), entry("headed", gpt, extra_headers={"x-team": "blue"})]
        provider: Provider = getattr(world, wire)
        yield provider
        assert sum(world.calls()) == provider.calls > 0  # nobody else was asked

    async def test_text_and_tool_calls_both_come_back(self, world: World, provider: Provider, group: str) -> None:
        calls = [("call_1", "weather", '{"city": "Oslo"}'), ("call_2", "weather", '{"city": "Rome"}')]
        provider.script(Text("Let me look.", tool_calls=calls))
        async with world.client() as ask:
            answer = await ask.ok(group, tools=[WEATHER])
        assert answer["content"] == "Let me look."
        assert answer["finish_reason"] == "tool_calls"
        assert answer["tool_calls"] == [
            {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id_, name, arguments in calls
        ]

    async def test_reasoning_in_a_field_of_its_own_is_not_content(
        self, world: World, provider: Provider, group: str
    ) -> None:
        provider.script(Text("42", reasoning="secret musings"))
        async with world.client() as ask:
            answer = await ask.ok(group)
        assert answer["content"] == "42"
        assert "musings" not in json.dumps(answer)

    @pytest.mark.parametrize(
        ("said", "kept"),
        [
            ("<think>musings\n</think>\n\n42", "42"),
            ("\n<think></think>42 <think>is said</think>", "42 <think>is said</think>"),
            ("<think>musings without end", ""),
            ("42, not <think>musings</think>", "42, not <think>musings</think>"),
        ],
    )
    async def test_a_leading_think_block_is_not_content(
        self, world: World, provider: Provider, group: str, said: str, kept: str
    ) -> None:
        provider.script(Text(said))
        async with world.client() as ask:
            assert (await ask.ok(group))["content"] == kept

    @pytest.mark.parametrize("with_tools", [True, False])
    async def test_tool_history_arrives_whole(
        self, world: World, provider: Provider, group: str, with_tools: bool
    ) -> None:
        async with world.client() as ask:
            await ask.ok(group, messages=HISTORY, **({"tools": [WEATHER]} if with_tools else {}))
        body = provider.requests[0].body
        if provider.wire == "anthropic":
            _, assistant, results = body["messages"]
            uses = [block for block in assistant["content"] if block["type"] == "tool_use"]
            assert [(u["id"], u["name"], u["input"]) for u in uses] == [
                ("call_1", "weather", {"city": "Oslo"}),
                ("call_2", "weather", {"city": "Rome"}),
            ]
            assert {"type": "text", "text": "Looking."} in assistant["content"]
            assert [(r["tool_use_id"], r["content"]) for r in results["content"]] == [
                ("call_1", "rain"),
                ("call_2", "sun"),
            ]
            assert [tool["name"] for tool in body["tools"]] == ["weather"]
            assert "Be brief." in json.dumps(body["system"])
            assert "Weather in Oslo and Rome?" in json.dumps(body["messages"][0])
        else:
            assert [m["role"] for m in body["messages"]] == ["system", "user", "assistant", "tool", "tool"]
            if provider.wire == "ollama":
                assert [call["function"] for call in body["messages"][2]["tool_calls"]] == [
                    {"name": "weather", "arguments": {"city": "Oslo"}},
                    {"name": "weather", "arguments": {"city": "Rome"}},
                ]
                assert [m["tool_name"] for m in body["messages"][3:]] == ["weather", "weather"]
            else:
                assert body["messages"][2]["tool_calls"] == HISTORY[2]["tool_calls"]
            assert body["messages"][2]["content"] == "Looking."
            assert [(m["tool_call_id"], m["content"]) for m in body["messages"][3:]] == [
                ("call_1", "rain"),
                ("call_2", "sun"),
            ]
            assert body["messages"][:2] == HISTORY[:2]
            assert ("tools" in body) is with_tools

    async def test_a_schema_reaches_it(self, world: World, provider: Provider, group: str) -> None:
        provider.script(Text('{"name": "Oslo"}'))
        async with world.client() as ask:
            answer = await ask.ok(group, response_format=SCHEMA)
        assert json.loads(answer["content"]) == {"name": "Oslo"}
        assert SCHEMA["json_schema"]["schema"]["properties"] in _values(provider.requests[0].body)

    async def test_tools_choice_limits_and_temperature_reach_it_and_nothing_else_does(
        self, world: World, provider: Provider, group: str
    ) -> None:
        named: Any = {"type": "function", "function": {"name": "weather"}}
        async with world.client() as ask:
            await ask.ok(
                group,
                messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
                tools=[WEATHER],
                tool_choice="auto" if provider.wire == "ollama" else named,  # which has no other
                max_tokens=77,
                temperature=0.5,
                tenant_id="acme",
                timeout_s=20,
            )
        body = provider.requests[0].body
        limits = body["options"] if provider.wire == "ollama" else body
        assert (limits.get("max_tokens", limits.get("num_predict")), limits["temperature"]) == (77, 0.5)
        if provider.wire == "ollama":
            assert body["tools"] == [WEATHER]
            assert body["stream"] is False
            allowed = {"model", "messages", "tools", "options", "stream", "truncate", "shift"}
        elif provider.wire == "anthropic":
            assert body["tool_choice"]["name"] == body["tools"][0]["name"] == "weather"
            allowed = {"model", "messages", "system", "tools", "tool_choice", "max_tokens", "temperature"}
        else:
            assert body["tool_choice"] == named
            assert body["tools"] == [WEATHER]
            assert not body.get("stream")  # which may be said
            allowed = {"model", "messages", "tools", "tool_choice", "max_tokens", "temperature", "stream"}
        assert set(body) <= allowed

    async def test_images_arrive_and_are_never_fetched(self, world: World, provider: Provider, group: str) -> None:
        def with_image(url: str) -> list[dict[str, Any]]:
            parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
            return [{"role": "user", "content": parts}]

        async with world.client() as ask:
            await ask.ok(group, messages=with_image(PNG))
            error = await ask.error(group, messages=with_image(f"{world.openai.url}/cat.png"))
        assert PNG.partition(",")[2] in json.dumps(provider.requests[-1].body)
        assert error.startswith("invalid_argument: messages[0].content[1].image_url.url: only data: URLs are accepted")
        assert sum(world.calls()) == 1
        assert len(world.openai.requests + world.anthropic.requests) == (0 if provider.wire == "ollama" else 1)

    async def test_the_tenant_reaches_no_provider(self, world: World, provider: Provider, group: str) -> None:
        async with world.client() as ask:
            await ask.ok(group, tenant_id="tenant-4711")
        received = provider.requests[0]
        assert "tenant" not in json.dumps([received.body, received.headers]).lower()

    async def test_fifty_at_once_are_fifty_in_flight(self, world: World, provider: Provider, group: str) -> None:
        provider.script(Gate("together"))
        async with world.client() as ask:
            async with asyncio.TaskGroup() as tasks:
                calls = [tasks.create_task(ask.ok(group)) for _ in range(50)]
                await provider.until(lambda: provider.in_flight == 50)
                provider.release()
            assert [call.result()["content"] for call in calls] == ["together"] * 50
        assert provider.most_in_flight == provider.calls == 50


def _values(value: Any) -> list[Any]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(inner for child in children for inner in _values(child))]


async def test_the_tenant_is_there_for_litellm(world: World) -> None:
    import litellm
    from litellm.integrations.custom_logger import CustomLogger

    seen: list[str] = []

    class Watcher(CustomLogger):
        def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
            seen.append(kwargs["litellm_params"]["metadata"]["tenant_id"])

    watcher = Watcher()
    litellm.callbacks.append(watcher)
    try:
        async with world.client({**KEYS, "KONSTRUCT_TENANT_ID": "of-the-environment"}) as ask:
            await ask.ok("fast", tenant_id="acme")
            await ask.ok("fast")
        async with world.client() as ask:
            await ask.ok("fast")
    finally:
        for callbacks in (litellm.callbacks, litellm.input_callback):
            while watcher in callbacks:
                callbacks.remove(watcher)
    assert seen == ["acme", "of-the-environment", "default"]


async def test_a_schema_is_refused_where_it_is_not_known_to_work(world: World) -> None:
    plain = {"model": "openai/plain", "api_base": world.openai.url, "api_key": "k"}
    world.config["model_list"].append(entry("plain", plain))
    async with world.client() as ask:
        assert (await ask.error("plain", response_format=SCHEMA)).startswith(
            'unsupported: no deployment of "plain" supports response_format'
        )
    assert sum(world.calls()) == 0


async def test_an_unpriced_model_has_no_cost_rather_than_none_to_pay(world: World) -> None:
    plain = {"model": "openai/unheard-of", "api_base": world.openai.url, "api_key": "k"}
    priced = plain | {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    world.config["model_list"] += [entry("unpriced", plain), entry("priced", priced)]
    async with world.client() as ask:
        assert (await ask.ok("unpriced"))["cost_usd"] is None
        assert (await ask.ok("priced"))["cost_usd"] == pytest.approx(11e-6 + 14e-6)


async def test_calls_beyond_max_parallel_requests_wait_their_turn(world: World) -> None:
    world.set("fast", 0, max_parallel_requests=2)
    world.ollama.script(Gate("in turn"))
    async with world.client() as ask, asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(ask.ok("fast")) for _ in range(6)]
        await world.ollama.until(lambda: world.ollama.in_flight == 2)
        world.ollama.release()
        await asyncio.gather(*calls)
    assert world.ollama.most_in_flight == 2


async def test_a_cancelled_call_reaches_the_provider_as_a_closed_connection(world: World) -> None:
    world.anthropic.script(Hang())
    async with world.client() as ask:
        call = asyncio.create_task(ask.konstruct.complete(HELLO, model_group="quality"))
        await world.anthropic.until(lambda: world.anthropic.in_flight == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await world.anthropic.until(lambda: world.anthropic.disconnected == 1)
    assert world.calls() == (1, 0, 0)


async def test_a_call_that_ends_while_litellm_prepares_it_leaves_no_warning(world: World) -> None:
    async with world.client() as ask:
        await ask.ok("fast")
        for provider in (world.anthropic, world.openai, world.ollama):
            provider.script(Hang())
        for milliseconds in [1, 2, 3, 4, 5, 6, 7, 8] * 5:
            assert (await ask.error("quality", timeout_s=milliseconds / 1000)).startswith("timeout: ")
        gc.collect()  # what would warn does so here, and not in another test


async def test_an_answer_can_be_sent_back_as_history(world: World) -> None:
    async with world.client() as ask:
        answer = await ask.ok("fast")
        echo = {"role": "assistant", "content": answer["content"], "tool_calls": answer["tool_calls"]}
        await ask.ok("fast", messages=[*HELLO, echo, *HELLO], tools=[], tool_choice="none")
    body = world.ollama.requests[1].body
    assert body["messages"][1] == {"role": "assistant", "content": "Hello from ollama"}
    assert not {"tools", "tool_choice"} & set(body)


async def test_a_flagged_input_behind_a_403_goes_nowhere_else(world: World) -> None:
    world.anthropic.script(Status(403, "requires moderation and your input was flagged"))
    async with world.client() as ask:
        assert (await ask.error("quality")).startswith("content_policy: ")
    assert world.calls() == (1, 0, 0)


async def test_a_hang_leaves_half_of_a_short_deadline_for_the_second(world: World) -> None:
    world.anthropic.script(Hang())
    world.openai.script(Text("in time"))
    async with world.client() as ask:
        await ask.ok("fast")
        answer = await ask.ok("quality", timeout_s=4)
    assert (answer["content"], answer["model"]) == ("in time", GPT)
    assert answer["attempts"][0]["error"].startswith("no answer in time (within ")
    assert world.calls() == (1, 1, 1)


async def test_a_tool_call_without_a_name_is_that_deployments_failure(world: World) -> None:
    nameless = {"id": "c", "type": "function", "function": {"arguments": "{}"}}
    body = {"model": "m", "message": {"role": "assistant", "content": "", "tool_calls": [nameless]}, "done": True}
    world.ollama.script(Raw(json.dumps(body).encode()))
    async with world.client() as ask:
        answer = await ask.ok("balanced")
    assert reasons(answer) == [(QWEN, "unusable answer (a tool call without a name)")]
    assert world.calls() == (1, 0, 1)


async def test_tool_calls_have_ids_of_their_own_whatever_the_provider_gives(world: World) -> None:
    given = [(None, "1"), ("", "2"), ("a", "3"), ("a", "4"), ("b", "5"), ("", "{6")]
    calls = [{"id": i, "type": "function", "function": {"name": "f", "arguments": a}} for i, a in given]
    choice = {"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "tool_calls": calls}}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    world.openai.script(Raw(json.dumps(body).encode()), Text("ok"))
    world.config["model_list"].append(entry("gpt", {"model": "gpt-4o", "api_base": world.openai.url, "api_key": "k"}))
    async with world.client() as ask:
        answer = await ask.ok("gpt")
        results = [{"role": "tool", "tool_call_id": c["id"], "content": "done"} for c in answer["tool_calls"]]
        echo = {"role": "assistant", "content": "", "tool_calls": answer["tool_calls"]}
        await ask.ok("gpt", messages=[*HELLO, echo, *results])
    ids = [call["id"] for call in answer["tool_calls"]]
    assert (ids[2], ids[4]) == ("a", "b")
    assert len(set(ids)) == len(given)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,40}", call_id) for call_id in ids)  # as OpenAI and Anthropic take them
    assert [call["function"]["arguments"] for call in answer["tool_calls"]] == [arguments for _, arguments in given]
    assert world.openai.requests[1].body["messages"][1]["tool_calls"] == answer["tool_calls"]


@pytest.mark.parametrize("group", ["gpt", "headed", "quality"])
async def test_a_cookie_of_a_provider_is_not_kept(world: World, group: str) -> None:
    """It would be sent with the calls of everybody else who has a key there."""
    urls = (
        fake.url.replace("127.0.0.1", "localhost") for fake in (world.openai, world.anthropic)
    )  # cookies want a name
    gpt, claude = (
        {"model": model, "api_base": url}
        for model, url in zip(("openai/gpt-4o", "anthropic/claude-sonnet-4-6"), urls, strict=True)
    )
    headed = {**gpt, "extra_headers": {"x-team": "blue"}}
    world.config["model_list"] += [
        entry(f"{name}-{key}", {**params, "api_key": f"key-{key}"})
        for name, params in (("gpt", gpt), ("headed", headed), ("quality", claude))
        for key in ("one", "two")
    ]
    provider = world.anthropic if group == "quality" else world.openai

    def answer(received: Received) -> Raw:
        return Raw(Text("Hi").render(received), headers={"Set-Cookie": "session=of-one; Path=/"})

    provider.script(answer)
    async with world.client() as ask:
        for key in ("one", "one", "two"):
            await ask.ok(f"{group}-{key}")
    assert len(provider.requests) == 3
    assert not any("cookie" in {name.lower() for name in request.headers} for request in provider.requests)


@pytest.mark.parametrize(
    ("params", "environ", "header", "value"),
    [
        ({"extra_headers": {"X-Team": "blue"}}, {}, "x-team", "blue"),
        ({"organization": "org-blue"}, {}, "openai-organization", "org-blue"),
        ({}, {"OPENAI_ORGANIZATION": "org-green"}, "openai-organization", "org-green"),
        ({}, {"OPENAI_PROJECT_ID": "proj-green"}, "openai-project", "proj-green"),
    ],
)
def test_headers_of_openais_client_are_sent_as_headers(
    params: dict[str, Any],
    environ: dict[str, str],
    header: str,
    value: str,
    openai: Provider,
    tmp_path: Path,
    fork_server: ForkServer | None,
) -> None:
    gpt = {"model": "openai/gpt-4o", "api_base": openai.url, "api_key": "k", **params}
    config = write(tmp_path, {"model_list": [entry("gpt", gpt)]})
    with ServerProcess(config, environ={"XDG_DATA_HOME": str(tmp_path), **environ}, fork_server=fork_server) as server:
        server.initialize()
        assert not server.complete("gpt")["isError"]
    [request] = openai.requests
    assert {name.lower(): sent for name, sent in request.headers.items()}[header] == value
    assert set(request.body) <= {"model", "messages", "stream"}


@pytest.mark.parametrize("model", ["@cf/meta/llama-3.1-8b-instruct", "@cf/meta/llama-2-7b-chat-fp16"])
async def test_no_tokenizer_is_downloaded_to_count_what_a_provider_did_not(
    monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    import litellm
    from litellm import utils

    install()
    asked: list[str] = []
    tokenizer = SimpleNamespace(from_pretrained=asked.append)
    monkeypatch.setattr(utils, "Tokenizer", tokenizer)
    call = call_settings.set(CallSettings("openai", on_loop=False, without_openais_client=False))
    try:
        assert litellm.token_counter(model=model, messages=HELLO) > 0
    finally:
        call_settings.reset(call)

    assert asked == []
