"""What serving a team over HTTP costs, beside stdio and beside LiteLLM's proxy, and what holds over several replicas.

    python benchmarks/scale.py [--only PART]... [--rounds N] [--against CHECKOUT] [--short] [--json]

Everything is on this machine: replicas, a PostgreSQL, a Valkey, a round-robin proxy, and one fake provider in a process
of its own. Those that are compared take turns within one run, so that both meet the same machine; each figure is one of
medians. The parts:

calls        processor time of a call over HTTP, in both eras, beside stdio
ledger       what several processes write at once, beside one: of `ledger_writes.py`
fairness     a tenant's call beside another's flood
limits       what a limit of calls per minute lets through, over four replicas
valkey       a call's latency with a Valkey that is dead, and with one that is frozen, beside none
connections  what an idle connection takes, and whether a thousand of them are served
litellm      calls per second and processor time, beside LiteLLM's proxy: it has no database, see `scale_servers.py`
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import FOLDER, WAIT_S, fake_providers, product_environ, rounded, say, table
from performance_figures import TimedProvider
from performance_servers import Server, ServerCommand
from scale_servers import ERAS, META, Asked, Mcp, available_files, http, litellm_call, litellm_proxy, machine
from support.databases import PostgreSQL
from support.replicas import Replicas, create_keys, free_port
from support.valkey import Valkey

ANSWER_S = 0.1  # that the provider takes
SLOW_ANSWER_S = 1.5  # the same, where a call waits much longer than it works
TENANT = "bench"
RPM = 120
REPLICAS = 4
CONNECTIONS = 1000
BUDGETS = [{"usd": 1_000_000, "per": "total"}]


@dataclass(frozen=True)
class Row:
    """One line of the table; `met` is None where nothing was measured."""

    figure: str
    goal: str
    measured: str
    met: bool | None


def at_most(figure: str, value: float, most: float, told: str = "") -> Row:
    return Row(figure, f"≤ {most:g}", rounded(value) + told, value <= most)


def at_least(figure: str, value: float, least: float, told: str = "") -> Row:
    return Row(figure, f"≥ {least:g}", rounded(value) + told, value >= least)


class Scale:
    """Takes the figures; each part is a method that returns its rows."""

    def __init__(self, provider: TimedProvider, folder: Path, options: argparse.Namespace) -> None:
        self._provider, self._folder, self._against = provider, folder, options.against
        self._short: bool = options.short
        self._rounds: int = 1 if options.short else options.rounds

    def _few(self, many: int, few: int) -> int:
        return few if self._short else many

    def _config(self, name: str, **konstruct: Any) -> dict[str, Any]:
        params = {"model": "openai/gpt-4o", "api_base": self._provider.url, "api_key": "sk-bench"}
        limits = {"rpm": RPM} if name == "limits" else {}
        return {
            "model_list": [{"model_name": "fake", "litellm_params": {**params, **limits}}],
            "router_settings": {"num_retries": 0},
            "konstruct": {
                "default_group": "fake",
                "ledger_url": f"sqlite:///{self._folder}/{name}.sqlite3",
                "max_concurrency": 1000,
                "tenants": {TENANT: {"budgets": BUDGETS}},
                "auth": {"required": True},  # on loopback, too
                **konstruct,
            },
        }

    @contextlib.asynccontextmanager
    async def _replicas(self, name: str, count: int = 1, **konstruct: Any) -> AsyncIterator[tuple[Replicas, str]]:
        """So many replicas, and a tenant's key for them."""
        environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        async with Replicas(self._folder / name, self._config(name, **konstruct), count, environ) as replicas:
            [key] = await create_keys(replicas.config, TENANT)
            yield replicas, key

    @contextlib.asynccontextmanager
    async def _stdio(self) -> AsyncIterator[Server]:
        config = self._folder / "stdio.yaml"
        config.write_text(json.dumps(self._config("stdio", default_tenant=TENANT)))
        arguments = {"messages": [{"role": "user", "content": "{prompt}"}], "max_tokens": 100}
        program = [str(Path(sys.executable).with_name("konstruct-mcp"))]
        command = ServerCommand("stdio", program, product_environ(self._folder, config), "complete", arguments)
        async with command.running() as server:
            yield server

    async def calls(self) -> list[Row]:
        at_once, calls = self._few(200, 20), self._few(1000, 40)
        await self._provider.answers(ANSWER_S)
        async with self._stdio() as stdio, self._replicas("http") as (replicas, key), http() as session:
            url, process = replicas[0].url, replicas[0].figures

            async def over_stdio() -> None:
                await stdio.call()

            asked = {
                "stdio": Asked(over_stdio, stdio.figures),
                "2026": Asked(Mcp(session, url, key, "2026").complete, process),
                "2025": Asked(Mcp(session, url, key, "2025").complete, process),
            }
            await take_turns(asked, calls, at_once, self._rounds)
        cpu = {name: statistics.median(each.cpu_ms) for name, each in asked.items()}
        told = f" ({at_once} at once; over stdio {rounded(cpu['stdio'])} ms)"
        return [
            at_most("a call over HTTP, 2026 era: processor time over stdio's", cpu["2026"] / cpu["stdio"], 1.25, told),
            at_most("the same in the 2025 era, by SSE", cpu["2025"] / cpu["stdio"], 1.5),
        ]

    async def ledger(self) -> list[Row]:
        """What `ledger_writes.py` prints, which is text for people."""
        against = ["--against", str(self._against)] if self._against else []
        command = [sys.executable, str(FOLDER / "ledger_writes.py"), "--seconds", str(self._few(5, 1)), *against]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        assert process.returncode == 0, out
        text = out.decode()
        rows = [
            at_least(f"the ledger on PostgreSQL: four processes over one, {tenants} tenants", float(ratio), 1.5)
            for tenants, ratio in found(r"^\d+ processes over one, (\d+) tenants: ([\d.]+)", text)
        ]
        for (ratio,) in found(r"^\| 1 ms further +\| 50 +\| 4 +\|.*\| ([\d.]+) *\|$", text) if against else ():
            rows.append(at_least("the ledger at 1 ms more to a round trip, over the other checkout's", float(ratio), 5))
        for (p99,) in found(r"p99 ([\d.]+) ms", text):
            rows.append(at_most("a reservation at half of saturation, p99 in ms", float(p99), 50))
        return rows

    async def fairness(self) -> list[Row]:
        """One tenant's calls, one after another, with nobody beside it and beside many of another's: where these wait
        for the provider, and where they take all of the processor."""
        waiting, ratio = await self._beside_flood(SLOW_ANSWER_S)
        rows = [at_most("a tenant's call beside another's flood, over alone", ratio, 2, waiting)]
        working, ratio = await self._beside_flood(ANSWER_S)
        told = rounded(ratio) + working
        return [*rows, Row("the same where the flood takes all of the processor", "", told, None)]

    async def _beside_flood(self, answer_s: float) -> tuple[str, float]:
        """Returns what was measured, in words, and the ratio."""
        flood, calls = self._few(900, 60), self._few(20, 3)
        await self._provider.answers(answer_s)
        tenants: dict[str, Any] = {TENANT: {}, "flood": {}}
        limits = {"max_concurrency": self._few(100, 10), "max_queue": 2 * flood}
        name = f"fairness-{answer_s:g}"
        async with self._replicas(name, tenants=tenants, **limits) as (replicas, key), http() as session:
            [replica] = replicas
            one = Asked(Mcp(session, replica.url, key).complete, replica.figures)
            [others] = await create_keys(replicas.config, "flood")
            other = Mcp(session, replica.url, others)
            await one.load(calls, 1)
            one.forget()
            await one.load(calls, 1)
            alone = statistics.median(one.latency_ms)
            one.forget()
            async with going_on(other.complete, flood):
                await one.load(calls, 1)
            beside = statistics.median(one.latency_ms)
        return f" ({rounded(beside)} over {rounded(alone)} ms, beside {flood} calls at once)", beside / alone

    async def limits(self) -> list[Row]:
        """Twice as many calls as the limit allows in a minute, in less than a minute, each to the next replica."""
        with Valkey() as server:
            async with self._replicas("limits", REPLICAS, redis_url=server.url) as (replicas, key), http() as session:
                clients = [Mcp(session, replica.url, key) for replica in replicas]
                before, began = await self._provider.answers(0.0), time.monotonic()

                async def some(number: int) -> None:
                    for _ in range(2 * RPM // 12):
                        with contextlib.suppress(Exception):  # the limit's refusal
                            await clients[number % REPLICAS].complete()

                await asyncio.gather(*map(some, range(12)))
                took = time.monotonic() - began
                let_through = await self._provider.answers(0.0) - before
        assert took < 60, "a limit per minute has to be tried in less than one"
        most = RPM + min(0.05 * RPM, REPLICAS)
        goal = f"≤ {most:g} of {RPM}"
        return [
            Row(
                "calls that a limit per minute lets through, over four replicas",
                goal,
                str(let_through),
                let_through <= most,
            )
        ]

    async def valkey(self) -> list[Row]:
        at_once, calls = 10, self._few(200, 40)
        await self._provider.answers(ANSWER_S)
        with Valkey() as frozen, Valkey() as dead:
            async with (
                self._replicas("none") as (none, none_key),
                self._replicas("dead", redis_url=dead.url) as (without, dead_key),
                self._replicas("frozen", redis_url=frozen.url) as (still, frozen_key),
                http() as session,
            ):
                asked = {
                    "none": Asked(Mcp(session, none[0].url, none_key).complete, none[0].figures),
                    "dead": Asked(Mcp(session, without[0].url, dead_key).complete, without[0].figures),
                    "frozen": Asked(Mcp(session, still[0].url, frozen_key).complete, still[0].figures),
                }
                await take_turns(asked, at_once, at_once, 1)  # warm, and all is well
                dead.kill()
                with frozen.frozen():
                    worst = await first_calls(asked)
                    await take_turns(asked, calls, at_once, self._rounds)
        took = {name: statistics.median(each.latency_ms) for name, each in asked.items()}
        return [
            at_most("a call's latency with Valkey dead, over without it", took["dead"] / took["none"], 1.1),
            at_most("the same with Valkey frozen", took["frozen"] / took["none"], 1.1),
            at_most("the slowest call just after, in seconds beyond the provider's", worst, 0.2),
        ]

    async def connections(self) -> list[Row]:
        count = self._few(CONNECTIONS, 100)
        available_files(4 * count)
        await self._provider.answers(ANSWER_S)
        async with self._replicas("connections") as (replicas, key):
            port, process = replicas[0].port, replicas[0].figures
            async with http() as session:
                await Mcp(session, replicas[0].url, key).complete()  # loads LiteLLM, which is no connection's
            one = await connect(port, key)
            for _ in range(count):  # nor is what requests take, one after another
                await ping(one, port, key)
            await close([one])
            before = process.memory_info().rss
            opened = [await connect(port, key) for _ in range(count)]
            each = (process.memory_info().rss - before) / count / 1024
            served = sum(await asyncio.gather(*(ping(connection, port, key) for connection in opened)))
            await close(opened)
        return [
            at_most("an idle connection, KiB", max(each, 0.0), 30),
            Row(f"of {count:,} connections are served", f"{count:,}", f"{served:,}", served == count),
        ]

    async def litellm(self) -> list[Row]:
        at_once, calls = self._few(100, 20), self._few(1000, 60)
        await self._provider.answers(ANSWER_S)
        port = free_port()
        with PostgreSQL() as postgresql:
            url = postgresql.create().url
            async with (
                self._replicas("beside-litellm", ledger_url=url) as (replicas, key),
                litellm_proxy(self._folder, self._provider.url, port) as process,
                http() as session,
            ):
                asked = {
                    "ours": Asked(Mcp(session, replicas[0].url, key).complete, replicas[0].figures),
                    "theirs": Asked(litellm_call(session, port), process),
                }
                await take_turns(asked, calls, at_once, self._rounds)
        per_second = {name: statistics.median(each.per_second) for name, each in asked.items()}
        cpu = {name: statistics.median(each.cpu_ms) for name, each in asked.items()}
        calls_told = f" × ({rounded(per_second['ours'])} and {rounded(per_second['theirs'])})"
        cpu_told = f" × ({rounded(cpu['ours'])} and {rounded(cpu['theirs'])} ms)"
        return [
            at_least(
                "calls per second over LiteLLM's proxy, which keeps no accounts here",
                per_second["ours"] / per_second["theirs"],
                2,
                calls_told,
            ),
            at_most("processor time of a call over LiteLLM's proxy", cpu["ours"] / cpu["theirs"], 0.5, cpu_told),
        ]


PARTS = ("calls", "ledger", "fairness", "limits", "valkey", "connections", "litellm")


async def take_turns(asked: Mapping[str, Asked], calls: int, at_once: int, rounds: int) -> None:
    """Ask each in turn, in another order each time; a first round warms them up and is not kept."""
    for number in range(rounds + 1):
        names = list(asked)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            await asked[name].load(calls, at_once)
        if not number:
            for each in asked.values():
                each.forget()


async def first_calls(asked: Mapping[str, Asked]) -> float:
    """The slowest of the first call of each, in seconds beyond what the provider takes."""
    began = time.perf_counter()
    await asyncio.gather(*(each.ask() for each in asked.values()))
    return time.perf_counter() - began - ANSWER_S


@contextlib.asynccontextmanager
async def going_on(ask: Callable[[], Awaitable[None]], at_once: int) -> AsyncIterator[None]:
    """So many calls at once, one after another each, while the block runs."""

    async def one_by_one() -> None:
        while True:
            await ask()

    flood = [asyncio.create_task(one_by_one()) for _ in range(at_once)]
    await asyncio.sleep(10 * ANSWER_S)  # until it has risen
    try:
        yield
    finally:
        for each in flood:
            each.cancel()
        await asyncio.gather(*flood, return_exceptions=True)


# -- connections -------------------------------------------------------------------------------------------------------

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(port: int, key: str) -> Connection:
    """A connection that has been used once and rests now."""
    connection = await asyncio.open_connection("127.0.0.1", port)
    assert await ping(connection, port, key)
    return connection


async def ping(connection: Connection, port: int, key: str) -> bool:
    """A request of MCP over this connection: the tools. Whether it was answered."""
    reader, writer = connection
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}).encode()
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
        "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
        f"MCP-Protocol-Version: {ERAS['2026']}\r\nMcp-Method: tools/list\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_S)
    length = re.search(rb"(?i)content-length: (\d+)", answer)
    assert length is not None, answer
    return b'"tools"' in await reader.readexactly(int(length[1])) and answer.startswith(b"HTTP/1.1 200")


async def close(connections: Sequence[Connection]) -> None:
    for _, writer in connections:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in connections))


# -- what else is started ----------------------------------------------------------------------------------------------


def found(pattern: str, text: str) -> list[tuple[str, ...]]:
    """The groups of each match, of which there has to be one."""
    matches = [match.groups() for match in re.finditer(pattern, text, re.M)]
    assert matches, f"no {pattern} in:\n{text}"
    return matches


async def measure(options: argparse.Namespace) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        async with fake_providers("timed") as (process, urls):
            scale = Scale(TimedProvider(process, urls["openai"]), Path(folder), options)
            rows = []
            for part in options.only or PARTS:
                sys.stderr.write(f"{part} …\n")
                rows += await getattr(scale, part)()
            return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; can be given again")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of each comparison (5)")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="whose ledger ours is measured beside")
    parser.add_argument("--short", action="store_true", help="whether it runs, and no figures to go by")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args()
    rows = asyncio.run(measure(options))
    if options.json:
        say(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        say(f"{machine()}\n")
        told = {True: "yes", False: "**no**", None: ""}
        lines = [(row.figure, row.goal, row.measured, told[row.met]) for row in rows]
        say(table(("figure", "goal", "measured", "met"), ("---",) * 4, lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
