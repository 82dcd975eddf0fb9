"""Several processes write one ledger, are killed and come back, beside one of the version before: all sums stay exact.

The long forms run with `-m long`; each has a short one that always runs.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from support import ledger_writer
from support.databases import Database, PostgreSQL
from support.default_groups import HELLO, opened
from support.priced_config import COST_NUSD, priced_config
from support.processes import WAIT_S, wait_for
from support.providers import Provider
from support.revision_0003 import Writer

from konstruct_mcp import Konstruct, LedgerError
from konstruct_mcp.ledger.migrations import upgrade

LIMITS = {"acme": 400_000, "other": 10**12}  # in nano-dollars: that of one is used up, by some hundred calls

# In one statement, so that it is of one moment: each counter is what its sums are, whatever is under way.
WRONG_COUNTERS = """
    SELECT * FROM (
        SELECT counter.*,
            (SELECT coalesce(sum(cost_nusd), 0) FROM konstruct_spend AS s WHERE s.tenant = counter.tenant
                AND s.day BETWEEN first AND last AND (groups = '{}' OR s."group" = ANY (groups))) AS is_spent,
            (SELECT coalesce(sum(held_nusd), 0) FROM konstruct_spend AS s WHERE s.tenant = counter.tenant
                AND s.day BETWEEN first AND last AND (groups = '{}' OR s."group" = ANY (groups))) AS is_held,
            (SELECT coalesce(sum(amount_nusd), 0) FROM konstruct_reservations AS r WHERE r.tenant = counter.tenant
                AND r.held_on IS NULL AND (groups = '{}' OR r."group" = ANY (groups))) AS is_reserved
        FROM konstruct_counters AS counter
    ) AS compared
    WHERE spent <> is_spent OR held <> is_held OR reserved <> is_reserved
"""
LINE = len("recorded ") + 36  # of a line that is whole


class Process:
    """A writer of this version, in a process of its own."""

    def __init__(self, database: Database, spool: Path, seed: int) -> None:
        command = [sys.executable, ledger_writer.__file__, database.url, str(spool), str(seed)]
        pipe, tenants = subprocess.PIPE, [f"{tenant}={limit}" for tenant, limit in LIMITS.items()]
        self._out = spool.with_name(f"said-{seed}")  # a file, as a pipe that nobody reads is full one day
        with self._out.open("wb") as out:
            self._process = subprocess.Popen([*command, *tenants], stdin=pipe, stdout=out, stderr=pipe, text=True)

    def kill(self) -> Counter[str]:
        """Returns what it has recorded: ids, each as often as it was said."""
        self._process.kill()
        return self._said()[0]

    def stop(self) -> None:
        """Tell it to end; at once."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> Counter[str]:
        """Returns the same as `kill`, when it has ended by itself."""
        recorded, errors = self._said()
        assert (self._process.returncode, errors) == (0, "")
        return recorded

    def _said(self) -> tuple[Counter[str], str]:
        _, errors = self._process.communicate(timeout=WAIT_S)
        lines = self._out.read_text("utf-8").splitlines()
        return Counter(line.split()[1] for line in lines if len(line) == LINE), errors


def check(database: Database) -> None:
    """What holds at each moment."""
    if database.kind == "postgresql":
        assert database.rows(WRONG_COUNTERS) == []
    for tenant, limit in LIMITS.items():
        assert database.taken(tenant) <= limit


@contextmanager
def revision_0003(database: Database) -> Iterator[Writer]:
    writer = Writer(database.engine, LIMITS)
    writer.start()
    try:
        yield writer
    finally:
        writer.stop()
    assert writer.error is None, writer.error


def write_and_kill(database: Database, spool: Path, processes: list[Process], kills: int) -> Counter[str]:
    """One of these processes after another is killed, and another one started in its place.

    Returns: what they have recorded until all of them have ended.
    """
    rng = random.Random(kills)
    recorded: Counter[str] = Counter()
    for kill in range(kills):
        rows = count(database)
        wait_for(lambda: count(database) >= rows + rng.randint(1, 60))  # noqa: B023  it is over by then
        check(database)
        recorded += processes.pop(rng.randrange(3)).kill()
        processes.append(Process(database, spool, 3 + kill))
        if rng.random() < 0.5:  # two minutes later
            # Beside no writer, who might wait for rows in another order.
            lock = ["LOCK TABLE konstruct_reservations IN EXCLUSIVE MODE"] if database.kind == "postgresql" else []
            database.run(*lock, "UPDATE konstruct_reservations SET lapses_at = lapses_at - 121")
        check(database)
    for process in processes:
        process.stop()
    for process in processes:
        recorded += process.end()
    check(database)
    return recorded


def count(database: Database) -> int:
    return int(database.value("SELECT count(*) FROM konstruct_calls"))


@pytest.mark.two_databases
@pytest.mark.parametrize("kills", [1, pytest.param(40, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_sums_stay_exact_while_processes_are_killed(kills: int, database: Database, tmp_path: Path) -> None:
    open_ledger(database)
    recorded = write_and_kill(database, tmp_path / "spool", start(database, tmp_path / "spool"), kills)
    assert_all_is_there(database, recorded)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [40])
def test_sums_stay_exact_beside_the_version_before(kills: int, postgresql: PostgreSQL, tmp_path: Path) -> None:
    """Which was there first, goes on while the ledger is migrated, starts again after that, and is refused nothing."""
    database = postgresql.create()
    with database.engine.begin() as connection:
        upgrade(connection, "0003")
    database.run("DROP TABLE konstruct_revision", *(f"INSERT INTO konstruct_tenants VALUES ('{t}')" for t in LIMITS))
    with revision_0003(database) as old:
        wait_for(lambda: len(old.recorded) > 3 or old.error is not None)
        processes = start(database, tmp_path / "spool")
        wait_for(lambda: sa.inspect(database.engine).has_table("konstruct_counters"))
        before = old.starts
        recorded = write_and_kill(database, tmp_path / "spool", processes, kills)
        wait_for(lambda: old.starts > before + 1 or old.error is not None)
    check(database)
    assert database.value("SELECT count(*) FROM konstruct_counters") == 2 * 3
    assert_all_is_there(database, recorded + Counter(old.recorded.keys()))
    database.engine.dispose()


@pytest.mark.parametrize("restarts", [1, pytest.param(10, marks=[pytest.mark.long, pytest.mark.timeout(300)])])
async def test_a_database_that_restarts_under_load_loses_no_row_and_leaves_no_reservation(
    restarts: int, openai: Provider, anthropic: Provider, ollama: Provider, tmp_path: Path
) -> None:
    with PostgreSQL() as server:
        database = server.create()
        config = priced_config(
            database, openai, anthropic, ollama, budgets=[{"usd": 1000, "per": "day"}], allow_unknown=True
        )
        answered: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        is_over = asyncio.Event()

        async def ask(konstruct: Konstruct, tenant: str) -> None:
            while not is_over.is_set():
                try:
                    await konstruct.complete(HELLO, tenant_id=tenant)
                    answered[tenant] += 1
                except LedgerError:
                    refused[tenant] += 1
                    await asyncio.sleep(0)

        async with opened(tmp_path, config) as one, opened(tmp_path, config) as other:
            asking = [asyncio.create_task(ask(each, f"t{n % 3}")) for each in (one, other) for n in range(6)]
            for restart in range(restarts):
                await asyncio.to_thread(wait_for, lambda: answered.total() > 20 * (restart + 1))  # noqa: B023
                before = refused.total()
                await asyncio.to_thread(server.stop)
                await asyncio.to_thread(wait_for, lambda: refused.total() > before)  # noqa: B023
                await asyncio.to_thread(server.start)
                before = answered.total()
                await asyncio.to_thread(wait_for, lambda: answered.total() > before)  # noqa: B023
            is_over.set()
            await asyncio.gather(*asking)
        database.engine.dispose()  # its connections are those of before
        rows = Counter(row["tenant"] for row in database.rows() if row["outcome"] == "ok")
        assert rows == answered
        assert {tenant: database.spent(tenant) for tenant in rows} == {t: n * COST_NUSD for t, n in answered.items()}
        assert database.rows("SELECT * FROM konstruct_reservations") == []
        assert database.rows(WRONG_COUNTERS) == []
        database.engine.dispose()


def start(database: Database, spool: Path) -> list[Process]:
    return [Process(database, spool, seed) for seed in range(3)]


def open_ledger(database: Database) -> None:
    with database.engine.begin() as connection:
        upgrade(connection)


def assert_all_is_there(database: Database, recorded: Counter[str]) -> None:
    rows = {row["id"]: row for row in database.rows()}
    assert set(recorded.values()) == {1}
    assert set(recorded) <= set(rows)
    assert all(rows[id_]["outcome"] != "lost" for id_ in recorded)
