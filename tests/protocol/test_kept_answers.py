"""Answers that are kept to be read whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from mcp import Client, types
from mcp.shared.exceptions import MCPError
from support.default_groups import HELLO, entry, opened
from support.providers import Provider, Text

from konstruct_mcp.gateway.caller import Caller
from konstruct_mcp.protocol.kept_answers import InMemoryKeptAnswers, KeptAnswer
from konstruct_mcp.protocol.server import KonstructServer

MEGA = 2**20


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_one_is_found_by_its_id_and_says_whose_it_is() -> None:
    kept = InMemoryKeptAnswers(Clock())
    answer = KeptAnswer("acme", "the whole of it", "application/json")
    answer_id = await kept.keep(answer)
    assert answer_id is not None
    assert await kept.get(answer_id) == answer
    assert await kept.get("another") is None


async def test_ids_are_not_guessed_from_each_other() -> None:
    kept = InMemoryKeptAnswers(Clock())
    ids = {str(await kept.keep(KeptAnswer("acme", "x", "text/plain"))) for _ in range(100)}
    assert len(ids) == 100
    assert all(len(one) == 36 for one in ids)


async def test_it_is_gone_after_an_hour() -> None:
    clock = Clock()
    kept = InMemoryKeptAnswers(clock)
    answer_id = str(await kept.keep(KeptAnswer("acme", "x", "text/plain")))
    clock.now = 3599
    assert await kept.get(answer_id) is not None
    clock.now = 3600
    assert await kept.get(answer_id) is None


async def test_one_that_is_larger_than_all_may_be_is_not_kept() -> None:
    assert await InMemoryKeptAnswers(Clock()).keep(KeptAnswer("acme", "x" * (64 * MEGA + 1), "text/plain")) is None


async def test_one_tenant_pushes_out_no_answer_of_another() -> None:
    kept = InMemoryKeptAnswers(Clock())
    small = str(await kept.keep(KeptAnswer("globex", "small", "text/plain")))
    large = [str(await kept.keep(KeptAnswer("acme", "x" * 20 * MEGA, "text/plain"))) for _ in range(5)]
    assert await kept.get(small) is not None
    assert [await kept.get(one) is not None for one in large] == [False, False, True, True, True]


class TestSharedByServers:
    """Two servers, as behind a load balancer: what one has kept the other gives to whoever may read it."""

    @asynccontextmanager
    async def clients(self, folder: Path, ollama: Provider) -> AsyncIterator[dict[str, Client]]:
        local = {"model": "ollama/x", "api_base": ollama.url}
        config = {"model_list": [entry("g", local)], "konstruct": {"max_result_chars": 100}}
        kept = InMemoryKeptAnswers(Clock())
        async with AsyncExitStack() as stack:
            konstruct = await stack.enter_async_context(opened(folder, config))
            found = {}
            for name, tenant in (("first", "acme"), ("second", "acme"), ("globex", "globex")):
                caller = Caller.verified(tenant)
                server = KonstructServer(konstruct, caller_of=lambda _, caller=caller: caller, kept=kept)  # type: ignore[misc]
                found[name] = await stack.enter_async_context(Client(server))
            yield found

    async def test_one_is_read_where_it_was_not_kept_and_by_nobody_else(self, tmp_path: Path, ollama: Provider) -> None:
        ollama.script(Text("a long answer " * 100))
        async with self.clients(tmp_path, ollama) as clients:
            answer = (await clients["first"].call_tool("complete", {"messages": HELLO})).structured_content
            assert answer is not None
            uri = answer["truncated"]["uri"]
            (contents,) = (await clients["second"].read_resource(uri)).contents
            assert isinstance(contents, types.TextResourceContents)
            assert contents.text == "a long answer " * 100
            with pytest.raises(MCPError, match="no such answer"):
                await clients["globex"].read_resource(uri)
