"""Calls that take long, and answers that are long: progress, the one deadline, and what is shown of a book."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, types
from mcp.shared.exceptions import MCPError
from support.default_groups import HELLO, KEYS, connected, default_groups, entry, opened, write
from support.fork_server import ForkServer
from support.providers import Gate, Hang, Provider, Status, Text
from support.stdio_lines import ServerProcess, call

from konstruct_mcp import Konstruct
from konstruct_mcp.protocol.server import KonstructServer


@pytest.fixture(params=["2026", "2025"])
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def config(anthropic: Provider, openai: Provider, ollama: Provider) -> dict[str, Any]:
    made = default_groups(anthropic, openai, ollama)
    made["router_settings"]["num_retries"] = 0
    return made


class TestProgress:
    async def test_it_comes_within_a_second_then_every_two_and_says_what_is_going_on(
        self, era: str, config: dict[str, Any], tmp_path: Path, anthropic: Provider, openai: Provider
    ) -> None:
        anthropic.script(Status(429))
        openai.script(Gate("at last"))
        told: list[tuple[float, str | None]] = []
        twice = asyncio.Event()

        async def note(progress: float, total: float | None, message: str | None) -> None:
            told.append((progress, message))
            if len(told) == 2:
                twice.set()

        async with opened(tmp_path, config) as konstruct, connected(konstruct, era) as client:
            await konstruct.complete(HELLO, model_group="fast")  # loads LiteLLM
            arguments = {"messages": HELLO, "model_group": "quality"}
            asking = asyncio.create_task(client.call_tool("complete", arguments, progress_callback=note))
            async with asyncio.timeout(30):
                await twice.wait()
            openai.release()
            assert not (await asking).is_error
        (first, line), (second, _) = told
        assert 0 < first < 1
        assert 1.9 <= second - first < 4  # two, on a machine that is busy
        assert line == "anthropic/claude-sonnet-4-6: rate limited (HTTP 429), trying openai/gpt-4o"

    @pytest.mark.parametrize("modern", [True, False])
    def test_over_a_pipe_it_comes_to_who_has_asked_and_before_the_answer(
        self, config: dict[str, Any], tmp_path: Path, ollama: Provider, fork_server: ForkServer | None, modern: bool
    ) -> None:
        ollama.script(Text("at once"), Gate("slowly"))
        with ServerProcess(write(tmp_path, config), fork_server=fork_server) as server:
            if not modern:
                server.initialize()
            token = {"_meta": {"progressToken": "a token"}}
            at_once = {**call("fast"), **token}
            assert not server.ask("tools/call", at_once, modern=modern)["isError"]  # but for LiteLLM's loading
            server.notices.clear()
            server.send("tools/call", call("fast"), modern=modern)
            asked = server.send("tools/call", {**call("fast"), **token}, modern=modern)
            told = server.notice("notifications/progress")["params"]
            assert told["progressToken"] == "a token"
            assert told["message"] == "trying ollama/qwen3:32b"
            ollama.release()
            assert not server.answer(asked)["result"]["isError"]
            server.ask("tools/list", modern=modern)
            assert {notice["params"]["progressToken"] for notice in server.notices} <= {"a token"}


class TestTheDeadline:
    async def test_it_covers_the_wait_for_a_turn_and_says_so(
        self, config: dict[str, Any], tmp_path: Path, ollama: Provider
    ) -> None:
        config["konstruct"]["max_concurrency"] = 1
        ollama.script(Gate("held"))
        async with opened(tmp_path, config) as konstruct, connected(konstruct) as client:
            held = asyncio.create_task(client.call_tool("complete", {"messages": HELLO}))
            await ollama.until(lambda: ollama.in_flight == 1)
            late = await client.call_tool("complete", {"messages": HELLO, "timeout_s": 0.2})
            ollama.release()
            assert not (await held).is_error
        assert text(late) == (
            "timeout: no answer within 0.2 s, waiting for its turn, 0 calls before it; raise timeout_s, ask for less, "
            "or use a faster group"
        )
        assert ollama.calls == 1

    async def test_it_covers_the_wait_for_a_place_at_a_deployment(self, tmp_path: Path, ollama: Provider) -> None:
        ollama.script(Gate("held"))
        one = {"model": "ollama/one", "api_base": ollama.url, "max_parallel_requests": 1}
        async with opened(tmp_path, {"model_list": [entry("one", one)]}) as konstruct, connected(konstruct) as client:
            held = asyncio.create_task(client.call_tool("complete", {"messages": HELLO}))
            await ollama.until(lambda: ollama.in_flight == 1)
            late = await client.call_tool("complete", {"messages": HELLO, "timeout_s": 0.2})
            ollama.release()
            assert not (await held).is_error
        assert "waiting for its turn at ollama/one" in text(late)

    async def test_it_covers_retries_and_fallbacks(
        self, config: dict[str, Any], tmp_path: Path, anthropic: Provider, openai: Provider, ollama: Provider
    ) -> None:
        anthropic.script(Status(500))
        openai.script(Status(401))
        ollama.script(Text("once"), Hang())
        async with opened(tmp_path, config) as konstruct, connected(konstruct) as client:
            await konstruct.complete(HELLO, model_group="fast")  # loads LiteLLM
            began = time.monotonic()
            late = await client.call_tool("complete", {"messages": HELLO, "model_group": "quality", "timeout_s": 1.5})
        assert time.monotonic() - began < 10
        assert text(late) == (
            "timeout: no answer within 1.5 s, waiting for ollama/qwen3:32b; anthropic/claude-sonnet-4-6: server error "
            "(HTTP 500); openai/gpt-4o: key refused (HTTP 401); raise timeout_s, ask for less, or use a faster group"
        )

    async def test_it_covers_the_wait_for_a_retry(
        self, config: dict[str, Any], tmp_path: Path, ollama: Provider
    ) -> None:
        config["router_settings"]["num_retries"] = 1
        ollama.script(Status(429, headers={"retry-after": "1"}))
        async with opened(tmp_path, config) as konstruct, connected(konstruct) as client:
            late = await client.call_tool("complete", {"messages": HELLO, "model_group": "fast", "timeout_s": 30})
            assert "all_failed" in text(late)
            assert ollama.calls == 2
            short = await client.call_tool("complete", {"messages": HELLO, "model_group": "fast", "timeout_s": 0.9})
            assert "tried again in 1 s" in text(short)  # one that would come too late is not waited for
            assert ollama.calls == 2


def text(result: types.CallToolResult) -> str:
    block = result.content[0]
    assert isinstance(block, types.TextContent)
    return block.text


LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
BOOK = "".join(f"This is sentence number {n}. " for n in range(100))


def named(konstruct: Konstruct, era: str) -> Any:
    """A client whose model reads resources. One that gives no name is taken for an agent in Python, and reads none."""
    return connected(konstruct, era, client_info=types.Implementation(name="some client", version="1.0"))


class TestLongAnswers:
    async def read(self, client: Client, uri: str) -> str:
        (contents,) = (await client.read_resource(uri)).contents
        assert isinstance(contents, types.TextResourceContents)
        assert contents.mime_type == "text/plain"
        return contents.text

    async def test_one_is_cut_at_a_sentence_says_so_and_can_be_read_whole(
        self, era: str, config: dict[str, Any], tmp_path: Path, ollama: Provider
    ) -> None:
        config["konstruct"]["max_result_chars"] = 500
        ollama.script(Text(BOOK))
        async with opened(tmp_path, config) as konstruct, named(konstruct, era) as client:
            result = await client.call_tool("complete", {"messages": HELLO})
            answer = result.structured_content
            assert answer is not None
            assert answer == json.loads(text(result))
            assert BOOK.startswith(answer["content"])
            assert answer["content"].endswith(".")
            assert 450 < len(answer["content"]) <= 500
            cut = answer["truncated"]
            assert (cut["shown_chars"], cut["chars"]) == (len(answer["content"]), len(BOOK))
            (_, link) = result.content
            assert isinstance(link, types.ResourceLink)
            assert link.uri == cut["uri"]
            assert cut["uri"].startswith("konstruct://completions/")
            assert await self.read(client, cut["uri"]) == BOOK

    @pytest.mark.parametrize(
        ("whole", "shown"),
        [
            ("x" * 100, "x" * 100),
            ("x" * 101, "x" * 100),
            ("word " * 40, ("word " * 20).rstrip()),
            ("A. " + "word " * 40, ("A. " + "word " * 19).rstrip()),
            ("line\n" * 30, ("line\n" * 20).rstrip()),
            ("Is it 3.1415 or 2.71? " * 9, ("Is it 3.1415 or 2.71? " * 4).rstrip()),
            ("x" * 99 + "." + "y" * 9, "x" * 99 + "."),
            ("これは文です。" * 20, "これは文です。" * 14),
            ("\N{GRINNING FACE}" * 150, "\N{GRINNING FACE}" * 100),
        ],
    )
    async def test_where_it_is_cut(
        self, config: dict[str, Any], tmp_path: Path, ollama: Provider, whole: str, shown: str
    ) -> None:
        config["konstruct"]["max_result_chars"] = 100
        ollama.script(Text(whole))
        async with opened(tmp_path, config) as konstruct, connected(konstruct) as client:
            answer = (await client.call_tool("complete", {"messages": HELLO})).structured_content
        assert answer is not None
        assert answer["content"] == shown
        assert ("truncated" in answer) is (len(whole) > 100)

    async def test_what_is_cut_are_whole_calls_too(
        self, config: dict[str, Any], tmp_path: Path, ollama: Provider
    ) -> None:
        config["konstruct"]["max_result_chars"] = 1000
        made = [(f"call_{n}", "look", json.dumps({"text": "x" * size})) for n, size in enumerate((200, 2000, 10))]
        ollama.script(Text(BOOK, tool_calls=made))
        async with opened(tmp_path, config) as konstruct, connected(konstruct) as client:
            result = await client.call_tool("complete", {"messages": HELLO, "tools": [LOOK]})
            answer = result.structured_content
            assert answer is not None
            assert answer["finish_reason"] == "tool_calls"
            assert [len(call["function"]["arguments"]) for call in answer["tool_calls"]] == [212]
            assert 600 < len(answer["content"]) + len(json.dumps(answer["tool_calls"])) <= 1010
            cut = answer["truncated"]
            assert (cut["shown_tool_calls"], cut["tool_calls"], cut["chars"]) == (1, 3, len(BOOK))
            (contents,) = (await client.read_resource(cut["uri"])).contents
        assert isinstance(contents, types.TextResourceContents)
        assert contents.mime_type == "application/json"
        whole = json.loads(contents.text)
        assert whole["content"] == BOOK
        assert [len(call["function"]["arguments"]) for call in whole["tool_calls"]] == [212, 2012, 22]

    async def test_it_is_kept_for_an_hour(self, config: dict[str, Any], tmp_path: Path, ollama: Provider) -> None:
        config["konstruct"]["max_result_chars"] = 500
        ollama.script(Text(BOOK))
        now = [0.0]
        async with (
            opened(tmp_path, config) as konstruct,
            Client(KonstructServer(konstruct, clock=lambda: now[0])) as client,
        ):
            uri = await self.uri(client)
            now[0] = 3599
            assert await self.read(client, uri) == BOOK
            now[0] = 3601
            with pytest.raises(MCPError, match="no such answer; one that was cut is kept for an hour"):
                await self.read(client, uri)

    async def uri(self, client: Client, **arguments: Any) -> str:
        answer = (await client.call_tool("complete", {"messages": HELLO, **arguments})).structured_content
        assert answer is not None
        return str(answer["truncated"]["uri"])

    async def test_what_is_kept_has_a_bound_and_the_oldest_goes_first(
        self, config: dict[str, Any], tmp_path: Path, ollama: Provider
    ) -> None:
        config["konstruct"]["max_result_chars"] = 500
        million = 2**20
        async with opened(tmp_path, config) as konstruct, connected(konstruct) as client:
            ollama.script(Text("x" * 10 * million))
            uris = [await self.uri(client) for _ in range(7)]
            with pytest.raises(MCPError, match="no such answer"):
                await self.read(client, uris[0])
            assert [len(await self.read(client, uri)) for uri in uris[1:]] == [10 * million] * 6

    async def test_another_tenants_server_does_not_show_it(
        self, config: dict[str, Any], tmp_path: Path, ollama: Provider
    ) -> None:
        config["konstruct"]["max_result_chars"] = 500
        ollama.script(Text(BOOK))
        path = write(tmp_path, config)
        environ = {**KEYS, "KONSTRUCT_TENANT_ID": "acme"}
        async with Konstruct.from_config(path, environ=environ) as konstruct, connected(konstruct) as client:
            assert await self.read(client, await self.uri(client)) == BOOK
            assert await self.read(client, await self.uri(client, tenant_id="acme")) == BOOK
            uri = await self.uri(client)
            others = (
                await client.call_tool("complete", {"messages": HELLO, "tenant_id": "umbrella"})
            ).structured_content
            assert others is not None
            assert others["truncated"]["uri"] is None
        environ = {**KEYS, "KONSTRUCT_TENANT_ID": "umbrella"}
        async with Konstruct.from_config(path, environ=environ) as konstruct, connected(konstruct) as client:
            with pytest.raises(MCPError, match="no such answer"):
                await self.read(client, uri)
        async with Konstruct.from_config(path, environ=KEYS) as konstruct, connected(konstruct) as client:
            assert await self.read(client, await self.uri(client, tenant_id="umbrella")) == BOOK  # an operator's

    async def test_from_python_nothing_is_cut(self, config: dict[str, Any], tmp_path: Path, ollama: Provider) -> None:
        config["konstruct"]["max_result_chars"] = 500
        ollama.script(Text(BOOK))
        lines: list[str] = []
        async with opened(tmp_path, config) as konstruct:
            completion = await konstruct.complete(HELLO, model_group="fast", on_wait=lines.append)
        assert completion.content == BOOK
        assert lines[-2:] == ["trying ollama/qwen3:32b", "waiting for the ledger to take note of the answer"]
        assert "waiting for LiteLLM to load" in lines
