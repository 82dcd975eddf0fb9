"""Threads: a call that continues an earlier answer sends only what is new, and the provider sees all of it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from support.default_groups import IMAGE, KEYS, connected, entry, reaching, write
from support.file_systems import fill, needs_mounts, small, with_mounts
from support.processes import WAIT_S
from support.providers import Changed, Provider, Status, Text, Wire

from konstruct_mcp import (
    BadRequestError,
    Completion,
    ConfigError,
    InvalidArgumentError,
    Konstruct,
    UnknownGroupError,
    UnknownThreadError,
)
from konstruct_mcp.config.reading import load_config
from konstruct_mcp.config.threads import ThreadSettings
from konstruct_mcp.core.events import Event, Refused
from konstruct_mcp.core.messages import Message
from konstruct_mcp.gateway.caller import Caller
from konstruct_mcp.gateway.thread_stores import DiskStore, MemoryStore, TurnStore
from konstruct_mcp.gateway.threads import Conversation, Threads
from konstruct_mcp.protocol.server import KonstructServer

HOUR = 3600.0
PARAMETERS = {"type": "object", "properties": {}}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
UNKNOWN = re.compile(r'^unknown_thread: no thread "[^"]+": expired or not yours; send the whole conversation$')


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def two_groups(openai: Provider, anthropic: Provider, **konstruct: Any) -> dict[str, Any]:
    return {
        "model_list": [
            entry("gpt", reaching(openai, "openai/gpt-4o")),
            entry("claude", reaching(anthropic, "anthropic/claude-sonnet-4-6")),
        ],
        "konstruct": {"default_group": "gpt", **konstruct},
    }


def said(provider: Provider) -> list[tuple[str, str]]:
    """The roles and texts of the last request."""
    messages = provider.requests[-1].body["messages"]
    return [(message["role"], _text(message["content"])) for message in messages]


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())


@pytest.fixture(params=["memory", "disk"])
def keep(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def konstruct_of(
    folder: Path, config: Mapping[str, Any], clock: Clock | None = None, **options: Any
) -> AsyncIterator[Konstruct]:
    """One whose data is in this folder."""
    environ = {**KEYS, "XDG_DATA_HOME": str(folder)}
    made = load_config(write(folder, config), environ)
    threads = Threads() if clock is None else Threads(clock)
    async with Konstruct(made, environ=environ, threads=threads, **options) as konstruct:
        yield konstruct


def files(folder: Path) -> list[Path]:
    """Those of the folders `threads` in this one."""
    return [file for found in folder.rglob("threads") for file in found.rglob("*") if file.is_file()]


# -- a conversation ----------------------------------------------------------------------------------------------------


async def test_only_what_is_new_is_sent_and_the_provider_sees_all(
    tmp_path: Path, openai: Provider, anthropic: Provider, keep: str
) -> None:
    openai.script(Text("Blue."), Text("Air scatters it."))
    anthropic.script(Text("Rayleigh."))
    async with konstruct_of(tmp_path, two_groups(openai, anthropic, threads={"keep": keep})) as konstruct:
        first = await konstruct.complete([{"role": "system", "content": "Be brief."}, user("What is the sky?")])
        second = await konstruct.complete("Why?", continue_=first.thread)
        third = await konstruct.complete("Who says so?", continue_=second.thread, model_group="claude")

    assert said(openai) == [
        ("system", "Be brief."),
        ("user", "What is the sky?"),
        ("assistant", "Blue."),
        ("user", "Why?"),
    ]
    assert said(anthropic)[-4:] == [
        ("assistant", "Blue."),
        ("user", "Why?"),
        ("assistant", "Air scatters it."),
        ("user", "Who says so?"),
    ]
    assert "Be brief." in json.dumps(anthropic.requests[-1].body["system"])
    threads = {first.thread, second.thread, third.thread}
    assert len(threads) == 3
    assert all(re.fullmatch("[a-z2-7]{26}", thread or "") for thread in threads)


async def test_continuing_an_answer_twice_forks(
    tmp_path: Path, openai: Provider, anthropic: Provider, keep: str
) -> None:
    openai.script(*(Text(text) for text in ("root", "left", "right", "end", "end")))
    async with konstruct_of(tmp_path, two_groups(openai, anthropic, threads={"keep": keep})) as konstruct:
        root = await konstruct.complete("a")
        left, right = [await konstruct.complete(text, continue_=root.thread) for text in ("b", "c")]
        await konstruct.complete("d", continue_=left.thread)
        of_left = said(openai)
        await konstruct.complete("d", continue_=right.thread)

    texts = [[text for _, text in one] for one in (of_left, said(openai))]
    assert texts == [["a", "root", "b", "left", "d"], ["a", "root", "c", "right", "d"]]


async def test_calls_of_tools_are_in_it_and_tools_are_not(
    tmp_path: Path, openai: Provider, anthropic: Provider, keep: str
) -> None:
    openai.script(Text("Looking.", tool_calls=[("call_1", "weather", "{}")]), Text("It rains."), Text("Yes."))
    async with konstruct_of(tmp_path, two_groups(openai, anthropic, threads={"keep": keep})) as konstruct:
        called = await konstruct.complete("Weather?", tools=[WEATHER], temperature=0.5)
        [call] = called.tool_calls
        result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
        answered = await konstruct.complete([result], tools=[WEATHER], continue_=called.thread)
        with_tools = openai.requests[-1].body
        await konstruct.complete("Sure?", continue_=answered.thread)

    assert [message["role"] for message in with_tools["messages"]] == ["user", "assistant", "tool"]
    assert with_tools["messages"][1]["content"] == "Looking."
    assert with_tools["messages"][1]["tool_calls"] == [call.model_dump()]
    assert "tools" in with_tools
    assert "temperature" not in with_tools
    assert "tools" not in openai.requests[-1].body
    assert [role for role, _ in said(openai)] == ["user", "assistant", "tool", "assistant", "user"]


async def test_a_system_message_that_is_new_is_added_where_it_stands(
    tmp_path: Path, openai: Provider, anthropic: Provider
) -> None:
    async with konstruct_of(tmp_path, two_groups(openai, anthropic)) as konstruct:
        first = await konstruct.complete([{"role": "system", "content": "One."}, user("a")])
        new = [{"role": "system", "content": "Two."}, user("b")]
        await konstruct.complete(new, continue_=first.thread)
        moved = await konstruct.complete(new, continue_=first.thread, model_group="claude")

    assert [text for _, text in said(openai)] == ["One.", "a", "Hello from openai", "Two.", "b"]
    assert "One." in (system := json.dumps(anthropic.requests[-1].body["system"]))
    assert "Two." in system
    assert any("what the system says later was put at the beginning" in note for note in moved.notes)


async def test_images_and_parts_go_as_they_were_sent(
    tmp_path: Path, openai: Provider, anthropic: Provider, keep: str
) -> None:
    content = [
        {"type": "text", "text": "Look: "},
        {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
        {"type": "text", "text": "half a pair \ud83d, Grüße"},
    ]
    async with konstruct_of(tmp_path, two_groups(openai, anthropic, threads={"keep": keep})) as konstruct:
        first = await konstruct.complete([{"role": "user", "content": content, "name": "ann"}])
        sent = openai.requests[-1].body["messages"]
        await konstruct.complete("And?", continue_=first.thread)

    assert openai.requests[-1].body["messages"][:1] == sent
    assert IMAGE in json.dumps(sent)


async def test_the_whole_of_an_answer_that_is_cut_is_in_its_thread(
    tmp_path: Path, openai: Provider, anthropic: Provider
) -> None:
    openai.script(Text("a long answer " * 100), Text("Short."))
    config = two_groups(openai, anthropic, max_result_chars=100)
    async with konstruct_of(tmp_path, config) as konstruct, connected(konstruct) as client:
        shown = (await client.call_tool("complete", {"messages": [user("a")]})).structured_content
        assert shown is not None
        assert "truncated" in shown
        await client.call_tool("complete", {"messages": [user("b")], "continue": shown["thread"]})

    assert said(openai)[1] == ("assistant", "a long answer " * 100)


async def test_a_conversation_of_a_hundred_turns_is_all_there(tmp_path: Path, keep: str) -> None:
    threads, thread = kept_in(tmp_path, keep), None
    for number in range(100):
        thread = await told(threads, thread, f"question {number}", f"answer {number}")
    found = await threads.find(thread, "acme")

    assert len(found.turns) == 100
    assert [_text(message.content) for message in found.messages] == [
        f"{kind} {number}" for number in range(100) for kind in ("question", "answer")
    ]


async def test_a_late_turn_takes_no_more_than_an_early_one(tmp_path: Path) -> None:
    threads, thread = kept_in(tmp_path, "disk"), None
    for number in range(120):
        thread = await told(threads, thread, f"question {number:03}", "x")
    sizes = sorted(file.stat().st_size for file in files(tmp_path))

    assert len(sizes) == 120
    assert sizes[-1] < sizes[0] + 32 * 30  # the names of the last turns


# -- who may, and for how long -----------------------------------------------------------------------------------------


async def test_it_expires_and_is_renewed_by_what_continues_it(
    tmp_path: Path, openai: Provider, anthropic: Provider, keep: str
) -> None:
    clock = Clock()
    config = two_groups(openai, anthropic, threads={"keep": keep, "hours": 2})
    async with konstruct_of(tmp_path, config, clock) as konstruct:
        first, alone = [await konstruct.complete(text) for text in ("a", "alone")]
        clock.now += 1.9 * HOUR
        second = await konstruct.complete("b", continue_=first.thread)
        clock.now += 1.9 * HOUR
        for thread in (first.thread, second.thread):
            await konstruct.complete("c", continue_=thread)
        with pytest.raises(UnknownThreadError, match=UNKNOWN):
            await konstruct.complete("c", continue_=alone.thread)
        clock.now += 2.1 * HOUR
        for thread in (first.thread, second.thread):
            with pytest.raises(UnknownThreadError, match=UNKNOWN):
                await konstruct.complete("d", continue_=thread)


async def test_another_tenants_looks_like_one_that_there_is_not(
    tmp_path: Path, openai: Provider, anthropic: Provider, keep: str
) -> None:
    heard: list[Event] = []
    config = two_groups(openai, anthropic, threads={"keep": keep}, tenants={"acme": {}, "globex": {}})
    async with konstruct_of(tmp_path, config, hooks=[heard.append]) as konstruct:
        thread = (await konstruct.complete("a", tenant_id="acme")).thread or ""
        made_up = "a" * 26
        errors = []
        for name in (thread, made_up):
            with pytest.raises(UnknownThreadError) as caught:
                await konstruct.complete("b", tenant_id="globex", continue_=name)
            errors.append(str(caught.value).replace(name, "THREAD"))
        async with Client(KonstructServer(konstruct, caller_of=lambda _: Caller.verified("globex"))) as client:
            refused = await client.call_tool("complete", {"messages": [user("b")], "continue": thread})
        await konstruct.complete("b", tenant_id="acme", continue_=thread)
        spent = await konstruct.usage("globex")

    assert refused.is_error
    assert (
        errors[0]
        == errors[1]
        == 'unknown_thread: no thread "THREAD": expired or not yours; send the whole conversation'
    )
    assert openai.calls == 2
    assert spent.as_dict()["total"]["calls"] == 0
    assert [event.code for event in heard if isinstance(event, Refused)] == ["unknown_thread"] * 3


@pytest.mark.parametrize("name", ["../../etc/passwd", "\0", "A" * 26, "é" * 26, "a" * 100_000, " ", "a/b", "%2e%2e"])
async def test_a_name_that_is_none_is_unknown(
    tmp_path: Path, openai: Provider, anthropic: Provider, keep: str, name: str
) -> None:
    async with konstruct_of(tmp_path, two_groups(openai, anthropic, threads={"keep": keep})) as konstruct:
        with pytest.raises(UnknownThreadError, match=UNKNOWN):
            await konstruct.complete("b", continue_=name)
    assert openai.calls == 0


async def test_a_group_that_a_tenant_may_not_use_is_refused_in_a_thread_too(
    tmp_path: Path, openai: Provider, anthropic: Provider
) -> None:
    config = two_groups(openai, anthropic, tenants={"acme": {"groups": ["gpt"]}})
    async with konstruct_of(tmp_path, config) as konstruct:
        first = await konstruct.complete("a", tenant_id="acme")
        with pytest.raises(UnknownGroupError):
            await konstruct.complete("b", tenant_id="acme", continue_=first.thread, model_group="claude")


async def test_where_there_are_none_nothing_of_them_is_offered(
    tmp_path: Path, openai: Provider, anthropic: Provider
) -> None:
    config = two_groups(openai, anthropic, threads={"keep": "off"})
    async with konstruct_of(tmp_path, config) as konstruct, connected(konstruct) as client:
        tool = (await client.list_tools()).tools[0]
        assert tool.output_schema is not None
        assert "continue" not in tool.input_schema["properties"]
        assert "thread" not in tool.output_schema["properties"]
        assert "thread" not in (client.instructions or "")
        answer = (await client.call_tool("complete", {"messages": [user("a")]})).structured_content
        assert answer is not None
        assert {"thread", "notes"}.isdisjoint(answer)
        with pytest.raises(InvalidArgumentError, match="continue: no threads are kept here"):
            await konstruct.complete("b", continue_="a" * 26)


async def test_a_config_that_switches_them_off_tells_clients_that_the_tools_have_changed(
    tmp_path: Path, openai: Provider, anthropic: Provider
) -> None:
    config = two_groups(openai, anthropic)
    async with Konstruct.from_config(write(tmp_path, config), environ=KEYS) as konstruct:
        first = await konstruct.complete("a")
        before = konstruct.offers()
        write(tmp_path, two_groups(openai, anthropic, threads={"keep": False}))  # as YAML reads `off`
        assert await konstruct.reload()
        assert konstruct.offers().changed_since(before) is None
        with pytest.raises(InvalidArgumentError, match="no threads are kept here"):
            await konstruct.complete("b", continue_=first.thread)


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "new", "what"),
    [
        ({"max_messages": 3}, [user("b"), user("c")], r"4 messages, more than 3 \(konstruct.max_messages\)"),
        ({"max_request_chars": 300}, [user("b" * 100)], r"\d+ characters, more than 300 \(konstruct.max_request"),
        ({"max_parts": 1}, [{"role": "user", "content": [{"type": "text", "text": "b"}]}], "2 parts, more than 1"),
        ({"max_values": 50}, [user("b")], r"\d+ values of JSON, more than 50"),
        ({"max_tool_calls": 1}, [], "2 tool calls, more than 1"),
    ],
)
async def test_a_thread_that_is_too_long_for_one_call_says_so(
    tmp_path: Path, openai: Provider, anthropic: Provider, limits: dict[str, int], new: Any, what: str
) -> None:
    config = two_groups(openai, anthropic, **limits)
    calls = 10 if "max_values" in limits else 1
    openai.script(Text("x" * 290, tool_calls=[(f"call_{number}", "weather", "{}") for number in range(calls)]))
    async with konstruct_of(tmp_path, config) as konstruct:
        content = [{"type": "text", "text": "a"}]
        first = await konstruct.complete([{"role": "user", "content": content}], tools=[WEATHER])
        result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "rain"}
        call = {"id": "call_2", "function": {"name": "weather", "arguments": "{}"}}
        new = new or [result, {"role": "assistant", "tool_calls": [call]}]
        with pytest.raises(
            InvalidArgumentError,
            match=f"^invalid_argument: continue: the thread is too long: with these messages it has {what}",
        ):
            await konstruct.complete(new, continue_=first.thread)

    assert openai.calls == 1


# -- reasoning ---------------------------------------------------------------------------------------------------------

CALLED = Text(None, tool_calls=[("call_1", "weather", "{}")])
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"}
ENCRYPTED = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2ln"}
SIGNED = {"functionCall": {"name": "weather", "args": {}}, "thoughtSignature": "c2ln"}


def of_chat(body: Any, **fields: Any) -> None:
    body["choices"][0]["message"].update(fields)


def numbered(body: Any) -> None:
    """As Kimi names its calls: the same in each conversation."""
    of_chat(body, reasoning_content="Hm.")
    body["choices"][0]["message"]["tool_calls"][0]["id"] = "functions.weather:0"


@pytest.mark.many_cases
@pytest.mark.parametrize(
    ("wire", "model", "params", "change", "seen"),
    [
        (
            "anthropic",
            "anthropic/claude-sonnet-4-5",
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            lambda body: body["content"].insert(0, THINKING),
            lambda body: body["messages"][1]["content"][0] == THINKING and body["thinking"]["type"] == "enabled",
        ),
        (
            "deepseek",
            "deepseek/deepseek-chat",
            {},
            lambda body: of_chat(body, reasoning_content="Hm."),
            lambda body: body["messages"][1]["reasoning_content"] == "Hm.",
        ),
        (
            "openai",
            "moonshot/kimi-k2-thinking",
            {},
            numbered,
            lambda body: body["messages"][1]["reasoning_content"] == "Hm.",
        ),
        (
            "gemini",
            "gemini/gemini-2.5-pro",
            {},
            lambda body: body["candidates"][0]["content"].update(parts=[SIGNED]),
            lambda body: body["contents"][1]["parts"][0]["thoughtSignature"] == "c2ln",
        ),
        (
            "openai",
            "openai/gemini-3-pro",
            {},
            lambda body: body["choices"][0]["message"]["tool_calls"][0].update(
                extra_content={"google": {"thought_signature": "c2ln"}}
            ),
            lambda body: "extra_content" in body["messages"][1]["tool_calls"][0],
        ),
        (
            "openai",
            "openai/gpt-5-codex",
            {},
            lambda body: body["output"].insert(0, ENCRYPTED),
            lambda body: body["input"][1] == ENCRYPTED,
        ),
    ],
    ids=["anthropic", "deepseek", "kimi", "gemini", "gemini's chat", "responses"],
)
async def test_reasoning_that_a_provider_wants_back_is_in_it_hours_later_in_another_process(
    tmp_path: Path, wire: Wire, model: str, params: dict[str, Any], change: Any, seen: Any
) -> None:
    with Provider(wire) as provider:
        provider.script(Changed(CALLED, change), Text("It rains."), Text("Yes."))
        config = {
            "model_list": [entry("it", reaching(provider, model), **params)],
            "konstruct": {"threads": {"keep": "disk"}},
        }
        clock = Clock()
        async with konstruct_of(tmp_path, config, clock) as konstruct:
            called = await konstruct.complete("Weather in Oslo?", tools=[WEATHER])
        clock.now += 20 * HOUR
        async with konstruct_of(tmp_path, config, clock) as konstruct:
            [call] = called.tool_calls
            result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
            answered = await konstruct.complete([result], tools=[WEATHER], continue_=called.thread)
            assert seen(provider.requests[-1].body)
        clock.now += 20 * HOUR
        async with konstruct_of(tmp_path, config, clock) as konstruct:
            await konstruct.complete("Sure?", tools=[WEATHER], continue_=answered.thread)
            assert seen(provider.requests[-1].body)

    assert answered.content == "It rains."
    assert answered.notes == ()


async def test_reasoning_goes_to_no_other_model(tmp_path: Path, openai: Provider, anthropic: Provider) -> None:
    openai.script(Changed(CALLED, lambda body: of_chat(body, reasoning_content="Secret thought.")))
    async with konstruct_of(tmp_path, two_groups(openai, anthropic)) as konstruct:
        called = await konstruct.complete("Weather?", tools=[WEATHER])
        result = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "rain"}
        await konstruct.complete([result], tools=[WEATHER], continue_=called.thread, model_group="claude")

    assert "Secret thought." not in json.dumps(anthropic.requests[-1].body)


async def test_reasoning_that_is_refused_once_is_not_brought_again_by_the_thread(
    tmp_path: Path, anthropic: Provider
) -> None:
    refusal = "messages.1.content.0: Invalid `signature` in `thinking` block"

    def answers(received: Any) -> Any:
        said = json.dumps(received.body)
        if "signature" in said:
            return Status(400, refusal)
        return (
            Text("It rains.") if "rain" in said else Changed(CALLED, lambda body: body["content"].insert(0, THINKING))
        )

    anthropic.script(answers)
    config = {"model_list": [entry("it", reaching(anthropic, "anthropic/claude-sonnet-4-5"))]}
    async with konstruct_of(tmp_path, config) as konstruct:
        called = await konstruct.complete("Weather?", tools=[WEATHER])
        result = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "rain"}
        for _ in range(2):
            answered = await konstruct.complete([result], tools=[WEATHER], continue_=called.thread)
            assert answered.content == "It rains."

    assert ["signature" in json.dumps(request.body) for request in anthropic.requests] == [False, True, False, False]


# -- which deployment --------------------------------------------------------------------------------------------------


async def test_the_deployment_that_answered_is_asked_first(
    tmp_path: Path, openai: Provider, anthropic: Provider, ollama: Provider
) -> None:
    alike = [reaching(openai, "openai/gpt-4o"), reaching(anthropic, "anthropic/claude-sonnet-4-6")]
    config = {
        "model_list": [
            *(entry("any", one, num_retries=0) for one in alike),
            *(entry("ordered", one, order=place) for place, one in enumerate(alike)),
        ],
        "router_settings": {"routing_strategy": "simple-shuffle", "allowed_fails": 0, "cooldown_time": 600},
    }
    async with konstruct_of(tmp_path, config) as konstruct:
        first = await konstruct.complete("a", model_group="any")
        thread, models = first.thread, [first.model]
        for _ in range(8):
            completion = await konstruct.complete("b", model_group="any", continue_=thread)
            thread, models = completion.thread, [*models, completion.model]
        assert set(models) == {first.model}
        asked, other = (openai, anthropic) if first.model == "openai/gpt-4o" else (anthropic, openai)
        in_order = await konstruct.complete("c", model_group="ordered", continue_=thread)
        assert in_order.model == "openai/gpt-4o"
        asked.script(Status(503))
        failing = await konstruct.complete("d", model_group="any", continue_=thread)
        assert failing.model != first.model
        calls = asked.calls
        cooling = await konstruct.complete("e", model_group="any", continue_=thread)
    assert (cooling.model, asked.calls) == (failing.model, calls)
    assert other.calls >= 2


# -- kept --------------------------------------------------------------------------------------------------------------


def kept_in(folder: Path, keep: str, clock: Clock | None = None, hours: float = 24) -> Threads:
    threads = Threads(clock or Clock())
    threads.use(ThreadSettings(keep, hours, folder / "threads"), lambda: None)  # type: ignore[arg-type]
    return threads


async def told(threads: Threads, thread: str | None, question: str, answer: str, tenant: str = "acme") -> str:
    """A turn more; the thread's name."""
    before = await threads.find(thread, tenant)
    new = [Message(role="user", content=question)]
    name = await threads.keep(
        tenant, before, new, {"role": "assistant", "content": answer}, {}, "key", is_large=len(question) > 10**5
    )
    assert name is not None
    return name


async def test_on_a_disk_it_is_there_for_this_user_alone_and_in_no_ledger(
    tmp_path: Path, openai: Provider, anthropic: Provider
) -> None:
    config = two_groups(openai, anthropic, threads={"keep": "disk"})
    mask = os.umask(0)
    try:
        async with konstruct_of(tmp_path, config) as konstruct:
            first = await konstruct.complete("a secret question", tenant_id="acme")
    finally:
        os.umask(mask)
    async with konstruct_of(tmp_path, config) as konstruct:
        await konstruct.complete("b", continue_=first.thread, tenant_id="acme")

    data = tmp_path / "konstruct-mcp"
    assert len(files(tmp_path)) == 2
    for place in (data / "threads").rglob("*"):
        assert place.stat().st_mode & 0o777 == (0o700 if place.is_dir() else 0o600)
        assert "acme" not in place.name
        assert (first.thread or "") not in place.name
    assert (data / "threads").stat().st_mode & 0o777 == 0o700
    ledger = b"".join(file.read_bytes() for file in data.glob("ledger*") if file.is_file())
    assert b"acme" in ledger
    for private in (b"secret question", (first.thread or "").encode()):
        assert private not in ledger


async def test_a_folder_that_others_could_read_is_theirs_no_more(tmp_path: Path) -> None:
    (tmp_path / "threads").mkdir(mode=0o755)
    await told(kept_in(tmp_path, "disk"), None, "a", "b")
    assert (tmp_path / "threads").stat().st_mode & 0o777 == 0o700


async def test_memory_is_forgotten_with_its_process(tmp_path: Path, openai: Provider, anthropic: Provider) -> None:
    async with konstruct_of(tmp_path, two_groups(openai, anthropic)) as konstruct:
        first = await konstruct.complete("a")
    async with konstruct_of(tmp_path, two_groups(openai, anthropic)) as konstruct:
        with pytest.raises(UnknownThreadError, match=UNKNOWN):
            await konstruct.complete("b", continue_=first.thread)
    assert files(tmp_path) == []


async def test_two_processes_go_on_with_one_conversation_at_once(tmp_path: Path) -> None:
    one, other = kept_in(tmp_path, "disk"), kept_in(tmp_path, "disk")
    root = await told(one, None, "a", "b")

    async def talk(threads: Threads, mark: str) -> list[str]:
        thread = root
        for number in range(20):
            thread = await told(threads, thread, f"{mark}{number}", "x")
        found = await one.find(thread, "acme")
        return [_text(message.content) for message in found.messages if message.role == "user"]

    left, right = await asyncio.gather(talk(one, "l"), talk(other, "r"))
    assert left == ["a", *(f"l{number}" for number in range(20))]
    assert right == ["a", *(f"r{number}" for number in range(20))]


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied", "another's", "gone", "a folder"])
async def test_a_file_that_is_not_what_was_written_is_an_unknown_thread(tmp_path: Path, damage: str) -> None:
    threads = kept_in(tmp_path, "disk")
    await told(threads, None, "other", "x")
    [other] = files(tmp_path)
    first = await told(threads, None, "a", "b")
    second = await told(threads, first, "c", "d")
    whole = {file: file.read_bytes() for file in files(tmp_path) if file != other}
    for file, content in whole.items():
        match damage:
            case "cut":
                file.write_bytes(content[:-1])
            case "changed":
                file.write_bytes(content[:-5] + b"x" + content[-4:])
            case "emptied":
                file.write_bytes(b"")
            case "another's":
                shutil.copy(other, file)
            case _:
                file.unlink()
        if damage == "a folder":
            file.mkdir()
        for thread in (first, second) if len(whole) == 2 else ():
            try:
                found = await threads.find(thread, "acme")
            except UnknownThreadError:
                continue
            assert thread == first  # of two files the other one was damaged
            assert [_text(message.content) for message in found.messages] == ["a", "b"]
    for thread in (first, second):
        with pytest.raises(UnknownThreadError):
            await threads.find(thread, "acme")
    await told(threads, None, "e", "f")


async def test_what_a_crash_has_left_half_written_is_removed_after_a_while(tmp_path: Path) -> None:
    clock = Clock()
    threads = kept_in(tmp_path, "disk", clock)
    await told(threads, None, "a", "b")
    [file] = files(tmp_path)
    part = file.with_name("0b4e.part")
    part.write_bytes(b"half")
    os.utime(part, (clock.now, clock.now))
    clock.now += 0.9 * HOUR
    await told(threads, None, "c", "d")
    assert part.exists()
    clock.now += 0.2 * HOUR
    await told(threads, None, "e", "f")
    assert not part.exists()


async def test_what_has_expired_is_removed_from_the_disk(tmp_path: Path) -> None:
    clock = Clock()
    threads = kept_in(tmp_path, "disk", clock, hours=1)
    for _ in range(5):
        await told(threads, None, "a", "b")
    clock.now += 1.1 * HOUR
    await told(threads, None, "new", "b")
    assert len(files(tmp_path)) == 1


async def test_a_disk_that_takes_nothing_costs_the_thread_and_not_the_answer(
    tmp_path: Path, openai: Provider, anthropic: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "konstruct-mcp"
    data.mkdir()
    (data / "threads").write_text("no folder can be made here")
    async with konstruct_of(tmp_path, two_groups(openai, anthropic, threads={"keep": "disk"})) as konstruct:
        for _ in range(2):
            completion = await konstruct.complete("a")
            assert completion.content == "Hello from openai"
            assert completion.thread is None
            assert completion.notes == ("no thread: this answer could not be kept, so that it cannot be continued",)
            assert "thread" not in completion.as_dict()
        assert (await konstruct.usage()).as_dict()["total"]["calls"] == 2
        lines = [line for line in caplog.messages if "cannot be continued" in line]
        assert len(lines) == 1
        assert str(tmp_path) not in lines[0]
        (data / "threads").unlink()
        again = await konstruct.complete("a")
        await konstruct.complete("b", continue_=again.thread)


async def test_a_disk_that_hangs_holds_a_few_threads_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    """A store asks the clock in its thread, so that a clock that stands still is a disk that does."""
    goes_on, answer = threading.Event(), {"role": "assistant", "content": "b"}

    class Hanging(Clock):
        def __call__(self) -> float:
            goes_on.wait(WAIT_S)
            return super().__call__()

    threads, before = kept_in(tmp_path, "disk", Hanging()), set(threading.enumerate())
    for _ in range(12):
        new = [Message(role="user", content="a")]
        kept = await threads.keep("acme", Conversation(), new, answer, {}, "key", is_large=False, within_s=0.01)
        assert kept is None
    hanging = set(threading.enumerate()) - before
    assert 0 < len(hanging) <= 4
    assert all(thread.daemon for thread in hanging)
    goes_on.set()
    thread = await told(threads, None, "a", "b")
    assert (await threads.find(thread, "acme")).messages[-1].content == "b"


async def test_a_turn_is_kept_however_long_it_takes_to_look_for_what_has_expired(tmp_path: Path) -> None:
    """A folder of a hundred thousand files takes ten seconds to look through: here for ever."""
    goes_on = threading.Event()

    class HangsWhileLooking(Clock):
        asked = 0

        def __call__(self) -> float:
            self.asked += 1
            if self.asked == 3:  # by who puts a turn there, by who sees that a look is due, and by the look
                goes_on.wait(WAIT_S)
            return super().__call__()

    threads = kept_in(tmp_path, "disk", HangsWhileLooking())
    try:
        first = await told(threads, None, "a", "b")
        await told(threads, first, "c", "d")
        assert not goes_on.is_set()
    finally:
        goes_on.set()


@pytest.mark.long
def test_a_full_disk_costs_the_thread_and_not_the_answer(tmp_path: Path, openai: Provider, anthropic: Provider) -> None:
    needs_mounts()
    config = write(tmp_path, two_groups(openai, anthropic, threads={"keep": "disk"}))
    command = [sys.executable, "-m", "konstruct_mcp", "--config", str(config), "complete", "Hi", "--json"]
    full = tmp_path / "full"
    environ = {"XDG_DATA_HOME": str(full), "KONSTRUCT_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.sqlite3"}
    ran = subprocess.run(
        [*with_mounts(small(full), fill(full)), *command],
        env={**os.environ, **KEYS, **environ},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    answer = json.loads(ran.stdout)
    assert (ran.returncode, answer["content"], answer["notes"]) == (
        0,
        "Hello from openai",
        ["no thread: this answer could not be kept, so that it cannot be continued"],
    )
    assert "thread" not in answer
    assert "cannot be continued" in ran.stderr
    assert str(tmp_path) not in ran.stderr


async def test_files_go_on_as_the_bytes_that_were_sent(
    tmp_path: Path, openai: Provider, anthropic: Provider, keep: str
) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (root / "app.py").write_text("print('as it was')\n")
    config = two_groups(openai, anthropic, threads={"keep": keep}, files={"roots": [str(root)]})
    async with konstruct_of(tmp_path, config) as konstruct:
        first = await konstruct.complete("Review this.", files=[str(root / "app.py")])
        sent = openai.requests[-1].body["messages"]
        (root / "app.py").write_text("print('as it is now')\n")
        second = await konstruct.complete("And?", continue_=first.thread)
        again = await konstruct.complete("Now?", continue_=second.thread, files=[str(root / "app.py")])

    messages = openai.requests[-1].body["messages"]
    assert messages[: len(sent)] == sent
    assert "as it was" in json.dumps(sent)
    assert [name for name in ("as it was", "as it is now") if name in json.dumps(messages[len(sent) :])] == [
        "as it is now"
    ]
    assert second.files == ()
    assert len(again.files) == 1


def store(folder: Path, keep: str, clock: Clock, most: int) -> TurnStore:
    return MemoryStore(HOUR, clock, most) if keep == "memory" else DiskStore(folder / "threads", HOUR, clock, most)


async def test_a_tenant_that_keeps_most_loses_its_own_and_the_tip_before_what_it_stands_on(
    tmp_path: Path, keep: str
) -> None:
    clock = Clock()
    kept = store(tmp_path, keep, clock, 42_000)

    async def put(tenant: str, name: str, before: list[str], size: int = 4000) -> bool:
        clock.now += 1
        return await kept.put(tenant, name, b"x" * size, before)

    async def there(tenant: str, *names: str) -> list[str]:
        found = await kept.get(tenant, names)
        return [name for name, turn in zip(names, found, strict=True) if turn is not None]

    assert await put("globex", "small", [])
    chain: list[str] = []
    for number in range(4):
        assert await put("acme", f"old {number}", chain)
        chain.append(f"old {number}")
    assert await put("acme", "alone", [])
    for number in range(6):
        await put("acme", f"new {number}", [f"new {one}" for one in range(number)])

    assert await there("globex", "small") == ["small"]
    assert await there("acme", "small") == []  # it is another's
    left = await there("acme", *chain)
    assert left == chain[: len(left)]
    assert len(left) < 4
    newest = [f"new {number}" for number in range(6)]
    assert await there("acme", *newest) == newest
    assert not await put("acme", "too large", [], 50_000)
    assert await there("acme", *newest) == newest


async def test_a_turn_whose_conversation_is_gone_meanwhile_is_no_thread(tmp_path: Path, keep: str) -> None:
    kept = store(tmp_path, keep, Clock(), 40_000)
    assert not await kept.put("acme", "turn", b"x", ["gone"])


def test_what_the_config_may_say_of_them(tmp_path: Path, openai: Provider, anthropic: Provider) -> None:
    def settings(given: Any) -> ThreadSettings:
        config = two_groups(openai, anthropic, threads=given)
        return load_config(write(tmp_path, config), {**KEYS, "XDG_DATA_HOME": str(tmp_path)}).threads

    folder = tmp_path / "konstruct-mcp" / "threads"
    assert settings(None) == settings({}) == ThreadSettings("memory", 24.0, folder)
    assert settings({"keep": "disk", "hours": 0.5}) == ThreadSettings("disk", 0.5, folder)
    assert settings({"keep": False}).keep == settings({"keep": "off"}).keep == "off"
    for wrong, fault in (
        ({"keep": "file"}, "konstruct.threads.keep: should be 'memory', 'disk' or 'off'"),
        ({"keep": True}, "konstruct.threads.keep: should be 'memory', 'disk' or 'off'"),
        ({"hours": 0}, "konstruct.threads.hours: should be greater than 0"),
        ({"hours": 10_000}, "konstruct.threads.hours: should be less than or equal to 8784"),
        ({"hour": 1}, "konstruct.threads.hour: unknown key; did you mean hours?"),
        ("disk", "konstruct.threads: should be an object"),
    ):
        with pytest.raises(ConfigError) as caught:
            settings(wrong)
        assert caught.value.faults == (fault,)


async def test_a_call_that_is_refused_makes_no_thread(tmp_path: Path, openai: Provider, anthropic: Provider) -> None:
    openai.script(Status(400, "no"))
    async with konstruct_of(tmp_path, two_groups(openai, anthropic, threads={"keep": "disk"})) as konstruct:
        with pytest.raises(BadRequestError):
            await konstruct.complete("a")
    assert files(tmp_path) == []


async def test_a_large_conversation_is_continued_too(
    tmp_path: Path, openai: Provider, anthropic: Provider, keep: str
) -> None:
    async with konstruct_of(tmp_path, two_groups(openai, anthropic, threads={"keep": keep})) as konstruct:
        text = "a line of some length\n" * 30_000
        first: Completion = await konstruct.complete(text)
        await konstruct.complete("b", continue_=first.thread)

    assert said(openai)[0] == ("user", text)


async def test_the_loop_goes_on_while_a_conversation_is_read_that_packs_well(tmp_path: Path) -> None:
    """Five megabytes of one letter are a few thousand bytes once they are packed."""
    threads = kept_in(tmp_path, "memory")
    thread = await told(threads, None, "a" * 5_000_000, "b")
    finding, turns = asyncio.ensure_future(threads.find(thread, "acme")), 0
    while not finding.done():
        await asyncio.sleep(0)
        turns += 1
    assert len(finding.result().messages) == 2
    assert turns > 10
