"""Providers that fail together, one after the other, or now and then, under load."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.default_groups import HELLO, KEYS, default_groups, entry, opened, write
from support.fork_server import ForkServer
from support.processes import wait_for
from support.providers import Answer, Drop, Hang, Provider, Raw, Reset, Status, Text
from support.stdio_lines import ServerProcess

from konstruct_mcp import CompletionError

CALLS = 100


class TestEverythingIsDown:
    """A hundred calls at once, none of which can be answered."""

    unanswered = 0  # when what was sent after them had been answered

    @pytest.fixture
    def down(self, anthropic: Provider, openai: Provider, ollama: Provider) -> list[Provider]:
        for provider in (anthropic, openai, ollama):
            provider.script(Status(503))
        return [anthropic, openai, ollama]

    @pytest.fixture
    def server(self, down: list[Provider], tmp_path: Path, fork_server: ForkServer | None) -> Iterator[ServerProcess]:
        config = default_groups(down[0], down[1], down[2])
        config["model_list"].append(entry("up", {"model": "ollama/up", "api_base": down[2].url}))
        with ServerProcess(write(tmp_path, config), environ=KEYS, fork_server=fork_server) as server:
            server.initialize()
            yield server

    @pytest.mark.long
    def test_each_is_told_why_few_tries_are_made_and_the_server_goes_on(
        self, server: ServerProcess, down: list[Provider]
    ) -> None:
        first = self.ask(server)
        assert self.unanswered > 0  # after a ping and a list of groups, which were sent last
        assert sum(line.startswith("all_failed: ") for line in first) > 0
        assert all(line.startswith(("all_failed: ", "unavailable: ")) for line in first)
        assert all("ollama/qwen3:32b: " in line and "HTTP 503" in line for line in first)
        tries = sum(provider.calls for provider in down)
        assert tries <= 3 * CALLS + 20  # one each at the most, those of the first few, and what the others share
        process = psutil.Process(server.process.pid)
        before = sum(process.cpu_times()[:2])
        self.ask(server)
        # A few milliseconds of processor time each: some two where nothing else runs.
        assert (sum(process.cpu_times()[:2]) - before) / CALLS < 0.01
        assert sum(provider.calls for provider in down) <= tries + 20  # and now that it is known, one now and then

        wait_for(lambda: server.errors.count(b"\n") >= 3)
        lines = server.errors.decode().splitlines()
        assert sorted(line.split()[2] for line in lines) == [
            "anthropic/claude-sonnet-4-6",
            "ollama/qwen3:32b",
            "openai/gpt-4o",
        ]
        assert all(line.endswith("server error (HTTP 503); passed over for 30 s or until it is back") for line in lines)

        down[1].script(Text("back"))
        while server.complete("quality")["isError"]:
            pass  # within a second
        wait_for(lambda: server.errors.count(b"\n") >= 4)
        assert server.errors.decode().splitlines()[3:] == [
            "konstruct-mcp: WARNING: openai/gpt-4o (quality): answers again"
        ]

    def ask(self, server: ServerProcess) -> list[str]:
        """What each of a hundred calls is told; pings and `list_groups` are answered before the last of them."""
        requests = [server.send_call("quality") for _ in range(CALLS)]
        assert server.ask("ping") == {}
        assert server.ask("tools/call", {"name": "list_groups"})["structuredContent"]["groups"]
        self.unanswered = sum(not server.has_answer(request) for request in requests)
        results = [server.answer(request)["result"] for request in requests]
        assert all(result["isError"] for result in results)
        return [result["content"][0]["text"] for result in results]


@dataclass
class Weather:
    """How each provider answers at the moment, and when that last changed."""

    answers: dict[str, Answer] = field(default_factory=dict)
    changed: list[float] = field(default_factory=list)

    def turn(self, **answers: Answer) -> None:
        self.answers |= answers
        self.changed.append(time.monotonic())


@pytest.mark.parametrize("turns", [12, pytest.param(120, marks=[pytest.mark.minutes, pytest.mark.timeout(900)])])
async def test_no_call_fails_while_anything_in_its_chain_is_healthy(
    turns: int, tmp_path: Path, anthropic: Provider, openai: Provider, ollama: Provider
) -> None:
    """One is healthy at any time, another one each time, and the others fail in every way there is."""
    rng = random.Random(turns)
    names = ["anthropic", "openai", "ollama"]
    weather = Weather()
    for name, provider in zip(names, (anthropic, openai, ollama), strict=True):
        provider.script(lambda _, name=name: weather.answers[name])  # type: ignore[misc]  # cannot infer a lambda
    ways: list[Answer] = [
        *(Status(500), Status(429), Status(503, headers={"retry-after": "0.2"}), Status(529), Status(401), Drop()),
        *(Reset(), Hang(), Raw(b"<html>", content_type="text/html"), Text("slow", delay=0.3), Text("well")),
    ]
    config = default_groups(anthropic, openai, ollama)
    config["router_settings"] |= {"timeout": 1, "num_retries": 1}
    config["konstruct"] |= {"timeout_s": 20}
    weather.turn(**dict.fromkeys(names, Text("well")))
    failed: list[tuple[float, float, str]] = []
    answered = 0
    over = asyncio.Event()

    async def ask(konstruct: Any) -> None:
        nonlocal answered
        while not over.is_set():
            began = time.monotonic()
            try:
                await konstruct.complete(HELLO, model_group="quality")
                answered += 1
            except CompletionError as error:
                failed.append((began, time.monotonic(), str(error)))
            await asyncio.sleep(0.02)  # a steady load, and not as fast as it can fail

    async with opened(tmp_path, config) as konstruct:
        await konstruct.complete(HELLO, model_group="quality")
        async with asyncio.TaskGroup() as tasks:
            for _ in range(10):
                tasks.create_task(ask(konstruct))
            for turn in range(turns):
                healthy = names[turn % 3]
                weather.turn(**{name: Text("well") if name == healthy else rng.choice(ways) for name in names})
                await asyncio.sleep(rng.uniform(0.2, 0.8))
            over.set()
    assert answered > turns
    assert [text for began, ended, text in failed if not any(began <= at <= ended for at in weather.changed)] == []
