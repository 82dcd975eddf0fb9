"""Every call accounted for: what is in the ledger after calls that ended in every way a call can end.

Each test runs on SQLite and on a PostgreSQL server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa
from support.databases import Database, PostgreSQL, sqlite
from support.default_groups import HELLO, connected, opened, write
from support.fork_server import ForkServer
from support.priced_config import COST_NUSD, OUTPUT_NUSD, SPOOLED_CALL, priced_config
from support.processes import WAIT_S, wait_for
from support.providers import Drop, Gate, Hang, Provider, Raw, Status, Text
from support.stdio_lines import SERVER, ServerProcess

from konstruct_mcp import KonstructError
from konstruct_mcp.ledger.schema import HEAD

World = Callable[..., Any]


pytestmark = pytest.mark.many_cases  # one of them on each kind of server


@pytest.fixture
def config(database: Database, openai: Provider, anthropic: Provider, ollama: Provider) -> dict[str, Any]:
    return priced_config(database, openai, anthropic, ollama)


@pytest.fixture
def ledger(tmp_path: Path, config: Mapping[str, Any]) -> Callable[[], Any]:
    return lambda: opened(tmp_path, config)


def only(database: Database) -> dict[str, Any]:
    [row] = database.rows()
    return row


async def until(holds: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_for, holds)


class TestARow:
    async def test_of_an_answered_call(self, ledger: World, database: Database) -> None:
        async with ledger() as konstruct:
            await konstruct.complete(HELLO, tenant_id="acme")

        row = only(database)
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", row.pop("id"))
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", row.pop("time"))
        assert row.pop("duration_ms") >= 0
        assert row == {
            "tenant": "acme",
            "group_asked": "paid",
            "group_served": "paid",
            "model": "openai/paid",
            "input_tokens": 11,
            "output_tokens": 7,
            "cached_tokens": 0,
            "cost_nusd": COST_NUSD,
            "outcome": "ok",
            "attempts": 1,
            "most_nusd": None,
            "uncounted": 0,
        }

    async def test_holds_no_word_of_prompt_or_answer(self, ledger: World, database: Database, openai: Provider) -> None:
        openai.script(Text("the secret answer"))
        async with ledger() as konstruct:
            await konstruct.complete([{"role": "user", "content": "the secret question"}])

        tables = ("calls", "spend", "tenants", "reservations")
        assert "secret" not in str([database.rows(f"SELECT * FROM konstruct_{table}") for table in tables])

    async def test_costs_nothing_where_nobody_could_be_reached(
        self, ledger: World, database: Database, openai: Provider
    ) -> None:
        openai.stop()
        async with ledger() as konstruct:
            with pytest.raises(KonstructError, match="refused"):
                await konstruct.complete(HELLO, model_group="unpriced")

        assert only(database)["cost_nusd"] == 0

    async def test_is_there_before_the_answer(self, ledger: World, database: Database) -> None:
        async with ledger() as konstruct:
            for count in (1, 2, 3):
                await konstruct.complete(HELLO)
                assert database.value("SELECT count(*) FROM konstruct_calls") == count

    async def test_of_no_call_is_made_by_a_start(self, ledger: World, database: Database) -> None:
        """Which tries out whether one can be."""
        async with ledger() as konstruct:
            await konstruct.opened()
        tables = ("calls", "spend", "reservations", "tenants")
        assert [database.value(f"SELECT count(*) FROM konstruct_{table}") for table in tables] == [0, 0, 0, 0]

    async def test_is_brought_to_the_disk_itself_right_after(
        self, openai: Provider, anthropic: Provider, ollama: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Which a power cut shows, and no test can: so it is the system's call that is watched."""
        synced: list[int] = []
        to_disk = os.fsync

        def watched(descriptor: int) -> None:
            synced.append(os.fstat(descriptor).st_ino)
            to_disk(descriptor)

        monkeypatch.setattr(os, "fsync", watched)
        async with opened(tmp_path, priced_config(sqlite(tmp_path), openai, anthropic, ollama)) as konstruct:
            for count in (1, 2):
                await konstruct.complete(HELLO)
                await until(lambda: synced == [(tmp_path / "ledger.sqlite3-wal").stat().st_ino] * count)  # noqa: B023

    async def test_is_found_where_the_database_s_own_log_was_removed(
        self, openai: Provider, anthropic: Provider, ollama: Provider, tmp_path: Path
    ) -> None:
        """What is written to a file without a name, nobody finds."""
        database = sqlite(tmp_path)
        async with opened(tmp_path, priced_config(database, openai, anthropic, ollama)) as konstruct:
            await konstruct.opened()
            for _ in range(2):
                await konstruct.complete(HELLO)
                for name in ("wal", "shm"):
                    with contextlib.suppress(FileNotFoundError):  # it is not open again yet
                        os.unlink(f"{tmp_path}/ledger.sqlite3-{name}")  # noqa: PTH108  a Path's is not for coroutines
            await konstruct.complete(HELLO)
            await until(lambda: database.value("SELECT count(*) FROM konstruct_calls") == 3)

    async def test_of_what_costs_nothing(self, ledger: World, database: Database) -> None:
        async with ledger() as konstruct:
            await konstruct.complete(HELLO, model_group="free")

        assert only(database)["cost_nusd"] == 0

    async def test_of_what_has_no_price(self, ledger: World, database: Database) -> None:
        async with ledger() as konstruct:
            await konstruct.complete(HELLO, model_group="unpriced")

        row = only(database)
        assert (row["cost_nusd"], row["input_tokens"], row["outcome"]) == (None, 11, "ok")

    async def test_counts_cached_tokens(self, ledger: World, database: Database, openai: Provider) -> None:
        details = {"prompt_tokens": 11, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 5}}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
        body = {"id": "x", "object": "chat.completion", "created": 0, "model": "paid", "choices": [choice]}
        openai.script(Raw(json.dumps(body | {"usage": details}).encode()))
        async with ledger() as konstruct:
            completion = await konstruct.complete(HELLO)

        assert only(database)["cached_tokens"] == completion.usage.cached_tokens == 5
        assert completion.as_dict()["usage"] == {"input_tokens": 11, "output_tokens": 7, "cached_tokens": 5}

    async def test_of_a_provider_that_does_not_count(self, ledger: World, database: Database, openai: Provider) -> None:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
        body = {"id": "x", "object": "chat.completion", "created": 0, "model": "paid", "choices": [choice]}
        openai.script(Raw(json.dumps(body).encode()))
        async with ledger() as konstruct:
            assert (await konstruct.complete(HELLO, max_tokens=100)).cost_usd is None
            [line] = (await konstruct.usage()).as_dict()["by_model"]

        row = only(database)
        assert (row["cost_nusd"], row["outcome"], row["uncounted"]) == (None, "ok", 1)
        # What the request can have cost, though nobody's budget wants to know it.
        assert 100 * OUTPUT_NUSD < row["most_nusd"] < 200 * OUTPUT_NUSD
        assert (line["cost_usd"], line["at_most_usd"], line["unpriced"]) == (None, row["most_nusd"] / 1e9, 1)

    async def test_of_a_provider_that_counts_absurdly(
        self, ledger: World, database: Database, openai: Provider
    ) -> None:
        openai.script(Text("Hi", usage=(10**30, 10**30)), Text("Hi", usage=(-5, 7)), Text("Hi"))
        async with ledger() as konstruct:
            for _ in range(3):
                await konstruct.complete(HELLO)

        assert database.value("SELECT count(*) FROM konstruct_calls WHERE outcome = 'ok'") == 3
        assert database.rows()[-1]["cost_nusd"] == COST_NUSD

    async def test_of_an_answer_after_a_fallback(self, ledger: World, database: Database, anthropic: Provider) -> None:
        anthropic.script(Status(500))
        async with ledger() as konstruct:
            await konstruct.complete(HELLO, model_group="strong")

        row = only(database)
        assert (row["group_asked"], row["group_served"], row["model"]) == ("strong", "paid", "openai/paid")
        assert (row["cost_nusd"], row["attempts"]) == (COST_NUSD, 2)

    async def test_does_not_know_what_it_cost_where_a_try_was_broken_off(
        self, ledger: World, database: Database, anthropic: Provider
    ) -> None:
        """Although the answer has a price: what the first try cost nobody has said."""
        anthropic.script(Drop())
        async with ledger() as konstruct:
            assert (await konstruct.complete(HELLO, model_group="strong")).cost_usd == COST_NUSD / 1e9
            total = (await konstruct.usage()).as_dict()["total"]

        assert (only(database)["cost_nusd"], only(database)["outcome"]) == (None, "ok")
        assert (total["unpriced"], total["cost_usd"]) == (1, COST_NUSD / 1e9)

    async def test_counts_what_a_useless_answer_cost(
        self, ledger: World, database: Database, anthropic: Provider
    ) -> None:
        body = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
        usage = {"input_tokens": 1000, "output_tokens": 100}
        tool = {"type": "tool_use", "id": "t", "name": "", "input": {}}
        anthropic.script(Raw(json.dumps(body | {"content": [tool], "usage": usage}).encode()))
        async with ledger() as konstruct:
            completion = await konstruct.complete(HELLO, model_group="strong")

        assert "unusable answer" in completion.attempts[0].error
        row = only(database)
        useless = 1000 * 3_000 + 100 * 15_000
        assert row["cost_nusd"] == useless + COST_NUSD
        assert (row["input_tokens"], row["output_tokens"], row["attempts"]) == (1011, 107, 2)
        spend = database.rows('SELECT "group", model, calls, cost_nusd FROM konstruct_spend ORDER BY model')
        assert spend == [
            {"group": "strong", "model": "anthropic/claude-sonnet-4-6", "calls": 0, "cost_nusd": useless},
            {"group": "paid", "model": "openai/paid", "calls": 1, "cost_nusd": COST_NUSD},
        ]

    @pytest.mark.parametrize(
        ("answer", "outcome", "cost"),
        [
            (Status(400), "bad_request", 0),
            (Status(500), "all_failed", 0),
            (Drop(), "all_failed", None),  # it may have counted what we never saw
            (Hang(), "timeout", None),
        ],
    )
    async def test_of_a_call_that_nobody_answered(
        self, ledger: World, database: Database, openai: Provider, answer: Any, outcome: str, cost: Any
    ) -> None:
        openai.script(answer)
        async with ledger() as konstruct:
            with pytest.raises(KonstructError, match=outcome):
                await konstruct.complete(HELLO, model_group="unpriced", timeout_s=1 if outcome == "timeout" else None)

        row = only(database)
        assert (row["outcome"], row["cost_nusd"], row["group_served"], row["model"]) == (outcome, cost, None, None)
        assert row["most_nusd"] is None  # of a model without a price nobody can say

    async def test_of_a_call_that_its_client_cancels(self, ledger: World, database: Database, openai: Provider) -> None:
        openai.script(Gate("late"))
        async with ledger() as konstruct, connected(konstruct) as client:
            with anyio.move_on_after(WAIT_S):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(client.call_tool, "complete", {"messages": HELLO})
                    await openai.until(lambda: openai.in_flight == 1)
                    tasks.cancel_scope.cancel()
            await until(lambda: database.value("SELECT count(*) FROM konstruct_calls") == 1)

        row = only(database)
        assert (row["outcome"], row["cost_nusd"], row["input_tokens"]) == ("cancelled", None, 0)

    async def test_of_a_call_that_is_cancelled_after_the_provider_answered(
        self, ledger: World, database: Database, openai: Provider
    ) -> None:
        async with ledger() as konstruct:
            await konstruct.complete(HELLO, tenant_id="first")
            with database.locked():
                call = asyncio.ensure_future(konstruct.complete(HELLO, tenant_id="acme"))
                await openai.until(lambda: openai.calls == 2 and openai.in_flight == 0)
                done, _ = await asyncio.wait({call}, timeout=0.2)
                assert not done  # it waits for the ledger
                call.cancel()
                await asyncio.wait({call}, timeout=0.1)
            await asyncio.wait({call})

        [row] = [row for row in database.rows() if row["tenant"] == "acme"]
        assert (row["cost_nusd"], row["model"], row["input_tokens"]) == (COST_NUSD, "openai/paid", 11)

    async def test_of_a_call_that_is_cancelled_twice(self, ledger: World, database: Database, openai: Provider) -> None:
        openai.script(Gate("late"))
        async with ledger() as konstruct:
            call = asyncio.ensure_future(konstruct.complete(HELLO))
            await openai.until(lambda: openai.in_flight == 1)
            for _ in range(3):
                call.cancel()
                await asyncio.wait({call}, timeout=0.001)
            await asyncio.wait({call})
            await openai.until(lambda: openai.disconnected == 1)

        row = only(database)
        assert (row["outcome"], row["cost_nusd"], row["attempts"]) == ("cancelled", None, 1)

    async def test_counts_reasoning_that_a_provider_counts_beside(
        self, openai: Provider, anthropic: Provider, ollama: Provider, tmp_path: Path
    ) -> None:
        """As xAI does; others count it within."""
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 5}}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
        body = {"id": "x", "object": "chat.completion", "created": 0, "model": "grok", "choices": [choice]}
        openai.script(Raw(json.dumps(body | {"usage": usage}).encode()))
        database = sqlite(tmp_path)
        config = priced_config(database, openai, anthropic, ollama)
        grok = {**config["model_list"][0]["litellm_params"], "model": "xai/grok"}
        config["model_list"].append({"model_name": "grok", "litellm_params": grok})
        async with opened(tmp_path, config) as konstruct:
            await konstruct.complete(HELLO, model_group="paid")
            await konstruct.complete(HELLO, model_group="grok")
        assert [(row["output_tokens"], row["cost_nusd"]) for row in database.rows()] == [
            (7, COST_NUSD),
            (12, COST_NUSD + 5 * OUTPUT_NUSD),
        ]

    async def test_of_a_live_check(self, ledger: World, database: Database) -> None:
        async with ledger() as konstruct:
            await konstruct.check()

        by_group = {row["group_asked"]: row for row in database.rows()}
        assert set(by_group) == {"paid", "strong", "free", "unpriced"}
        assert by_group["paid"]["cost_nusd"] == COST_NUSD


class TestSums:
    async def test_are_those_of_the_calls(
        self, ledger: World, database: Database, openai: Provider, ollama: Provider
    ) -> None:
        answers = [Text("Hi", usage=(n, 2 * n)) for n in range(1, 21)]
        openai.script(*answers, Status(400))
        ollama.script(Status(400))  # which confirms it
        async with ledger() as konstruct:

            async def call(n: int) -> None:
                await konstruct.complete(HELLO, tenant_id=f"t{n % 3}", model_group=("paid", "unpriced")[n % 2])

            async with anyio.create_task_group() as tasks:
                for n in range(20):
                    tasks.start_soon(call, n)
            with pytest.raises(KonstructError):
                await konstruct.complete(HELLO, tenant_id="t0")
            report = await konstruct.usage()

        for figure in ("input_tokens", "output_tokens", "cost_nusd"):
            total = database.value(f"SELECT sum({figure}) FROM konstruct_calls")
            assert database.value(f"SELECT sum({figure}) FROM konstruct_spend") == total
            assert sum(getattr(line, figure) for line in report.lines) == total
        assert database.value("SELECT sum(input_tokens) FROM konstruct_calls") == sum(range(1, 21))
        [total] = [report.as_dict()["total"]]
        assert (total["calls"], total["failed"], total["unpriced"]) == (21, 1, 10)
        assert {line.tenant for line in report.by_tenant} == {"t0", "t1", "t2"}

    async def test_by_day_and_of_one_tenant(self, ledger: World, database: Database) -> None:
        async with ledger() as konstruct:
            await konstruct.complete(HELLO, tenant_id="acme")
            await konstruct.complete(HELLO, tenant_id="other")
            database.run("UPDATE konstruct_spend SET day = '2020-02-29' WHERE tenant = 'acme'")

            [line] = (await konstruct.usage("acme")).lines
            assert (line.day, line.tenant, line.group, line.model) == ("2020-02-29", "acme", "paid", "openai/paid")
            assert [it.tenant for it in (await konstruct.usage(since="2020-03-01")).lines] == ["other"]
            assert [it.tenant for it in (await konstruct.usage(until="2020-02-29")).lines] == ["acme"]
            assert (await konstruct.usage(group="free")).lines == ()
            assert (await konstruct.usage("nobody")).as_dict()["total"]["calls"] == 0


class TestAVersion:
    async def test_that_is_older_is_migrated_at_start(self, ledger: World, database: Database) -> None:
        with database.engine.begin() as connection:
            from konstruct_mcp.ledger.migrations import upgrade

            upgrade(connection, "0001")
        old = "'1', '2020-01-01T00:00:00.000000Z', 'acme', 'paid', 'paid', 'openai/paid', 1, 2, 0, 300, 10, 'ok', 1"
        database.run(
            f"INSERT INTO konstruct_calls VALUES ({old})",
            "INSERT INTO konstruct_spend VALUES ('acme', '2020-01-01', 'paid', 'openai/paid', 2, 0, 1, 1, 2, 0, 300)",
        )

        async with ledger() as konstruct:
            await konstruct.complete(HELLO, tenant_id="acme")
            report = await konstruct.usage("acme")

        assert sum(line.cost_nusd for line in report.lines) == 300 + COST_NUSD
        assert report.lines[0].cost == "≥ <$0.000001"
        assert report.as_dict()["total"]["at_most_usd"] is None  # nobody knows the bound of what was unpriced before
        assert database.value("SELECT version_num FROM konstruct_revision") == HEAD
        assert database.rows("SELECT id FROM konstruct_tenants") == [{"id": "acme"}]

    async def test_that_is_newer_is_refused_in_one_line(
        self, ledger: World, database: Database, fork_server: ForkServer | None, openai: Provider, tmp_path: Path
    ) -> None:
        async with ledger() as konstruct:
            await konstruct.complete(HELLO)
        database.run("UPDATE konstruct_version SET version_num = '9999'")

        with ServerProcess(tmp_path / "konstruct.yaml", fork_server=fork_server) as server:
            server.initialize()
            at_start = b"the ledger was written by a newer version of konstruct-mcp"
            await until(lambda: at_start in server.errors)
            assert server.errors.count(b"\n") == 1
        async with ledger() as konstruct, connected(konstruct) as client:
            refused = await client.call_tool("complete", {"messages": HELLO})
        command = [*SERVER, "--config", str(tmp_path / "konstruct.yaml"), "usage"]
        ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=WAIT_S)

        assert spooled(tmp_path) == []  # nobody was asked
        [content] = refused.content
        line = "ledger: the ledger was written by a newer version of konstruct-mcp"
        assert content.text.startswith(line)  # type: ignore[union-attr]
        assert "\n" not in content.text  # type: ignore[union-attr]
        assert (ran.returncode, ran.stdout) == (1, "")
        assert ran.stderr.startswith(f"error: {line}")
        assert ran.stderr.count("\n") == 1
        assert openai.calls == 1

    async def test_that_is_newer_is_used_where_it_says_that_it_can_be(self, ledger: World, database: Database) -> None:
        """As a replica that has not been upgraded yet finds it when it starts again."""
        async with ledger() as konstruct:
            await konstruct.complete(HELLO, tenant_id="acme")
        database.run("UPDATE konstruct_revision SET version_num = '9999'")
        async with ledger() as konstruct:
            await konstruct.complete(HELLO, tenant_id="acme")
        assert database.spent("acme") == 2 * COST_NUSD
        assert database.value("SELECT version_num FROM konstruct_revision") == "9999"

    async def test_of_before_this_was_recorded_starts_too(self, ledger: World, database: Database) -> None:
        """Revision 0003 is the last whose code refuses any number above its own in this table."""
        async with ledger() as konstruct:
            await konstruct.complete(HELLO)
        assert database.rows("SELECT version_num FROM konstruct_version") == [{"version_num": "0003"}]

    async def test_has_the_tables_that_the_code_reads(self, ledger: World, database: Database) -> None:
        """The newest migration and the tables in `store` are two descriptions of one thing."""
        from alembic.autogenerate import compare_metadata
        from alembic.migration import MigrationContext

        from konstruct_mcp.ledger.schema import metadata, postgresql_metadata

        async with ledger() as konstruct:
            await konstruct.complete(HELLO)
        with database.engine.connect() as connection:
            versions = ("konstruct_version", "konstruct_revision")
            ours = {"include_name": lambda name, kind, _: kind != "table" or name not in versions}
            tables = sa.MetaData()
            for table in (*metadata.tables.values(), *postgresql_metadata.tables.values()):
                if table.metadata is metadata or database.kind == "postgresql":
                    table.to_metadata(tables)
            assert compare_metadata(MigrationContext.configure(connection, opts=ours), tables) == []

    async def test_opens_beside_others_of_the_same_process(
        self, openai: Provider, anthropic: Provider, ollama: Provider, tmp_path: Path
    ) -> None:
        folders = [tmp_path / f"{n}" for n in range(8)]
        async with AsyncExitStack() as stack:
            for folder in folders:
                folder.mkdir()
                config = priced_config(sqlite(folder), openai, anthropic, ollama)
                konstruct = await stack.enter_async_context(opened(folder, config))
                stack.push_async_callback(konstruct.complete, HELLO)

        assert [sqlite(folder).value("SELECT count(*) FROM konstruct_calls") for folder in folders] == [1] * 8

    @pytest.mark.long
    def test_opens_once_however_many_begin_with_an_empty_database(
        self, config: Mapping[str, Any], database: Database, tmp_path: Path
    ) -> None:
        write(tmp_path, config)
        command = [*SERVER, "--config", str(tmp_path / "konstruct.yaml"), "usage", "--json"]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
        for process in started:
            out, errors = process.communicate(timeout=WAIT_S)
            assert (process.returncode, errors) == (0, b"")
            assert json.loads(out)["total"]["calls"] == 0
        assert database.rows("SELECT version_num FROM konstruct_revision") == [{"version_num": HEAD}]

    async def test_waits_for_another_process_that_makes_it(
        self, openai: Provider, anthropic: Provider, ollama: Provider, tmp_path: Path
    ) -> None:
        """SQLite itself does not, for a file that is not in WAL mode yet. Without its ledger, no call that has a budget
        is answered."""
        database = sqlite(tmp_path)
        config = priced_config(
            database, openai, anthropic, ollama, budgets=[{"usd": 1, "per": "day"}], allow_unknown=True
        )
        async with opened(tmp_path, config) as konstruct:
            with database.locked():
                call = asyncio.ensure_future(konstruct.complete(HELLO, tenant_id="acme"))
                done, _ = await asyncio.wait([call], timeout=2)
                assert not done, call.exception()
            assert (await call).content

        assert database.spent("acme") == COST_NUSD


async def test_an_operators_own_options_for_postgresql_are_kept(
    postgresql: PostgreSQL, openai: Provider, anthropic: Provider, ollama: Provider, tmp_path: Path
) -> None:
    database = postgresql.create()
    database.run("CREATE SCHEMA house")
    database.url += "&options=-csearch_path%3Dhouse"
    async with opened(tmp_path, priced_config(database, openai, anthropic, ollama)) as konstruct:
        await konstruct.complete(HELLO)
    assert database.value("SELECT count(*) FROM house.konstruct_calls") == 1
    database.engine.dispose()


@pytest.mark.parametrize("password", ["hun@ter2", "hun/t@er2", "a@b@ter2", "hun@ter2:x"])
async def test_a_password_may_have_an_at_in_it_and_is_not_told(
    password: str,
    openai: Provider,
    anthropic: Provider,
    ollama: Provider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """For the driver it would end at the first, and the rest be a part of the host's name."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    config = priced_config(None, openai, anthropic, ollama, ledger_url=f"postgresql://me:{password}@127.0.0.1:1/led")
    async with opened(tmp_path, config) as konstruct:
        assert (await konstruct.complete(HELLO)).content
    [told] = caplog.messages
    assert "127.0.0.1" in told
    assert "er2" not in told


def spooled(folder: Path, kind: str = "json") -> list[Path]:
    return sorted(folder.glob(f"**/*.spool/*.{kind}"))


WRONG: tuple[dict[str, Any], ...] = (
    *({"id": None}, {"id": 7}, {"tenant": ""}, {"tenant": "a\0b"}, {"tenant": "\x1b[2J"}, {"tenant": "\ud800"}),
    *({"tenant": ["acme"]}, {"group_asked": {}}, {"model": ["x"]}, {"outcome": None}, {"reserved": "yes"}, {"more": 1}),
    *({"time": wrong} for wrong in (5, "", "today", "9999-99-99T00:00:00Z", "<script>", "2026-01-01T" + "0" * 99)),
    *({"cost_nusd": -1}, {"cost_nusd": 2**64}, {"cost_nusd": 1.5}, {"cost_nusd": "1"}, {"cost_nusd": True}),
    *({"attempts": -1}, {"attempts": 2**80}, {"charges": "z"}, {"charges": {}}, {"charges": ["z"]}, {"charges": [[]]}),
)
WRONG_CHARGE: tuple[dict[str, Any], ...] = (
    *({"input_tokens": wrong} for wrong in (-5, 2**70, 1.5, True, None)),
    *({"cost_nusd": wrong} for wrong in (-(10**12), 2**64)),
    *({"model": {}}, {"group": None}, {"more": 1}),
)


class TestTheSpool:
    @pytest.fixture(autouse=True)
    def _own_data_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    @pytest.mark.two_databases
    async def test_takes_the_rows_of_a_locked_database(
        self, ledger: World, database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with ledger() as konstruct:
            await konstruct.complete(HELLO, tenant_id="acme")
            with database.locked():
                for _ in range(5):
                    assert (await konstruct.complete(HELLO, tenant_id="acme")).content
                assert len(spooled(tmp_path)) == 5
                assert "the ledger cannot be written" in caplog.text
                assert "the ledger is written again" not in caplog.text
            await until(lambda: database.value("SELECT count(*) FROM konstruct_calls") == 6)
            assert database.spent("acme") == 6 * COST_NUSD
            await until(lambda: not spooled(tmp_path))
        assert caplog.text.count("cannot be written") == 1

    @pytest.mark.two_databases
    async def test_is_folded_in_by_whoever_comes_next_and_once(
        self, ledger: World, database: Database, tmp_path: Path
    ) -> None:
        async with ledger() as konstruct:
            await konstruct.complete(HELLO, tenant_id="acme")
            with database.locked():
                await konstruct.complete(HELLO, tenant_id="acme")
                [row] = spooled(tmp_path)
                kept = tmp_path / "kept"
                shutil.copy(row, kept)
        of_old = json.loads(kept.read_bytes())  # as the version before wrote it
        del of_old["most_nusd"], of_old["charges"][0]["most_nusd"], of_old["charges"][0]["uncounted"]
        kept.write_text(json.dumps(of_old))
        for _ in range(2):
            # As after a crash between writing the row and removing the file.
            shutil.copy(kept, row)
            async with ledger() as konstruct:
                assert (await konstruct.usage("acme")).as_dict()["total"]["calls"] == 2
            assert not spooled(tmp_path)
        assert database.spent("acme") == 2 * COST_NUSD

    async def test_puts_aside_what_is_no_row_of_ours(
        self, ledger: World, database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whatever it is: it stops no call, and is told in one line."""
        async with ledger() as konstruct:
            await konstruct.complete(HELLO, tenant_id="acme")
            good = konstruct.config.ledger.spool / "good.json"
        row = json.loads(json.dumps(asdict(SPOOLED_CALL)))
        good.write_text(json.dumps(row))
        damaged = [b"", b"half a ro", b"[1]", b"{}", b"\xff", b"[" * 100_000, b'{"id":' * 100_000]
        damaged += [json.dumps(row | {"id": f"x{n}"} | wrong).encode() for n, wrong in enumerate(WRONG)]
        [charge] = row["charges"]
        damaged += [json.dumps(row | {"id": "y", "charges": [charge | wrong]}).encode() for wrong in WRONG_CHARGE]
        for n, text in enumerate(damaged):
            good.with_name(f"damaged-{n}.json").write_bytes(text)
        no_rows: dict[str, dict[str, Callable[[Path], Any]]] = {
            "no file": {
                "fifo": os.mkfifo,
                "folder": lambda place: (place / "full").mkdir(parents=True),
                "socket": lambda place: os.mknod(place, stat.S_IFSOCK | 0o600),
                "link": lambda place: place.symlink_to(good),
                "loop": lambda place: place.symlink_to(place),
                "dangling": lambda place: place.symlink_to("/nowhere"),
                "device": lambda place: place.symlink_to("/dev/zero"),
            },
            "too long": {"long": lambda place: place.write_bytes(b" " * (2 << 20))},
        }
        for made in no_rows.values():
            for name, make in made.items():
                make(good.with_name(f"{name}.json"))
        good.with_name("\x1b[2J\n.json").touch()
        caplog.clear()
        async with asyncio.timeout(WAIT_S), ledger() as konstruct:
            assert (await konstruct.complete(HELLO, tenant_id="acme")).content
            assert (await konstruct.usage("acme")).as_dict()["total"]["calls"] == 3

        assert not spooled(tmp_path)
        assert database.spent("acme") == 3 * COST_NUSD
        told = [f"a row of the spool is damaged and is put aside: damaged-{n}.json" for n in range(len(damaged))]
        told += [
            f"a row of the spool is {why} and is put aside: {name}.json" for why, of in no_rows.items() for name in of
        ]
        told += ["a row of the spool is damaged and is put aside: ?[2J?.json"]
        assert len(spooled(tmp_path, "bad")) == len(told)
        assert sorted(caplog.messages) == sorted([*told, "in the ledger now: 1 call that had to wait"])

    async def test_keeps_a_row_that_the_database_refuses_for_its_own_reasons(
        self, ledger: World, database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with ledger() as konstruct:
            await konstruct.opened()
            spool = konstruct.config.ledger.spool
        forbid, allow = {
            "sqlite": (
                "CREATE TRIGGER forbidden BEFORE INSERT ON konstruct_calls WHEN new.tenant = 'refused' "
                "BEGIN SELECT RAISE(ABORT, 'not today'); END",
                "DROP TRIGGER forbidden",
            ),
            "postgresql": (
                "ALTER TABLE konstruct_calls ADD CONSTRAINT forbidden CHECK (tenant <> 'refused')",
                "ALTER TABLE konstruct_calls DROP CONSTRAINT forbidden",
            ),
        }[database.kind]
        database.run(forbid)
        for tenant in ("refused", "taken"):
            (spool / f"{tenant}.json").write_text(json.dumps(asdict(replace(SPOOLED_CALL, id=tenant, tenant=tenant))))
        caplog.clear()
        async with ledger() as konstruct:
            for _ in range(3):
                assert (await konstruct.complete(HELLO, tenant_id="acme")).content
            assert (await konstruct.usage()).as_dict()["total"]["calls"] == 4
        [refusal, _] = [record.getMessage() for record in caplog.records if record.name.startswith("konstruct_mcp")]
        assert refusal.startswith("the ledger refuses a row of its spool, where it stays (")
        assert refusal.endswith("): refused.json")
        assert [path.name for path in spooled(tmp_path)] == ["refused.json"]
        database.run(allow)
        async with ledger() as konstruct:
            assert (await konstruct.usage("refused")).as_dict()["total"]["calls"] == 1
        assert not spooled(tmp_path)

    async def test_serves_a_database_that_is_not_there_at_start(
        self, database: Database, openai: Provider, anthropic: Provider, ollama: Provider, tmp_path: Path
    ) -> None:
        if database.kind == "sqlite":
            place = tmp_path / "later"
            place.write_text("no folder")
            database.url = f"sqlite:///{place}/ledger.sqlite3"
        else:
            database.url = "postgresql://127.0.0.1:1/nowhere"
        config = priced_config(database, openai, anthropic, ollama)
        async with opened(tmp_path, config) as konstruct:
            assert (await konstruct.complete(HELLO)).content
            with pytest.raises(KonstructError, match="ledger: the ledger is out of reach"):
                await konstruct.usage()
            if database.kind == "sqlite":
                place.unlink()
                assert (await konstruct.usage()).as_dict()["total"]["calls"] == 1  # the spool's

    @pytest.mark.long
    async def test_takes_the_row_of_a_database_that_hangs(
        self, postgresql: PostgreSQL, openai: Provider, anthropic: Provider, ollama: Provider, tmp_path: Path
    ) -> None:
        """The server's processes for our connections are stopped, so that they keep none of their own limits. The
        answer goes out, and the row counts once, although both the spool and the database have it in the end."""
        database = postgresql.create()
        async with opened(tmp_path, priced_config(database, openai, anthropic, ollama)) as konstruct:
            await konstruct.complete(HELLO, tenant_id="acme")
            others = (
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND backend_type = 'client backend'"
            )
            backends = [row["pid"] for row in database.rows(others)]
            assert backends
            for backend in backends:
                os.kill(backend, signal.SIGSTOP)
            try:
                assert (await konstruct.complete(HELLO, tenant_id="acme")).content
                assert (await konstruct.complete(HELLO, tenant_id="acme")).content
                assert len(spooled(tmp_path)) == 2
                reports = [asyncio.ensure_future(konstruct.usage()) for _ in range(8)]
                await asyncio.wait(reports)
                assert all("out of reach" in str(report.exception()) for report in reports)
                assert (await konstruct.complete(HELLO, tenant_id="acme")).content
            finally:
                for backend in backends:
                    os.kill(backend, signal.SIGCONT)
            await until(lambda: not spooled(tmp_path))
            assert database.value("SELECT count(*) FROM konstruct_calls") == 4
            assert database.spent("acme") == 4 * COST_NUSD
        database.engine.dispose()


OTHER = 64_999  # a user who is not this one


class TestTheFolder:
    """Of a ledger and its spool, in which others can write."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        (tmp_path / "place").mkdir()
        made = tmp_path / "place/ledger.sqlite3"
        made.touch()
        made.with_name(f"{made.name}.spool").mkdir()
        return made

    @staticmethod
    def _place(file: Path, name: str, mode: int = 0o700) -> Path:
        """The file, one beside it, or the folder that it is in."""
        place = file.parent if name == "its folder" else file.with_name(f"{file.name}{name}")
        place.touch()
        place.chmod(mode)
        return place

    @staticmethod
    def _is_open(place: Path) -> bool:
        return place.exists() and bool(place.stat().st_mode & 0o022)

    @pytest.fixture
    def ledger(self, file: Path, openai: Provider, anthropic: Provider, ollama: Provider) -> Callable[[], Any]:
        budget = {"usd": 1, "per": "day"}
        config = priced_config(sqlite(file.parent), openai, anthropic, ollama, budgets=[budget])
        return lambda: opened(file.parents[1], config)

    @pytest.mark.parametrize(
        ("name", "mode", "what"),
        [
            ("", 0o666, "file"),
            ("", 0o620, "file"),
            (".spool", 0o777, "folder"),
            (".spool", 0o1775, "folder"),
            ("-journal", 0o666, "file"),
            ("its folder", 0o777, "folder"),
        ],
    )
    async def test_is_put_right_with_a_word(
        self, name: str, mode: int, what: str, ledger: World, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        place = self._place(file, name, mode)
        async with ledger() as konstruct:
            assert (await konstruct.complete(HELLO)).content
        assert not self._is_open(place)
        assert caplog.messages == [f"others could write this {what}, and only this user can now: {place}"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    @pytest.mark.parametrize("name", ["", "-wal", "its folder"])
    async def test_that_is_another_users_is_not_used(self, name: str, ledger: World, file: Path) -> None:
        place = self._place(file, name)
        os.chown(place, OTHER, OTHER)
        async with ledger() as konstruct:
            with pytest.raises(KonstructError, match="ledger: the ledger is out of reach"):
                await konstruct.complete(HELLO)
            assert (await konstruct.complete(HELLO, model_group="free")).content
            os.chown(place, os.geteuid(), os.getegid())
            assert (await konstruct.usage()).as_dict()["total"]["calls"] >= 1  # which has it looked at again
            assert (await konstruct.complete(HELLO)).content

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    async def test_lets_nobody_else_bring_a_row(
        self, ledger: World, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        spool = file.with_name(f"{file.name}.spool")
        for name in ("other", "open", "mine"):
            (spool / f"{name}.json").write_text(json.dumps(asdict(replace(SPOOLED_CALL, id=name))))
        os.chown(spool / "other.json", OTHER, OTHER)
        (spool / "open.json").chmod(0o666)
        async with ledger() as konstruct:
            assert (await konstruct.usage()).as_dict()["total"]["calls"] == 1
        assert sorted(path.name for path in spooled(file.parent, "bad")) == ["open.bad", "other.bad"]
        os.chown(spool, OTHER, OTHER)
        (spool / "later.json").write_text(json.dumps(asdict(replace(SPOOLED_CALL, id="later"))))
        async with ledger() as konstruct:
            assert (await konstruct.usage()).as_dict()["total"]["calls"] == 1
        assert caplog.messages == [
            "a row of the spool can be written by others and is put aside: open.json",
            "a row of the spool belongs to another user and is put aside: other.json",
            "in the ledger now: 1 call that had to wait",
            f"the spool of the ledger cannot be written (its folder belongs to another user: {spool}); "
            "without the ledger, calls are kept in memory, and lost if this process ends first",
        ]

    @pytest.mark.parametrize("make", [os.mkfifo, lambda place: place.symlink_to("/dev/null")], ids=["fifo", "device"])
    @pytest.mark.parametrize("name", ["", "-wal"])
    async def test_in_which_something_else_is_in_a_files_place_keeps_no_call_waiting(
        self, name: str, make: Any, ledger: World, file: Path
    ) -> None:
        place = file.with_name(f"{file.name}{name}")
        place.unlink(missing_ok=True)
        make(place)
        async with asyncio.timeout(WAIT_S), ledger() as konstruct:
            assert (await konstruct.complete(HELLO, model_group="free")).content
            place.unlink()
            assert (await konstruct.usage()).as_dict()["total"]["calls"] >= 1  # which has it looked at again
            assert (await konstruct.complete(HELLO)).content

    async def test_is_made_for_nobody_else_whatever_the_umask(
        self, tmp_path: Path, openai: Provider, anthropic: Provider, ollama: Provider
    ) -> None:
        before = os.umask(0)
        try:
            file = tmp_path / "new/place/ledger.sqlite3"
            config = priced_config(None, openai, anthropic, ollama, ledger_url=f"sqlite:///{file}")
            async with opened(tmp_path, config) as konstruct:
                await konstruct.complete(HELLO)
                file.rename(file.with_name("moved"))
                file.mkdir()
                await konstruct.complete(HELLO)
        finally:
            os.umask(before)
        made = [path for path in (tmp_path / "new").rglob("*") if path != file]
        assert {path.name for path in made} >= {"place", "ledger.sqlite3.spool", "moved", "ballast"}
        assert spooled(tmp_path)
        assert [path for path in (tmp_path / "new", *made) if path.stat().st_mode & 0o077] == []
