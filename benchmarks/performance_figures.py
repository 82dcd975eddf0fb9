"""What `performance.py` measures of each server: its start, first call, calls one by one and at once, outage, sizes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from harness import Figure, LineProcess
from performance_servers import PROMPT, Server, ServerCommand, ServerFailedError

_N = TypeVar("_N", int, float)

OURS, A, B = "konstruct", "A", "B"
PARTS = ("start", "first_call", "calls", "outage", "sizes")
OUTAGES = 10  # groups, each of which goes down once
IDLE_S = 5.0
PING_S = 0.01  # between one and the next


class TimedProvider:
    """The fake provider, which takes as long for an answer as it is told."""

    def __init__(self, process: LineProcess, url: str) -> None:
        self._process = process
        self.url = url

    async def answers(self, delay: float = 0.0, chars: int = 20, status: int = 200) -> int:
        """Answer from now on after so many seconds, with so long a text.

        Returns:
            How often it has been asked until now.
        """
        self._process.send(json.dumps({"delay": delay, "chars": chars, "status": status}).encode())
        return int(await self._process.next_json())


class Measurements:
    """Takes the figures of all servers, one part of them after the other; each of `PARTS` is a method.

    Attributes:
        figures: in the order in which they were begun.
        failed: what a peer could not do.
    """

    def __init__(self, servers: Sequence[ServerCommand], provider: TimedProvider, rounds: int, *, short: bool) -> None:
        self._commands = servers
        self._provider = provider
        self._rounds = rounds
        self._short = short
        self.figures: list[Figure] = []
        self.failed: list[str] = []

    def _figure(self, *words: Any) -> Figure:
        figure = Figure(*words)
        self.figures.append(figure)
        return figure

    def _few(self, many: _N, few: _N) -> _N:
        return few if self._short else many

    @contextlib.asynccontextmanager
    async def _trying(self, server: str) -> AsyncIterator[None]:
        """What a peer cannot do leaves a blank and is reported; what one of the others cannot do ends the run."""
        try:
            yield
        except (ServerFailedError, TimeoutError, OSError) as error:
            if server in (OURS, A, B):
                raise
            self.failed.append(f"{server}: {str(error) or 'no answer'}")

    async def start(self) -> None:
        """From the start of a process to its first answers."""
        for bytecode, rounds in (("warm", self._few(2 * self._rounds, 1)), ("cold", self._few(self._rounds, 1))):
            nothing = self._figure(f"`python -c pass`, bytecode {bytecode}", "ms")
            first = self._figure(
                f"start → `initialize`, bytecode {bytecode}", "ms", A, 1.10 if bytecode == "warm" else None
            )
            then = self._figure(f"`initialize` → `tools/list`, bytecode {bytecode}", "ms")
            then.most = 10 if bytecode == "warm" else None
            for _ in range(rounds):
                for command in self._commands:
                    if command.name == B and bytecode == "cold":
                        continue
                    async with self._trying(command.name), contextlib.AsyncExitStack() as stack:
                        environ = {}
                        if bytecode == "cold":
                            environ["PYTHONPYCACHEPREFIX"] = stack.enter_context(tempfile.TemporaryDirectory())
                        if command.name == OURS:
                            began = time.perf_counter()
                            python = await asyncio.create_subprocess_exec(
                                sys.executable, "-c", "pass", env={**command.environ, **environ}
                            )
                            await python.wait()
                            nothing.add(OURS, (time.perf_counter() - began) * 1000)
                        server = await stack.enter_async_context(command.started(**environ))
                        initialized = await server.initialize()
                        listed = await server.request("tools/list")
                        first.add(command.name, (initialized.came - server.began) * 1000)
                        then.add(command.name, (listed.came - initialized.came) * 1000)

    async def first_call(self) -> None:
        """A call right after the start, and one after some seconds in which nothing is asked."""
        await self._provider.answers()
        at_once = self._figure("start → first call answered, asked at once", "ms")
        idle = self._figure(f"first call, {IDLE_S:g} s after the start", "ms")
        steady = self._figure("a call thereafter", "ms")
        over = self._figure("the first call over those thereafter", "ratio")
        over.most = 1.5
        again = self._figure(f"a call after {IDLE_S:g} idle s, over those before", "ratio")
        idles = self._figure(f"the first call over one after {IDLE_S:g} idle s", "ratio")
        for _ in range(self._few(self._rounds, 1)):
            for command in self._commands:
                async with self._trying(command.name):
                    async with command.started() as server:
                        await server.initialize()
                        answer = await server.call()
                        at_once.add(command.name, (answer.came - server.began) * 1000)
                    async with command.running() as server:
                        await server.request("tools/list")
                        await asyncio.sleep(self._few(IDLE_S, 0.5))
                        first = await server.call_ms()
                        usual = statistics.median([await server.call_ms() for _ in range(20)])
                        idle.add(command.name, first)
                        steady.add(command.name, usual)
                        over.add(command.name, first / usual)
                        if not self._short:
                            await asyncio.sleep(IDLE_S)
                            later = await server.call_ms()
                            again.add(command.name, later / usual)
                            idles.add(command.name, first / later)

    async def calls(self) -> None:
        """Calls one by one and at once, large ones, and what they leave in memory."""
        async with contextlib.AsyncExitStack() as stack:
            servers: list[Server] = []
            at_start = self._figure("memory once `tools/list` is answered", "MB")
            for command in self._commands:
                async with self._trying(command.name):
                    server = await stack.enter_async_context(command.running())
                    await server.request("tools/list")
                    at_start.add(command.name, server.rss_mb)
                    await self._provider.answers()
                    for _ in range(self._few(100, 5)):
                        await server.call()
                    servers.append(server)
            warm = self._figure("memory after 100 calls", "MB", B, 1.05)
            for server in servers:
                warm.add(server.name, server.rss_mb)
            await self._one_by_one(servers)
            for count, most, ping in ((50, 1.15, None), (500, None, 100.0)):
                await self._at_once(servers, self._few(count, count // 10), most, ping)
            await self._large(servers)

    async def _one_by_one(self, servers: Sequence[Server]) -> None:
        delay, count = 0.02, self._few(100, 5)
        beyond = self._figure("one call: time beyond the provider's", "ms", B)
        cpu = self._figure("one call: processor", "ms", B, 1.15)
        await self._provider.answers(delay)
        for _ in range(self._rounds):
            for server in servers:
                async with self._trying(server.name):
                    before = server.cpu_s
                    took = [await server.call_ms() for _ in range(count)]
                    cpu.add(server.name, (server.cpu_s - before) * 1000 / count)
                    beyond.add(server.name, statistics.median(took) - delay * 1000)

    async def _at_once(
        self, servers: Sequence[Server], count: int, most: float | None, most_ping: float | None
    ) -> None:
        delay = 0.2
        wall = self._figure(f"{count} calls at once of {delay * 1000:.0f} ms: until all are answered", "ms", A, most)
        speed = self._figure(f"{count} calls at once: answers", "/s")
        cpu = self._figure(f"{count} calls at once: processor, of each", "ms", B)
        longest = self._figure(f"{count} calls at once: longest `ping`", "ms", "", most_ping)
        memory = self._figure(f"{count} calls at once: most memory", "MB", B)
        await self._provider.answers(delay)
        for _ in range(self._rounds):
            for server in servers:
                name = server.name
                async with self._trying(server.name):
                    before, began = server.cpu_s, time.perf_counter()
                    calls = [asyncio.ensure_future(server.call()) for _ in range(count)]
                    pings, most_rss = [], 0.0
                    while not all(call.done() for call in calls):
                        asked = time.perf_counter()
                        pings.append((await server.request("ping")).came - asked)
                        most_rss = max(most_rss, server.rss_mb)
                        await asyncio.sleep(PING_S)
                    took = max(call.result().came for call in calls) - began
                    wall.add(name, took * 1000)
                    speed.add(name, count / took)
                    cpu.add(name, (server.cpu_s - before) * 1000 / count)
                    longest.add(name, max(pings) * 1000)
                    memory.add(name, most_rss)

    async def _large(self, servers: Sequence[Server]) -> None:
        prompt, count = "Why is the sky blue? " * 20_000, self._few(5, 1)
        for said, size, asked in (("a prompt of 400 KB", 20, prompt), ("an answer of 1 MB", 1_000_000, PROMPT)):
            took = self._figure(f"{said}: time", "ms", B)
            cpu = self._figure(f"{said}: processor", "ms", B)
            await self._provider.answers(chars=size)
            for _ in range(self._rounds):
                for server in servers:
                    async with self._trying(server.name):
                        before = server.cpu_s
                        took.add(
                            server.name,
                            statistics.median([await server.call_ms(asked) for _ in range(count)]),
                        )
                        cpu.add(server.name, (server.cpu_s - before) * 1000 / count)

    async def outage(self) -> None:
        """Calls that fail, of ours and of B."""
        first_ms = self._figure("an outage: first failing call, time", "ms", B)
        first_cpu = self._figure("an outage: first failing call, processor", "ms", B)
        first_tries = self._figure("an outage: first failing call, tries", "")
        then_ms = self._figure("an outage: a later one, time", "ms")
        then_cpu = self._figure("an outage: a later one, processor", "ms")
        then_cpu.most = 1.0
        then_tries = self._figure("an outage: a later one, tries", "")
        then_tries.most = 0
        down, later = self._few(OUTAGES, 2), self._few(200, 5)
        for _ in range(self._few(min(self._rounds, 3), 1)):
            for command in self._commands:
                if command.name not in (OURS, B):
                    continue
                name, is_ours = command.name, command.name == OURS
                environ = dict(command.environ)
                if is_ours:
                    environ["KONSTRUCT_CONFIG"] = environ["KONSTRUCT_CONFIG"].replace("konstruct.yaml", "outage.yaml")
                async with command.running(**environ) as server:
                    groups = [{"model_group": f"outage{number}"} if is_ours else {} for number in range(down)]
                    await self._provider.answers()
                    await server.call()
                    asked, before = await self._provider.answers(status=503), server.cpu_s
                    # All at once: each waits for seconds between its tries.
                    took = await asyncio.gather(*(server.call_ms(fails=True, **group) for group in groups))
                    first_ms.add(name, statistics.median(took))
                    first_cpu.add(name, (server.cpu_s - before) * 1000 / down)
                    asked_first, before = await self._provider.answers(status=503), server.cpu_s
                    first_tries.add(name, (asked_first - asked) / down)
                    if is_ours:
                        took = [await server.call_ms(fails=True, **groups[0]) for _ in range(later)]
                    else:
                        took = await asyncio.gather(*(server.call_ms(fails=True) for _ in groups))
                    then_ms.add(name, statistics.median(took))
                    then_cpu.add(name, (server.cpu_s - before) * 1000 / len(took))
                    then_tries.add(name, (await self._provider.answers(status=503) - asked_first) / len(took))

    async def sizes(self) -> None:
        """What an assistant carries in its context."""
        listed = self._figure("`tools/list`", "bytes")
        tokens = self._figure("`tools/list`", "tokens")
        beyond = self._figure("an answer beyond its text", "bytes")
        encoding = cl100k()
        await self._provider.answers()
        for command in self._commands:
            async with self._trying(command.name), command.running() as server:
                answer = await server.request("tools/list")
                text = json.dumps(answer.message["result"]["tools"], ensure_ascii=False, separators=(",", ":"))
                listed.add(command.name, answer.size)
                tokens.add(command.name, len(encoding.encode(text)))
                beyond.add(command.name, (await server.call()).size - 20)


def cl100k() -> Any:
    """The encoding that tools are counted in; LiteLLM carries its file."""
    from importlib.util import find_spec

    import tiktoken

    spec = find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    tokenizers = Path(spec.origin).parent / "litellm_core_utils/tokenizers"
    os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(tokenizers))
    return tiktoken.get_encoding("cl100k_base")
