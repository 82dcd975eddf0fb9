"""What holds whatever happens to the processes: killed at any moment, started again, several at once.

The long forms run with `-m long`; each has a short one that always runs.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from accounts import COST_NUSD, INPUT_NUSD, OUTPUT_NUSD, accounted
from databases import Database
from forked import Nursery
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from lines import Process, call
from processes import wait_for
from providers import Provider, Received, Text
from worlds import write

CALLS = 20  # under way when a server is killed
LIMIT_NUSD = 200 * INPUT_NUSD + 200 * OUTPUT_NUSD  # affords some five reservations at once, and 24 answers


# -- killed at any moment --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kills", [15, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_a_kill_loses_no_answered_call_and_counts_none_twice(
    kills: int,
    tmp_path: Path,
    database: Database,
    nursery: Nursery | None,
    openai: Provider,
    anthropic: Provider,
    ollama: Provider,
) -> None:
    rng = random.Random(kills)
    served: Counter[str] = Counter()

    def answer(received: Received) -> Text:
        served[received.body["messages"][0]["content"]] += 1
        return Text("Hi", delay=rng.uniform(0, 0.02))

    openai.script(answer)
    config = write(tmp_path, accounted(database, openai, anthropic, ollama))
    answered: Counter[str] = Counter()
    for kill in range(kills):
        with Process(config, nursery=nursery) as server:
            server.initialize()
            names = {}
            for n in range(CALLS):
                name = f"{kill}-{n}"
                messages = [{"role": "user", "content": name}]
                names[server.send("tools/call", call("paid", tenant_id=name, messages=messages))] = name
            for _ in range(rng.randint(0, CALLS)):
                take(server, names, answered)
            time.sleep(rng.uniform(0, 0.003))  # at any moment, and not just between two of its lines
            server.process.kill()
            server.wait()
            while server.has_line():
                take(server, names, answered)

    rows = Counter(row["tenant"] for row in database.rows("SELECT tenant FROM konstruct_calls WHERE outcome = 'ok'"))
    assert set(answered.values()) | set(rows.values()) == {1}
    assert set(answered) <= set(rows) <= set(served)
    assert kills < len(answered) < kills * CALLS  # else it was never killed in between
    spent = {row["tenant"]: row["n"] for row in database.rows("SELECT tenant, cost_nusd AS n FROM konstruct_spend")}
    assert spent == dict.fromkeys(rows, COST_NUSD)


def take(server: Process, names: dict[Any, str], answered: Counter[str]) -> None:
    line = server.line()
    assert not line["result"].get("isError"), line
    answered[names[line["id"]]] += 1


# -- any interleaving ------------------------------------------------------------------------------------------------


@dataclass
class Held:
    """An answer that waits for its own release. What it has sent in full it puts on the provider's own account."""

    account: Counter[str]
    tenant: str
    waiting: bool = False
    _released: asyncio.Future[None] | None = None

    async def give(self, received: Received, connection: Any) -> None:
        self._released = asyncio.get_running_loop().create_future()
        self.waiting = True
        try:
            await self._released
            await Text("Hi").give(received, connection)
            self.account[self.tenant] += COST_NUSD
        finally:
            self.waiting = False

    def release(self) -> None:
        assert self._released is not None
        self._released.get_loop().call_soon_threadsafe(self._released.set_result, None)


@dataclass
class Under:
    """A call under way."""

    server: int
    request: Any
    held: Held


class Accounts(RuleBasedStateMachine):
    """Calls of one tenant through three servers: started, answered, cancelled; and servers that die with theirs."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.tenant = uuid.uuid4().hex
        self.under: list[Under] = []
        self.lost = False  # whether a dead server's reservations may still stand

    @rule(wanted=st.lists(st.tuples(st.integers(0, 2), st.integers(7, 60)), min_size=1, max_size=6))
    def start(self, wanted: list[tuple[int, int]]) -> None:
        """Calls at once: (server, max_tokens) of each."""
        begun = []
        for server, max_tokens in wanted:
            name = uuid.uuid4().hex[:8]
            held = self.world.expect(name, self.tenant)
            messages = [{"role": "user", "content": name}]
            process = self.world.servers[server]
            request = process.send_call("paid", tenant_id=self.tenant, max_tokens=max_tokens, messages=messages)
            begun.append((Under(server, request, held), process, max_tokens))
        for under, process, _ in begun:
            wait_for(lambda: under.held.waiting or process.has_answer(under.request))  # noqa: B023  it is over by then
        self.under += [under for under, _, _ in begun if under.held.waiting]
        for under, process, max_tokens in begun:
            if not under.held.waiting:
                refused = process.answer(under.request)["result"]["content"][0]["text"]
                assert refused.startswith("budget_exceeded: "), refused
                # Not before it has to: what is taken leaves less than this can cost.
                assert self.world.database.taken(self.tenant) + self.most(max_tokens) > LIMIT_NUSD

    @staticmethod
    def most(max_tokens: int) -> int:
        return 100 * INPUT_NUSD + max_tokens * OUTPUT_NUSD

    @rule(which=st.integers(0, 99))
    def settle(self, which: int) -> None:
        if (done := self.one(which)) is not None:
            done.held.release()
            assert not self.world.servers[done.server].answer(done.request)["result"]["isError"]

    @rule(which=st.integers(0, 99))
    def cancel(self, which: int) -> None:
        if (gone := self.one(which)) is not None:
            before = self.world.cancelled(self.tenant)
            self.world.servers[gone.server].notify("notifications/cancelled", {"requestId": gone.request})
            wait_for(lambda: not gone.held.waiting and self.world.cancelled(self.tenant) > before)

    def one(self, which: int) -> Under | None:
        """Whether there are any is up to the race between calls at once, so what is drawn may not depend on it."""
        return self.under.pop(which % len(self.under)) if self.under else None

    @rule(server=st.integers(0, 2))
    def crash(self, server: int) -> None:
        dead = [call for call in self.under if call.server == server]
        self.world.crash(server)
        wait_for(lambda: not any(call.held.waiting for call in dead))
        self.under = [call for call in self.under if call.server != server]
        self.lost |= bool(dead)

    @rule()
    def two_minutes_pass(self) -> None:
        if self.lost and not self.under:
            self.world.database.run(
                f"UPDATE konstruct_reservations SET lapses_at = lapses_at - 121 WHERE tenant = '{self.tenant}'"
            )
            self.lost = False

    @invariant()
    def the_budget_holds(self) -> None:
        assert self.world.database.taken(self.tenant) <= LIMIT_NUSD
        if not self.under:
            assert self.world.database.spent(self.tenant) == self.world.served[self.tenant]

    def teardown(self) -> None:
        while self.under:
            done = self.under.pop()
            done.held.release()
            self.world.servers[done.server].answer(done.request)
        self.the_budget_holds()
        rows = self.world.database.value(
            "SELECT coalesce(sum(cost_nusd), 0) FROM konstruct_calls WHERE tenant = :t", t=self.tenant
        )
        assert rows == self.world.served[self.tenant]
        if not self.lost:
            assert self.world.database.reserved(self.tenant) == 0


class World:
    """Three servers, one database, and a provider that holds each answer until it is told to let it go."""

    def __init__(self, config: Path, database: Database, nursery: Nursery | None, provider: Provider) -> None:
        self.database, self.provider = database, provider
        self.served: Counter[str] = Counter()
        self._config, self._nursery = config, nursery
        self._expected: dict[str, Held] = {}
        provider.script(lambda received: self._expected.pop(received.body["messages"][0]["content"]))
        self.servers = [self._server() for _ in range(3)]
        for server in self.servers:
            server.ask("resources/read", {"uri": "konstruct://usage"})  # the ledger is open

    def _server(self) -> Process:
        server = Process(self._config, nursery=self._nursery)
        server.initialize()
        return server

    def expect(self, name: str, tenant: str) -> Held:
        """The answer to the call that says this."""
        held = self._expected[name] = Held(self.served, tenant)
        return held

    def cancelled(self, tenant: str) -> int:
        query = "SELECT count(*) FROM konstruct_calls WHERE tenant = :t AND outcome = 'cancelled'"
        return int(self.database.value(query, t=tenant))

    def crash(self, server: int) -> None:
        self.servers[server].process.kill()
        self.servers[server].wait()
        self.servers[server].close()
        self.servers[server] = self._server()

    def close(self) -> None:
        for server in self.servers:
            server.close()


@pytest.mark.parametrize("examples", [8, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_no_interleaving_exceeds_a_budget_or_loses_a_charge(
    examples: int,
    tmp_path: Path,
    database: Database,
    nursery: Nursery | None,
    openai: Provider,
    anthropic: Provider,
    ollama: Provider,
) -> None:
    budgets = [{"usd": LIMIT_NUSD / 1e9, "per": "total"}]
    config = write(tmp_path, accounted(database, openai, anthropic, ollama, budgets=budgets))
    world = World(config, database, nursery, openai)
    try:
        run_state_machine_as_test(
            lambda: Accounts(world),  # type: ignore[arg-type]  # anything that makes one will do
            settings=settings(
                max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    finally:
        world.close()
