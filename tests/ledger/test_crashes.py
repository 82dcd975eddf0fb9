"""What holds whatever happens to the processes: killed at any moment, started again, several at once.

The long forms run with `-m long`; each has a short one that always runs.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from support.databases import Database
from support.default_groups import replace, write
from support.fork_server import ForkServer
from support.priced_config import COST_NUSD, INPUT_NUSD, OUTPUT_NUSD, MakeConfig
from support.processes import wait_for
from support.providers import Answer, Drop, Provider, Raw, Received, Status, Text, Truncated
from support.stdio_lines import ServerProcess, call

CALLS = 20  # under way when a server is killed
LIMIT_NUSD = 500 * INPUT_NUSD + 500 * OUTPUT_NUSD  # affords some twelve reservations at once, and 60 answers


def said(received: Received) -> str:
    """What a call says, by which it is known."""
    return str(received.body["messages"][0]["content"])


# -- killed at any moment --------------------------------------------------------------------------------------------


@pytest.mark.two_databases
@pytest.mark.parametrize("kills", [5, pytest.param(200, marks=[pytest.mark.minutes, pytest.mark.timeout(900)])])
def test_a_kill_loses_no_answered_call_and_counts_none_twice(
    kills: int,
    tmp_path: Path,
    database: Database,
    fork_server: ForkServer | None,
    openai: Provider,
    priced: MakeConfig,
) -> None:
    rng = random.Random(kills)
    served: Counter[str] = Counter()

    def answer(received: Received) -> Text:
        served[said(received)] += 1
        return Text("Hi", delay=rng.uniform(0, 0.02))

    openai.script(answer)
    config = write(tmp_path, priced())
    answered: Counter[str] = Counter()
    for kill in range(kills):
        with ServerProcess(config, fork_server=fork_server) as server:
            server.initialize()
            names = {}
            for n in range(CALLS):
                name = f"{kill}-{n}"
                messages = [{"role": "user", "content": name}]
                names[server.send("tools/call", call("paid", tenant_id=name, messages=messages))] = name
            for _ in range(rng.randint(0, CALLS) if kill else 0):
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


def take(server: ServerProcess, names: dict[Any, str], answered: Counter[str]) -> None:
    line = server.line()
    assert not line["result"].get("isError"), line
    answered[names[line["id"]]] += 1


# -- started and ended at random ------------------------------------------------------------------------------------

ENDS = ("killed", "SIGTERM", "EOF")
AT_ONCE = 10  # calls under way in each server
IN_A_ROW = 60  # calls of which every other is of one tenant with a budget
BUDGET_NUSD = 2_500_000  # affords some seven reservations at once, and ten answers


@dataclass
class Calls:
    """Calls through servers that come and go. What the provider counts for one tells which it was."""

    config: Path
    fork_server: ForkServer | None
    tenants: int
    served: set[int] = field(default_factory=set)  # by the provider, as far as it knows
    answered: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    cancelled: set[int] = field(default_factory=set)
    died: set[int] = field(default_factory=set)  # under way in a server that was killed
    vanished: set[int] = field(default_factory=set)  # cancelled in a server that was killed
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @staticmethod
    def tokens(number: int) -> tuple[int, int]:
        return 1 + number % 60, 100 + number // 60

    @classmethod
    def cost_nusd(cls, number: int) -> int:
        sent, got = cls.tokens(number)
        return sent * INPUT_NUSD + got * OUTPUT_NUSD

    @staticmethod
    def number(row: Mapping[str, Any]) -> int:
        return int((row["output_tokens"] - 100) * 60 + row["input_tokens"] - 1)

    def tenant(self, number: int) -> str:
        return f"limited-{number // IN_A_ROW % self.tenants}" if number % 2 else f"open-{number}"

    def answer(self, received: Received) -> Text:
        number = int(said(received).split()[0])
        self.served.add(number)
        return Text("Hi", usage=self.tokens(number), delay=random.Random(number).uniform(0, 0.03))

    def live(self, rng: random.Random, end: str) -> None:
        """The life of one server: as many calls as chance will have, some of them cancelled."""
        numbers: dict[Any, int] = {}
        under_way: set[Any] = set()
        cancelled: set[Any] = set()
        with ServerProcess(self.config, fork_server=self.fork_server) as server:
            server.initialize()
            for _ in range(rng.randint(0, 60)):
                while len(under_way) < AT_ONCE:
                    number = next(self._numbers)
                    # At least as long as the provider will say that it was: that much is reserved.
                    messages = [{"role": "user", "content": f"{number} {'.' * 60}"}]
                    _, most = self.tokens(number)
                    request = server.send_call(
                        "paid", tenant_id=self.tenant(number), max_tokens=most, messages=messages
                    )
                    numbers[request] = number
                    under_way.add(request)
                if rng.random() < 0.1:
                    gone = rng.choice(sorted(under_way))
                    server.notify("notifications/cancelled", {"requestId": gone})
                    cancelled.add(gone)
                    under_way.remove(gone)
                else:
                    self._take(server.line(), numbers, under_way)
            time.sleep(rng.uniform(0, 0.003))  # at any moment, and not just between two of its lines
            match end:
                case "killed":
                    server.process.kill()
                case "SIGTERM":
                    server.process.send_signal(signal.SIGTERM)
                case _:
                    server.close_stdin()
            status = server.wait()
            while server.has_line():
                self._take(server.line(), numbers, under_way, is_ending=True)
        assert status == (-signal.SIGKILL if end == "killed" else 0), server.errors
        assert b"Traceback" not in server.errors
        assert b"cannot be" not in server.errors
        if end == "killed":
            self.died |= {numbers[request] for request in under_way}
            self.vanished |= {numbers[request] for request in cancelled}
        else:
            self.cancelled |= {numbers[request] for request in under_way | cancelled}

    def _take(
        self, line: Mapping[str, Any], numbers: Mapping[Any, int], under_way: set[Any], *, is_ending: bool = False
    ) -> None:
        if "id" not in line:
            return  # that the tools' descriptions have changed
        result = line.get("result", {"isError": True, "content": [{"text": ""}]})
        if not result.get("isError"):
            self.answered.add(numbers[line["id"]])
        elif result["content"][0]["text"].startswith("budget_exceeded: "):
            self.refused.add(numbers[line["id"]])
        else:
            assert is_ending, line
            return
        under_way.discard(line["id"])


@pytest.mark.two_databases
@pytest.mark.parametrize("lives", [3, pytest.param(25, marks=[pytest.mark.minutes, pytest.mark.timeout(900)])])
def test_two_servers_that_come_and_go_lose_nothing_and_count_nothing_twice(
    lives: int,
    tmp_path: Path,
    database: Database,
    fork_server: ForkServer | None,
    openai: Provider,
    priced: MakeConfig,
) -> None:
    """On one ledger and one config file, which changes under them."""
    budget = {"budgets": [{"usd": BUDGET_NUSD / 1e9, "per": "total"}]}
    named = {f"limited-{n}": budget for n in range(2 * lives)}
    config = priced(tenants=named, allow_unknown=True)
    calls = Calls(write(tmp_path, config), fork_server, len(named))
    openai.script(calls.answer)
    is_over = threading.Event()

    def one_after_another(which: int) -> None:
        rng = random.Random(2 * lives + which)
        for n in range(lives):
            calls.live(rng, ENDS[(n + which) % len(ENDS)])

    def change_the_config() -> None:
        rng = random.Random(lives)
        while not is_over.wait(rng.uniform(0, 0.5)):
            config["konstruct"]["groups"] = {"paid": {"description": f"edition {rng.random()}"}}
            replace(calls.config, config)

    with ThreadPoolExecutor(3) as threads:
        changing = threads.submit(change_the_config)
        try:
            for server in [threads.submit(one_after_another, which) for which in range(2)]:
                server.result()
        finally:
            is_over.set()
        changing.result()
    with ServerProcess(calls.config, fork_server=fork_server) as last:
        last.initialize()
        last.ask("resources/read", {"uri": "konstruct://usage"})  # with what waits in the spool

    rows = database.rows()
    print(
        "COUNTS", len(rows), {k: len(getattr(calls, k)) for k in ("served", "answered", "refused", "cancelled", "died")}
    )
    ok = {calls.number(row): row for row in rows if row["outcome"] == "ok"}
    assert len(ok) == sum(row["outcome"] == "ok" for row in rows)
    assert calls.answered <= set(ok) <= calls.served
    assert {number: row["cost_nusd"] for number, row in ok.items()} == {n: calls.cost_nusd(n) for n in ok}
    of_open = Counter(row["tenant"] for row in rows if row["tenant"].startswith("open-"))
    assert set(of_open.values()) == {1}
    # Whatever was asked of the provider has a row, unless its server was killed.
    asked = {calls.tenant(number) for number in calls.served - calls.died - calls.vanished}
    assert {tenant for tenant in asked if tenant.startswith("open-")} <= set(of_open)
    sums = "SELECT tenant, sum({}) AS calls, sum(cost_nusd) AS nusd FROM konstruct_{} GROUP BY tenant ORDER BY tenant"
    spent = database.rows(sums.format("1", "calls"))
    assert [row | {"nusd": row["nusd"] or 0} for row in spent] == database.rows(sums.format("calls", "spend"))
    # No budget is exceeded, even by what a killed server did not live to put on the account.
    taken: Counter[str] = Counter()
    for number in set(ok) | (calls.served & calls.died):
        taken[calls.tenant(number)] += calls.cost_nusd(number)
    assert max(taken[tenant] for tenant in named) <= BUDGET_NUSD
    # Nothing is reserved but by servers that were killed, and that for two minutes.
    assert database.rows("SELECT * FROM konstruct_reservations WHERE call_id IN (SELECT id FROM konstruct_calls)") == []
    database.run("UPDATE konstruct_reservations SET lapses_at = lapses_at - 121")
    assert sum(database.reserved(tenant) for tenant in named) == 0
    assert min(len(kind) for kind in (calls.answered, calls.refused, calls.cancelled, calls.died)) >= lives


# -- any interleaving ------------------------------------------------------------------------------------------------


CHOICE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
BODY = {"id": "x", "object": "chat.completion", "created": 0, "model": "paid", "choices": [CHOICE]}
# How a provider ends what it has begun, and bills: whole, or so that nobody can tell what it bills.
ENDS_BILLED: dict[str, Answer] = {
    "answered": Text("Hi"),
    "uncounted": Raw(json.dumps(BODY).encode()),
    "miscounted": Text("Hi", usage=(10**9, 10**9)),
    "without choices": Raw(json.dumps(BODY | {"choices": []}).encode()),
    "unreadable": Raw(b"<html>"),
    "cut off": Truncated(),
    "dropped": Drop(),
    "gateway": Status(504),
}


@dataclass
class Held:
    """An answer that waits for its own release, of a provider that bills a call once it has begun, whatever becomes of
    it: on the provider's own account is the most that it may answer."""

    billed: Counter[str]
    tenant: str
    most_nusd: int
    waiting: bool = False
    _released: asyncio.Future[Answer] | None = None

    async def give(self, received: Received, connection: Any) -> None:
        self._released = asyncio.get_running_loop().create_future()
        self.billed[self.tenant] += self.most_nusd
        self.waiting = True
        try:
            answer = await self._released
            if isinstance(answer, Text) and answer.usage == Text("Hi").usage:  # it says itself what it bills
                self.billed[self.tenant] += COST_NUSD - self.most_nusd
            await answer.give(received, connection)
        finally:
            self.waiting = False

    def release(self, end: str = "answered") -> None:
        assert self._released is not None
        self._released.get_loop().call_soon_threadsafe(self._released.set_result, ENDS_BILLED[end])


@dataclass
class Under:
    """A call under way."""

    server: int
    request: Any
    held: Held


class Accounts(RuleBasedStateMachine):
    """Calls of two tenants through three servers: started, ended in every way, cancelled; and servers that die with
    theirs."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.tenants = [uuid.uuid4().hex, uuid.uuid4().hex]
        self.under: list[Under] = []
        self.answered: Counter[str] = Counter()
        self.lost = False  # whether a dead server's reservations may still stand

    @rule(
        tenant=st.integers(0, 1),
        wanted=st.lists(st.tuples(st.integers(0, 2), st.integers(7, 60)), min_size=1, max_size=6),
    )
    def start(self, tenant: int, wanted: list[tuple[int, int]]) -> None:
        """Calls at once: (server, max_tokens) of each."""
        begun = []
        whose = self.tenants[tenant]
        for server, max_tokens in wanted:
            name = uuid.uuid4().hex[:8]
            held = self.world.expect(name, whose, 11 * INPUT_NUSD + max_tokens * OUTPUT_NUSD)
            messages = [{"role": "user", "content": name}]
            process = self.world.servers[server]
            request = process.send_call("paid", tenant_id=whose, max_tokens=max_tokens, messages=messages)
            begun.append((Under(server, request, held), process, max_tokens))
        for under, process, _ in begun:
            wait_for(lambda: under.held.waiting or process.has_answer(under.request))  # noqa: B023  it is over by then
        self.under += [under for under, _, _ in begun if under.held.waiting]
        for under, process, max_tokens in begun:
            if not under.held.waiting:
                refused = process.answer(under.request)["result"]["content"][0]["text"]
                assert refused.startswith("budget_exceeded: "), refused
                # Not before it has to: what is taken leaves less than this can cost.
                assert self.world.database.taken(whose) + self.most(max_tokens) > LIMIT_NUSD

    @staticmethod
    def most(max_tokens: int) -> int:
        return 200 * INPUT_NUSD + max_tokens * OUTPUT_NUSD

    @rule(which=st.integers(0, 99), end=st.sampled_from(["answered", *ENDS_BILLED]))
    def settle(self, which: int, end: str) -> None:
        if (done := self.one(which)) is not None:
            done.held.release(end)
            is_error = self.world.servers[done.server].answer(done.request)["result"]["isError"]
            assert is_error is (end not in ("answered", "uncounted", "miscounted"))
            self.answered[done.held.tenant] += COST_NUSD * (end == "answered")

    @rule(which=st.integers(0, 99))
    def cancel(self, which: int) -> None:
        if (gone := self.one(which)) is not None:
            before = self.world.cancelled(gone.held.tenant)
            self.world.servers[gone.server].notify("notifications/cancelled", {"requestId": gone.request})
            wait_for(lambda: not gone.held.waiting and self.world.cancelled(gone.held.tenant) > before)

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
            mine = ", ".join(f"'{tenant}'" for tenant in self.tenants)
            self.world.database.run(
                f"UPDATE konstruct_reservations SET lapses_at = lapses_at - 121 WHERE tenant IN ({mine})"
            )
            self.lost = False

    @invariant()
    def the_budget_holds(self) -> None:
        for tenant in self.tenants:
            assert self.world.billed[tenant] <= self.world.database.taken(tenant) <= LIMIT_NUSD
            if not self.under:
                assert self.world.database.spent(tenant) == self.answered[tenant]

    def teardown(self) -> None:
        while self.under:
            done = self.under.pop()
            done.held.release()
            self.world.servers[done.server].answer(done.request)
            self.answered[done.held.tenant] += COST_NUSD
        self.the_budget_holds()
        for tenant in self.tenants:
            rows = self.world.database.value(
                "SELECT coalesce(sum(cost_nusd), 0) FROM konstruct_calls WHERE tenant = :t", t=tenant
            )
            assert rows == self.answered[tenant]
            if not self.lost:
                assert self.world.database.reserved(tenant) == 0


class World:
    """Three servers, one database, and a provider that holds each answer until it is told to let it go."""

    def __init__(self, config: Path, database: Database, fork_server: ForkServer | None, provider: Provider) -> None:
        self.database, self.provider = database, provider
        self.billed: Counter[str] = Counter()
        self._config, self._fork_server = config, fork_server
        self._expected: dict[str, Held] = {}
        provider.script(lambda received: self._expected.pop(said(received)))
        self.servers = [self._server() for _ in range(3)]
        for server in self.servers:
            server.ask("resources/read", {"uri": "konstruct://usage"})  # the ledger is open

    def _server(self) -> ServerProcess:
        server = ServerProcess(self._config, fork_server=self._fork_server)
        server.initialize()
        return server

    def expect(self, name: str, tenant: str, most_nusd: int) -> Held:
        """The answer to the call that says this."""
        held = self._expected[name] = Held(self.billed, tenant, most_nusd)
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


@pytest.mark.two_databases
@pytest.mark.parametrize("examples", [3, pytest.param(200, marks=[pytest.mark.minutes, pytest.mark.timeout(1800)])])
def test_no_interleaving_has_more_billed_than_a_budget_or_loses_a_charge(
    examples: int,
    tmp_path: Path,
    database: Database,
    fork_server: ForkServer | None,
    openai: Provider,
    priced: MakeConfig,
) -> None:
    budgets = [{"usd": LIMIT_NUSD / 1e9, "per": "total"}]
    config = priced(budgets=budgets, allow_unknown=True)
    config["router_settings"] = {"num_retries": 0, "allowed_fails": 10**6}  # nobody else is asked
    world = World(write(tmp_path, config), database, fork_server, openai)
    try:
        run_state_machine_as_test(
            lambda: Accounts(world),  # type: ignore[arg-type]  # anything that makes one will do
            settings=settings(
                max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    finally:
        world.close()
