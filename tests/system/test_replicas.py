"""Replicas in bad weather: some behind a proxy, killed and started again, over a PostgreSQL that is restarted and a
Valkey that freezes, under load of four tenants in both eras of the protocol.

The clients' side keeps what they were answered. What the provider counts for a call tells which call it was, and so
does its row. The weather is a long form, of ten seconds or of a minute.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mcp import types
from support.databases import Database, PostgreSQL
from support.default_groups import entry
from support.http_server import over_http
from support.priced_config import INPUT_NUSD, OUTPUT_NUSD, PRICES
from support.providers import Provider, Received, Text
from support.replicas import Replica, Replicas, create_keys
from support.valkey import Valkey

TENANTS = ("ann", "ben", "cas", "dee")
LIMITED = {"ann": 2.0e-3, "ben": 0.7e-3}  # US dollars: some calls, which are made soon
CALLS_AT_ONCE = 2  # of each tenant
END_S = 120  # for three replicas to start after one another, on a machine that does much else
ERAS = ("2025", "2026 unasked")
EVENTS = ("kill", "freeze", "restart", "end")
SHORT_S, LONG_S = 10, 60  # beside the twenty seconds that everything takes to start
PAUSE_S = {SHORT_S: 1, LONG_S: 1.5}  # between two events, on average
REPLICAS = {SHORT_S: 3, LONG_S: 4}  # each takes seconds of a core to start


@dataclass
class Calls:
    """What the clients asked, and what they were answered."""

    answered: dict[int, str] = field(default_factory=dict)  # the tenant of each number
    refused: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)  # by the client's error
    asked: dict[int, str] = field(default_factory=dict)
    served: Counter[int] = field(default_factory=Counter)  # by the provider
    are_many: asyncio.Event = field(default_factory=asyncio.Event)  # set when more than twenty are answered
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @staticmethod
    def tokens(number: int) -> tuple[int, int]:
        return 1 + number % 60, 100 + number // 60

    @staticmethod
    def number(row: dict[str, Any]) -> int:
        return int((row["output_tokens"] - 100) * 60 + row["input_tokens"] - 1)

    def answer(self, received: Received) -> Text:
        """The provider's: it repeats what it was asked."""
        said = str(received.body["messages"][0]["content"])
        number = int(said.split()[0])
        self.served[number] += 1
        return Text(said, usage=self.tokens(number), delay=random.Random(number).uniform(0, 0.2))

    async def ask(self, url: str, token: str, tenant: str, era: str) -> None:
        """One call with a connection of its own, which is answered, refused or broken."""
        number = next(self._numbers)
        self.asked[number] = tenant
        said = f"{number} of {tenant} {'.' * 60}"  # at least as long as the provider will say that it was
        arguments = {"messages": [{"role": "user", "content": said}], "max_tokens": self.tokens(number)[1]}
        result = None
        try:
            async with over_http(url, token, era) as client:
                result = await client.call_tool("complete", arguments)
        except* Exception as broken:  # however the client puts it that its server has gone
            if result is None:  # else it was answered, and only the farewell failed
                self.broken.update(type(error).__name__ for error in broken.exceptions)
        if result is None:
            return
        [content] = [item for item in result.content if isinstance(item, types.TextContent)]
        if result.is_error:
            self.refused[content.text.partition(":")[0]] += 1
            return
        assert result.structured_content is not None
        assert result.structured_content["content"] == said
        self.answered[number] = tenant
        if len(self.answered) > 20:
            self.are_many.set()


class Weather:
    """What happens to the replicas and to what they stand on."""

    def __init__(self, replicas: Replicas, postgresql: PostgreSQL, valkey: Valkey) -> None:
        self._replicas, self._postgresql, self._valkey = replicas, postgresql, valkey
        self._rng = random.Random(7)
        self._turns = itertools.cycle(replicas)
        self._starting: list[asyncio.Task[None]] = []
        self.seen: Counter[str] = Counter()

    async def blow(self, seconds: float, pause_s: float) -> None:
        """Everything once, and again until so many seconds are over; at the end all is well again."""
        async with asyncio.timeout(seconds + END_S):
            until = time.monotonic() + seconds
            for event in itertools.cycle((self.kill, self.freeze, self.restart, self.kill, self.end)):
                if time.monotonic() > until and len(self.seen) == len(EVENTS):
                    break
                await asyncio.sleep(self._rng.uniform(0.5, 1.5) * pause_s)
                self.seen[event.__name__] += 1
                await event()
            await asyncio.gather(*self._starting)
            await asyncio.sleep(pause_s)

    async def kill(self) -> None:
        """A machine that fails, and comes back with its disk."""
        replica = await self._next()
        replica.signal(signal.SIGKILL)
        await replica.ended()
        self._start(replica)

    async def end(self) -> None:
        """A replica that is replaced by a newer one."""
        replica = await self._next()
        replica.signal(signal.SIGTERM)
        assert await replica.ended() == 0, replica.log
        self._start(replica)

    async def _next(self) -> Replica:
        """One of the replicas, when no other is starting."""
        await asyncio.gather(*self._starting)
        self._starting.clear()
        return next(self._turns)

    def _start(self, replica: Replica) -> None:
        self._starting.append(asyncio.ensure_future(replica.start()))

    async def restart(self) -> None:
        await asyncio.to_thread(self._postgresql.stop)
        await asyncio.to_thread(self._postgresql.start)

    async def freeze(self) -> None:
        with self._valkey.frozen():
            await asyncio.sleep(self._rng.uniform(0.5, 2))


@pytest.fixture
def own_postgresql() -> Iterator[PostgreSQL]:
    """One that other tests do not use, since it is restarted."""
    with PostgreSQL() as server:
        yield server


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


def config(database: Database, valkey: Valkey, openai: Provider) -> dict[str, Any]:
    tenants: dict[str, Any] = {name: {} for name in TENANTS}
    for name, usd in LIMITED.items():
        tenants[name] = {"budgets": [{"usd": usd, "per": "total"}]}
    house = {"api_base": openai.url, "api_key": "sk-test", **PRICES}
    return {
        "model_list": [entry("paid", {"model": "openai/paid", **house})],
        "router_settings": {"num_retries": 2},
        "konstruct": {
            "default_group": "paid",
            "ledger_url": database.url,
            "redis_url": valkey.url,
            "auth": {"required": True},  # on loopback, too
            "http": {"pause_s": 0.2, "drain_s": 5},
            "tenants": tenants,
        },
    }


@asynccontextmanager
async def load(calls: Calls, url: str, keys: dict[str, str]) -> AsyncIterator[None]:
    """Calls of all tenants, one after another in each of some tasks, until the block ends."""
    over = asyncio.Event()

    async def one_by_one(tenant: str, eras: Iterator[str]) -> None:
        while not over.is_set():
            await calls.ask(url, keys[tenant], tenant, next(eras))

    async with asyncio.TaskGroup() as tasks:
        for tenant in TENANTS:
            for first in range(CALLS_AT_ONCE):
                tasks.create_task(one_by_one(tenant, itertools.cycle(ERAS[first:] + ERAS[:first])))
        try:
            yield
        finally:
            over.set()


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seconds", [SHORT_S, pytest.param(LONG_S, marks=pytest.mark.minutes)])
async def test_in_bad_weather_no_answered_call_is_without_its_row_and_no_budget_is_exceeded(
    seconds: int, tmp_path: Path, own_postgresql: PostgreSQL, valkey: Valkey, openai: Provider
) -> None:
    calls, database = Calls(), own_postgresql.create()
    openai.script(calls.answer)
    async with Replicas(tmp_path, config(database, valkey, openai), REPLICAS[seconds]) as replicas:
        keys = dict(zip(TENANTS, await create_keys(replicas.config, *TENANTS), strict=True))
        async with load(calls, replicas.url, keys):
            await Weather(replicas, own_postgresql, valkey).blow(seconds, PAUSE_S[seconds])
            async with asyncio.timeout(END_S):  # a busy machine has not answered so many yet
                await calls.are_many.wait()
        await _lapse_and_record(database, replicas, calls, keys)
        for tenant in TENANTS:
            await _sees_only_its_own(replicas.url, keys[tenant], tenant)
        for replica in replicas:
            replica.signal(signal.SIGTERM)
        assert [await replica.ended() for replica in replicas] == [0] * len(replicas)
        assert not any("Traceback" in replica.log for replica in replicas), [replica.log for replica in replicas]

    assert len(calls.answered) > 20
    assert set(calls.refused) <= {"budget_exceeded", "ledger", "overloaded"}, calls.refused
    rows = database.rows("SELECT * FROM konstruct_calls WHERE outcome = 'ok'")
    of_rows = Counter((calls.number(row), row["tenant"]) for row in rows)
    assert set(of_rows.values()) == {1}, "a call has two rows"
    answered = set(calls.answered.items())
    assert answered <= set(of_rows), answered - set(of_rows)
    assert set(of_rows) <= set(calls.asked.items())
    assert {number for number, _ in of_rows} <= set(calls.served)
    for tenant in TENANTS:
        cost = sum(
            calls.tokens(n)[0] * INPUT_NUSD + calls.tokens(n)[1] * OUTPUT_NUSD for n, of in of_rows if of == tenant
        )
        assert database.spent(tenant) == cost
        if tenant in LIMITED:
            assert database.taken(tenant) <= LIMITED[tenant] * 1e9
    assert database.value("SELECT count(*) FROM konstruct_reservations WHERE held_on IS NULL") == 0
    assert calls.refused["budget_exceeded"]
    database.engine.dispose()


async def _lapse_and_record(database: Database, replicas: Replicas, calls: Calls, keys: dict[str, str]) -> None:
    """As if two minutes had gone by since the last kill: reservations of processes that are no more lapse, and the next
    call of each tenant finds them. Those of the replicas that live are theirs, and none is under way."""
    database.run("UPDATE konstruct_reservations SET lapses_at = lapses_at - 1000")
    async with asyncio.timeout(END_S):
        while database.value("SELECT count(*) FROM konstruct_reservations WHERE held_on IS NULL"):
            for tenant in TENANTS:
                await calls.ask(replicas.url, keys[tenant], tenant, ERAS[0])


async def _sees_only_its_own(url: str, token: str, tenant: str) -> None:
    """Nothing that it can read has another's name."""
    async with over_http(url, token, ERAS[1]) as client:
        texts = [json.dumps((await client.list_tools()).model_dump(mode="json"))]
        for uri in ("konstruct://usage", "konstruct://config", "konstruct://groups"):
            [content] = (await client.read_resource(uri)).contents
            assert isinstance(content, types.TextResourceContents)
            texts.append(content.text)
    for other in set(TENANTS) - {tenant}:
        shown = [text for text in texts if f'"{other}"' in text or f" {other}:" in text]
        assert not shown, f"{tenant} is shown {other}"
